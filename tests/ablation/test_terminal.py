"""Final output of an ablation: the means on a terminal, the whole table in a pipe."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from distill.ablation.run import FinishedAblation
from distill.ablation.statistics import summarise
from distill.cli.ablate import show
from distill.console import PlainConsole
from distill.report.ablation.page import write_ablation_page
from distill.report.ablation.text import csv_table, markdown_table
from distill.untrusted import printable
from tests.ablation.records import record

RECORD = record(
    {
        "KD": {seed: {"test/accuracy": 0.70 + seed / 1000} for seed in range(8)},
        "KD + [maps]": {seed: {"test/accuracy": 0.75 + (seed + seed % 2) / 1000} for seed in range(8)},
    },
    baseline="KD",
    metrics=["test/accuracy"],
)


def test_a_terminal_shows_means_and_claims(tmp_path: Path) -> None:
    file = io.StringIO()
    show(FinishedAblation(RECORD, tmp_path, 0), Console(file=file, force_terminal=True, width=100))
    lines = [" ".join(line.split()) for line in Text.from_ansi(file.getvalue()).plain.splitlines()]
    assert "KD 8 70.35% ± 0.20" in lines
    assert any(line.startswith("KD + [maps] 8 75.40% ± ") and line.endswith(" better") for line in lines)
    assert "Half of an interval of percentages is in points (percentage points)." in lines
    assert f"all differences: {tmp_path / 'table.md'}" in lines


@pytest.mark.parametrize("row", ["a[/b]", "[red]a", ":x:", "\x1b]0;t\x07"])
def test_names_of_rows_are_shown_as_they_are(tmp_path: Path, row: str) -> None:
    values = {seed: {"test/accuracy": 0.70 + seed / 1000} for seed in range(3)}
    hostile = record({"KD": values, row: values}, baseline="KD", metrics=["test/accuracy"])
    file = io.StringIO()
    show(FinishedAblation(hostile, tmp_path, 0), PlainConsole(file=file, force_terminal=True, width=100))
    assert printable(row) in Text.from_ansi(file.getvalue()).plain
    assert not {"\x07", "\x1b]"} & {file.getvalue()[i : i + n] for i in range(len(file.getvalue())) for n in (1, 2)}
    summary = summarise(hostile)
    for text in (markdown_table(summary), csv_table(summary)):
        assert "\x1b" not in text
    write_ablation_page(tmp_path / "report.html", record=hostile, summary=summary, title=row)
    assert "\x1b" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_pipe_gets_the_table_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.md").write_text("| all |\n")
    show(FinishedAblation(RECORD, tmp_path, 0), Console(file=io.StringIO()))
    assert capsys.readouterr().out == "| all |\n"
