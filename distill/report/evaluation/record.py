"""The record of an evaluation: plain values that `evaluation.json` holds and everything that is shown is made of."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.errors import InputError
from distill.files import write_text

FORMAT = 2

#: How a network's answer and the reference's stand to each other and to the label.
Stratum = Literal["both_right", "only_reference", "only_network", "same_wrong", "different_wrong"]


class Measured(TypedDict):
    """A mean over images, its 95 % interval, the number of images behind it, and the number left out.

    Without any image value and interval are null; the interval is null too where none can be given.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    excluded: int


class StratumScores(TypedDict):
    """The images of one stratum, and how alike the maps are on them."""

    n: int
    map_cosine: Measured


class CurveRecord(TypedDict):
    """Mean probability of the explained class by the share of pixels that were taken away, or put in."""

    fractions: list[float]
    probability: list[float]
    n: int


class CurvesRecord(TypedDict):
    """Deletion and insertion."""

    deletion: CurveRecord
    insertion: CurveRecord


class HistogramRecord(TypedDict):
    """How many images have a cosine of the maps between two edges; there is one edge more than counts."""

    edges: list[float]
    counts: list[int]


class SanityRecord(TypedDict):
    """Maps of a network whose weights, from the logits down to one part, were drawn at random, against its own."""

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
    """What was measured of one network on one test set; null is "not measured" (or the reference with itself).

    ``figures`` has the names of :data:`distill.metrics.names.MEASURES`.
    """

    figures: dict[str, Measured | None]
    strata: dict[Stratum, StratumScores] | None
    histogram: HistogramRecord | None
    curves: CurvesRecord | None
    sanity: list[SanityRecord] | None
    held_out: dict[str, HeldOutRecord]


class ComparisonRecord(TypedDict):
    """One figure of two networks on the same images, ``first`` minus ``second``.

    The interval is a paired bootstrap's over images, ``p`` Wilcoxon's signed-rank test, ``p_holm`` the same after
    Holm's correction over all comparisons of the set, ``effect`` the matched-pairs rank-biserial correlation (-1 to 1).
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

    ``localisation`` says what the maps were held against, ``object_share`` how much of the image the object covers on
    average: what an even map would score. Both are null if the set knows no objects.
    """

    n: int
    localisation: Literal["masks", "boxes"] | None
    object_share: float | None
    networks: dict[str, NetworkScores]
    comparisons: list[ComparisonRecord]


class NetworkRecord(TypedDict):
    """One network: what it is, and where it came from, as far as that is known."""

    architecture: str
    parameters: int
    layer: str
    run: str | None
    seed: int | None
    weights: str | None


class MapRecord(TypedDict):
    """How maps were made, the same for all networks but for the layer, and how images were perturbed by them."""

    method: str
    target: str
    class_policy: str
    pipeline: str
    perturbation: str


class EvaluationRecord(TypedDict):
    """Networks side by side on named test sets, in the order in which they were given.

    ``reference`` is what the others are compared with, usually the teacher; ``ceiling`` a second training of it, whose
    agreement with the reference is as much as can be asked of a student.
    """

    format: Literal[2]
    reference: str | None
    ceiling: str | None
    split: str
    classes: list[str]
    maps: MapRecord
    networks: dict[str, NetworkRecord]
    sets: dict[str, SetRecord]


@cache
def _adapter() -> TypeAdapter[EvaluationRecord]:
    return TypeAdapter(EvaluationRecord)


def schema() -> dict[str, Any]:
    """Give the JSON schema of a record.

    Example:
        >>> schema()["required"]
        ['format', 'reference', 'ceiling', 'split', 'classes', 'maps', 'networks', 'sets']
    """
    return _adapter().json_schema()


def save_record(record: EvaluationRecord, path: Path | str) -> Path:
    """Write a record as JSON; the file appears whole or not at all."""
    return write_text(path, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def load_record(path: Path | str) -> EvaluationRecord:
    """Read a record and check it.

    Raises:
        InputError: if there is no such file, or it is not a record of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no evaluation at {path}; make one with `distill evaluate`.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path} is not an evaluation of format {FORMAT} (found {found!r}); run `distill evaluate` anew."
        )
    try:
        _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}; run `distill evaluate` anew.") from error
    return cast(EvaluationRecord, content)
