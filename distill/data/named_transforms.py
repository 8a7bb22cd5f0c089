"""Transforms of torchvision (v2) by name: which there are, their arguments, and one module for each entry of a list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from distill.errors import InputError, closest, unknown_name, without_addresses

#: A list of transforms as a configuration has it: each entry is a name with its arguments.
Entries = Sequence[Mapping[str, Mapping[str, Any]]]

_CONVERTED = "images are converted before and after the transforms"
_OF_BOXES = "boxes are cut at the border of the image, and vanish outside of it, after every list"
_SEVERAL = "it makes several images of one"
#: Transforms that cannot be used, with the reason.
REFUSED: Mapping[str, str] = {
    "Normalize": "every network has its own mean and standard deviation; set student.normalisation",
    "MixUp": "it mixes batches; set data.mixup",
    "CutMix": "it mixes batches; set data.cutmix",
    "FiveCrop": _SEVERAL,
    "TenCrop": _SEVERAL,
    "Lambda": "a configuration cannot contain a function",
    "LinearTransformation": "a configuration cannot contain a tensor",
    "UniformTemporalSubsample": "it is for videos",
    **dict.fromkeys(
        ("ConvertImageDtype", "PILToTensor", "ToDtype", "ToImage", "ToPILImage", "ToPureTensor", "ToTensor"), _CONVERTED
    ),
    **dict.fromkeys(
        (
            "ClampBoundingBoxes",
            "ClampKeyPoints",
            "ConvertBoundingBoxFormat",
            "SanitizeBoundingBoxes",
            "SanitizeKeyPoints",
            "SetClampingMode",
        ),
        _OF_BOXES,
    ),
}
#: Transforms whose numbers are those of images in [0, 1].
_IN_FLOAT = ("GaussianNoise", "RandomErasing")
#: Argument that is a list of transforms.
_NESTED = "transforms"


class InFloat(nn.Module):
    """Apply a transform to the image in [0, 1], and round the result to 8 bits; boxes and masks are not touched."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, image: Tensor, *objects: Tensor) -> Any:
        """Return the image, or the image with the objects."""
        result = self.transform(tv_tensors.Image(image.to(torch.float32) / 255))
        image = tv_tensors.Image((result.clamp(0, 1) * 255).round().to(torch.uint8))
        return (image, *objects) if objects else image


def transform_classes() -> dict[str, type[nn.Module]]:
    """Return the transforms that can be used, by name.

    Example:
        >>> "RandAugment" in transform_classes(), "Normalize" in transform_classes()
        (True, False)
    """
    return {
        name: value
        for name, value in sorted(vars(v2).items())
        if isinstance(value, type) and issubclass(value, v2.Transform) and value is not v2.Transform
        if name not in REFUSED
    }


def transform_arguments(transform: type[nn.Module]) -> dict[str, str]:
    """Return the arguments of a transform with their defaults, or ``required``.

    Example:
        >>> transform_arguments(transform_classes()["RandomGrayscale"])
        {'p': '0.1'}
    """
    return {one.name: "required" if one.default is one.empty else _shown(one.default) for one in _parameters(transform)}


def make_transforms(entries: Entries, *, where: str) -> list[nn.Module]:
    """Return a module for each entry of a list of transforms.

    Convention:
        - An argument that torchvision takes as an enumeration is given by its value, such as ``bilinear``.
        - The argument ``transforms`` of ``RandomApply``, ``RandomChoice`` and ``RandomOrder`` is a list like this one.

    Args:
        entries: Names with arguments.
        where: Key of the list, for messages.

    Raises:
        InputError: If a name or an argument is unknown, refused, missing or wrong; one line for each.

    Example:
        >>> make_transforms([{"RandomErasing": {"p": 0.25}}], where="data.augment.transforms")[0].transform.p
        0.25
    """
    made: list[nn.Module] = []
    mistakes: list[str] = []
    for number, entry in enumerate(entries):
        ((name, arguments),) = entry.items()
        try:
            made.append(_make(name, arguments, f"{where}[{number}]"))
        except InputError as error:
            mistakes.append(str(error))
    if len(mistakes) > 1:
        raise InputError(f"{len(mistakes)} mistakes in {where}:\n  " + "\n  ".join(mistakes))
    if mistakes:
        raise InputError(mistakes[0])
    return made


def _make(name: str, arguments: Mapping[str, Any], where: str) -> nn.Module:
    if name in REFUSED:
        raise InputError(f"{where}: {name} cannot be used: {REFUSED[name]}.")
    classes = transform_classes()
    if name not in classes:
        near = closest(name, classes)
        hint = f"; did you mean {near!r}?" if near else ""
        raise InputError(f"{where}: unknown transform {name!r}{hint} (see `distill list augmentations`)")
    parameters = {one.name: one for one in _parameters(classes[name])}
    for key in arguments:
        if key not in parameters:
            raise InputError(f"{where}.{name}.{key}: " + unknown_name(f"argument of {name}", key, parameters))
    if missing := [one.name for one in parameters.values() if one.default is one.empty and one.name not in arguments]:
        raise InputError(f"{where}.{name}.{missing[0]}: {name} requires this argument; add it.")
    values = {key: _value(value, parameters[key], f"{where}.{name}.{key}") for key, value in arguments.items()}
    try:
        transform = classes[name](**values)
    except Exception as error:  # each class checks its arguments in its own way
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        message = without_addresses(f"{type(error).__name__}: {error}")
        raise InputError(f"{where}: {name}({shown}): {message}") from error
    return InFloat(transform) if name in _IN_FLOAT else transform


def _value(value: Any, parameter: inspect.Parameter, where: str) -> Any:
    """Return the value of an argument: a list of transforms, a member of an enumeration, or the value itself."""
    if parameter.name == _NESTED:
        return make_transforms(list(_entries(value, where)), where=where)
    kind = InterpolationMode if parameter.name == "interpolation" else type(parameter.default)
    if not (isinstance(value, str) and isinstance(kind, type) and issubclass(kind, Enum)):
        return value
    known = {str(member.value): member for member in kind}
    if value not in known:
        raise InputError(f"{where}: " + unknown_name("value", value, known))
    return known[value]


def _entries(value: Any, where: str) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list of transforms, got {value!r}.")
    for number, entry in enumerate(value):
        if isinstance(entry, str):
            yield {entry: {}}
        elif isinstance(entry, Mapping) and len(entry) == 1 and isinstance(next(iter(entry.values())), Mapping):
            yield entry
        else:
            raise InputError(f"{where}[{number}]: expected a name, or one name with arguments, got {entry!r}.")


def _parameters(transform: type[nn.Module]) -> list[inspect.Parameter]:
    init: Callable[..., Any] = transform.__init__
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one for one in list(inspect.signature(init).parameters.values())[1:] if one.kind in by_keyword]


def _shown(default: Any) -> str:
    return str(default.value) if isinstance(default, Enum) else repr(default)
