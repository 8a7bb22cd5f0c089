"""Writes the report of an evaluation as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.files import write_text
from distill.metrics.names import METRIC_INFO
from distill.report.common.charts import STYLES, make_charts
from distill.report.common.colours import (
    DIVERGING,
    data_uri,
    difference_uri,
    map_side,
    map_uri,
    scale_stops,
)
from distill.report.common.curves import Curves
from distill.report.common.html import Facts, csp_hash, template_environment
from distill.report.evaluation.evidence import STRATA, collect_evidence
from distill.report.evaluation.gallery import Gallery, Panel, Picture
from distill.report.evaluation.record import EvaluationRecord
from distill.report.evaluation.sentences import caveat, summary_sentences
from distill.report.evaluation.table import DIRECTIONS, columns, group_figures, left_out, sections
from distill.untrusted import printable


@dataclass(frozen=True)
class MapDifference:
    """A network's map minus the reference's: number of the network, image, and mean absolute difference."""

    network: int
    uri: str
    gap: float


@dataclass(frozen=True)
class ShownPicture:
    """One picture: its number on the page and in the style sheet, and its image and maps as data URIs."""

    number: int
    picture: Picture
    pixels: str
    maps: tuple[str, ...]
    differences: tuple[MapDifference, ...]
    strata: list[str | None]
    scores: list[list[float | None]]


@dataclass(frozen=True)
class GallerySection:
    """The pictures of one test set."""

    gallery: Gallery
    pictures: tuple[ShownPicture, ...]


@dataclass(frozen=True)
class GalleryView:
    """All pictures, and the values that they can be filtered and sorted by."""

    sections: tuple[GallerySection, ...]
    networks: tuple[str, ...]
    compared: tuple[int, ...]
    reference: str | None
    labels: tuple[str, ...]
    picks: tuple[str, ...]
    strata: tuple[tuple[str, str], ...]
    scores: tuple[tuple[str, str], ...]

    @property
    def count(self) -> int:
        """Number of pictures."""
        return sum(len(section.pictures) for section in self.sections)

    @property
    def selection(self) -> str:
        """Description of how the pictures were chosen; by test set if it differs."""
        sets: dict[str, list[str]] = {}
        for section in self.sections:
            sets.setdefault(_selection(section.gallery), []).append(section.gallery.set_name)
        if len(sets) == 1:
            return next(iter(sets))
        return "; ".join(f"on {', '.join(names)}, {text}" for text, names in sets.items())


def make_gallery_view(galleries: Sequence[Gallery]) -> GalleryView:
    """Encode the pictures of all test sets, and collect the values that they can be filtered and sorted by."""
    pictures = [picture for gallery in galleries for picture in gallery.pictures]
    panels = [panel for picture in pictures for panel in picture.panels]
    networks = tuple(dict.fromkeys(panel.network for panel in panels))
    reference = next((gallery.reference for gallery in galleries if gallery.reference in networks), None)
    measured = {name for panel in panels for name, value in panel.scores.items() if value is not None}
    names = [*(name for name in METRIC_INFO if name in measured), *sorted(measured - METRIC_INFO.keys())]
    side = map_side(len(panels) + (len(panels) - len(pictures) if reference is not None else 0))
    gallery_sections, number = [], 0
    for gallery in galleries:
        shown = []
        for picture in gallery.pictures:
            shown.append(_show(picture, number, networks, gallery.reference, names, side))
            number += 1
        gallery_sections.append(GallerySection(gallery, tuple(shown)))
    strata = {panel.stratum for panel in panels}
    picks = {pick for picture in pictures for pick in picture.picks}
    return GalleryView(
        tuple(gallery_sections),
        networks,
        tuple(i for i, name in enumerate(networks) if reference is not None and name != reference),
        reference,
        tuple(sorted({picture.label for picture in pictures})),
        tuple(pick for pick in ("best", "median", "worst", "random") if pick in picks),
        tuple((key, text) for key, text in STRATA.items() if key in strata),
        tuple((name, METRIC_INFO[name].title if name in METRIC_INFO else name) for name in names),
    )


def _selection(gallery: Gallery) -> str:
    if gallery.ranked_by is None:
        return f"all were drawn at random by seed {gallery.seed}"
    return f"best, median and worst are by {gallery.ranked_by}, the rest were drawn at random by seed {gallery.seed}"


def _show(
    picture: Picture, number: int, networks: Sequence[str], reference: str | None, names: Sequence[str], side: int
) -> ShownPicture:
    panels = {panel.network: panel for panel in picture.panels}
    reference_panel = panels.get(reference or "")
    return ShownPicture(
        number,
        picture,
        data_uri(picture.pixels),
        tuple(map_uri(panel.heat, side=side) for panel in picture.panels),
        tuple(
            _difference(networks.index(panel.network), panel, reference_panel, side)
            for panel in picture.panels
            if reference_panel is not None and panel is not reference_panel
        ),
        [panels[name].stratum if name in panels else None for name in networks],
        [[_score(panels.get(network), name) for name in names] for network in networks],
    )


def _difference(network: int, panel: Panel, reference: Panel, side: int) -> MapDifference:
    gap = float(np.abs(np.nan_to_num(panel.heat) - np.nan_to_num(reference.heat)).mean())
    return MapDifference(network, difference_uri(panel.heat, reference.heat, side=side), gap)


def _score(panel: Panel | None, name: str) -> float | None:
    value = None if panel is None else panel.scores.get(name)
    return None if value is None or not np.isfinite(value) else round(float(value), 5)


def write_report(
    path: Path | str,
    *,
    title: str,
    record: EvaluationRecord | None = None,
    curves: Sequence[Curves] = (),
    galleries: Sequence[Gallery] = (),
    facts: Facts | None = None,
) -> Path:
    """Write the page of one run or of several runs, atomically.

    Convention:
        - The page loads no other file: it contains its styles, script and pictures, and its Content-Security-Policy
          forbids everything else. The script only filters, sorts and blends the pictures; without it the page is
          complete.
        - All text is escaped, including names of classes and runs.
        - Arguments that are not given have no section.

    Args:
        path: The file.
        title: Heading of the page.
        record: The record of the evaluation.
        curves: Training curves of the runs.
        galleries: Images with maps, one gallery per test set.
        facts: Content of the footer: configuration, seeds, versions, hashes.

    Returns:
        The path.
    """
    page = render(title=title, record=record, curves=curves, galleries=galleries, facts=facts or {})
    return write_text(path, printable(page))


def render(
    *,
    title: str,
    record: EvaluationRecord | None,
    curves: Sequence[Curves],
    galleries: Sequence[Gallery],
    facts: Facts,
) -> str:
    """Return the HTML of the page; see :func:`write_report`."""
    templates = template_environment()
    view = make_gallery_view(galleries)
    css = templates.get_template("report.css").render() + templates.get_template("gallery.css").render(view=view)
    script = templates.get_template("report.js").render()
    styles = _styles(record, curves)
    return templates.get_template("report.html").render(
        kind="report",
        title=title,
        css=css,
        script=script if view.count else None,
        policy={"style": csp_hash(css), "script": csp_hash(script)},
        record=record,
        facts=facts,
        **_summary(record, styles),
        view=view,
        stops=scale_stops(),
        difference_stops=scale_stops(11, DIVERGING),
        styles=styles,
        curves=[(run.run, styles[run.run]) for run in curves],
        charts=make_charts(curves, styles),
    )


def _styles(record: EvaluationRecord | None, curves: Sequence[Curves]) -> dict[str, int]:
    """Assign every network one line style for the whole page."""
    names = dict.fromkeys([*([] if record is None else record["networks"]), *(run.run for run in curves)])
    return {name: i % STYLES for i, name in enumerate(names)}


def _summary(record: EvaluationRecord | None, styles: Mapping[str, int]) -> dict[str, Any]:
    if record is None:
        return {}
    return {
        "columns": columns(record),
        "left_out": left_out(record),
        "sections": sections(record),
        "sentences": summary_sentences(record),
        "caveat": caveat(record),
        "groups": group_figures(record),
        "directions": DIRECTIONS,
        "evidence": collect_evidence(record, styles),
        "stratum_names": STRATA,
    }
