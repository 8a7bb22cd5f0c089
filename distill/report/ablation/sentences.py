"""The findings of an ablation in sentences; only significant differences are claimed."""

from __future__ import annotations

from collections.abc import Sequence

from distill.report.ablation.record import DIGITS, Summary, Verdict, measure_of
from distill.report.ablation.table import CLAIMS, INCOMPARABLE, baseline_description, exploratory_warning
from distill.report.common.numbers import format_difference, format_interval, format_p, join_words


def summary_sentences(summary: Summary) -> list[str]:
    """Return one sentence on the number of trials, the warning if it is exploratory, and one sentence per figure."""
    sentences = [_trial_counts(summary), exploratory_warning(summary)]
    sentences += [_figure_sentence(summary, metric) for metric in summary["metrics"]]
    return [sentence for sentence in sentences if sentence]


def _trial_counts(summary: Summary) -> str:
    trials = summary["trials"].values()
    done, failed = sum(row["done"] for row in trials), sum(len(row["failed"]) for row in trials)
    missing = sum(len(row["missing"]) for row in trials)
    parts = [f"{_plural(done, 'trial')} {'is' if done == 1 else 'are'} done"]
    parts += [f"{count} {word}" for count, word in ((failed, "failed"), (missing, "not run")) if count]
    rows, seeds = _plural(len(summary["rows"]), "row"), _plural(len(summary["seeds"]), "seed")
    return f"{rows} with {seeds}: {', '.join(parts)}."


def _figure_sentence(summary: Summary, metric: str) -> str:
    where, _, _ = metric.rpartition("/")
    head = f"{measure_of(metric).title} ({where}), compared with {baseline_description(summary)}:"
    by_verdict: dict[Verdict, list[str]] = {}
    for row, finding in summary["findings"][metric].items():
        by_verdict.setdefault(finding["verdict"], []).append(row)
    claims = [
        f"{verdict}: {join_words(_claim(summary, metric, row) for row in rows)}"
        for verdict in CLAIMS
        if (rows := by_verdict.get(verdict))
    ]
    others = []
    if noise := by_verdict.get("inside the noise"):
        claims = claims or ["no significant difference"]
        others.append(_noise(summary, metric, noise))
    if rows := by_verdict.get("not comparable"):
        others.append(f"{INCOMPARABLE}: {join_words(rows)}")
    without: tuple[Verdict, ...] = ("too few seeds", "no pairs", "not measured")
    others += [f"{verdict}: {join_words(by_verdict[verdict])}" for verdict in without if verdict in by_verdict]
    return f"{head} {'; '.join([*claims, *others])}." if claims or others else ""


def _claim(summary: Summary, metric: str, row: str) -> str:
    difference = summary["findings"][metric][row]["difference"]
    style = measure_of(metric).style
    if difference is None or difference["mean"] is None or difference["p_holm"] is None:
        raise ValueError(f"{metric} of row {row!r}: the verdict claims a difference, but it has no numbers.")
    interval = ""
    if difference["low"] is not None and difference["high"] is not None:
        bounds = format_interval(difference["low"], difference["high"], style, digits=DIGITS, signed=True)
        interval = f"95 % interval {bounds}, "
    p = format_p(difference["p_holm"])
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    size = format_difference(difference["mean"], style, digits=DIGITS, unit=True)
    return f"{row} by {size} ({interval}{p}, {_plural(difference['n'], 'seed')})"


def _noise(summary: Summary, metric: str, rows: Sequence[str]) -> str:
    """Return the rows inside the noise, and how many seeds would detect differences of their size."""
    differences = [summary["findings"][metric][row]["difference"] for row in rows]
    needed = [one["seeds_needed"] for one in differences if one is not None and one["seeds_needed"] is not None]
    if not needed:
        return f"inside the noise: {join_words(rows)}"
    low, high = min(needed), max(needed)
    seeds = f"about {low:,}" if low == high else f"{low:,} to {high:,}"
    return f"inside the noise: {join_words(rows)} ({seeds} seeds would be needed to detect a difference of this size)"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
