"""What every section of a configuration is, and the numbers that they share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class OpenSection(Section):
    """A part whose other keys are handed on to what it names."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are handed on; one that is null is left out."""
        return {key: value for key, value in (self.model_extra or {}).items() if value is not None}
