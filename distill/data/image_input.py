"""Read an image from a file, PIL image, tensor or array, and prepare it for a network."""

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

from distill.data.image_files import Canvas, open_image, to_rgb
from distill.errors import InputError
from distill.files import expand_home

Source: TypeAlias = str | Path | Image.Image | Tensor | NDArray[np.uint8]

#: Longest side of the image for display, in pixels.
LONGEST = 640


class PreparedImage(NamedTuple):
    """An image for display (``shown``) and as network input (``seen``)."""

    name: str
    shown: UInt8[np.ndarray, "h w 3"]
    seen: UInt8[Tensor, "c size size"]


def prepare_image(
    source: Source, *, name: str, channels: int, size: int, crop: bool, background: Canvas = "black"
) -> PreparedImage:
    """Read an image and resize it for display and for a network.

    Convention:
        - The image for display is the network input at a higher resolution: cropped and grey if the input is.
        - Resizing is bicubic and antialiased, as in ``image_folder``.

    Args:
        source: A file, a PIL image, a uint8 tensor (C, H, W) or (H, W), or a uint8 array (H, W, C) or (H, W).
        name: Name of the image in error messages.
        channels: 3 for colour, 1 for grey.
        size: Height and width of the network input.
        crop: Whether to centre-crop the image to a square, as ``image_folder`` does; otherwise the whole image is
            resized to a square.
        background: Colour behind transparent pixels.

    Raises:
        InputError: if the image cannot be read.
    """
    image = read_image(source, name, background).convert("L" if channels == 1 else "RGB")
    if crop:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, channels).permute(2, 0, 1)
    seen = F.interpolate(pixels[None], (size, size), mode="bicubic", antialias=True)[0]
    image.thumbnail((LONGEST, LONGEST))
    return PreparedImage(name, np.array(image.convert("RGB")), seen)


def read_image(source: Source, name: str, background: Canvas = "black") -> Image.Image:
    """Return an image in RGB with 8 bits per channel and EXIF orientation applied; see :func:`to_rgb`.

    Raises:
        InputError: if the image cannot be read.
    """
    if isinstance(source, str | Path):
        return _read_file(Path(expand_home(source)), background)
    if isinstance(source, Image.Image):
        return to_rgb(ImageOps.exif_transpose(source), name, background=background)
    return to_rgb(_from_values(source, name), name, background=background)


def _read_file(path: Path, background: Canvas) -> Image.Image:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give image files, for example {path / '*.png'}.")
    if not path.exists() and not path.is_symlink():
        raise InputError(f"no image file {path}; check the path.")
    try:
        with open_image(path) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image), str(path), background=background)
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not an image in a known format, or it is truncated; give a PNG or JPEG file."
        ) from error
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise InputError(f"cannot decode {path}: {error}; check that the file is complete.") from error


def _from_values(source: Tensor | NDArray[np.uint8], name: str) -> Image.Image:
    values = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    if values.ndim == 3 and isinstance(source, Tensor):
        values = values.transpose(1, 2, 0)
    valid_shape = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (1, 3, 4))
    if values.dtype != np.uint8 or not valid_shape or values.size == 0:
        raise InputError(
            f"{name} must be a uint8 tensor (C, H, W) or (H, W), or a uint8 array (H, W, C) or (H, W), with 1, 3 or 4 "
            f"channels; got {values.dtype} {tuple(source.shape)}."
        )
    pixels = values.squeeze(2) if values.shape[2:] == (1,) else values
    return Image.fromarray(np.ascontiguousarray(pixels))
