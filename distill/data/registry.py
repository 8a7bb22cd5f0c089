"""The data sets by name, as a configuration names them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distill.data import datasets
from distill.data.imageset import ImageSet
from distill.data.scenes import SPLITS
from distill.errors import InputError, unknown

DATASETS: dict[str, Callable[..., ImageSet]] = {
    "fashion_scenes": datasets.fashion_scenes,
    "fashion_mnist": datasets.fashion_mnist,
    "cifar10": datasets.cifar10,
    "cifar100": datasets.cifar100,
    "image_folder": datasets.image_folder,
}


@dataclass(frozen=True)
class DatasetInfo:
    """What ``distill list datasets`` says: the options map each name to its default, or to ``required``."""

    name: str
    description: str
    options: dict[str, str]


def dataset_info() -> tuple[DatasetInfo, ...]:
    """Describe every data set.

    Example:
        >>> dataset_info()[2].name, dataset_info()[2].options["root"]
        ('cifar10', 'required')
    """
    return tuple(
        DatasetInfo(name, (inspect.getdoc(function) or "").partition("\n")[0], _options(function))
        for name, function in DATASETS.items()
    )


def _options(function: Callable[..., ImageSet]) -> dict[str, str]:
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {p.name: "required" if p.default is p.empty else repr(p.default) for p in parameters}


def load_split(name: str, split: str, **options: Any) -> ImageSet:
    """Load one split of a data set by name.

    Args:
        name: One of ``DATASETS``.
        split: ``train``, ``validation`` or ``test``; the three are disjoint.
        options: What that data set takes.

    Raises:
        InputError: if the name, the split or an option is unknown, a required option is missing, or the data are.

    Example:
        >>> len(load_split("fashion_scenes", "validation", count=50))
        50
    """
    if name not in DATASETS:
        raise InputError(unknown("data set", name, DATASETS, see="`distill list datasets`"))
    if split not in SPLITS:
        raise InputError(unknown("split", split, SPLITS))
    known = _options(DATASETS[name])
    for option in options:
        if option not in known:
            raise InputError(unknown(f"option of data set {name}", option, known))
    for option, default in known.items():
        if default == "required" and option not in options:
            raise InputError(f"data set {name} needs the option `{option}`; see `distill list datasets`.")
    return DATASETS[name](split, **options)
