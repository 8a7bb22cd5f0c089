"""Image files of any mode, as the networks take them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from distill.errors import InputError


def in_colour(image: Image.Image, name: object) -> Image.Image:
    """Give an image in RGB at 8 bits a channel; transparency is left out.

    Convention:
        - Grey of 16 bits is scaled by 257, so that white stays white; Pillow's ``convert`` would cut it off at 255.

    Raises:
        InputError: if its values are no pixels.

    Example:
        >>> grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
        >>> np.asarray(in_colour(grey, "grey.png"))[0, :, 0].tolist()
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
