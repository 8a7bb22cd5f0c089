"""Details of an evaluation for the page: curves, histograms, strata, held-out explainers and comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from distill.metrics.names import Style
from distill.report.common.charts import Chart, Series, line_chart
from distill.report.evaluation.comparisons import ComparisonRow, comparison_rows
from distill.report.evaluation.record import (
    EvaluationRecord,
    Measured,
    NetworkScores,
    SetRecord,
    Stratum,
)
from distill.report.evaluation.table import Cell, make_cell

#: Descriptions of the strata: which predictions of the network and the reference are right.
STRATA: Mapping[Stratum, str] = {
    "both_right": "both right",
    "only_reference": "only the reference right",
    "only_network": "only the network right",
    "same_wrong": "the same wrong answer",
    "different_wrong": "different wrong answers",
}


@dataclass(frozen=True)
class StratumCell:
    """One stratum of one network: start and width of its part of the bar, in per cent, and its texts."""

    key: Stratum
    start: float
    width: float
    share: str
    n: int
    cosine: str


@dataclass(frozen=True)
class HeldOutRow:
    """Figures of one network under one held-out explainer."""

    network: str
    explainer: str
    cosine: Cell | None
    floor: Cell | None
    spearman: Cell | None
    energy: Cell | None


@dataclass(frozen=True)
class Evidence:
    """Details of one test set; parts that were not measured are empty."""

    name: str
    n: int
    charts: tuple[Chart, ...]
    strata: tuple[tuple[str, tuple[StratumCell, ...]], ...]
    held_out: tuple[HeldOutRow, ...]
    comparisons: tuple[ComparisonRow, ...]


def collect_evidence(record: EvaluationRecord, styles: Mapping[str, int]) -> list[Evidence]:
    """Return the details of every test set; ``styles`` are the line styles of the networks."""
    return [
        Evidence(
            name,
            entry["n"],
            tuple(_charts(entry, styles)),
            tuple((network, _strata(scores)) for network, scores in entry["networks"].items() if scores["strata"]),
            tuple(_held_out(entry)),
            tuple(comparison_rows(entry)),
        )
        for name, entry in record["sets"].items()
    ]


def _charts(entry: SetRecord, styles: Mapping[str, int]) -> Iterator[Chart]:
    yield from _histogram(entry, styles)
    yield from _perturbation(entry, styles, "deletion", "removed")
    yield from _perturbation(entry, styles, "insertion", "added")
    yield from _cascade(entry, styles, "spearman", "rank correlation")
    yield from _cascade(entry, styles, "ssim", "SSIM")


def _histogram(entry: SetRecord, styles: Mapping[str, int]) -> Iterator[Chart]:
    series, texts = [], []
    for name, scores in entry["networks"].items():
        histogram = scores["histogram"]
        if histogram is None or not sum(histogram["counts"]):
            continue
        total, edges = sum(histogram["counts"]), histogram["edges"]
        shares = [count / total for count in histogram["counts"]]
        steps = [(x, share) for x0, x1, share in zip(edges, edges[1:], shares, strict=False) for x in (x0, x1)]
        series.append(Series(name, styles[name], steps, marked=False))
        above = sum(share for edge, share in zip(edges, shares, strict=False) if edge >= 0.9 - 1e-9)
        texts.append(f"{name} {100 * above:.0f}%")
    if series:
        title = "Share of images by cosine of the maps"
        summary = f"{title}. Images with a cosine of at least 0.9: {', '.join(texts)}"
        yield line_chart(title, series, x_label="cosine with the reference’s map", summary=summary, y_range=(0, 0))


def _perturbation(
    entry: SetRecord, styles: Mapping[str, int], kind: Literal["deletion", "insertion"], verb: str
) -> Iterator[Chart]:
    series, counts = [], set()
    for name, scores in entry["networks"].items():
        if scores["curves"] is not None:
            curve = scores["curves"][kind]
            counts.add(curve["n"])
            points = list(zip(curve["fractions"], curve["probability"], strict=True))
            series.append(Series(name, styles[name], points))
    half = [(one.run, min(one.points, key=lambda point: abs(point[0] - 0.5))[1]) for one in series if one.points]
    if half:
        texts = [f"{run} {probability:.2f}" for run, probability in half]
        title = f"{kind.capitalize()}: mean probability (n = {max(counts):,})"
        yield line_chart(
            title,
            series,
            x_label=f"share of pixels {verb}, the brightest first",
            y_range=(0, 1),
            summary=f"{title}. At half of the pixels: {', '.join(texts)}",
        )


def _cascade(
    entry: SetRecord, styles: Mapping[str, int], score: Literal["spearman", "ssim"], score_name: str
) -> Iterator[Chart]:
    series, parts, counts = [], [], []
    for name, scores in entry["networks"].items():
        rows = scores["sanity"] or []
        values = [(float(i), row[score]["value"]) for i, row in enumerate(rows)]
        points = [(i, value) for i, value in values if value is not None]
        if points:
            series.append(Series(name, styles[name], points))
            parts.append(tuple(row["part"] for row in rows))
            counts += [row[score]["n"] for row in rows]
    if series:
        longest = max(parts, key=len)
        same = all(names == longest[: len(names)] for names in parts)
        every = -(-len(longest) // 6)
        ticks = {
            float(i): (part if len(part) < 11 else part[:9] + "…") if same else str(i + 1)
            for i, part in enumerate(longest)
            if i % every == 0
        }
        title = f"Maps after random weights: {score_name} (n = {max(counts):,})"
        x_label = (
            "randomised from the logits down to this part"
            if same
            else "number of randomised parts, from the logits down"
        )
        texts = ", ".join(f"{one.run} {one.points[0][1]:.2f} to {one.points[-1][1]:.2f}" for one in series)
        summary = f"{title}. From the first part to the last: {texts}"
        yield line_chart(title, series, x_label=x_label, x_names=ticks, y_range=(0, 1), summary=summary)


def _strata(scores: NetworkScores) -> tuple[StratumCell, ...]:
    strata = scores["strata"] or {}
    total = sum(stratum["n"] for stratum in strata.values())
    cells, start = [], 0.0
    for key in STRATA:
        stratum = strata.get(key)
        n = 0 if stratum is None else stratum["n"]
        share = n / total if total else 0.0
        value = None if stratum is None else stratum["map_cosine"]["value"]
        cosine = "–" if value is None else f"{value:.3f}"
        cells.append(StratumCell(key, round(100 * start, 2), round(100 * share, 2), f"{100 * share:.1f}%", n, cosine))
        start += share
    return tuple(cells)


def _held_out(entry: SetRecord) -> Iterator[HeldOutRow]:
    for name, scores in entry["networks"].items():
        for explainer, figures in scores["held_out"].items():
            yield HeldOutRow(
                name,
                explainer,
                _cell(figures["map_cosine"], "number"),
                _cell(figures["map_cosine_floor"], "number"),
                _cell(figures["map_spearman"], "number"),
                _cell(figures["energy_in_object"], "percent"),
            )


def _cell(measured: Measured | None, style: Style) -> Cell | None:
    return None if measured is None else make_cell(measured, style, -1)
