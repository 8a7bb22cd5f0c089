"""Writes the report of an ablation: one self-contained HTML page, tables, plots and the summary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from distill.checksums import read_checked, save_checked
from distill.errors import InputError
from distill.files import write_text
from distill.report.ablation.plot_drawing import layout_plot, save_plots
from distill.report.ablation.plots import make_plots
from distill.report.ablation.record import DIGITS, AblationRecord, Summary, measure_of, sort_trials
from distill.report.ablation.sentences import summary_sentences
from distill.report.ablation.table import (
    CLAIMS,
    POWER,
    baseline_description,
    columns,
    differences,
    exploratory_warning,
    legend,
    metric_heading,
    sections,
)
from distill.report.ablation.text import csv_table, markdown_table
from distill.report.common.html import Facts, csp_hash, template_environment
from distill.report.common.numbers import format_value
from distill.untrusted import printable

_FACTS, _SUMMARY = "facts.json", "summary.json"


@dataclass(frozen=True)
class ShownTrial:
    """One trial in the list of the page; a figure is its text, and its value for sorting."""

    row: str
    seed: int
    identity: str
    figures: tuple[tuple[str, float | None], ...]
    reason: str | None


def write_ablation_report(
    folder: Path | str, *, record: AblationRecord, summary: Summary, facts: Facts | None = None
) -> None:
    """Write summary.json, table.md, table.csv, a PNG file for every plot, and report.html.

    Args:
        folder: Folder of the files.
        record: All trials.
        summary: Their statistics; see :func:`distill.ablation.statistics.summarise`.
        facts: Content of the page's footer: the ablation file, versions. It is saved in facts.json; default: what is
            saved there.
    """
    folder = Path(folder)
    if facts is None:
        facts = read_facts(folder)
    save_checked(json.loads(json.dumps(facts, default=str)), folder / _FACTS)
    save_checked(summary, folder / _SUMMARY)
    write_text(folder / "table.md", markdown_table(summary))
    write_text(folder / "table.csv", csv_table(summary))
    save_plots(make_plots(record, summary), folder)
    write_ablation_page(folder / "report.html", record=record, summary=summary, title=record["name"], facts=facts)


def read_facts(folder: Path) -> Facts:
    """Read facts.json, the content of the page's footer; empty if there is no such file.

    Raises:
        InputError: if it is damaged.
    """
    path = folder / _FACTS
    if not path.exists() and not path.is_symlink():
        return {}
    facts = read_checked(path, remedy="Run `distill ablate` again, or delete the file.")
    if not all(isinstance(one, dict | str) for one in facts.values()):
        raise InputError(f"{path} must hold texts, or keys and values, by heading. Delete the file.")
    return facts


def write_ablation_page(
    path: Path | str, *, record: AblationRecord, summary: Summary, title: str, facts: Facts | None = None
) -> Path:
    """Write the page of an ablation, atomically.

    Convention:
        - The page loads no other file: it contains its styles, script and plots, and its Content-Security-Policy
          forbids everything else. The script only sorts the trials; without it the page is complete.
        - All text is escaped, including names of rows and reasons of failures.

    Args:
        path: The file.
        record: All trials.
        summary: Their statistics; see :func:`distill.ablation.statistics.summarise`.
        title: Heading of the page.
        facts: Content of the footer.

    Returns:
        The path.
    """
    templates = template_environment()
    css = templates.get_template("report.css").render() + templates.get_template("ablation.css").render()
    script = templates.get_template("ablation.js").render()
    trials = _trials(record)
    text = templates.get_template("ablation.html").render(
        kind="ablation",
        title=title,
        css=css,
        script=script,
        policy={"style": csp_hash(css), "script": csp_hash(script)},
        summary=summary,
        record=record,
        sections=sections(summary),
        claims=CLAIMS,
        warning=exploratory_warning(summary),
        sentences=[sentence for sentence in summary_sentences(summary) if sentence != exploratory_warning(summary)],
        legend=f"{legend(summary)} {POWER}",
        measures={measure.title: measure for measure in map(measure_of, summary["metrics"])}.values(),
        plots=[layout_plot(plot) for plot in make_plots(record, summary)],
        baseline=baseline_description(summary),
        columns=columns(summary),
        details=[(metric_heading(metric), differences(summary, metric)) for metric in summary["metrics"]],
        metrics=[metric_heading(metric) for metric in summary["metrics"]],
        done=[trial for trial in trials if trial.reason is None],
        failed=[trial for trial in trials if trial.reason is not None],
        missing=[(row, trials["missing"]) for row, trials in summary["trials"].items() if trials["missing"]],
        facts=facts or {},
    )
    return write_text(path, printable(text))


def _trials(record: AblationRecord) -> list[ShownTrial]:
    return [
        ShownTrial(
            row,
            seed,
            trial["identity"],
            tuple(_figure(metric, trial["figures"].get(metric)) for metric in record["metrics"]),
            (trial["reason"] or "no reason was recorded") if trial["state"] == "failed" else None,
        )
        for row, seeds in sort_trials(record).items()
        for seed, trial in seeds.items()
    ]


def _figure(metric: str, value: float | None) -> tuple[str, float | None]:
    return ("not measured" if value is None else format_value(value, measure_of(metric).style, digits=DIGITS), value)
