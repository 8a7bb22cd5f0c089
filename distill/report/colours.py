"""Maps and pixels -> PNG bytes."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image

#: Perceptually even, the same to colour-blind people, and rising in brightness, so it survives a grey printer.
COLOUR_MAP = "viridis"
#: Longer sides are shrunk to this for the page.
LONGEST = 160


def colour(heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colour a map whose values lie between 0 and 1; all maps share the one scale.

    Example:
        >>> colour(np.array([[0.0, 1.0]])).tolist()
        [[[68, 1, 84], [253, 231, 36]]]
    """
    from matplotlib import colormaps

    rgb: NDArray[np.uint8] = colormaps[COLOUR_MAP](np.clip(heat, 0, 1), bytes=True)[..., :3]
    return rgb


def scale_stops(count: int = 9) -> list[tuple[str, str]]:
    """Give the colour scale as offsets and colours of a gradient.

    Example:
        >>> scale_stops(2)
        [('0%', '#440154'), ('100%', '#fde724')]
    """
    rgb = colour(np.linspace(0, 1, count)[None])[0]
    return [(f"{100 * i / (count - 1):g}%", "#" + bytes(rgb[i].tolist()).hex()) for i in range(count)]


def data_uri(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Encode an image as the PNG that a page carries in itself."""
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST, LONGEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
