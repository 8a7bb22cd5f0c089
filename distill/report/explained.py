"""Explained images: records, and their pictures (image, teacher's map, student's map) as PNG files."""

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
from distill.report.common.png import add_colour_bar, escape_mathtext, make_figure, show_map


@dataclass(frozen=True, eq=False, repr=False)
class NetworkView:
    """Map and probabilities of one network for an image.

    Args:
        role: ``student`` or ``teacher``.
        architecture: Name of the architecture.
        layer: The layer that is explained.
        map: Raw map in the size of ``ImageExplanation.pixels``; not negative.
        probabilities: Softmax probability of every class.
    """

    role: str
    architecture: str
    layer: str
    map: Float32[np.ndarray, "h w"]
    probabilities: Float32[np.ndarray, " classes"]

    def __repr__(self) -> str:
        """Return one line without the values of the arrays."""
        return f"NetworkView({self.role}: {self.architecture} at {self.layer!r}, map {self.map.shape})"

    @property
    def predicted(self) -> int:
        """Number of the class with the largest probability."""
        return int(self.probabilities.argmax())

    @property
    def heat(self) -> Float32[np.ndarray, "h w"]:
        """The map divided by its largest value; zero if the map is zero everywhere."""
        largest = self.map.max()
        return self.map / largest if largest > 0 else self.map


@dataclass(frozen=True, eq=False, repr=False)
class ImageExplanation:
    """One image with the maps and probabilities of the student and the teacher; notebooks show it as a picture.

    Args:
        name: File name, or position among the given images.
        pixels: The image, upright and in colour; its longer side has at most 640 pixels.
        classes: Names of the classes.
        explained: Number of the class that all maps explain.
        asked: Whether the user chose that class; if not, it is the student's first choice.
        method: Name of the explanation method.
        student: Map and probabilities of the student.
        teacher: Map and probabilities of the teacher, if there is one.
    """

    name: str
    pixels: UInt8[np.ndarray, "h w 3"]
    classes: tuple[str, ...]
    explained: int
    asked: bool
    method: str
    student: NetworkView
    teacher: NetworkView | None = None

    def __repr__(self) -> str:
        """Return one line without the values of the arrays."""
        maps = " and ".join(view.role for view in self.views)
        height, width = self.pixels.shape[:2]
        return (
            f"ImageExplanation({self.name!r}, {height} x {width} pixels, explained={self.classes[self.explained]!r}, "
            f"method={self.method!r}, maps of {maps})"
        )

    @property
    def views(self) -> tuple[NetworkView, ...]:
        """The view of the teacher, if there is one, and the view of the student."""
        return (self.student,) if self.teacher is None else (self.teacher, self.student)

    @property
    def maps(self) -> dict[str, Float32[np.ndarray, "h w"]]:
        """The raw maps by role."""
        return {view.role: view.map for view in self.views}

    @property
    def caption(self) -> str:
        """Text that names the explained class and why it was chosen."""
        reason = "which was asked for" if self.asked else "the student's first choice"
        return f"Maps explain {self.classes[self.explained]!r}, {reason}."

    def top(self, k: int = 5, *, of: str = "student") -> list[tuple[str, float]]:
        """Return the most probable classes of a network, with their probabilities.

        Args:
            k: Number of classes; all if there are fewer.
            of: ``student`` or ``teacher``.

        Raises:
            KeyError: if there is no such network.
        """
        probabilities = {view.role: view.probabilities for view in self.views}[of]
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.classes[i], float(probabilities[i])) for i in order]

    def _repr_png_(self) -> bytes:
        return draw_explanation(self)


#: Value of the PNG field "Software", by which :func:`output_paths` recognises pictures of this module.
SOFTWARE = "distill-explain"
#: In inches: longer side of a panel, smallest width of its column, gap between panels, caption under a panel, and
#: margins above and below all panels.
_SIDE, _COLUMN, _GAP, _TEXT, _HEAD, _FOOT = 2.4, 1.9, 0.12, 0.5, 0.55, 0.5
#: Largest number of characters of a line under a panel.
_LONGEST = 36


def draw_explanation(explanation: ImageExplanation) -> bytes:
    """Draw the image and the maps of teacher and student side by side, on the colour scale of the reports.

    Returns:
        The content of a PNG file.
    """
    pixels, views = explanation.pixels, explanation.views
    scale = _SIDE / max(pixels.shape[:2])
    column, row = max(pixels.shape[1] * scale, _COLUMN), max(pixels.shape[0] * scale, 0.3)
    columns = 1 + len(views)
    width, height = (column + _GAP) * columns + _GAP, row + _TEXT + _HEAD + _FOOT
    figure = make_figure(width, height)
    axes = [
        figure.add_axes(
            ((_GAP + i * (column + _GAP)) / width, (_FOOT + _TEXT) / height, column / width, row / height),
            anchor="N",
        )
        for i in range(columns)
    ]
    axes[0].imshow(pixels, interpolation="nearest")
    axes[0].set_title("image", fontsize=8, fontweight="bold")
    axes[0].set_xlabel(escape_mathtext(_tail(explanation.name)), fontsize=7)
    for axis, view in zip(axes[1:], views, strict=True):
        image = show_map(axis, pixels, view.heat, interpolation="nearest")
        axis.set_title(escape_mathtext(f"{view.role}, {view.architecture}"), fontsize=8, fontweight="bold")
        axis.set_xlabel(escape_mathtext(_caption(explanation, view)), fontsize=7)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    caption = f"{explanation.caption}\n{explanation.method} at {explanation.student.layer}"
    figure.text(0.5, 1 - 0.06 / height, escape_mathtext(caption), fontsize=7, ha="center", va="top")
    add_colour_bar(figure, image, bottom=0.36)
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


def output_paths(images: Sequence[Path | str], folder: Path | str) -> list[Path]:
    """Choose the file for the picture of every image: ``<stem>_explained.png``, numbered if names would be equal.

    Raises:
        InputError: if such a file exists and was not made by this module, or is one of the images.

    Example:
        >>> [path.name for path in output_paths(["a/boot.png", "b/boot.jpg"], "out")]
        ['boot_explained.png', 'boot_explained_2.png']
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the pictures.")
    inputs = {Path(image).resolve() for image in images}
    paths: list[Path] = []
    for image in images:
        stem, number = f"{Path(image).stem}_explained", 1
        while (path := folder / f"{stem}{f'_{number}' if number > 1 else ''}.png") in paths:
            number += 1
        paths.append(path)
    for path in paths:
        if path.resolve() in inputs:
            raise InputError(f"{path} is one of the images; choose another folder.")
        if path.exists() and not _is_explanation(path):
            raise InputError(f"{path} exists and was not made by `distill explain`; choose another folder.")
    return paths


def save_explanations(explanations: Sequence[ImageExplanation], paths: Sequence[Path]) -> None:
    """Draw every explanation to its file; files are written atomically."""
    for explanation, path in zip(explanations, paths, strict=True):
        with replacing(path) as part:
            part.write_bytes(draw_explanation(explanation))


def _is_explanation(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == SOFTWARE
    except (UnidentifiedImageError, OSError):
        return False
