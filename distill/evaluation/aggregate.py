"""Aggregates the scores of images: means with intervals, set-level metrics and paired comparisons."""

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

#: Number of confidence bins of the calibration error.
CALIBRATION_BINS = 15
_PARTS = ("coherency", "complexity", "average_drop")


def calibration_error(scores: ImageScores, settings: EvaluationSettings) -> Measured:
    """Compute the calibration error; see :func:`distill.metrics.expected_calibration_error`."""
    correct, confidence = scores.columns["accuracy"].values, scores.probability
    value = float(
        expected_calibration_error(torch.from_numpy(confidence), torch.from_numpy(correct), bins=CALIBRATION_BINS)
    )
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    member = torch.bucketize(torch.from_numpy(confidence), edges).numpy()[:, None] == np.arange(CALIBRATION_BINS)
    gaps = (correct.astype(np.float64) - confidence)[:, None] * np.where(np.isnan(confidence)[:, None], np.nan, member)
    return _with_interval(value, gaps, lambda means: np.abs(means).sum(1), settings)


def adcc_of_means(scores: ImageScores, settings: EvaluationSettings) -> Measured | None:
    """Compute ADCC over the images that have all of its parts; see :class:`distill.metrics.ADCC`.

    Returns:
        The value with its interval; None if a part was not measured.
    """
    if not all(name in scores.columns for name in _PARTS):
        return None
    parts = np.stack([scores.columns[name].values.astype(np.float64) for name in _PARTS], 1)
    parts[np.isnan(parts).any(1)] = np.nan
    complete = parts[~np.isnan(parts[:, 0])]
    value = float(_adcc(complete.mean(0, keepdims=True))[0]) if len(complete) else np.nan
    return _with_interval(value, parts, _adcc, settings)


def _adcc(means: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, " m"]:
    return adcc(*torch.from_numpy(means).unbind(1)).numpy()


def _with_interval(
    value: float,
    columns: Float[np.ndarray, "n k"],
    metric: Callable[[Float[np.ndarray, "m k"]], Float[np.ndarray, " m"]],
    settings: EvaluationSettings,
) -> Measured:
    n = int((~np.isnan(columns[:, 0])).sum())
    low = high = None
    if settings.resamples and n > 1:
        resampled = metric(resampled_means(columns, resamples=settings.resamples, seed=settings.seed))
        low, high = (round(float(end), 12) for end in np.nanquantile(resampled, [0.025, 0.975]))
    return Measured(value=value if n else None, low=low, high=high, n=n, excluded=len(columns) - n)


#: Metrics that are computed from all scores of a network at once, by the name of the figure.
SET_METRICS: dict[str, Callable[[ImageScores, EvaluationSettings], Measured | None]] = {
    "calibration_error": calibration_error,
    "adcc": adcc_of_means,
}

#: Figures for which networks are compared.
COMPARED = (
    "accuracy",
    "agreement",
    "map_cosine",
    "energy_in_object",
    "average_drop",
    "deletion_auc",
    "insertion_auc",
)
#: Up to this number of networks every pair is compared; above it, every network is compared with the first.
ALL_PAIRS = 5


