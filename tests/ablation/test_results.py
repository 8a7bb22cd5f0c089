"""Stored results are found by run and evaluation settings in any of the folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.ablation.results import Results, RunResult

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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 2}', "[" * 100_000, "\x00"])
def test_a_damaged_result_is_measured_again_with_a_warning(results: Results, text: str) -> None:
    path = results.save(result())
    path.write_text(text)
    with pytest.warns(UserWarning, match=rf"^{path} .*The run is measured again\.$"):
        assert results.find("abc", MEASURED, []) is None
    results.save_if_missing(result())
    assert results.find("abc", MEASURED, []) == result()


@pytest.mark.parametrize("value", ["0.99", 7.5, -0.1, "NaN", True])
def test_a_figure_that_nobody_computed_is_not_used(results: Results, value: object) -> None:
    path = results.save(result())
    content = json.loads(path.read_text())
    del content["checksum"]  # as in results of older versions
    path.write_text(json.dumps(content))
    assert results.find("abc", MEASURED, []) == result()
    content["figures"]["test/accuracy"] = value
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=rf"^{path} is not a valid result"):
        assert results.find("abc", MEASURED, []) is None


def test_a_changed_digit_and_the_result_of_another_run_are_noticed(results: Results) -> None:
    path = results.save(result(accuracy=0.25))
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.warns(UserWarning, match=rf"^{path} was changed or damaged"):
        assert results.find("abc", MEASURED, []) is None
    results.save(result("other")).rename(path)
    with pytest.warns(UserWarning, match=rf"^{path} is the result of another run\."):
        assert results.find("abc", MEASURED, []) is None


def test_the_note_of_a_run_path(results: Results, tmp_path: Path) -> None:
    assert results.find_run("abc") is None
    results.save_run_path("abc", tmp_path / "runs" / "a")
    assert results.find_run("abc") == tmp_path / "runs" / "a"
    note = tmp_path / "own" / ".runs" / "abc"
    for content in (b"", b"a\0b", b"\xff\xfe", b"x" * (1 << 17)):
        note.write_bytes(content)
        with pytest.warns(UserWarning, match=rf"{note} .*The run is trained again"):
            assert results.find_run("abc") is None
    note.unlink()
    note.mkdir()
    with pytest.warns(UserWarning, match=rf"{note} is a folder"):
        assert results.find_run("abc") is None
