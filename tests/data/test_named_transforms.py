"""Transforms of torchvision by name: all but the refused ones can be made, and mistakes are named."""

from __future__ import annotations

from typing import Any

import pytest
from torchvision.transforms import InterpolationMode, v2

from distill.data.named_transforms import REFUSED, make_transforms, transform_arguments, transform_classes
from distill.errors import InputError

#: Values of the arguments that have no default.
REQUIRED = {
    "size": 8,
    "kernel_size": 3,
    "quality": 50,
    "padding": 2,
    "sharpness_factor": 2.0,
    "degrees": 10,
    "transforms": ["RandomHorizontalFlip", {"RandomErasing": {"p": 0.5}}],
    "bits": 4,
    "min_size": 8,
    "max_size": 12,
    "threshold": 128,
    "target_size": [8, 8],
}


def make(*entries: dict[str, Any]) -> Any:
    return make_transforms(entries, where="data.augment.transforms")


@pytest.mark.parametrize("name", list(transform_classes()))
def test_every_transform_can_be_made(name: str) -> None:
    arguments = transform_arguments(transform_classes()[name])
    (made,) = make({name: {key: REQUIRED[key] for key, default in arguments.items() if default == "required"}})
    assert type(getattr(made, "transform", made)).__name__ in (name, "method")


def test_all_transforms_of_torchvision_are_listed_or_refused_with_a_reason() -> None:
    public = {name for name, one in vars(v2).items() if isinstance(one, type) and issubclass(one, v2.Transform)}
    assert public - {"Transform"} <= {*transform_classes(), *REFUSED}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_transform_is_named_with_the_reason(name: str) -> None:
    with pytest.raises(InputError, match=rf"^data\.augment\.transforms\[1\]: {name} cannot be used: {REFUSED[name]}"):
        make({"RandAugment": {}}, {name: {}})


def test_enumerations_are_given_by_their_values() -> None:
    crop, auto = make(
        {"RandomResizedCrop": {"size": 8, "interpolation": "bicubic"}}, {"AutoAugment": {"policy": "svhn"}}
    )
    assert crop.interpolation is InterpolationMode.BICUBIC
    assert auto.policy is v2.AutoAugmentPolicy.SVHN


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"RandAugmnt": {}},
            r"\[0\]: unknown transform 'RandAugmnt'; did you mean 'RandAugment'\? \(see `distill list",
        ),
        ({"randaugment": {}}, "did you mean 'RandAugment'"),
        ({"RandomCrop": {"sise": 3}}, r"\[0\].RandomCrop.sise: unknown argument .* did you mean 'size'"),
        ({"RandomCrop": {}}, r"RandomCrop.size: RandomCrop requires this argument; add it"),
        ({"RandomCrop": {"size": [1, 2, 3]}}, r"RandomCrop\(size=\[1, 2, 3\]\): ValueError: "),
        ({"RandAugment": {"interpolation": "bilinaer"}}, "unknown value 'bilinaer'; did you mean 'bilinear'"),
        (
            {"RandomApply": {"transforms": ["RandAugmnt"]}},
            r"RandomApply.transforms\[0\]: unknown transform 'RandAugmnt'",
        ),
        ({"RandomApply": {"transforms": 3}}, "RandomApply.transforms: expected a list of transforms, got 3"),
        ({"RandomApply": {"transforms": [3]}}, r"transforms\[0\]: expected a name, or one name with arguments, got 3"),
    ],
)
def test_a_mistake_is_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(entry)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(InputError, match=r"(?s)^2 mistakes in data\.augment\.transforms:\n  .*\[0\].*\n  .*\[2\]"):
        make({"Normalise": {}}, {"RandAugment": {}}, {"RandomCrop": {}})
