"""The record of an evaluation: plain values that `evaluation.json` holds and everything that is shown is made of."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.errors import InputError

FORMAT = 1


class Measured(TypedDict):
    """A mean, the number of images behind it, and the number left out; without any image the mean is null."""

    value: float | None
    n: int
    excluded: int


class NetworkScores(TypedDict):
    """What was measured of one network on one test set; null is "not measured" (or the reference with itself)."""

    accuracy: Measured
    agreement: Measured | None
    map_cosine: Measured | None
    energy_in_object: Measured | None
    zero_maps: Measured


class SetRecord(TypedDict):
    """One test set.

    ``localisation`` says what the energy was measured with, ``object_share`` how much of the image the object covers on
    average: what an even map would score. Both are null if the set knows no objects.
    """

    n: int
    localisation: Literal["masks", "boxes"] | None
    object_share: float | None
    networks: dict[str, NetworkScores]


class NetworkRecord(TypedDict):
    """One network."""

    architecture: str
    parameters: int
    layer: str


class MapRecord(TypedDict):
    """How maps were made, the same for all networks but for the layer."""

    method: str
    target: str
    class_policy: str
    pipeline: str


class EvaluationRecord(TypedDict):
    """Networks side by side on named test sets, in the order in which they were given."""

    format: Literal[1]
    reference: str | None
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
        ['format', 'reference', 'classes', 'maps', 'networks', 'sets']
    """
    return _adapter().json_schema()


def save_record(record: EvaluationRecord, path: Path | str) -> Path:
    """Write a record as JSON; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
    return path


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
