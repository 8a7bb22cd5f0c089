"""Base classes of the sections of a configuration, and types of numbers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from distill.files import expand_home

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
#: A path; ``~`` at its start is the home folder.
PathText = Annotated[str, AfterValidator(expand_home)]


class Section(BaseModel):
    """A section of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class OpenSection(Section):
    """A section whose other keys are passed on to the object that it names."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are passed on; keys that are null are left out."""
        return {key: value for key, value in (self.model_extra or {}).items() if value is not None}
