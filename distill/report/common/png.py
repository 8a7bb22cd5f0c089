"""PNG files drawn with matplotlib: a figure without a window, maps over images, and their colour bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, UInt8

from distill.report.common.colours import COLOUR_MAP
from distill.untrusted import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

DPI = 150


def make_figure(width: float, height: float, *, constrained: bool = False) -> Figure:
    """Make a figure that is drawn without a window.

    Args:
        width: In inches.
        height: In inches.
        constrained: Whether matplotlib arranges axes and labels so that they do not overlap.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def escape_mathtext(text: str) -> str:
    """Escape dollar signs, between which matplotlib would typeset mathematics, and control characters."""
    return printable(text).replace("$", r"\$")


def show_map(
    axes: Axes,
    pixels: UInt8[np.ndarray, "h w 3"],
    heat: Float[np.ndarray, "h w"],
    *,
    interpolation: Literal["nearest", "bilinear"],
) -> AxesImage:
    """Draw a map with values from 0 to 1 over the grey image, and return it for :func:`add_colour_bar`."""
    axes.imshow(pixels.mean(2), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    return axes.imshow(heat, cmap=COLOUR_MAP, vmin=0, vmax=1, alpha=0.6, interpolation=interpolation)


def add_colour_bar(figure: Figure, image: AxesImage, *, bottom: float) -> None:
    """Add the colour scale of a map to a figure, ``bottom`` inches above its lower edge."""
    height = figure.get_figheight()
    axes = figure.add_axes((0.3, bottom / height, 0.4, 0.08 / height))
    bar = figure.colorbar(image, cax=axes, orientation="horizontal")
    bar.set_label("share of the map's largest value", fontsize=7)
    bar.ax.tick_params(labelsize=6, length=2)
