"""Decode image files, into memory or on access."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from distill.data.image_listing import EXTENSIONS, file_stat, fingerprint, list_images
from distill.data.resizing import Canvas, Resize, fit
from distill.data.shards import ShardEntry
from distill.errors import InputError, warn_input
from distill.untrusted import check_regular

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "Canvas",
    "DecodedImages",
    "ImageFile",
    "decode_images",
    "find_unreadable",
    "fingerprint",
    "free_memory",
    "list_images",
    "open_image",
    "read_images",
    "same_images",
    "to_rgb",
]

#: An image file, or an image in a tar file.
ImageFile = Path | ShardEntry
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


def to_rgb(image: Image.Image, name: object, *, background: Canvas = "black") -> Image.Image:
    """Return an image in RGB with 8 bits per channel; transparent pixels are shown on a background.

    Convention:
        - 16-bit grey is divided by 257, so white stays white; Pillow's ``convert`` would clip it at 255.
        - A warning says that an image has transparent pixels. Images without them do not depend on ``background``.

    Args:
        image: The image.
        name: Name of the image in error messages.
        background: Colour behind transparent pixels.

    Raises:
        InputError: if the image holds floating-point values.

    Example:
        >>> grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
        >>> np.asarray(to_rgb(grey, "grey.png"))[0, :, 0].tolist()
        [0, 100, 255]
    """
    if image.mode == "F":
        raise InputError(f"{name} has floating-point pixels (mode F); save it with 8 or 16 bits per channel.")
    if image.mode.startswith("I"):
        values = np.clip(np.asarray(image).astype(np.float64), 0, 65535) / 257
        return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _without_alpha(image.convert("RGBA"), background)
    return image if image.mode == "RGB" else image.convert("RGB")


def _without_alpha(image: Image.Image, background: Canvas) -> Image.Image:
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    warn_input(
        f"images have transparent pixels, which are shown on {background}; for image_folder, set `data.background` to "
        "black or white."
    )
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")


#: Endings of files that can have transparent pixels.
_WITH_ALPHA = (".gif", ".png", ".tif", ".tiff", ".webp")
_logger = logging.getLogger(__name__)


#: Largest number of pixels of an image file. Decoding takes about ten bytes of memory per pixel.
MAX_PIXELS = 64 << 20


def open_image(path: ImageFile, *, draft: int | None = None) -> Image.Image:
    """Open an image file without decoding it.

    Args:
        path: The file.
        draft: Smallest side that is needed. A JPEG file is then decoded at a lower resolution, if that is enough.

    Raises:
        InputError: if it is not a regular file, or has too many pixels to decode it safely.
        OSError: if it is not an image. Damaged files also lead to other errors.
    """
    if isinstance(path, Path):
        check_regular(path)
    image = Image.open(path if isinstance(path, Path) else path.open())
    if draft is not None:
        image.draft("RGB", (draft, draft))  # the JPEG decoder skips detail that resizing would discard
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        image.close()
        raise InputError(
            f"{path} has {size} pixels, more than the limit of {MAX_PIXELS >> 20} x 2^20. Make the image smaller."
        )
    return image


def read_images(
    files: Sequence[ImageFile], size: int, background: Canvas = "black", resize: Resize = "crop"
) -> UInt8[Tensor, "n 3 size size"]:
    """Decode image files into memory with :func:`decode_images`, after a check that they fit.

    Raises:
        InputError: if the images do not fit into free memory, or a file cannot be decoded.
    """
    needed = len(files) * 3 * size * size
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{len(files)} images of {size} x {size} pixels need {needed / 1e9:.1f} GB of memory, but only "
            f"{free / 1e9:.1f} GB are free; set `in_memory: false`, or use a smaller `size` or fewer images."
        )
    _logger.info("decoding %d images into %.2f GB of memory", len(files), needed / 1e9)
    return decode_images(files, size, background, resize)


def decode_images(
    files: Sequence[ImageFile], size: int, background: Canvas = "black", resize: Resize = "crop"
) -> UInt8[Tensor, "n 3 size size"]:
    """Decode image files to RGB, apply their EXIF orientation, and resize them to squares.

    Args:
        files: The image files.
        size: Height and width of the result, in pixels.
        background: Colour behind transparent pixels.
        resize: What is done with images that are not square, see :func:`distill.data.resizing.place`.

    Raises:
        InputError: if a file cannot be decoded.
    """
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def decode(position: int) -> None:
        pixels = _read_image(files[position], size, background)
        images[position] = fit(pixels, size=size, resize=resize, background=background)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(decode, range(len(files))):  # re-raises the error of a thread and cancels the others
            pass
    return images


def find_unreadable(files: Sequence[ImageFile], size: int, background: Canvas = "black") -> dict[int, str]:
    """Decode every file once, and return the error messages of those that cannot be decoded, by position.

    Args:
        files: The image files.
        size: Smallest side that is needed, in pixels; JPEG files are decoded at the resolution that this needs.
        background: Colour behind transparent pixels.
    """

    def check(position: int) -> tuple[int, str | None]:
        try:
            _read_image(files[position], size, background)
        except InputError as error:
            return position, str(error)
        return position, None

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return {position: error for position, error in pool.map(check, range(len(files))) if error is not None}


def _read_image(path: ImageFile, size: int, background: Canvas) -> UInt8[Tensor, "h w 3"]:
    try:
        with open_image(path, draft=2 * size) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return torch.from_numpy(np.array(to_rgb(image, path, background=background)))
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise InputError(
            f"cannot decode {path}: {error}; repair or remove it, or leave such files out with `data.on_error=skip`."
        ) from error


def free_memory() -> int | None:
    """Return the memory in bytes that is available without swapping, or None if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


