"""Folders of image files, one folder per class: list, decode and fingerprint them."""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from distill.data.folder_splits import check_class_folders, is_hidden, subfolders
from distill.errors import InputError, warn_input
from distill.files import expand_home
from distill.untrusted import check_regular

#: Colour behind transparent pixels.
Canvas = Literal["black", "white"]
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


EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: Endings of image files that are not read; they are counted in a warning.
OTHER_FORMATS = (
    *(".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpx"),
    *(".jxl", ".nef", ".orf", ".pbm", ".pnm", ".psd", ".raw", ".rw2", ".svg", ".tga"),
)
#: Endings of files that can have transparent pixels.
_WITH_ALPHA = (".gif", ".png", ".tif", ".tiff", ".webp")
_logger = logging.getLogger(__name__)


#: Largest number of pixels of an image file. Decoding takes about ten bytes of memory per pixel.
MAX_PIXELS = 64 << 20


def open_image(path: Path, *, draft: int | None = None) -> Image.Image:
    """Open an image file without decoding it.

    Args:
        path: The file.
        draft: Smallest side that is needed. A JPEG file is then decoded at a lower resolution, if that is enough.

    Raises:
        InputError: if it is not a regular file, or has too many pixels to decode it safely.
        OSError: if it is not an image. Damaged files also lead to other errors.
    """
    check_regular(path)
    image = Image.open(path)
    if draft is not None:
        image.draft("RGB", (draft, draft))  # the JPEG decoder skips detail that resizing would discard
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        image.close()
        raise InputError(
            f"{path} has {size} pixels, more than the limit of {MAX_PIXELS >> 20} x 2^20. Make the image smaller."
        )
    return image


def list_images(folder: Path) -> tuple[tuple[str, ...], list[Path], list[int]]:
    """List the image files in the class folders of ``folder``, sorted by class and path; hidden names are skipped.

    Returns:
        The class names, the files, and the class number of each file.

    Raises:
        InputError: if the folder is missing or has no class folders, a class folder contains no image, or all class
            folders have the same sub-folders.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; expected one sub-folder of images per class.")
    folders = subfolders(folder)
    if not folders:
        raise InputError(f"{folder} has no sub-folders; expected one sub-folder of images per class.")
    check_class_folders(folder, folders)
    files: list[Path] = []
    labels: list[int] = []
    skipped: Counter[str] = Counter()
    for label, class_folder in enumerate(folders):
        entries = [path for path in class_folder.rglob("*") if not is_hidden(path.relative_to(class_folder))]
        paths = sorted(path for path in entries if path.suffix.lower() in EXTENSIONS)
        others = Counter(path.suffix.lower() for path in entries if path.suffix.lower() in OTHER_FORMATS)
        if not paths:
            found = f", only {_count(others)}" if others else ""
            raise InputError(f"{class_folder} contains no image file ({', '.join(EXTENSIONS)}){found}.")
        files += paths
        labels += [label] * len(paths)
        skipped += others
    if skipped:
        warn_input(
            f"{folder}: image files of formats that are not read are skipped ({_count(skipped)}). "
            "Convert them to PNG or JPEG; files .jfif and .jpe only need the ending .jpg."
        )
    return tuple(path.name for path in folders), files, labels


def _count(endings: Counter[str]) -> str:
    return ", ".join(f"{number} {ending}" for ending, number in sorted(endings.items()))


def read_images(files: Sequence[Path], size: int, background: Canvas = "black") -> UInt8[Tensor, "n 3 size size"]:
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
    return decode_images(files, size, background)


def decode_images(files: Sequence[Path], size: int, background: Canvas = "black") -> UInt8[Tensor, "n 3 size size"]:
    """Decode image files to RGB, apply their EXIF orientation, centre-crop to a square and resize to ``size``.

    Args:
        files: The image files.
        size: Height and width of the result, in pixels.
        background: Colour behind transparent pixels.

    Raises:
        InputError: if a file cannot be decoded.
    """
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def decode(position: int) -> None:
        images[position] = _cut(_read_image(files[position], size, background), size)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(decode, range(len(files))):  # re-raises the error of a thread and cancels the others
            pass
    return images


def _read_image(path: Path, size: int, background: Canvas) -> UInt8[Tensor, "h w 3"]:
    try:
        with open_image(path, draft=2 * size) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return torch.from_numpy(np.array(to_rgb(image, path, background=background)))
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise InputError(f"cannot decode {path}: {error}; repair or remove it.") from error


def _cut(pixels: UInt8[Tensor, "h w 3"], size: int) -> UInt8[Tensor, "3 size size"]:
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side].permute(2, 0, 1)
    # The result differs from PIL's by at most about one grey level and takes half the time.
    return F.interpolate(square[None], (size, size), mode="bicubic", antialias=True)[0]


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

    Example:
        >>> DecodedImages([Path("a.png"), Path("b.png")], 32).shape
        torch.Size([2, 3, 32, 32])
    """

    dtype, ndim = torch.uint8, 4

    def __init__(self, files: Sequence[Path], size: int, background: Canvas = "black") -> None:
        self.files, self.size, self.background = list(files), size, background

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
            return decode_images([self.files[index]], self.size, self.background)[0]
        files = self.files[index] if isinstance(index, slice) else [self.files[i] for i in index.tolist()]
        return decode_images(files, self.size, self.background)

    def split(self, size: int) -> Iterator[UInt8[Tensor, "m 3 s s"]]:
        """Decode all images in chunks of ``size`` images."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def checksum(self) -> int:
        """Return a CRC-32 of the paths, sizes and modification times of the files; no image is decoded."""
        lines = [f"{path.resolve()} {(s := _stat(path)).st_size} {s.st_mtime_ns}" for path in self.files]
        if any(path.suffix.lower() in _WITH_ALPHA for path in self.files):
            lines.append(f"transparent pixels on {self.background}")
        return zlib.crc32("\n".join([str(self.size), *lines]).encode())


def _stat(path: Path) -> os.stat_result:
    """Return the size and times of a file.

    Raises:
        InputError: if it is not a regular file, for example a link to a file that does not exist.
    """
    check_regular(path)
    return path.stat()


def same_images(one: object, other: object) -> bool:
    """Return whether two sets contain the same images: equal tensors, or the same files at the same size."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, DecodedImages) and isinstance(other, DecodedImages):
        same = (one.size, one.background) == (other.size, other.background)
        return same and [p.resolve() for p in one.files] == [p.resolve() for p in other.files]
    return False


def fingerprint(name: str, options: Mapping[str, Any]) -> str | None:
    """Return a hash of the names and sizes of a data set's image files.

    Args:
        name: Name of the data set.
        options: Options of the data set; ``root`` is its folder.

    Returns:
        The hash, for ``image_folder``. None for the other data sets, which are determined by their name and options,
        and for a folder that does not exist.
    """
    root = None if options.get("root") is None else expand_home(options["root"])
    if name != "image_folder" or root is None or not Path(root).is_dir():
        return None
    files = (path for path in Path(root).rglob("*") if path.suffix.lower() in EXTENSIONS)
    shown = (path for path in files if not is_hidden(path.relative_to(root)))
    lines = sorted(f"{path.relative_to(root).as_posix()}\t{_stat(path).st_size}" for path in shown)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
