"""What is known about one explained image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8


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
        from distill.explanations.drawing import draw

        return draw(self)
