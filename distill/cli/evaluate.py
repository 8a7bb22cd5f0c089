"""`distill evaluate`."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from distill.console import PlainColumn, PlainConsole, print_table
from distill.evaluation import EvaluationSettings, MapSettings
from distill.report import table_rows
from distill.workflows.evaluate import Evaluation, evaluate


def run(
    runs: list[str],
    *,
    reference: str | None,
    ceiling: str | None,
    on: list[str],
    split: str,
    maps: MapSettings,
    settings: EvaluationSettings,
    network: str | None,
    data: str | None,
    trust: bool,
    limit: int | None,
    device: str,
    batch_size: int | None,
    gallery: int,
    output: Path | None,
    title: str,
) -> None:
    """Evaluate, and print the table and the path of the report."""
    columns = (
        PlainColumn("{task.description}", style="bold"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bars(*columns, console=PlainConsole(stderr=True)) as bars:
        tasks = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done)

        done = evaluate(
            *runs,
            reference=reference,
            ceiling=ceiling,
            on=on,
            split=split,
            maps=maps,
            settings=settings,
            network=network,
            data=data,
            trust=trust,
            limit=limit,
            device=device,
            batch_size=batch_size,
            gallery=gallery,
            output=output,
            title=title,
            progress=show,
        )
    _print(done)


class Speed(ProgressColumn):
    """Images per second. In steps that run one network at a time, each image counts once per network."""

    def render(self, task: Task) -> Text:
        """Return the speed, or an empty text until it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} images/s", style="progress.data.speed")


def _print(done: Evaluation) -> None:
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
    print_table(PlainConsole(), table, names=2)
    PlainConsole(stderr=True).print(f"report: {done.report}", soft_wrap=True)
