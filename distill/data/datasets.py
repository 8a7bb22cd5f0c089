"""Built-in data sets: one function per data set that loads a split."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill.data.fashion_items import CLASSES
from distill.data.fashion_scenes import SPLITS, Background, FashionScenes, Labels, Split
from distill.data.hugging_face import huggingface
from distill.data.idx import find_idx, read_pair
from distill.data.image_folder import image_folder
from distill.data.imageset import ImageSet
from distill.data.own_data import is_callable_path, load_own
from distill.data.partition import check_not_empty, partition
from distill.data.scene_classes import Partners
from distill.data.table import table
from distill.data.webdataset import webdataset
from distill.errors import InputError, unknown_name
from distill.files import expand_home


def fashion_scenes(
    split: Split,
    *,
    size: int = 32,
    seed: int = 0,
    count: int | Mapping[str, int] | None = None,
    objects: int = 1,
    background_bias: float = 0.0,
    background: Background | None = None,
    labels: Labels = "one",
    co_occurrence: Mapping[str, Any] | None = None,
    partners: Partners = "usual",
) -> ImageSet:
    """Synthetic scenes: Fashion-MNIST items on cluttered, coloured backgrounds, with boxes and masks; no download.

    ``count`` is the number of scenes in every split, or a mapping from split to number.
    """
    if isinstance(count, Mapping):
        if unknown := next((name for name in count if name not in SPLITS), None):
            raise InputError(unknown_name("split in `count`", unknown, SPLITS))
        count = count.get(split)
    return FashionScenes(
        split,
        size=size,
        seed=seed,
        count=count,
        objects=objects,
        background_bias=background_bias,
        background=background,
        labels=labels,
        co_occurrence=co_occurrence,
        partners=partners,
    )


def fashion_mnist(
    split: Split,
    *,
    root: str | Path = "/usr/share/datasets/fashion-mnist",
    download: bool = False,
    validation: float = 0.1,
    seed: int = 0,
) -> ImageSet:
    """The 70,000 grey 28 x 28 images of Fashion-MNIST, from a folder of IDX files.

    ``root`` contains the files, gzipped or not, or torchvision's folder ``FashionMNIST/raw``.
    """
    root = Path(root)
    stem = "t10k" if split == "test" else "train"
    folders = (root, root / "FashionMNIST" / "raw")
    name = f"{stem}-images-idx3-ubyte"
    if download and not any(find_idx(folder, name) for folder in folders):
        from torchvision.datasets import FashionMNIST

        try:
            FashionMNIST(str(root), download=True)
        except (RuntimeError, OSError) as error:
            raise InputError(f"cannot download Fashion-MNIST to {root}: {error}.") from error
    folder = next((folder for folder in folders if find_idx(folder, name)), None)
    if folder is None:
        raise InputError(
            f"no file {name} or {name}.gz in {root}; set `root` to the folder that contains it, install the Debian "
            "package dataset-fashion-mnist, or set `download: true`."
        )
    images, labels = read_pair(folder, stem)
    data = ImageSet(torch.from_numpy(images)[:, None], torch.from_numpy(labels).to(torch.int64), CLASSES)
    return _select_split(data, split, validation, seed)


def cifar10(
    split: Split, *, root: str | Path, download: bool = False, validation: float = 0.1, seed: int = 0
) -> ImageSet:
    """The 60,000 colour 32 x 32 images of CIFAR-10, from torchvision's folder."""
    return _cifar("CIFAR10", split, root, download, validation, seed)


def cifar100(
    split: Split, *, root: str | Path, download: bool = False, validation: float = 0.1, seed: int = 0
) -> ImageSet:
    """The 60,000 colour 32 x 32 images of CIFAR-100, from torchvision's folder."""
    return _cifar("CIFAR100", split, root, download, validation, seed)


def _cifar(name: str, split: Split, root: str | Path, download: bool, validation: float, seed: int) -> ImageSet:
    from torchvision import datasets

    try:
        source = getattr(datasets, name)(str(root), train=split != "test", download=download)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"cannot read {name} from {root} ({error}). Set `download: true`, or run\n"
            f"    python -c \"from torchvision.datasets import {name}; {name}('{root}', download=True)\""
        ) from error
    images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    data = ImageSet(images, torch.tensor(source.targets), tuple(source.classes))
    return _select_split(data, split, validation, seed)


def _select_split(data: ImageSet, split: Split, validation: float, seed: int) -> ImageSet:
    """Return the official test set as it is, or the training or validation part of the official training set."""
    if split == "test":
        return data
    index = partition(data.labels, seed=seed, validation=validation)[split]
    check_not_empty(len(index), split)
    return data.subset(index)


DATASETS: dict[str, Callable[..., ImageSet]] = {
    "fashion_scenes": fashion_scenes,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "image_folder": image_folder,
    "table": table,
    "huggingface": huggingface,
    "webdataset": webdataset,
}


@dataclass(frozen=True)
class DatasetInfo:
    """Name, description and options of a data set; ``options`` maps each name to its default, or to ``required``."""

    name: str
    description: str
    options: dict[str, str]


def dataset_info() -> tuple[DatasetInfo, ...]:
    """Return the name, description and options of every data set.

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
        name: One of ``DATASETS``, or ``package.module:callable``, which is imported.
        split: ``train``, ``validation`` or ``test``; the three are disjoint.
        options: Options of the data set; see ``distill list datasets``.

    Raises:
        InputError: if the name, the split or an option is unknown, a required option is missing, or the data cannot be
            read.

    Example:
        >>> len(load_split("fashion_scenes", "validation", count=50))
        50
    """
    if is_callable_path(name):
        if split not in SPLITS:
            raise InputError(unknown_name("split", split, SPLITS))
        return load_own(name, split, **options)
    if name not in DATASETS:
        raise InputError(unknown_name("data set", name, DATASETS, see="`distill list datasets`"))
    if split not in SPLITS:
        raise InputError(unknown_name("split", split, SPLITS))
    defaults = _options(DATASETS[name])
    for option in options:
        if option not in defaults:
            raise InputError(unknown_name(f"option of data set {name}", option, defaults))
    for option, default in defaults.items():
        if default == "required" and option not in options:
            raise InputError(f"data set {name} requires the option `{option}`; see `distill list datasets`.")
    if isinstance(options.get("root"), str | Path):
        options["root"] = expand_home(options["root"])
    return DATASETS[name](split, **options)
