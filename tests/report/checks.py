"""A record, a gallery and curves whose figures are made up so that tests can look for them."""

from __future__ import annotations

import numpy as np

from distill.report import Curves, EvaluationRecord, Gallery, Panel, Picture
from distill.report.record import Measured, NetworkScores

HOSTILE = '<script>alert("1")</script>'


def measured(value: float | None, n: int = 400, excluded: int = 0) -> Measured:
    return {"value": value, "n": n, "excluded": excluded}


def scores(
    accuracy: float, agreement: float | None = None, cosine: float | None = None, energy: float | None = None
) -> NetworkScores:
    return {
        "accuracy": measured(accuracy),
        "agreement": None if agreement is None else measured(agreement),
        "map_cosine": None if cosine is None else measured(cosine, 397, 3),
        "energy_in_object": None if energy is None else measured(energy),
        "zero_maps": measured(0.0075),
    }


def make_record() -> EvaluationRecord:
    return {
        "format": 1,
        "reference": "teacher",
        "classes": ["bag", HOSTILE],
        "maps": {"method": "grad_cam_pp", "target": "label", "class_policy": "Label.", "pipeline": "raw map, relu"},
        "networks": {
            name: {"architecture": "wrn_10_1", "parameters": 77395, "layer": "final"}
            for name in ("teacher", "CE", "KD")
        },
        "sets": {
            "unbiased": {
                "n": 400,
                "localisation": "masks",
                "object_share": 0.2,
                "networks": {
                    "teacher": scores(0.8775, energy=0.6125),
                    "CE": scores(0.7025, 0.6975, 0.7431, 0.4125),
                    "KD": scores(0.8225, 0.8475, 0.9312, 0.3875),
                },
            },
            "plain": {
                "n": 400,
                "localisation": None,
                "object_share": None,
                "networks": {
                    "teacher": scores(0.9),
                    "CE": scores(0.7, 0.7, 0.8),
                    "KD": scores(0.7, 0.75, 0.8),
                },
            },
        },
    }


def make_gallery(count: int = 2, side: int = 32, names: tuple[str, ...] = ("teacher", "CE")) -> Gallery:
    generator = np.random.default_rng(0)

    def panel(i: int, name: str) -> Panel:
        heat = generator.random((side, side)).astype(np.float32)
        correct = i % 2 == 0
        return Panel(
            network=name,
            heat=heat * 0 if i == 1 else heat,
            predicted=HOSTILE if correct else "bag",
            probability=0.625,
            correct=correct,
            explained_probability=0.21,
            cosine=None if name == "teacher" else 0.84,
        )

    return Gallery(
        "unbiased",
        7,
        400,
        tuple(
            Picture(
                index=31 + i,
                pixels=generator.integers(0, 256, (side, side, 3), dtype=np.uint8),
                label=HOSTILE,
                explained=HOSTILE,
                boxes=((4, 5, 20, 22),),
                panels=tuple(panel(i, name) for name in names),
            )
            for i in range(count)
        ),
    )


def make_curves() -> list[Curves]:
    return [
        Curves("CE", {"train/loss": [(0, 2.0), (1, 1.0)], "validation/accuracy": [(0, 0.5), (1, 0.7)]}),
        Curves("KD", {"train/loss": [(0, 3.0), (1, 2.0)], "validation/accuracy": [(0, 0.4), (1, 0.8)]}),
    ]
