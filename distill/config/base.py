"""Base classes of the sections of a configuration, and types of numbers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from distill.files import expand_home

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
#: A path; ``~`` at its start is the home folder.
PathText = Annotated[str, AfterValidator(expand_home)]
#: Ends of the names of files of weights.
_WEIGHTS_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".safetensors.index.json")


def is_weights_path(weights: bool | str | None) -> bool:
    """Return whether the key ``weights`` is a path, and not the name of weights of a library.

    Example:
        >>> [is_weights_path(one) for one in ("net.pth", "runs/teacher", "DEFAULT", True, None)]
        [True, True, False, False, False]
    """
    return isinstance(weights, str) and (
        weights.startswith((".", "~")) or "/" in weights or "\\" in weights or weights.endswith(_WEIGHTS_SUFFIXES)
    )


def _expand_weights(weights: bool | str | None) -> bool | str | None:
    return expand_home(weights) if isinstance(weights, str) and is_weights_path(weights) else weights


#: The key ``weights``: null, true for the default of the network's library, a name of the library, or a path.
Weights = Annotated[bool | str | None, AfterValidator(_expand_weights)]


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
