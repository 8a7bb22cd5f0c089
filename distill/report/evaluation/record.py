"""Record of an evaluation (`evaluation.json`) as typed dictionaries; tables and pages are made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import TypeAdapter
from typing_extensions import NotRequired, TypedDict

from distill.report.common.record_files import load_json, save_json

FORMAT = 2
#: Digits of a percentage in tables and sentences; see :mod:`distill.report.common.numbers`.
DIGITS = 1

#: Predictions of a network and of the reference: which of them are correct, and whether wrong ones are the same.
Stratum = Literal["both_right", "only_reference", "only_network", "same_wrong", "different_wrong"]


class Measured(TypedDict):
    """A mean over images, its 95 % interval, the number of images in the mean, and the number of excluded images.

    Without any image, the value and the interval are null. The interval is also null if it was not computed.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    excluded: int


class StratumScores(TypedDict):
    """Number of images of one stratum, and the cosine of their maps with the maps of the reference."""

    n: int
    map_cosine: Measured


class CurveRecord(TypedDict):
    """Mean probability of the explained class by the share of pixels that were removed, or added."""

    fractions: list[float]
    probability: list[float]
    n: int


class CurvesRecord(TypedDict):
    """Deletion and insertion curves."""

    deletion: CurveRecord
    insertion: CurveRecord


class HistogramRecord(TypedDict):
    """Histogram of the cosine of the maps: numbers of images between the edges; one more edge than counts."""

    edges: list[float]
    counts: list[int]


class SanityRecord(TypedDict):
    """Similarity of the maps before and after all weights from the logits down to one part were randomised."""

    part: str
    spearman: Measured
    ssim: Measured


class HeldOutRecord(TypedDict):
    """Agreement with the reference under an explainer that no network was trained on; null for the reference."""

    map_cosine: Measured | None
    map_cosine_floor: Measured | None
    map_spearman: Measured | None
    energy_in_object: Measured | None


class NetworkScores(TypedDict):
    """Figures of one network on one test set; null means "not measured", or the reference compared with itself.

    ``figures`` has the names of :data:`distill.metrics.names.METRIC_INFO`.
    """

    figures: dict[str, Measured | None]
    strata: dict[Stratum, StratumScores] | None
    histogram: HistogramRecord | None
    curves: CurvesRecord | None
    sanity: list[SanityRecord] | None
    held_out: dict[str, HeldOutRecord]


class ComparisonRecord(TypedDict):
    """Difference of one figure between two networks on the same images, ``first`` minus ``second``.

    The interval is from a paired bootstrap over images. ``p`` is the p-value of Wilcoxon's signed-rank test, ``p_holm``
    the same after Holm's correction over all comparisons of the set, and ``effect`` the matched-pairs rank-biserial
    correlation (-1 to 1).
    """

    figure: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    effect: float
    n: int


class SetRecord(TypedDict):
    """One test set.

    ``localisation`` is the kind of annotation that the maps are compared with. ``object_share`` is the mean share of
    the image that the object covers, which is the score of a uniform map. Both are null if the set has no objects.
    """

    n: int
    localisation: Literal["masks", "boxes"] | None
    object_share: float | None
    networks: dict[str, NetworkScores]
    comparisons: list[ComparisonRecord]


class NetworkRecord(TypedDict):
    """One network: architecture, parameters and explained layer; run, seed and hash of the weights if known."""

    architecture: str
    parameters: int
    layer: str
    run: str | None
    seed: int | None
    weights: str | None


class MapRecord(TypedDict):
    """How maps were computed and images perturbed; the same for all networks except for the layer."""

    method: str
    target: str
    class_policy: str
    pipeline: str
    perturbation: str


class EvaluationRecord(TypedDict):
    """Networks on named test sets, in the order in which they were given.

    ``reference`` is the network that the others are compared with, usually the teacher. ``ceiling`` is a second
    training of the reference; its agreement with the reference is the most that can be expected of a student.
    ``scores`` is the SHA-256 of `per_image.parquet`; records of older versions have none.
    """

    format: Literal[2]
    reference: str | None
    ceiling: str | None
    split: str
    classes: list[str]
    maps: MapRecord
    networks: dict[str, NetworkRecord]
    sets: dict[str, SetRecord]
    scores: NotRequired[str]


@cache
def _adapter() -> TypeAdapter[EvaluationRecord]:
    return TypeAdapter(EvaluationRecord)


def _all_figures(record: EvaluationRecord) -> Iterator[tuple[str, float | None]]:
    for one in record["sets"].values():
        for scores in one["networks"].values():
            held_out: list[Mapping[str, Any]] = list(scores["held_out"].values())
            for figures in (scores["figures"], *held_out):
                for name, measured in figures.items():
                    yield name, None if measured is None else measured["value"]


def schema() -> dict[str, Any]:
    """Return the JSON schema of a record.

    Example:
        >>> schema()["required"]
        ['format', 'reference', 'ceiling', 'split', 'classes', 'maps', 'networks', 'sets']
    """
    return _adapter().json_schema()


def save_record(record: EvaluationRecord, path: Path | str) -> Path:
    """Write a record as JSON, atomically."""
    return save_json(record, path)


def load_record(path: Path | str) -> EvaluationRecord:
    """Read a record and check it.

    Raises:
        InputError: if the file is missing or is not a record of this format.
    """
    record = load_json(
        path, _adapter(), format=FORMAT, kind="evaluation", command="distill evaluate", figures=_all_figures
    )
    return cast(EvaluationRecord, record)
