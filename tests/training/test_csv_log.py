"""`MetricsFile` appends rows and columns, and keeps the rows of a resumed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import InputError
from distill.training.csv_log import MetricsFile

CONTENT = "epoch,step,train/loss,validation/accuracy\n0,3,1.5,\n0,3,,0.25\n1,7,0.1,\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def write_rows(path: Path) -> None:
    log = MetricsFile(path)
    log.log_metrics({"epoch": 0, "train/loss": 1.5}, step=3)
    log.log_metrics({"epoch": 0, "validation/accuracy": 0.25}, step=3)
    log.log_metrics({"epoch": 1, "train/loss": 0.1}, step=7)


def test_a_new_metric_adds_a_column(path: Path) -> None:
    MetricsFile(path)
    assert path.read_text().splitlines() == ["epoch,step"]
    write_rows(path)
    assert path.read_text().replace("\r", "") == CONTENT


def test_each_row_is_written_immediately(path: Path) -> None:
    log = MetricsFile(path)
    for step in range(3):
        log.log_metrics({"epoch": 0, "a": step / 3}, step=step)
        assert path.read_text().splitlines()[-1] == f"0,{step},{step / 3!r}"


@pytest.mark.parametrize(("first_step", "kept"), [(0, 0), (3, 0), (4, 2), (7, 2), (8, 3)])
def test_rows_that_will_be_computed_again_are_dropped(path: Path, first_step: int, kept: int) -> None:
    write_rows(path)
    log = MetricsFile(path, first_step=first_step)
    log.log_metrics({"epoch": 1, "train/loss": 0.2}, step=9)
    rows = path.read_text().splitlines()[1:]
    assert rows[:-1] == CONTENT.splitlines()[1 : 1 + kept]
    assert rows[-1].startswith("1,9,0.2")


def test_a_later_metric_is_empty_in_earlier_rows(path: Path) -> None:
    write_rows(path)
    MetricsFile(path, first_step=8).log_metrics({"epoch": 1, "train/hint": 2.0}, step=9)
    assert path.read_text().splitlines() == [
        "epoch,step,train/loss,validation/accuracy,train/hint",
        "0,3,1.5,,",
        "0,3,,0.25,",
        "1,7,0.1,,",
        "1,9,,,2.0",
    ]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_truncated_line_is_dropped(path: Path, cut: int) -> None:
    write_rows(path)
    whole = path.read_text()
    path.write_text(whole + "2,11"[:cut])
    MetricsFile(path, first_step=8)
    assert path.read_text() == whole


RECORD = CONTENT.replace("\n", "\r\n")


@pytest.mark.parametrize("damaged", [None, "", "epoch,stap\n0,3\n", "[" * 1000, "epoch,step,a\n0,3,1.5,7\n", "\0"])
def test_a_damaged_file_is_rebuilt_from_the_record(path: Path, damaged: str | None) -> None:
    if damaged is not None:
        path.write_text(damaged)
    assert MetricsFile(path, first_step=8, record=RECORD).rebuilt
    assert path.read_bytes() == RECORD.encode()


@pytest.mark.parametrize(("old", "new"), [("1.5", "1.6"), ("0.25", "0.2"), ("1,7,0.1,\n", ""), ("loss", "lost")])
def test_a_change_of_a_value_is_noticed_by_the_record(path: Path, old: str, new: str) -> None:
    path.write_text(CONTENT.replace(old, new))
    assert MetricsFile(path, first_step=8, record=RECORD).rebuilt
    assert path.read_bytes() == RECORD.encode()


def test_rows_after_the_record_are_kept(path: Path) -> None:
    """A validation within an epoch is logged after the checkpoint of its step, and is not repeated."""
    write_rows(path)
    whole = path.read_bytes()
    file = MetricsFile(path, first_step=8, record=RECORD[: RECORD.index("1,7")])
    assert (file.rebuilt, path.read_bytes()) == (False, whole)


@pytest.mark.parametrize("record", ["a,b\r\n1,2\r\n", "epoch,step\r\n0,x\r\n"])
def test_a_record_that_is_no_table_is_ignored(path: Path, record: str) -> None:
    write_rows(path)
    assert not MetricsFile(path, first_step=8, record=record).rebuilt
    path.write_text("x")
    with pytest.raises(InputError, match=rf"^{path} is damaged"):
        MetricsFile(path, first_step=8, record=record)


def test_without_an_epoch_or_a_step(path: Path) -> None:
    MetricsFile(path).log_metrics({"a": 1.0})
    assert path.read_text().splitlines() == ["epoch,step,a", ",0,1.0"]
