"""Encodes maps, differences of maps and images as data URIs, which a page contains."""

from __future__ import annotations

import base64
import io
import math
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Integer, UInt8
from numpy.typing import NDArray
from PIL import Image

#: Perceptually uniform, safe for colour-blind readers, and rising in brightness, so it can be printed in grey.
COLOUR_MAP: Final = "viridis"
#: Diverging: blue is less, white is equal, red is more; safe for colour-blind readers.
DIVERGING: Final = "RdBu_r"
#: Largest side of an image on the page, in pixels, and the largest side of an image that is stored without loss.
LONGEST, LOSSLESS = 160, 64
#: Number of shades of a map and of a difference; it is odd for differences, so that 0 has a shade.
LEVELS, DIFFERENCE_LEVELS = 64, 63
#: Upper bound of the bytes of all maps of a page, reached if the maps are noise.
MAP_BYTES = 7e6

ColourScale = Literal["viridis", "RdBu_r"]


def colour(heat: Float[np.ndarray, "h w"], scale: ColourScale = COLOUR_MAP) -> UInt8[np.ndarray, "h w 3"]:
    """Colour a map with values between 0 and 1; all maps share one scale.

    Example:
        >>> colour(np.array([[0.0, 1.0]])).tolist()
        [[[68, 1, 84], [253, 231, 36]]]
    """
    from matplotlib import colormaps

    rgb: NDArray[np.uint8] = colormaps[scale](np.clip(heat, 0, 1), bytes=True)[..., :3]
    return rgb


def scale_stops(count: int = 9, scale: ColourScale = COLOUR_MAP) -> list[tuple[str, str]]:
    """Return the colour scale as offsets and colours of a gradient.

    Example:
        >>> scale_stops(2)
        [('0%', '#440154'), ('100%', '#fde724')]
    """
    rgb = colour(np.linspace(0, 1, count)[None], scale)[0]
    return [(f"{100 * i / (count - 1):g}%", "#" + bytes(rgb[i].tolist()).hex()) for i in range(count)]


def map_side(count: int) -> int:
    """Return the longest side of a map, in pixels, on a page with ``count`` maps, which bounds the size of the page.

    Example:
        >>> map_side(100), map_side(1800)
        (160, 62)
    """
    return min(LONGEST, max(8, int(math.sqrt(MAP_BYTES / max(count, 1)))))


def map_uri(heat: Float[np.ndarray, "h w"], *, side: int) -> str:
    """Encode a map with values from 0 to 1 as a PNG in colour."""
    return _encode(np.rint(np.clip(_shrink(heat, side), 0, 1) * (LEVELS - 1)), LEVELS, COLOUR_MAP)


def difference_uri(heat: Float[np.ndarray, "h w"], reference: Float[np.ndarray, "h w"], *, side: int) -> str:
    """Encode the difference of two maps, from -1 to 1, as a PNG in colour; 0 is exactly the middle colour."""
    share = (np.clip(_shrink(heat - reference, side), -1, 1) + 1) / 2
    return _encode(np.rint(share * (DIFFERENCE_LEVELS - 1)), DIFFERENCE_LEVELS, DIVERGING)


def data_uri(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Encode an image: a small image as PNG without loss, a larger one reduced and as WebP."""
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST, LONGEST))
    if max(image.size) <= LOSSLESS:
        return _uri(image, "PNG", optimize=True)
    return _uri(image, "WEBP", quality=85, method=4)


def _shrink(heat: Float[np.ndarray, "h w"], side: int) -> NDArray[np.float32]:
    values = np.nan_to_num(heat).astype(np.float32)
    share = side / max(values.shape)
    if share >= 1:
        return values
    height, width = (max(1, round(length * share)) for length in values.shape)
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BOX))


def _encode(shades: Float[np.ndarray, "h w"] | Integer[np.ndarray, "h w"], levels: int, scale: ColourScale) -> str:
    height, width = shades.shape
    image = Image.frombytes("P", (width, height), shades.astype(np.uint8).tobytes())
    image.putpalette(colour(np.linspace(0, 1, levels)[None], scale).tobytes())
    return _uri(image, "PNG", optimize=True)


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
