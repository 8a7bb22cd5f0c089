"""The file of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError
from distill.report import load_record, save_record, schema
from tests.report.checks import make_record


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = save_record(make_record(), tmp_path / "a" / "evaluation.json")
    assert load_record(path) == make_record()
    assert [entry.name for entry in path.parent.iterdir()] == ["evaluation.json"]


def test_the_schema_names_every_part() -> None:
    required = schema()["$defs"]["NetworkScores"]["required"]
    assert required == ["figures", "strata", "histogram", "curves", "sanity", "held_out"]


def test_the_documented_schema_is_that_of_the_records() -> None:
    """Written anew by: distill evaluate --schema > docs/evaluation.schema.json."""
    documented = Path(__file__).parents[3] / "docs" / "evaluation.schema.json"
    assert json.loads(documented.read_text()) == schema()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"evaluation\.json: no such evaluation; create it with `distill evaluate`"):
        load_record(tmp_path / "evaluation.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "expected an evaluation of format 2, got format 1; run `distill evaluate` again"),
        ({"classes": "bag"}, "classes: Input should be a valid list; run `distill evaluate` again"),
        ({"sets": {"unbiased": {"n": "many"}}}, r"sets\.unbiased\.n: Input should be a valid integer"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({**make_record(), **change}))
    with pytest.raises(InputError, match=message):
        load_record(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text('{"format": 1,')
    with pytest.raises(InputError, match="is not valid JSON"):
        load_record(path)
