"""Read an image from a file, a PIL image, a tensor or an array, and prepare it for a network."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from distill.data.image_files import to_rgb
from distill.errors import InputError

Source: TypeAlias = str | Path | Image.Image | Tensor | NDArray[np.uint8]

#: The longer side of what is shown is shrunk to this.
LONGEST = 640


class PreparedImage(NamedTuple):
    """An image as it is shown, and as the network takes it."""

    name: str
    shown: UInt8[np.ndarray, "h w 3"]
    seen: UInt8[Tensor, "c size size"]


def prepare_image(source: Source, *, name: str, channels: int, size: int, crop: bool) -> PreparedImage:
    """Read an image and resize it.

    Convention:
        - What is shown is what the network sees, in more pixels: cropped and without colour where that is.
        - Resizing is that of ``image_folder``: bicubic, antialiased.

    Args:
        source: A file, an image of PIL, a tensor (C, H, W) or (H, W), or an array (H, W, C) or (H, W), both uint8.
        name: What errors call it.
        channels: 3 for colour, 1 for grey.
        size: Height and width of what the network takes.
        crop: Whether only the square in the middle is looked at, as ``image_folder`` does; else the whole image is
            squeezed into a square.

    Raises:
        InputError: if there is no image in it.
    """
    image = read_image(source, name).convert("L" if channels == 1 else "RGB")
    if crop:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, channels).permute(2, 0, 1)
    seen = F.interpolate(pixels[None], (size, size), mode="bicubic", antialias=True)[0]
    image.thumbnail((LONGEST, LONGEST))
    return PreparedImage(name, np.array(image.convert("RGB")), seen)


def read_image(source: Source, name: str) -> Image.Image:
    """Read an image in colour, turned upright, at 8 bits a channel; transparency is left out, as it is in training.

    Raises:
        InputError: if it cannot be read.
    """
    if isinstance(source, str | Path):
        return _read_file(Path(source))
    if isinstance(source, Image.Image):
        return to_rgb(ImageOps.exif_transpose(source), name)
    return _from_values(source, name)


def _read_file(path: Path) -> Image.Image:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the image files in it, such as {path / '*.png'}.")
    if not path.is_file():
        raise InputError(f"there is no image {path}.")
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image), str(path))
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not an image that can be read, or only its beginning; give a PNG or a JPEG."
        ) from (error)
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot decode {path}: {error}; is the file whole?") from error


def _from_values(source: Tensor | NDArray[np.uint8], name: str) -> Image.Image:
    values = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    if values.ndim == 3 and isinstance(source, Tensor):
        values = values.transpose(1, 2, 0)
    fits = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (1, 3, 4))
    if values.dtype != np.uint8 or not fits or values.size == 0:
        raise InputError(
            f"{name} must be uint8, a tensor (C, H, W) or (H, W) or an array (H, W, C) or (H, W) with 1, 3 or 4 "
            f"channels; got {values.dtype} {tuple(source.shape)}."
        )
    return Image.fromarray(np.ascontiguousarray(values.squeeze(2) if values.shape[2:] == (1,) else values)).convert(
        "RGB"
    )
