"""A summary read out in plain sentences that claim nothing inside the noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from distill.report.ablation.record import Summary, Verdict, measure_of
from distill.report.ablation.table import CLAIMS, baseline_description, exploratory_warning
from distill.report.common.numbers import format_difference, format_p


def summary_sentences(summary: Summary) -> list[str]:
    """Say how much was run, then for every figure what helps, what does not, and how sure that is."""
    first = [_count(summary), exploratory_warning(summary)]
    return [sentence for sentence in (*first, *(_read(summary, metric) for metric in summary["metrics"])) if sentence]


def _count(summary: Summary) -> str:
    trials = summary["trials"].values()
    done, failed = sum(row["done"] for row in trials), sum(len(row["failed"]) for row in trials)
    missing = sum(len(row["missing"]) for row in trials)
    ends = [f"{_many(done, 'trial')} {'is' if done == 1 else 'are'} done"]
    ends += [f"{count} {word}" for count, word in ((failed, "failed"), (missing, "not run")) if count]
    rows, seeds = _many(len(summary["rows"]), "row"), _many(len(summary["seeds"]), "seed")
    return f"{rows} under {seeds}: {', '.join(ends)}."


def _read(summary: Summary, metric: str) -> str:
    where, _, _ = metric.rpartition("/")
    title = measure_of(metric).title
    head = f"{title} ({where}), against {baseline_description(summary)}:"
    by_verdict: dict[Verdict, list[str]] = {}
    for row, found in summary["findings"][metric].items():
        by_verdict.setdefault(found["verdict"], []).append(row)
    claims = [
        f"{word} {'is' if len(rows) == 1 else 'are'} {_join(_claim(summary, metric, row) for row in rows)}"
        for word in CLAIMS
        if (rows := by_verdict.get(word))
    ]
    noise = by_verdict.get("inside the noise", [])
    silent = [_noise(summary, metric, noise)] if noise else []
    silent += [f"too few seeds for {_join(by_verdict['too few seeds'])}"] if "too few seeds" in by_verdict else []
    silent += [f"no pairs for {_join(by_verdict['no pairs'])}"] if "no pairs" in by_verdict else []
    silent += [f"not measured for {_join(by_verdict['not measured'])}"] if "not measured" in by_verdict else []
    if not claims and noise:
        claims = ["no row stands out"]
    return f"{head} {'; '.join([*claims, *silent])}." if claims or silent else ""


def _claim(summary: Summary, metric: str, row: str) -> str:
    difference = summary["findings"][metric][row]["difference"]
    style = measure_of(metric).style
    if difference is None or difference["mean"] is None or difference["p_holm"] is None:
        raise ValueError(f"{row!r} claims a difference in {metric} that has no figures.")
    interval = ""
    if difference["low"] is not None and difference["high"] is not None:
        low, high = format_difference(difference["low"], style), format_difference(difference["high"], style)
        interval = f"95 % interval {low} to {high}, "
    p = format_p(difference["p_holm"])
    chance = f"p {p}" if p.startswith("<") else f"p = {p}"
    size = f"{format_difference(difference['mean'], style)}{' points' if style == 'percent' else ''}"
    return f"{row} by {size} ({interval}{chance}, {_many(difference['n'], 'seed')})"


def _noise(summary: Summary, metric: str, rows: Sequence[str]) -> str:
    """Name what is inside the noise, and what it would take to see more."""
    needed = [
        difference["seeds_needed"]
        for row in rows
        if (difference := summary["findings"][metric][row]["difference"]) is not None
    ]
    known = [count for count in needed if count is not None]
    more = f", a difference of the size seen would need {_span(known)} seeds" if known else ""
    return f"inside the noise: {_join(rows)}{more}"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"about {low:,}" if low == high else f"{low:,} to {high:,}"


def _join(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
