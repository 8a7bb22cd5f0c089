"""Synthetic ablation records with known values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.report.ablation.record import AblationRecord, TrialResult

HOSTILE = '<script>alert("1")</script> & $x$ | a'
#: Noise of eight seeds that all rows share, so that paired differences vary less than single runs.
SEEDS = (0.004, -0.011, 0.007, 0.0, 0.013, -0.006, -0.009, 0.002)
#: Additional noise of a row, which remains in paired differences.
PAIRED = (0.001, -0.002, 0.0005, 0.0015, -0.001, 0.0, -0.0005, 0.002)


def trial(
    row: str, seed: int, figures: Mapping[str, float | None], *, reason: str | None = None, **settings: Any
) -> TrialResult:
    return {
        "format": 1,
        "row": row,
        "seed": seed,
        "settings": {key.replace("__", "."): value for key, value in settings.items()},
        "identity": f"{abs(hash((row, seed))) % 16**8:08x}",
        "state": "done" if reason is None else "failed",
        "reason": reason,
        "figures": dict(figures) if reason is None else {},
        "seconds": 12.5,
    }


def record(
    rows: Mapping[str, Mapping[int, Mapping[str, float | None]]],
    *,
    baseline: str,
    metrics: list[str],
    axes: Mapping[str, list[Any]] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    exploratory: bool = False,
) -> AblationRecord:
    """Return a record from values by row, seed and SET/METRIC; a seed without values has failed."""
    seeds = sorted({seed for by_seed in rows.values() for seed in by_seed})
    trials = [
        trial(row, seed, figures, reason=None if figures else "NaN in cross_entropy at step 3")
        for row, by_seed in rows.items()
        for seed, figures in by_seed.items()
    ]
    for each in trials:
        each["settings"] = dict((settings or {}).get(each["row"], {}))
    return {
        "format": 1,
        "name": "made-up",
        "baseline": baseline,
        "rows": list(rows),
        "seeds": seeds,
        "metrics": metrics,
        "axes": dict(axes or {}),
        "exploratory": exploratory,
        "trials": trials,
    }


def shifted(base: float, by: float, *, paired: tuple[float, ...] = PAIRED) -> dict[int, float]:
    """Return values of eight seeds around ``base + by``, with shared and paired noise."""
    return {seed: base + noise + by + rest for seed, (noise, rest) in enumerate(zip(SEEDS, paired, strict=True))}


def typical() -> AblationRecord:
    """Return a record with KD as baseline, a better row, a worse row, a row inside the noise, and a failed trial."""
    accuracy = {
        "CE + KD": shifted(0.70, 0.0, paired=(0.0,) * 8),
        "CE": shifted(0.70, -0.04),
        "CE + KD + maps": shifted(0.70, 0.02),
        HOSTILE: shifted(0.70, 0.0005),
    }
    cosine = {"CE + KD": 0.5, "CE": 0.4, "CE + KD + maps": 0.9, HOSTILE: 0.5}
    rows: dict[str, dict[int, Mapping[str, float | None]]] = {
        row: {
            seed: {
                "unbiased/accuracy": value,
                "unbiased/map_cosine": cosine[row] + value / 10,
                "unbiased/output_kl": None,
            }
            for seed, value in by_seed.items()
        }
        for row, by_seed in accuracy.items()
    }
    rows[HOSTILE][3] = {}
    return record(rows, baseline="CE + KD", metrics=["unbiased/accuracy", "unbiased/map_cosine", "unbiased/output_kl"])


def swept() -> AblationRecord:
    """Return a record of a grid: a weight with two layers."""
    axes: dict[str, list[Any]] = {
        "objective.explanation.weight": [1, 5, 20],
        "objective.explanation.layer": ["final", "group2"],
    }
    rows: dict[str, dict[int, Mapping[str, float | None]]] = {}
    settings = {}
    for layer in axes["objective.explanation.layer"]:
        for i, weight in enumerate(axes["objective.explanation.weight"]):
            name = f"weight={weight}, layer={layer}"
            settings[name] = {"objective.explanation.weight": weight, "objective.explanation.layer": layer}
            level = 0.7 + 0.01 * i + (0.05 if layer == "group2" else 0)
            rows[name] = {seed: {"test/accuracy": level + 0.001 * seed, "test/agreement": level} for seed in range(3)}
    return record(
        rows,
        baseline="weight=5, layer=final",
        metrics=["test/accuracy", "test/agreement"],
        axes=axes,
        settings=settings,
    )
