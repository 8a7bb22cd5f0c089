"""A record, a gallery and curves whose figures are made up so that tests can look for them."""

from __future__ import annotations

import json

import numpy as np
from jaxtyping import Float32

from distill.metrics.names import METRIC_INFO
from distill.report import (
    Curves,
    EvaluationRecord,
    Gallery,
    Panel,
    Picture,
)
from distill.report.evaluation.gallery import Pick
from distill.report.evaluation.record import (
    ComparisonRecord,
    CurvesRecord,
    HeldOutRecord,
    Measured,
    NetworkScores,
    Stratum,
)

HOSTILE = '<script>alert("1")</script>'
STRATA: tuple[Stratum, ...] = ("both_right", "only_reference", "only_network", "same_wrong", "different_wrong")
PICKS: tuple[Pick, ...] = ("best", "median", "worst", "random")


def measured(value: float | None, n: int = 400, excluded: int = 0, half: float = 0.04) -> Measured:
    low, high = (None, None) if value is None else (value - half, value + half)
    return {"value": value, "low": low, "high": high, "n": n, "excluded": excluded}


def scores(
    accuracy: float, agreement: float | None = None, cosine: float | None = None, energy: float | None = None
) -> NetworkScores:
    figures: dict[str, Measured | None] = dict.fromkeys(METRIC_INFO)
    figures["accuracy"] = measured(accuracy)
    figures["zero_maps"] = measured(0.0075, half=0.005)
    if energy is not None:
        figures["energy_in_object"] = measured(energy)
        figures["deletion_auc"] = measured(energy / 2, 256, half=0.02)
    if agreement is not None:
        figures["agreement"] = measured(agreement)
    if cosine is not None:
        figures["map_cosine"] = measured(cosine, 397, 3, 0.01)
        figures["map_cosine_floor"] = measured(0.4375, 397, 3, 0.01)
    return {"figures": figures, "strata": None, "histogram": None, "curves": None, "sanity": None, "held_out": {}}


def with_evidence(found: NetworkScores, level: float, *, compared: bool) -> NetworkScores:
    """Add curves, a cascade and, for what is compared with the reference, strata, a histogram, held-out explainers."""
    grid = [i / 4 for i in range(5)]
    curves: CurvesRecord = {
        "deletion": {"fractions": grid, "probability": [level * (1 - x) for x in grid], "n": 256},
        "insertion": {"fractions": grid, "probability": [level * x for x in grid], "n": 256},
    }
    held_out: HeldOutRecord = {
        "map_cosine": measured(level, 64) if compared else None,
        "map_cosine_floor": measured(0.25, 64) if compared else None,
        "map_spearman": measured(level / 2, 64) if compared else None,
        "energy_in_object": measured(0.3125, 64),
    }
    return {
        **found,
        "curves": curves,
        "sanity": [
            {"part": part, "spearman": measured(level / i, 64), "ssim": measured(level / i / 2, 64)}
            for i, part in enumerate(("linear", "group3", "group2", "group1"), 1)
        ],
        "held_out": {"input_x_gradient": held_out},
        "strata": {
            key: {"n": n, "map_cosine": measured(level if n else None, n)}
            for key, n in zip(STRATA, (240, 60, 40, 60, 0), strict=True)
        }
        if compared
        else None,
        "histogram": {"edges": [0.0, 0.5, 0.9, 1.0], "counts": [100, 100, 200]} if compared else None,
    }


def comparison(figure: str, first: str, second: str, difference: float, half: float, p_holm: float) -> ComparisonRecord:
    low, high = difference - half, difference + half
    return {
        "figure": figure,
        "first": first,
        "second": second,
        "difference": difference,
        "low": low,
        "high": high,
        "p": p_holm / 4,
        "p_holm": p_holm,
        "effect": 0.5 if difference > 0 else -0.5,
        "n": 400,
    }


