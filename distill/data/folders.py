"""Folders of image files, one folder a class, and how the files are decoded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from distill.data.colour import in_colour
from distill.errors import InputError

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
            return torch.from_numpy(np.array(in_colour(image, path)))
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
