"""Stored results are found by run and evaluation settings in any of the folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.ablation.results import Results, RunResult
from distill.errors import InputError

MEASURED = {"test_sets": {"test": {}}, "maps": {"method": "grad_cam"}}


def result(identity: str = "abc", accuracy: float = 0.5) -> RunResult:
    return {
        "format": 1,
        "identity": identity,
        "measured": MEASURED,
        "config": {},
        "figures": {"test/accuracy": accuracy, "test/agreement": None},
        "seconds": 1.0,
    }


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results([tmp_path / "own", tmp_path / "other"])


def test_a_saved_result_is_found(results: Results) -> None:
    results.save(result())
    assert results.find("abc", MEASURED, ["test/accuracy"]) == result()
    assert results.find("abc", dict(reversed(MEASURED.items())), []) == result()
    assert results.find("abd", MEASURED, []) is None


def test_other_evaluation_settings_have_another_result(results: Results) -> None:
    results.save(result())
    assert results.find("abc", {**MEASURED, "maps": {"method": "grad_cam_pp"}}, []) is None
    assert results.find("abc", {**MEASURED, "test_sets": {"test": {"size": 16}}}, []) is None


def test_a_result_without_a_required_metric_is_not_returned(results: Results) -> None:
    results.save(result())
    assert results.find("abc", MEASURED, ["test/agreement"]) == result()  # recorded as not available
    assert results.find("abc", MEASURED, ["test/accuracy", "test/adcc"]) is None


def test_further_folders_are_read_only(results: Results, tmp_path: Path) -> None:
    Results([tmp_path / "other"]).save(result(accuracy=0.25))
    assert results.find("abc", MEASURED, []) == result(accuracy=0.25)
    results.save(result(accuracy=0.75))
    assert results.find("abc", MEASURED, []) == result(accuracy=0.75)
    assert Results([tmp_path / "other"]).find("abc", MEASURED, []) == result(accuracy=0.25)


def test_a_result_of_another_process_is_not_overwritten(results: Results) -> None:
    results.save(result(accuracy=0.25))
    results.save_if_missing(result(accuracy=0.75))
    assert results.find("abc", MEASURED, []) == result(accuracy=0.25)
    results.save_if_missing(result("new"))
    assert results.find("new", MEASURED, []) == result("new")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 2}'])
def test_an_invalid_result_file_is_reported(results: Results, text: str) -> None:
    path = results.save(result())
    path.write_text(text)
    with pytest.raises(InputError, match=rf"^{path} is not a valid result: .*\. Delete it to measure the run again"):
        results.find("abc", MEASURED, [])
