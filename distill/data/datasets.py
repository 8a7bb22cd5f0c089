"""The data sets: a function each, which gives one split, decoded and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from distill.data.decoded import DecodedImages
from distill.data.fashion_scenes import FashionScenes
from distill.data.folders import free_memory, list_images, read_images
from distill.data.idx import find_idx, read_pair
from distill.data.imageset import ImageSet
from distill.data.items import CLASSES as FASHION_CLASSES
from distill.data.partition import partition
from distill.data.scenes import SPLITS, Background, Split
from distill.errors import InputError, unknown


def fashion_scenes(
    split: Split,
    *,
    size: int = 32,
    seed: int = 0,
    count: int | Mapping[str, int] | None = None,
    objects: int = 1,
    background_bias: float = 0.0,
    background: Background | None = None,
) -> ImageSet:
    """Embedded items on cluttered, coloured canvases, with boxes and masks; needs no download.

    ``count`` is one number for every split, or a mapping from split to number.
    """
    if isinstance(count, Mapping):
        if wrong := next((name for name in count if name not in SPLITS), None):
            raise InputError(unknown("split in `count`", wrong, SPLITS))
        count = count.get(split)
    return FashionScenes(
        split,
        size=size,
        seed=seed,
        count=count,
        objects=objects,
        background_bias=background_bias,
        background=background,
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

    ``root`` holds the files themselves, gzipped or not, or torchvision's ``FashionMNIST/raw``.
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
            f"no {name} or {name}.gz in {root}; set `root` to the folder that holds it, install Debian's package "
            "dataset-fashion-mnist, or set `download: true`."
        )
    images, labels = read_pair(folder, stem)
    data = ImageSet(torch.from_numpy(images)[:, None], torch.from_numpy(labels).to(torch.int64), FASHION_CLASSES)
    return _own_split(data, split, validation, seed)


def cifar10(
    split: Split, *, root: str | Path, download: bool = False, validation: float = 0.1, seed: int = 0
) -> ImageSet:
    """The 60,000 colour 32 x 32 images of CIFAR-10, in torchvision's folder."""
    return _cifar("CIFAR10", split, root, download, validation, seed)


def cifar100(
    split: Split, *, root: str | Path, download: bool = False, validation: float = 0.1, seed: int = 0
) -> ImageSet:
    """The 60,000 colour 32 x 32 images of CIFAR-100, in torchvision's folder."""
    return _cifar("CIFAR100", split, root, download, validation, seed)


def image_folder(
    split: Split,
    *,
    root: str | Path,
    size: int,
    validation: float = 0.1,
    test: float | None = None,
    seed: int = 0,
    in_memory: bool | None = None,
) -> ImageSet:
    """Your own images: one folder a class, resized and centre-cropped to ``size``.

    ``root`` has the class folders in it, or ``train/`` that has them, and perhaps ``validation/`` (or ``val/``) and
    ``test/``. A split without a folder of its own is a fraction of the training images: ``validation``, ``test``. The
    latter is 0.1 unless given, but 0 where validation has a folder: then there is no test split.
    With ``in_memory`` all are decoded once, without it whenever they are met; if not said, what takes less than half
    of the free memory is decoded once.
    """
    root = Path(root)
    if size < 1:
        raise InputError(f"`size` must be 1 pixel or more, got {size}.")
    train = root / "train" if (root / "train").is_dir() else root
    own = {
        name: folder
        for name, folder in (("validation", root / "val"), ("validation", root / "validation"), ("test", root / "test"))
        if train != root and folder.is_dir()
    }
    classes, files, labels = list_images(train)
    if split in own:
        found, files, labels = list_images(own[split])
        if found != classes:
            raise InputError(f"{own[split]} has the classes {', '.join(found)}; {train} has {', '.join(classes)}.")
    else:
        if test is None:
            test = 0.0 if "validation" in own else 0.1
        if split == "test" and test == 0:
            raise InputError(
                f"{root} has no test split: add a folder {root / 'test'}, or train with `test`, the fraction of the "
                "training images that is kept for it."
            )
        fractions = {"validation": validation, "test": test} | dict.fromkeys(own, 0.0)
        chosen = partition(torch.tensor(labels), seed=seed, **fractions)[split].tolist()
        files, labels = [files[i] for i in chosen], [labels[i] for i in chosen]
    _not_empty(len(files), split)
    if in_memory is None:
        free = free_memory()
        in_memory = free is None or 2 * len(files) * 3 * size * size < free
    images = read_images(files, size) if in_memory else DecodedImages(files, size).as_tensor()
    return ImageSet(images, torch.tensor(labels), classes)


def _cifar(name: str, split: Split, root: str | Path, download: bool, validation: float, seed: int) -> ImageSet:
    from torchvision import datasets

    try:
        source = getattr(datasets, name)(str(root), train=split != "test", download=download)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"no intact {name} in {root} ({error}). Set `download: true`, or run\n"
            f"    python -c \"from torchvision.datasets import {name}; {name}('{root}', download=True)\""
        ) from error
    images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    data = ImageSet(images, torch.tensor(source.targets), tuple(source.classes))
    return _own_split(data, split, validation, seed)


def _own_split(data: ImageSet, split: Split, validation: float, seed: int) -> ImageSet:
    """Divide what the publisher calls train; his test set stays as it is."""
    if split == "test":
        return data
    index = partition(data.labels, seed=seed, validation=validation)[split]
    _not_empty(len(index), split)
    return data.subset(index)


def _not_empty(n: int, split: str) -> None:
    if n == 0:
        raise InputError(f"no images are left for {split}: take a greater fraction `{split}`, or more images.")
