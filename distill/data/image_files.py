"""Folders of image files, one folder per class: listing, decoding, and a fingerprint of the files."""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from distill.errors import InputError


def to_rgb(image: Image.Image, name: object) -> Image.Image:
    """Give an image in RGB at 8 bits a channel; transparency is left out.

    Convention:
        - Grey of 16 bits is scaled by 257, so that white stays white; Pillow's ``convert`` would cut it off at 255.

    Raises:
        InputError: if its values are no pixels.

    Example:
        >>> grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
        >>> np.asarray(to_rgb(grey, "grey.png"))[0, :, 0].tolist()
        [0, 100, 255]
    """
    if image.mode == "F":
        raise InputError(f"{name} holds numbers that are no pixels (mode F); save it with 8 or 16 bits a channel.")
    if image.mode.startswith("I"):
        values = np.clip(np.asarray(image).astype(np.float64), 0, 65535) / 257
        return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_logger = logging.getLogger(__name__)


def list_images(folder: Path) -> tuple[tuple[str, ...], list[Path], list[int]]:
    """List the images under the class folders of ``folder``, sorted by class and path.

    Returns:
        The classes, the files and the class of each.

    Raises:
        InputError: if the folder is missing, has no class folders, or one of them holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; expected one with a folder of images for each class.")
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    if not classes:
        raise InputError(f"{folder} has no folders in it; expected one with a folder of images for each class.")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in EXTENSIONS)
        if not found:
            raise InputError(f"{folder / name} holds no image ({', '.join(EXTENSIONS)}).")
        files += found
        labels += [label] * len(found)
    return classes, files, labels


def read_images(files: Sequence[Path], size: int) -> UInt8[Tensor, "n 3 size size"]:
    """Decode image files that are to stay in memory, as :func:`decode_images` does.

    Raises:
        InputError: if they do not fit into free memory, or one cannot be decoded; it is named.
    """
    needed = len(files) * 3 * size * size
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{len(files)} images of {size} x {size} need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are "
            "free; set `in_memory: false`, or take a smaller `size` or fewer images."
        )
    _logger.info("decoding %d images into %.2f GB of memory", len(files), needed / 1e9)
    return decode_images(files, size)


def decode_images(files: Sequence[Path], size: int) -> UInt8[Tensor, "n 3 size size"]:
    """Decode image files: RGB, turned upright, the square in the middle resized to ``size``.

    Raises:
        InputError: if one cannot be decoded; it is named.
    """
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def decode(position: int) -> None:
        images[position] = _cut(_read_image(files[position], size), size)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(decode, range(len(files))):  # raises what a thread raised, and cancels the rest
            pass
    return images


def _read_image(path: Path, size: int) -> UInt8[Tensor, "h w 3"]:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))  # lets the JPEG decoder skip detail that is thrown away
            ImageOps.exif_transpose(image, in_place=True)
            return torch.from_numpy(np.array(to_rgb(image, path)))
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot decode {path}: {error}; repair or remove it.") from error


def _cut(pixels: UInt8[Tensor, "h w 3"], size: int) -> UInt8[Tensor, "3 size size"]:
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side].permute(2, 0, 1)
    # torch resizes bytes as PIL does, to a level or so, and in half of the time
    return F.interpolate(square[None], (size, size), mode="bicubic", antialias=True)[0]


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


class DecodedImages:
    """Stand in for a tensor of images (N, 3, size, size) of which only what is indexed is ever in memory.

    Args:
        files: The image files.
        size: Height and width that they are given, see :func:`distill.data.image_files.decode_images`.

    Example:
        >>> DecodedImages([Path("a.png"), Path("b.png")], 32).shape
        torch.Size([2, 3, 32, 32])
    """

    dtype, ndim = torch.uint8, 4

    def __init__(self, files: Sequence[Path], size: int) -> None:
        self.files, self.size = list(files), size

    def __len__(self) -> int:
        return len(self.files)

    def as_tensor(self) -> UInt8[Tensor, "n 3 s s"]:
        """Take the place of the tensor that it stands in for, in an :class:`~distill.data.ImageSet`."""
        return cast(Tensor, self)

    @property
    def shape(self) -> torch.Size:
        """Number, channels, height, width."""
        return torch.Size((len(self.files), 3, self.size, self.size))

    def __getitem__(self, index: slice | int | Int[Tensor, " m"]) -> UInt8[Tensor, "..."]:
        """Decode some of the images.

        Raises:
            InputError: if one cannot be decoded; it is named.
        """
        if isinstance(index, int):
            return decode_images([self.files[index]], self.size)[0]
        files = self.files[index] if isinstance(index, slice) else [self.files[i] for i in index.tolist()]
        return decode_images(files, self.size)

    def split(self, size: int) -> Iterator[UInt8[Tensor, "m 3 s s"]]:
        """Decode all, so many at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def checksum(self) -> int:
        """Tell one set of files from another, by their paths, sizes and times; nothing is decoded."""
        facts = [f"{path.resolve()} {(s := path.stat()).st_size} {s.st_mtime_ns}" for path in self.files]
        return zlib.crc32("\n".join([str(self.size), *facts]).encode())


def same_images(one: object, other: object) -> bool:
    """Tell whether two sets hold the same images: the same pixels, or the same files."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, DecodedImages) and isinstance(other, DecodedImages):
        return one.size == other.size and [p.resolve() for p in one.files] == [p.resolve() for p in other.files]
    return False


def fingerprint(name: str, options: Mapping[str, Any]) -> str | None:
    """Hash names and sizes of the files that a data set is made of.

    Args:
        name: Of the data set.
        options: Its options; the folder is ``root``.

    Returns:
        None for a data set that name and options decide, wherever its files lie, and for a folder that is not there.
    """
    root = options.get("root")
    if name != "image_folder" or root is None or not Path(root).is_dir():
        return None
    files = (path for path in Path(root).rglob("*") if path.suffix.lower() in EXTENSIONS)
    lines = sorted(f"{path.relative_to(root).as_posix()}\t{path.stat().st_size}" for path in files)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
