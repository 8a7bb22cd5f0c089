"""Explained images: the record, its picture (image, teacher's map, student's map), and the picture's file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, UnidentifiedImageError

from distill.errors import InputError
from distill.files import replacing
from distill.report.common.colours import COLOUR_MAP


@dataclass(frozen=True, eq=False)
class NetworkView:
    """What one network makes of an image.

    Args:
        role: ``student`` or ``teacher``.
        architecture: Its name.
        layer: The layer explained.
        map: In the size of the pixels that are shown; raw, not negative.
        probabilities: Softmax, a number for every class.
    """

    role: str
    architecture: str
    layer: str
    map: Float32[np.ndarray, "h w"]
    probabilities: Float32[np.ndarray, " classes"]

    @property
    def predicted(self) -> int:
        """Number of the class that it chooses first."""
        return int(self.probabilities.argmax())

    @property
    def heat(self) -> Float32[np.ndarray, "h w"]:
        """The map as a share of its own largest value; zero where it is zero everywhere."""
        largest = self.map.max()
        return self.map / largest if largest > 0 else self.map


@dataclass(frozen=True, eq=False)
class ImageExplanation:
    """One image, the class that is explained, and what the networks make of it. A notebook shows it as a picture.

    Args:
        name: File name, or position among the images that were given.
        pixels: What was looked at, upright and in colour, its longer side at most 640 pixels.
        classes: Names of the classes.
        explained: Number of the class that all maps explain.
        asked: Whether that class was asked for; else it is the student's first choice.
        method: How maps were made.
        student: What the student makes of it.
        teacher: What the teacher makes of it, if there is one.
    """

    name: str
    pixels: UInt8[np.ndarray, "h w 3"]
    classes: tuple[str, ...]
    explained: int
    asked: bool
    method: str
    student: NetworkView
    teacher: NetworkView | None = None

    @property
    def views(self) -> tuple[NetworkView, ...]:
        """The teacher's, if there is one, and the student's."""
        return (self.student,) if self.teacher is None else (self.teacher, self.student)

    @property
    def maps(self) -> dict[str, Float32[np.ndarray, "h w"]]:
        """The raw maps by role."""
        return {view.role: view.map for view in self.views}

    @property
    def caption(self) -> str:
        """Which class the maps explain, and why that one."""
        why = "which was asked for" if self.asked else "the student's first choice"
        return f"Maps explain {self.classes[self.explained]!r}, {why}."

    def top(self, k: int = 5, *, of: str = "student") -> list[tuple[str, float]]:
        """List the classes that a network finds likeliest, with their probabilities.

        Args:
            k: How many; all if there are fewer.
            of: ``student`` or ``teacher``.

        Raises:
            KeyError: if there is no such network.
        """
        probabilities = {view.role: view.probabilities for view in self.views}[of]
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.classes[i], float(probabilities[i])) for i in order]

    def _repr_png_(self) -> bytes:

        return draw_explanation(self)


#: What a PNG of ours says of its origin.
SOFTWARE = "distill-explain"
#: Inches: the longer side of a panel and the least width of its column, the space around it, the text under it, and
#: what is kept above and below all panels.
_SIDE, _COLUMN, _GAP, _TEXT, _HEAD, _FOOT = 2.4, 1.9, 0.12, 0.5, 0.55, 0.5
_DPI = 150
#: Letters of a line under a panel.
_LONGEST = 36


def draw_explanation(explanation: ImageExplanation) -> bytes:
    """Draw image, teacher and student side by side, all maps on the one colour scale of the reports.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pixels, views = explanation.pixels, explanation.views
    scale = _SIDE / max(pixels.shape[:2])
    column, row = max(pixels.shape[1] * scale, _COLUMN), max(pixels.shape[0] * scale, 0.3)
    columns = 1 + len(views)
    width, height = (column + _GAP) * columns + _GAP, row + _TEXT + _HEAD + _FOOT
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = [
        figure.add_axes(
            ((_GAP + i * (column + _GAP)) / width, (_FOOT + _TEXT) / height, column / width, row / height),
            anchor="N",
        )
        for i in range(columns)
    ]
    axes[0].imshow(pixels, interpolation="nearest")
    axes[0].set_title("image", fontsize=8, fontweight="bold")
    axes[0].set_xlabel(_safe(_tail(explanation.name)), fontsize=7)
    grey = pixels.mean(2)
    for axis, view in zip(axes[1:], views, strict=True):
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        shown = axis.imshow(view.heat, cmap=COLOUR_MAP, vmin=0, vmax=1, alpha=0.6, interpolation="nearest")
        axis.set_title(_safe(f"{view.role}, {view.architecture}"), fontsize=8, fontweight="bold")
        axis.set_xlabel(_safe(_caption(explanation, view)), fontsize=7)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    how = f"{explanation.caption}\n{explanation.method} at {explanation.student.layer}"
    figure.text(0.5, 1 - 0.06 / height, _safe(how), fontsize=7, ha="center", va="top")
    place = (0.3, 0.36 / height, 0.4, 0.08 / height)
    bar = figure.colorbar(shown, cax=figure.add_axes(place), orientation="horizontal")
    bar.set_label("share of the map's largest value", fontsize=7)
    bar.ax.tick_params(labelsize=6, length=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": SOFTWARE})
    return buffer.getvalue()


def _caption(explanation: ImageExplanation, view: NetworkView) -> str:
    number = explanation.explained
    lines = [f"{explanation.classes[number]} {view.probabilities[number]:.0%}"]
    if view.predicted != number:
        lines.append(f"first choice: {explanation.classes[view.predicted]} {view.probabilities[view.predicted]:.0%}")
    if not view.map.any():
        lines.append("no map: it is zero everywhere")
    return "\n".join(line if len(line) <= _LONGEST else line[:_LONGEST] + "..." for line in lines)


def _tail(name: str) -> str:
    return name if len(name) <= _LONGEST else "..." + name[-_LONGEST:]


def _safe(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would read mathematics


def output_paths(images: Sequence[Path | str], folder: Path | str) -> list[Path]:
    """Choose a file for the picture of every image: ``<stem>_explained.png``, numbered where two would collide.

    Raises:
        InputError: if a file of that name is there and is not one of these pictures, or is one of the images.

    Example:
        >>> [path.name for path in output_paths(["a/boot.png", "b/boot.jpg"], "out")]
        ['boot_explained.png', 'boot_explained_2.png']
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the pictures.")
    given = {Path(image).resolve() for image in images}
    paths: list[Path] = []
    for image in images:
        stem, number = f"{Path(image).stem}_explained", 1
        while (path := folder / f"{stem}{f'_{number}' if number > 1 else ''}.png") in paths:
            number += 1
        paths.append(path)
    for path in paths:
        if path.resolve() in given or (path.exists() and not _is_our_picture(path)):
            raise InputError(
                f"{path} is there already and is no picture of `distill explain`, or one of the images; choose another "
                "folder."
            )
    return paths


def save_explanations(explanations: Sequence[ImageExplanation], paths: Sequence[Path]) -> None:
    """Draw every explanation into its file; each appears whole or not at all."""
    for explanation, path in zip(explanations, paths, strict=True):
        with replacing(path) as part:
            part.write_bytes(draw_explanation(explanation))


def _is_our_picture(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == SOFTWARE
    except (UnidentifiedImageError, OSError):
        return False
