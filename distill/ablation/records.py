"""What an ablation finds: plain values that `ablation.json` holds and everything that is shown is made of."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.errors import InputError

FORMAT = 1


class TrialResult(TypedDict):
    """One row under one seed.

    ``settings`` are the dotted keys in which the run differs from the base, and those of every axis. ``figures`` are
    named ``SET/figure`` with the names of :data:`distill.measures.MEASURES`, measured on the test split with the
    weights that were selected on the validation split; ``validation/accuracy`` is theirs there. Null is "not measured".
    A run that failed has no figures and a reason.
    """

    format: Literal[1]
    row: str
    seed: int
    settings: dict[str, Any]
    identity: str
    state: Literal["done", "failed"]
    reason: str | None
    figures: dict[str, float | None]
    seconds: float


class AblationRecord(TypedDict):
    """All trials, by row in the file's order and then by seed; with fewer than 8 seeds they are exploratory."""

    format: Literal[1]
    name: str
    baseline: str
    rows: list[str]
    seeds: list[int]
    metrics: list[str]
    axes: dict[str, list[Any]]
    exploratory: bool
    trials: list[TrialResult]


@cache
def _adapter() -> TypeAdapter[AblationRecord]:
    return TypeAdapter(AblationRecord)


def save_ablation(record: AblationRecord, path: Path | str) -> Path:
    """Write a record as JSON; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def load_ablation(path: Path | str) -> AblationRecord:
    """Read a record and check it.

    Raises:
        InputError: if there is no such file, or it is not a record of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no ablation at {path}; make one with `distill ablate`.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}; run `distill ablate` anew.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    return cast(AblationRecord, content)
