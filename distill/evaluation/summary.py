"""Scores of images -> the figures of a record, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from distill.evaluation.extent import Extent
from distill.evaluation.perturbed import Perturbed
from distill.evaluation.sanity import PartScores
from distill.evaluation.scores import STRATA, Column, ImageScores
from distill.evaluation.wholes import WHOLES
from distill.measures import MEASURES
from distill.metrics.statistics import bootstrap_means
from distill.report.record import (
    HeldOutRecord,
    HistogramRecord,
    Measured,
    NetworkScores,
    SanityRecord,
    Stratum,
    StratumScores,
)

#: Of the histogram of the cosines of maps.
BINS = 20


def summarise(
    scores: ImageScores,
    *,
    extent: Extent,
    perturbed: Perturbed | None = None,
    sanity: Sequence[PartScores] | None = None,
) -> NetworkScores:
    """Take the means of one network's scores on one test set.

    Args:
        scores: Of every image.
        extent: Resamples of the bootstrap, and their seed.
        perturbed: Its curves.
        sanity: Its maps against those of random weights.
    """
    columns = {**scores.columns, **_by_stratum(scores)}
    means = measure_all(columns, extent)
    figures: dict[str, Measured | None] = {name: means.get(name) for name in MEASURES}
    figures |= {name: whole(scores, extent) for name, whole in WHOLES.items()}
    return {
        "figures": figures,
        "strata": _strata(scores, means),
        "histogram": _histogram(scores),
        "curves": None if perturbed is None else perturbed.curves,
        "sanity": None if sanity is None else [_part(part, extent) for part in sanity],
        "held_out": _held_out(means, extent.held_out if extent.explained else ()),
    }


def measure_all(columns: Mapping[str, Column], extent: Extent) -> dict[str, Measured]:
    """Take means; scores that are NaN are left out and counted, and images that were not looked at are not counted.

    Example:
        >>> scores = Column(np.array([1.0, np.nan, 0.5, 9.0], dtype=np.float32), np.array([True, True, True, False]))
        >>> measure_all({"accuracy": scores}, Extent(resamples=0))
        {'accuracy': {'value': 0.75, 'low': None, 'high': None, 'n': 2, 'excluded': 1}}
    """
    if not columns:
        return {}
    table = np.stack([_values(column) for column in columns.values()], 1)
    none = np.full(len(columns), np.nan)
    low, high = (
        bootstrap_means(table, resamples=extent.resamples, seed=extent.seed) if extent.resamples else (none, none)
    )
    found = {}
    for i, (name, column) in enumerate(columns.items()):
        known = table[:, i][~np.isnan(table[:, i])]
        looked = len(table) if column.looked is None else int(column.looked.sum())
        found[name] = Measured(
            value=float(known.mean()) if len(known) else None,
            low=plain(low[i]),
            high=plain(high[i]),
            n=len(known),
            excluded=looked - len(known),
        )
    return found


def plain(number: float) -> float | None:
    """Give the end of an interval as JSON knows it: None for NaN, and without what rounding adds to a share of 0.

    Example:
        >>> plain(float("nan")), plain(-1e-17), plain(0.25)
        (None, 0.0, 0.25)
    """
    return None if math.isnan(number) else round(float(number), 12) + 0.0


def _values(column: Column) -> Float[np.ndarray, " n"]:
    values = column.values.astype(np.float64)
    return values if column.looked is None else np.where(column.looked, values, np.nan)


def _by_stratum(scores: ImageScores) -> dict[str, Column]:
    if scores.stratum is None:
        return {}
    cosine = scores.columns["map_cosine"].values
    return {f"stratum/{name}": Column(cosine, scores.stratum == code) for code, name in enumerate(STRATA)}


def _strata(scores: ImageScores, means: Mapping[str, Measured]) -> dict[Stratum, StratumScores] | None:
    if scores.stratum is None:
        return None
    return {
        name: {"n": int((scores.stratum == code).sum()), "map_cosine": means[f"stratum/{name}"]}
        for code, name in enumerate(STRATA)
    }


def _histogram(scores: ImageScores) -> HistogramRecord | None:
    if "map_cosine" not in scores.columns:
        return None
    cosine = scores.columns["map_cosine"].values.astype(np.float64)
    counts, edges = np.histogram(cosine[~np.isnan(cosine)], bins=BINS, range=(0.0, 1.0))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _part(part: PartScores, extent: Extent) -> SanityRecord:
    columns = {"spearman": Column(part.spearman.numpy()), "ssim": Column(part.ssim.numpy())}
    means = measure_all(columns, extent)
    return {"part": part.part, "spearman": means["spearman"], "ssim": means["ssim"]}


def _held_out(means: Mapping[str, Measured], methods: Sequence[str]) -> dict[str, HeldOutRecord]:
    return {
        method: {
            "map_cosine": means.get(f"{method}/map_cosine"),
            "map_cosine_floor": means.get(f"{method}/map_cosine_floor"),
            "map_spearman": means.get(f"{method}/map_spearman"),
            "energy_in_object": means.get(f"{method}/energy_in_object"),
        }
        for method in methods
    }
