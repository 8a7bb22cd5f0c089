"""Settings of the benchmark: networks, batches, precisions and rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from distill.training.trainer import resolve_precision

Row: TypeAlias = dict[str, Any]

KD = ["objective.cross_entropy.weight=0.1", "objective.soft_targets.weight=0.9"]
TERM = [*KD, "objective.explanation={weight: 5, method: grad_cam_pp}"]
#: What each variant adds to the configuration; variants with a teacher also get its checkpoint.
VARIANTS: Mapping[str, list[str]] = {
    "CE": [],
    "CE+KD": KD,
    "CE+KD+Grad-CAM++ final": TERM,
    "CE+KD+Grad-CAM++ final, autograd": [*TERM, "objective.explanation.gradients=autograd"],
    "CE+KD+Grad-CAM++ group2": [*TERM, "objective.explanation.layer=group2"],
    "CE+KD+Grad-CAM++ group1": [*TERM, "objective.explanation.layer=group1"],
}
WITHOUT_TEACHER, REFERENCE, TERM_AT_FINAL = list(VARIANTS)[:3]
#: Forward, cross-entropy, backward and optimiser; only the network is from this library.
FLOOR = "student alone"
LIGHTNING_PRECISION = {"float32": "32-true", "bf16": "bf16-mixed"}


@dataclass(frozen=True)
class Setting:
    """The setting of the whole benchmark.

    Args:
        precisions: Measured precisions; sections that measure only one use the last.
        batches: Batch sizes; likewise.
        rounds: Rounds of every section; None for the default of each section.
        steps: Steps per epoch.
        scenes: Training images of the section `start`; None for those of the demo.
        quick: Whether to measure less, in under a minute.
    """

    teacher: str = "wrn_40_2"
    student: str = "wrn_16_2"
    precisions: tuple[str, ...] = ("float32",)
    batches: tuple[int, ...] = (64, 128)
    threads: int = 2
    rounds: int | None = None
    steps: int = 20
    scenes: int | None = None
    quick: bool = False

    @property
    def precision(self) -> str:
        """The last of the precisions."""
        return self.precisions[-1]

    @property
    def batch(self) -> int:
        """The last of the batches."""
        return self.batches[-1]

    def rounds_or(self, default: int) -> int:
        """Return the number of rounds, or the default of a section if none is set."""
        return default if self.rounds is None else self.rounds


def computed_precisions() -> tuple[str, ...]:
    """Return the precisions that this processor has instructions for; emulated bfloat16 is not measured."""
    return ("float32", "bf16") if resolve_precision("auto", "cpu") == "bf16-mixed" else ("float32",)
