"""`distill report`."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from distill.errors import InputError

_ABLATION, _EVALUATION, _CONFIG, _ENVIRONMENT, _PAGE = (
    "ablation.json", "evaluation.json", "config.yaml", "environment.json", "report.html"
)  # fmt: skip


def run(folder: Path) -> None:
    """Write the page of a folder again, and say where it is."""
    if (folder / _ABLATION).is_file():
        _ablation(folder)
    elif (folder / _EVALUATION).is_file():
        _evaluation(folder)
    else:
        raise InputError(
            f"{folder} has neither {_EVALUATION} nor {_ABLATION}: give the folder of a run that was measured with "
            "`distill evaluate`, or of an ablation."
        )
    Console(stderr=True, soft_wrap=True).print(f"report: {folder / _PAGE}", highlight=False)


def _ablation(folder: Path) -> None:
    from distill.ablation.page import write_results
    from distill.ablation.records import load_ablation

    write_results(folder, record=load_ablation(folder / _ABLATION))


def _evaluation(folder: Path) -> None:
    from distill.report import load_record, read_curves, write_report
    from distill.report.curves import NAME

    record = load_record(folder / _EVALUATION)
    curves = [read_curves(folder, run=folder.resolve().name)] if (folder / NAME).is_file() else []
    write_report(folder / _PAGE, title="Evaluation", record=record, curves=curves, facts=_facts(folder))
    Console(stderr=True, soft_wrap=True).print(
        "the pictures need the images: `distill evaluate` makes the whole page again.", highlight=False
    )


def _facts(folder: Path) -> dict[str, dict[str, object]]:
    if not (folder / _CONFIG).is_file():
        return {}
    found = json.loads((folder / _ENVIRONMENT).read_text()) if (folder / _ENVIRONMENT).is_file() else {}
    packages = found.pop("packages", {})
    return {folder.resolve().name: {**found, **packages, "configuration": (folder / _CONFIG).read_text()}}
