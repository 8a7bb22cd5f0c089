"""`distill evaluate`."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from distill.evaluation import MapSettings
from distill.evaluations import evaluate_runs
from distill.report import table_rows


def run(
    runs: list[str],
    *,
    reference: str | None,
    on: list[str],
    layer: str,
    method: str,
    limit: int | None,
    output: Path | None,
    title: str,
) -> None:
    """Measure, print the table, and say where the page is."""
    maps = MapSettings(method=method, layer=layer)
    done = evaluate_runs(runs, reference=reference, on=on, maps=maps, limit=limit, output=output, title=title)
    header, rows = table_rows(done.record)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i < 2 else "right")
    previous = ""
    for name, *cells in rows:
        if previous not in ("", name):
            table.add_section()
        table.add_row("" if name == previous else name, *cells)
        previous = name
    Console().print(table)
    Console(stderr=True).print(f"report: {done.report}", highlight=False)
