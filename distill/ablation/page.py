"""An ablation and its summary -> one HTML page that needs nothing but itself, and the files beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.ablation.as_text import csv_table, markdown_table
from distill.ablation.drawing import draw
from distill.ablation.numbers import format_value
from distill.ablation.pictures import save_plots
from distill.ablation.plots import make_plots
from distill.ablation.records import AblationRecord
from distill.ablation.sentences import read_out
from distill.ablation.summary import Summary, measure_of, sort_trials, summarise
from distill.ablation.table import CLAIMS, POWER, columns, differences, heading, legend, sections, target, warning
from distill.report import Facts
from distill.report.templating import environment, policy_hash, write_page

_FACTS, _SUMMARY = "facts.json", "summary.json"


@dataclass(frozen=True)
class Shown:
    """One trial as the page lists it; a figure is its text and its value, for sorting."""

    row: str
    seed: int
    identity: str
    figures: tuple[tuple[str, float | None], ...]
    reason: str | None


def write_results(folder: Path | str, *, record: AblationRecord, facts: Facts | None = None) -> Summary:
    """Write what an ablation says: summary.json, table.md, table.csv, a PNG for every drawing, and report.html.

    Args:
        folder: Where.
        record: All trials.
        facts: For the footer of the page: the ablation file, versions. They are kept, and read again if left out.

    Returns:
        The summary.
    """
    folder = Path(folder)
    if facts is None:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8")) if (folder / _FACTS).exists() else {}
    summary = summarise(record)
    for name, content in ((_FACTS, facts), (_SUMMARY, summary)):
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False, default=str)
        write_page(folder / name, text + "\n")
    write_page(folder / "table.md", markdown_table(summary))
    write_page(folder / "table.csv", csv_table(summary))
    save_plots(make_plots(record, summary), folder)
    write_ablation(folder / "report.html", record=record, summary=summary, title=record["name"], facts=facts)
    return summary


def write_ablation(
    path: Path | str, *, record: AblationRecord, summary: Summary, title: str, facts: Facts | None = None
) -> Path:
    """Write the page of an ablation; the file appears whole or not at all.

    Convention:
        - The page loads nothing: styles, script and drawings are in it, and its Content-Security-Policy forbids the
          rest. It shows everything without the script, which only sorts the trials.
        - All text is escaped, names of rows and reasons of failures included.

    Args:
        path: The file.
        record: All trials.
        summary: What they say; see :func:`distill.ablation.summary.summarise`.
        title: Its heading.
        facts: For the footer.

    Returns:
        The path.
    """
    templates = environment()
    css = templates.get_template("report.css").render() + templates.get_template("ablation.css").render()
    script = templates.get_template("ablation.js").render()
    trials = _trials(record)
    text = templates.get_template("ablation.html").render(
        title=title,
        css=css,
        script=script,
        policy={"style": policy_hash(css), "script": policy_hash(script)},
        summary=summary,
        record=record,
        sections=sections(summary),
        claims=CLAIMS,
        warning=warning(summary),
        sentences=[sentence for sentence in read_out(summary) if sentence != warning(summary)],
        legend=f"{legend(summary)} {POWER}",
        measures=_measures(summary),
        drawings=[draw(plot) for plot in make_plots(record, summary)],
        target=target(summary),
        columns=columns(summary),
        details=[(heading(metric), differences(summary, metric)) for metric in summary["metrics"]],
        metrics=[heading(metric) for metric in summary["metrics"]],
        done=[trial for trial in trials if trial.reason is None],
        failed=[trial for trial in trials if trial.reason is not None],
        missing=[(row, own["missing"]) for row, own in summary["trials"].items() if own["missing"]],
        facts=facts or {},
    )
    return write_page(path, text)


def _trials(record: AblationRecord) -> list[Shown]:
    return [
        Shown(
            row,
            seed,
            trial["identity"],
            tuple(_figure(metric, trial["figures"].get(metric)) for metric in record["metrics"]),
            (trial["reason"] or "no reason was kept") if trial["state"] == "failed" else None,
        )
        for row, own in sort_trials(record).items()
        for seed, trial in own.items()
    ]


def _figure(metric: str, value: float | None) -> tuple[str, float | None]:
    return ("not measured" if value is None else format_value(value, measure_of(metric).style), value)


def _measures(summary: Summary) -> list[Any]:
    """List what the figures mean, each once."""
    return list({measure.title: measure for measure in map(measure_of, summary["metrics"])}.values())
