"""`distill report`."""

from __future__ import annotations

from pathlib import Path

from distill.checksums import hash_file
from distill.console import PlainConsole
from distill.errors import InputError
from distill.files import expand_home, locked

_ABLATION, _EVALUATION, _CONFIG, _PAGE, _TABLE, _SCORES = (
    "ablation.json", "evaluation.json", "config.yaml", "report.html", "table.md", "per_image.parquet"
)  # fmt: skip


def run(folder: Path) -> None:
    """Write the report of a folder again, and print its path."""
    folder = Path(expand_home(folder))
    if (folder / _ABLATION).is_file():
        write = _ablation
    elif (folder / _EVALUATION).is_file():
        write = _evaluation
    else:
        raise InputError(
            f"{folder} contains neither {_EVALUATION} nor {_ABLATION}. Give the folder of a run that was evaluated "
            "with `distill evaluate`, or of an ablation."
        )
    with locked(folder, doing="writing the report"):
        write(folder)
    PlainConsole(stderr=True, soft_wrap=True).print(f"report: {folder / _PAGE}")


def _ablation(folder: Path) -> None:
    from distill.ablation.statistics import summarise
    from distill.report.ablation.page import write_ablation_report
    from distill.report.ablation.record import load_ablation

    record = load_ablation(folder / _ABLATION)
    write_ablation_report(folder, record=record, summary=summarise(record))


def _evaluation(folder: Path) -> None:
    """Write the report of an evaluation. It has no curves of runs whose folder has moved."""
    from distill.report import (
        load_record,
        save_table,
        write_report,
    )
    from distill.training import RunDirectory
    from distill.training.csv_log import read_run_curves

    record = load_record(folder / _EVALUATION)
    scores = folder / _SCORES
    if "scores" in record and (scores.exists() or scores.is_symlink()) and hash_file(scores) != record["scores"]:
        raise InputError(f"{scores} is not the file of {_EVALUATION}, or is damaged. Run `distill evaluate` again.")
    save_table(record, folder / _TABLE)
    folders = {name: Path(network["run"]) for name, network in record["networks"].items() if network["run"]}
    runs = {name: run for name, run in folders.items() if (run / _CONFIG).is_file()}
    write_report(
        folder / _PAGE,
        title="Evaluation",
        record=record,
        curves=[read_run_curves(run, run=name) for name, run in runs.items()],
        facts={name: RunDirectory(run).facts() for name, run in runs.items()},
    )
    PlainConsole(stderr=True, soft_wrap=True).print(
        "the report has no pictures, because they need the images. Run `distill evaluate` for a report with pictures."
    )