class DecodedImages:
    """Image files indexed like a tensor (N, 3, size, size); images are decoded when they are indexed.

    Args:
        files: The image files.
        size: Height and width of the decoded images; see :func:`distill.data.image_files.decode_images`.
        background: Colour behind transparent pixels.
        resize: What is done with images that are not square, see :func:`distill.data.resizing.place`.

    Example:
        >>> DecodedImages([Path("a.png"), Path("b.png")], 32).shape
        torch.Size([2, 3, 32, 32])
    """

    dtype, ndim = torch.uint8, 4

    def __init__(
        self, files: Sequence[ImageFile], size: int, background: Canvas = "black", resize: Resize = "crop"
    ) -> None:
        self.files, self.size, self.background, self.resize = list(files), size, background, resize

    def __len__(self) -> int:
        return len(self.files)

    def as_tensor(self) -> UInt8[Tensor, "n 3 s s"]:
        """Return this object typed as a tensor, for use as ``images`` of an :class:`~distill.data.ImageSet`."""
        return cast(Tensor, self)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, size, size)."""
        return torch.Size((len(self.files), 3, self.size, self.size))

    def __getitem__(self, index: slice | int | Int[Tensor, " m"]) -> UInt8[Tensor, "..."]:
        """Decode the images at ``index``.

        Raises:
            InputError: if a file cannot be decoded.
        """
        if isinstance(index, int):
            return decode_images([self.files[index]], self.size, self.background, self.resize)[0]
        files = self.files[index] if isinstance(index, slice) else [self.files[i] for i in index.tolist()]
        return decode_images(files, self.size, self.background, self.resize)

    def split(self, size: int) -> Iterator[UInt8[Tensor, "m 3 s s"]]:
        """Decode all images in chunks of ``size`` images."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def checksum(self) -> int:
        """Return a CRC-32 of the paths, sizes and modification times of the files; no image is decoded."""
        lines = list(map(_identify, self.files))
        names = (path if isinstance(path, Path) else Path(path.name) for path in self.files)
        if any(name.suffix.lower() in _WITH_ALPHA for name in names):
            lines.append(f"transparent pixels on {self.background}")
        if self.resize != "crop":
            lines.append(f"{self.resize} on {self.background}")
        return zlib.crc32("\n".join([str(self.size), *lines]).encode())


def _identify(path: ImageFile) -> str:
    """Return the path, size and modification time of an image; for one in a tar file also its position."""
    if isinstance(path, Path):
        return f"{path.resolve()} {(s := file_stat(path)).st_size} {s.st_mtime_ns}"
    return f"{_identify(path.shard)} {path.offset} {path.size}"


def same_images(one: object, other: object) -> bool:
    """Return whether two sets contain the same images: equal tensors, or the same files at the same size."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, DecodedImages) and isinstance(other, DecodedImages):
        same = (one.size, one.background, one.resize) == (other.size, other.background, other.resize)
        return same and list(map(_identify, one.files)) == list(map(_identify, other.files))
    return False
