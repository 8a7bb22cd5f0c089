"""`distill cache`."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from distill.build import load_config
from distill.cli.options import split_files
from distill.console import PlainColumn, PlainConsole
from distill.errors import InputError
from distill.workflows.cache import fill_cache


def run(arguments: list[str], *, trust: bool) -> None:
    """Fill the cache, and print the number of views and the path of the cache."""
    files, pairs = split_files(arguments)
    if load_config(files, pairs, import_terms=True).teacher is None:
        raise InputError(
            "teacher: the configuration has no teacher, so there is nothing to cache. Set teacher.checkpoint."
        )
    config = load_config(files, ["teacher.cache=disk", *pairs], import_terms=True)
    console = PlainConsole(stderr=True)
    columns = (PlainColumn("teacher's outputs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("")
        filled = fill_cache(
            config, trust=trust, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    console.print(
        f"{filled.views:,} views, {filled.cached:,} of them already cached; the cache is in {filled.folder}",
        soft_wrap=True,
    )
