"""Scores of images -> figures of a record: means with intervals, set-level metrics, paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float

from distill.evaluation.deletion_insertion import PerturbedScores
from distill.evaluation.image_scores import STRATA, Column, ImageScores
from distill.evaluation.sanity import RandomisedScores
from distill.evaluation.settings import EvaluationSettings
from distill.metrics import adcc, expected_calibration_error
from distill.metrics.names import METRIC_INFO
from distill.metrics.significance import bootstrap_means, compare_many, holm, resampled_means
from distill.report.evaluation.record import (
    ComparisonRecord,
    HeldOutRecord,
    HistogramRecord,
    Measured,
    NetworkScores,
    SanityRecord,
    Stratum,
    StratumScores,
)

_BINS = 15
_PARTS = ("coherency", "complexity", "average_drop")


def calibration_error(scores: ImageScores, extent: EvaluationSettings) -> Measured:
    """Measure the gap between confidence and accuracy; see :func:`distill.metrics.expected_calibration_error`."""
    right, sure = scores.columns["accuracy"].values, scores.probability
    value = float(expected_calibration_error(torch.from_numpy(sure), torch.from_numpy(right), bins=_BINS))
    edges = torch.linspace(0, 1, _BINS + 1)[1:-1]
    member = torch.bucketize(torch.from_numpy(sure), edges).numpy()[:, None] == np.arange(_BINS)
    gaps = (right.astype(np.float64) - sure)[:, None] * np.where(np.isnan(sure)[:, None], np.nan, member)
    return _with_interval(value, gaps, lambda means: np.abs(means).sum(1), extent)


def adcc_of_means(scores: ImageScores, extent: EvaluationSettings) -> Measured | None:
    """Measure ADCC over the images that have all of its parts; see :class:`distill.metrics.ADCC`."""
    if not all(name in scores.columns for name in _PARTS):
        return None
    parts = np.stack([scores.columns[name].values.astype(np.float64) for name in _PARTS], 1)
    parts[np.isnan(parts).any(1)] = np.nan
    known = parts[~np.isnan(parts[:, 0])]
    value = float(_adcc(known.mean(0, keepdims=True))[0]) if len(known) else np.nan
    return _with_interval(value, parts, _adcc, extent)


def _adcc(means: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, " m"]:
    return adcc(*torch.from_numpy(means).unbind(1)).numpy()


def _with_interval(
    value: float,
    columns: Float[np.ndarray, "n k"],
    figure: Callable[[Float[np.ndarray, "m k"]], Float[np.ndarray, " m"]],
    extent: EvaluationSettings,
) -> Measured:
    n = int((~np.isnan(columns[:, 0])).sum())
    low = high = None
    if extent.resamples and n > 1:
        drawn = figure(resampled_means(columns, resamples=extent.resamples, seed=extent.seed))
        low, high = (round(float(end), 12) for end in np.nanquantile(drawn, [0.025, 0.975]))
    return Measured(value=value if n else None, low=low, high=high, n=n, excluded=len(columns) - n)


#: What takes all scores of a network, by the name of the figure.
SET_METRICS: dict[str, Callable[[ImageScores, EvaluationSettings], Measured | None]] = {
    "calibration_error": calibration_error,
    "adcc": adcc_of_means,
}


#: Figures that networks are compared by.
COMPARED = (
    "accuracy",
    "agreement",
    "map_cosine",
    "energy_in_object",
    "average_drop",
    "deletion_auc",
    "insertion_auc",
)
#: Most networks of which every pair is compared; of more, each with the first.
ALL_PAIRS = 5


def compare(
    scores: Mapping[str, ImageScores], *, reference: str | None, extent: EvaluationSettings
) -> list[ComparisonRecord]:
    """Compare the networks that are not the reference.

    Convention:
        - A figure that one of the two lacks, or that less than two images have of both, is left out.

    Args:
        scores: By network, of the same images.
        reference: The network that is not compared.
        extent: Resamples of the bootstrap, and their seed.
    """
    found: list[ComparisonRecord] = []
    for first, second in pairs([name for name in scores if name != reference]):
        one, other = scores[first], scores[second]
        figures = [name for name in COMPARED if name in one.columns and name in other.columns]
        if not figures:
            continue
        compared = compare_many(
            _table(one, figures), _table(other, figures), resamples=extent.resamples, seed=extent.seed
        )
        for figure, result in zip(figures, compared, strict=True):
            if result.n < 2:
                continue
            found.append({"figure": figure, "first": first, "second": second, "p_holm": 1.0, **result._asdict()})  # type: ignore[typeddict-item]  # the fields of a Comparison
    for record, adjusted in zip(found, holm([record["p"] for record in found]), strict=True):
        record["p_holm"] = adjusted
    return found


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Say who is compared with whom.

    Example:
        >>> pairs(["a", "b", "c"])
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
        >>> pairs("abcdef")
        [('a', 'b'), ('a', 'c'), ('a', 'd'), ('a', 'e'), ('a', 'f')]
    """
    found = list(combinations(names, 2))
    return found if len(names) <= ALL_PAIRS else [pair for pair in found if pair[0] == names[0]]


def _table(scores: ImageScores, figures: Sequence[str]) -> Float[np.ndarray, "images figures"]:
    return np.stack([scores.columns[name].values.astype(np.float64) for name in figures], 1)


#: Of the histogram of the cosines of maps.
BINS = 20


def summarise(
    scores: ImageScores,
    *,
    extent: EvaluationSettings,
    perturbed: PerturbedScores | None = None,
    sanity: Sequence[RandomisedScores] | None = None,
) -> NetworkScores:
    """Take the means of one network's scores on one test set.

    Args:
        scores: Of every image.
        extent: Resamples of the bootstrap, and their seed.
        perturbed: Its curves.
        sanity: Its maps against those of random weights.
    """
    columns = {**scores.columns, **_by_stratum(scores)}
    means = mean_columns(columns, extent)
    figures: dict[str, Measured | None] = {name: means.get(name) for name in METRIC_INFO}
    figures |= {name: whole(scores, extent) for name, whole in SET_METRICS.items()}
    return {
        "figures": figures,
        "strata": _strata(scores, means),
        "histogram": _histogram(scores),
        "curves": None if perturbed is None else perturbed.curves,
        "sanity": None if sanity is None else [_part(part, extent) for part in sanity],
        "held_out": _held_out(means, extent.held_out if extent.explained else ()),
    }


def mean_columns(columns: Mapping[str, Column], extent: EvaluationSettings) -> dict[str, Measured]:
    """Take means; scores that are NaN are left out and counted, and images that were not looked at are not counted.

    Example:
        >>> scores = Column(np.array([1.0, np.nan, 0.5, 9.0], dtype=np.float32), np.array([True, True, True, False]))
        >>> mean_columns({"accuracy": scores}, EvaluationSettings(resamples=0))
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
            low=finite_or_none(low[i]),
            high=finite_or_none(high[i]),
            n=len(known),
            excluded=looked - len(known),
        )
    return found


def finite_or_none(number: float) -> float | None:
    """Give the end of an interval as JSON knows it: None for NaN, and without what rounding adds to a share of 0.

    Example:
        >>> finite_or_none(float("nan")), finite_or_none(-1e-17), finite_or_none(0.25)
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


def _part(part: RandomisedScores, extent: EvaluationSettings) -> SanityRecord:
    columns = {"spearman": Column(part.spearman.numpy()), "ssim": Column(part.ssim.numpy())}
    means = mean_columns(columns, extent)
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