def compare_networks(
    scores: Mapping[str, ImageScores], *, reference: str | None, settings: EvaluationSettings
) -> list[ComparisonRecord]:
    """Compare all networks except the reference with each other, in pairs.

    Convention:
        - A figure is left out if one of the two networks lacks it, or if fewer than two images have a score of both.

    Args:
        scores: Scores of the same images, by network.
        reference: Name of the reference, which is not compared.
        settings: Number and seed of the bootstrap's resamples.
    """
    records: list[ComparisonRecord] = []
    for first, second in pairs([name for name in scores if name != reference]):
        one, other = scores[first], scores[second]
        figures = [name for name in COMPARED if name in one.columns and name in other.columns]
        if not figures:
            continue
        compared = compare_many(
            _table(one, figures), _table(other, figures), resamples=settings.resamples, seed=settings.seed
        )
        for figure, result in zip(figures, compared, strict=True):
            if result.n < 2:
                continue
            records.append({"figure": figure, "first": first, "second": second, "p_holm": 1.0, **result._asdict()})  # type: ignore[typeddict-item]  # the fields of a Comparison
    for record, adjusted in zip(records, holm([record["p"] for record in records]), strict=True):
        record["p_holm"] = adjusted
    return records


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of networks that are compared.

    Example:
        >>> pairs(["a", "b", "c"])
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
        >>> pairs("abcdef")
        [('a', 'b'), ('a', 'c'), ('a', 'd'), ('a', 'e'), ('a', 'f')]
    """
    every = list(combinations(names, 2))
    return every if len(names) <= ALL_PAIRS else [pair for pair in every if pair[0] == names[0]]


def _table(scores: ImageScores, figures: Sequence[str]) -> Float[np.ndarray, "images figures"]:
    return np.stack([scores.columns[name].values.astype(np.float64) for name in figures], 1)


#: Number of bins of the histogram of the map cosine.
HISTOGRAM_BINS = 20


def summarise(
    scores: ImageScores,
    *,
    settings: EvaluationSettings,
    perturbed: PerturbedScores | None = None,
    sanity: Sequence[RandomisedScores] | None = None,
) -> NetworkScores:
    """Aggregate the scores of one network on one test set.

    Args:
        scores: Scores of every image.
        settings: Number and seed of the bootstrap's resamples, and the held-out explainers.
        perturbed: Deletion and insertion curves; None if not measured.
        sanity: Similarity of the maps to those of random weights; None if not measured.
    """
    columns = {**scores.columns, **_by_stratum(scores)}
    means = mean_columns(columns, settings)
    figures: dict[str, Measured | None] = {name: means.get(name) for name in METRIC_INFO}
    figures |= {name: metric(scores, settings) for name, metric in SET_METRICS.items()}
    return {
        "figures": figures,
        "strata": _strata(scores, means),
        "histogram": _histogram(scores),
        "curves": None if perturbed is None else perturbed.curves,
        "sanity": None if sanity is None else [_summarise_part(part, settings) for part in sanity],
        "held_out": _held_out(means, settings.held_out if settings.explained else ()),
    }


def mean_columns(columns: Mapping[str, Column], settings: EvaluationSettings) -> dict[str, Measured]:
    """Compute means with intervals.

    Convention:
        - Scores that are NaN are left out and counted as excluded. Images for which a figure was not measured are not
          counted.

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
        bootstrap_means(table, resamples=settings.resamples, seed=settings.seed) if settings.resamples else (none, none)
    )
    means = {}
    for i, (name, column) in enumerate(columns.items()):
        scores = table[:, i][~np.isnan(table[:, i])]
        measured = len(table) if column.measured is None else int(column.measured.sum())
        means[name] = Measured(
            value=float(scores.mean()) if len(scores) else None,
            low=finite_or_none(low[i]),
            high=finite_or_none(high[i]),
            n=len(scores),
            excluded=measured - len(scores),
        )
    return means


def finite_or_none(number: float) -> float | None:
    """Return the bound of an interval as a value for JSON: None for NaN, and rounded so that a bound of 0 is exactly 0.

    Example:
        >>> finite_or_none(float("nan")), finite_or_none(-1e-17), finite_or_none(0.25)
        (None, 0.0, 0.25)
    """
    return None if math.isnan(number) else round(float(number), 12) + 0.0


def _values(column: Column) -> Float[np.ndarray, " n"]:
    values = column.values.astype(np.float64)
    return values if column.measured is None else np.where(column.measured, values, np.nan)


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
    counts, edges = np.histogram(cosine[~np.isnan(cosine)], bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _summarise_part(part: RandomisedScores, settings: EvaluationSettings) -> SanityRecord:
    columns = {"spearman": Column(part.spearman.numpy()), "ssim": Column(part.ssim.numpy())}
    means = mean_columns(columns, settings)
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
