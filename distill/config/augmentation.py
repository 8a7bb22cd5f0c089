"""Sections about augmentation: counted views, transforms of torchvision by name, and mixing of images in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from distill.config.base import Positive, Section


class ColourJitterSection(Section):
    """Random colour changes: each value x is the range [1 - x, 1 + x] of a factor (hue: [-x, x] of a shift)."""

    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class AugmentSection(Section):
    """Views of an image in training: a random crop after padding, and a horizontal flip."""

    pad: Annotated[int, Field(ge=0)] = 4
    """Pixels of padding on each side before the crop; 0 turns the crop off."""
    flip: bool = True
    """Whether half of the views are flipped."""
    padding: Literal["zero", "reflect"] = "zero"
    """Values of the padding."""
    views: Annotated[int, Field(ge=1)] | None = None
    """Number of views per image, chosen by data.seed; all possible views if left out."""
    colour_jitter: ColourJitterSection | None = None
    """Random colour changes; cannot be combined with a teacher cache."""


class TransformsSection(Section):
    """Views of an image in training: transforms of torchvision (v2) by name, one after the other."""

    transforms: list[dict[str, dict[str, Any]]]
    """Transforms, see `distill list augmentations`: `RandAugment`, or `RandomResizedCrop: {size: 224}`."""
    views: Annotated[int, Field(ge=1)] | None = None
    """Number of views per image; a new view in every epoch if left out."""
    objects: Literal["carry", "drop"] = "carry"
    """Whether boxes and masks follow the transforms, or are left out in training."""

    @field_validator("transforms", mode="before")
    @classmethod
    def _read_names(cls, entries: Any) -> Any:
        if not isinstance(entries, list):
            raise ValueError("expected a list of transforms, such as [RandAugment, {RandomErasing: {p: 0.25}}]")
        return [read_transform(entry) for entry in entries]


def read_transform(entry: Any) -> dict[str, dict[str, Any]]:
    """Return one entry of a list of transforms as a mapping from the name to the arguments.

    Raises:
        ValueError: If it is neither a name nor a mapping from one name to arguments.

    Example:
        >>> read_transform("RandAugment"), read_transform({"RandomErasing": {"p": 0.25}})
        ({'RandAugment': {}}, {'RandomErasing': {'p': 0.25}})
    """
    if isinstance(entry, str):
        return {entry: {}}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, arguments),) = entry.items()
        if arguments is None or isinstance(arguments, Mapping):
            return {str(name): {str(key): value for key, value in (arguments or {}).items()}}
    raise ValueError("expected a name, or one name with arguments as in `RandomErasing: {p: 0.25}`, in each entry")


#: Keys that only one of the two sections has.
_COUNTED, _TRANSFORMS = (
    tuple(key for key in section.model_fields if key not in other.model_fields)
    for section, other in ((AugmentSection, TransformsSection), (TransformsSection, AugmentSection))
)


def parse_augment(values: Any) -> AugmentSection | TransformsSection:
    """Validate the value of `data.augment`: keys of the counted views, or transforms; a list is short for the latter.

    Example:
        >>> parse_augment(["RandAugment"]).transforms
        [{'RandAugment': {}}]
    """
    if isinstance(values, AugmentSection | TransformsSection):
        return values
    if isinstance(values, list):
        values = {"transforms": values}
    if not isinstance(values, Mapping):
        raise PydanticCustomError("augment_type", "expected keys such as pad, or a list of transforms")
    given = {key: value for key, value in values.items() if value is not None}
    if "transforms" not in given:
        return AugmentSection.model_validate(given)
    if both := next((key for key in _COUNTED if key in given), None):
        raise PydanticCustomError(
            "counted_views", f"{both} belongs to crops and flips, which `transforms` replace; remove one of them"
        )
    return TransformsSection.model_validate(given)


def replace_augment(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Let a layer with transforms replace the crops and flips of the layers before it when they are merged, or reverse.

    Args:
        layer: Values of a configuration. ``data.augment`` may be a list, which cannot be merged with a mapping.

    Example:
        >>> replace_augment({"data": {"augment": ["RandAugment"]}})["data"]["augment"]["transforms"]
        ['RandAugment']
        >>> replace_augment({"data": {"augment": {"flip": False}}})
        {'data': {'augment': {'flip': False, 'transforms': None, 'objects': None}}}
    """
    data = layer.get("data")
    augment = data.get("augment") if isinstance(data, Mapping) else None
    augment = {"transforms": augment} if isinstance(augment, list) else augment
    if not isinstance(data, Mapping) or not isinstance(augment, Mapping):
        return dict(layer)
    others: tuple[str, ...] = ()
    if augment.get("transforms") is not None:
        others = _COUNTED
    elif any(augment.get(key) is not None for key in _COUNTED):
        others = _TRANSFORMS
    replaced = {**augment, **{key: None for key in others if key not in augment}}
    return {**layer, "data": {**data, "augment": replaced}}


class MixSection(Section):
    """Mixing of the images of a batch in pairs; the share of each image has the distribution Beta(alpha, alpha)."""

    alpha: Positive
    """Parameter of the distribution; 1 is uniform, smaller values leave one image of a pair almost as it is."""
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the batches that are mixed."""


#: Type of `data.augment`.
AnyAugment = Annotated[AugmentSection | TransformsSection, BeforeValidator(parse_augment)]