def make_record() -> EvaluationRecord:
    return {
        "format": 2,
        "reference": "teacher",
        "ceiling": None,
        "split": "test",
        "classes": ["bag", HOSTILE],
        "maps": {
            "method": "grad_cam_pp",
            "target": "label",
            "class_policy": "Label.",
            "pipeline": "raw map, relu",
            "perturbation": "pixels to the mean",
        },
        "networks": {
            name: {
                "architecture": "wrn_10_1",
                "parameters": 77395,
                "layer": "final",
                "run": f"runs/{name}",
                "seed": 3,
                "weights": "9f86d081",
            }
            for name in ("teacher", "CE", "KD")
        },
        "sets": {
            "unbiased": {
                "n": 400,
                "localisation": "masks",
                "object_share": 0.2,
                "networks": {
                    "teacher": with_evidence(scores(0.8775, energy=0.6125), 0.9, compared=False),
                    "CE": with_evidence(scores(0.7025, 0.6975, 0.7431, 0.4125), 0.6, compared=True),
                    "KD": with_evidence(scores(0.8225, 0.8475, 0.9312, 0.3875), 0.8, compared=True),
                },
                "comparisons": [
                    comparison("accuracy", "KD", "CE", 0.12, 0.04, 0.0001),
                    comparison("agreement", "CE", "KD", -0.15, 0.04, 0.0001),
                    comparison("map_cosine", "KD", "CE", 0.1881, 0.01, 0.0001),
                    comparison("energy_in_object", "CE", "KD", 0.025, 0.035, 0.4),
                    comparison("deletion_auc", "CE", "KD", 0.0125, 0.0025, 0.03),
                ],
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
                "comparisons": [],
            },
        },
    }


def renamed(record: EvaluationRecord, old: str, new: str) -> EvaluationRecord:
    """Call something else by another name, wherever it stands."""
    changed: EvaluationRecord = json.loads(json.dumps(record).replace(json.dumps(old), json.dumps(new)))
    return changed


def smooth(side: int, generator: np.random.Generator) -> Float32[np.ndarray, "side side"]:
    """A bright spot, as maps have."""
    y, x = np.mgrid[:side, :side] / side
    (cy, cx), width = generator.random(2), 0.15 + 0.2 * generator.random()
    spot = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2)).astype(np.float32)
    return spot / spot.max()


def make_gallery(
    count: int = 2,
    side: int = 32,
    names: tuple[str, ...] = ("teacher", "CE"),
    *,
    set_name: str = "unbiased",
    noise: bool = True,
) -> Gallery:
    generator = np.random.default_rng(0)

    def panel(i: int, k: int, name: str) -> Panel:
        heat = generator.random((side, side)).astype(np.float32) if noise else smooth(side, generator)
        correct = (i + k) % 2 == 0
        cosine = None if name == "teacher" or i == 1 else round(float(generator.random()), 3)
        return Panel(
            network=name,
            heat=heat * 0 if i == 1 and k == 1 else heat,
            predicted=HOSTILE if correct else "bag",
            probability=0.625,
            correct=correct,
            explained_probability=0.21,
            stratum=None if name == "teacher" else STRATA[(i + k) % 5],
            scores={"map_cosine": cosine, "energy_in_object": round(float(generator.random()), 3), "entropy": None},
        )

    return Gallery(
        set_name,
        7,
        400,
        tuple(
            Picture(
                index=31 + i,
                pixels=generator.integers(0, 256, (side, side, 3), dtype=np.uint8),
                label=HOSTILE if i % 3 == 0 else "bag",
                explained=HOSTILE if i % 3 == 0 else "bag",
                boxes=((side // 8, side // 6, side // 2, side // 3 * 2),),
                panels=tuple(panel(i, k, name) for k, name in enumerate(names)),
                picks=(PICKS[i % 4],),
            )
            for i in range(count)
        ),
        ranked_by="the cosine of KD’s map and the teacher’s",
        reference="teacher",
    )


def make_curves() -> list[Curves]:
    return [
        Curves("CE", {"train/loss": [(0, 2.0), (1, 1.0)], "validation/accuracy": [(0, 0.5), (1, 0.7)]}),
        Curves("KD", {"train/loss": [(0, 3.0), (1, 2.0)], "validation/accuracy": [(0, 0.4), (1, 0.8)]}),
    ]
