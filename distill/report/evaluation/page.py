"""A record, curves, galleries and facts -> one self-contained HTML page."""

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


@dataclass(frozen=True)
class MapDifference:
    """A network's map less the reference's: the position of the network, the picture, and the mean distance."""

    network: int
    uri: str
    gap: float


@dataclass(frozen=True)
class ShownPicture:
    """One picture: its number on the page, which its style has too, and its maps as pictures."""

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
    """All pictures, and the choices that there are."""

    rooms: tuple[GallerySection, ...]
    networks: tuple[str, ...]
    compared: tuple[int, ...]
    reference: str | None
    labels: tuple[str, ...]
    picks: tuple[str, ...]
    strata: tuple[tuple[str, str], ...]
    scores: tuple[tuple[str, str], ...]

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return sum(len(room.pictures) for room in self.rooms)

    @property
    def drawn(self) -> str:
        """How the pictures were found, in words; once, if it is the same for all test sets."""
        said: dict[str, list[str]] = {}
        for room in self.rooms:
            said.setdefault(_selection(room.gallery), []).append(room.gallery.set_name)
        if len(said) == 1:
            return next(iter(said))
        return "; ".join(f"on {', '.join(names)}, {words}" for words, names in said.items())


def make_gallery_view(galleries: Sequence[Gallery]) -> GalleryView:
    """Draw the pictures of all test sets, and collect what they can be filtered and sorted by."""
    pictures = [picture for gallery in galleries for picture in gallery.pictures]
    panels = [panel for picture in pictures for panel in picture.panels]
    networks = tuple(dict.fromkeys(panel.network for panel in panels))
    reference = next((gallery.reference for gallery in galleries if gallery.reference in networks), None)
    measured = {name for panel in panels for name, value in panel.scores.items() if value is not None}
    names = [*(name for name in METRIC_INFO if name in measured), *sorted(measured - METRIC_INFO.keys())]
    side = map_side(len(panels) + (len(panels) - len(pictures) if reference is not None else 0))
    rooms, number = [], 0
    for gallery in galleries:
        shown = []
        for picture in gallery.pictures:
            shown.append(_show(picture, number, networks, gallery.reference, names, side))
            number += 1
        rooms.append(GallerySection(gallery, tuple(shown)))
    found = {panel.stratum for panel in panels}
    drawn = {pick for picture in pictures for pick in picture.picks}
    return GalleryView(
        tuple(rooms),
        networks,
        tuple(i for i, name in enumerate(networks) if reference is not None and name != reference),
        reference,
        tuple(sorted({picture.label for picture in pictures})),
        tuple(pick for pick in ("best", "median", "worst", "random") if pick in drawn),
        tuple((key, words) for key, words in STRATA.items() if key in found),
        tuple((name, METRIC_INFO[name].title if name in METRIC_INFO else name) for name in names),
    )


def _selection(gallery: Gallery) -> str:
    if gallery.ranked_by is None:
        return f"all were drawn at random by seed {gallery.seed}"
    return f"best, median and worst go by {gallery.ranked_by}, the rest were drawn at random by seed {gallery.seed}"


def _show(
    picture: Picture, number: int, networks: Sequence[str], reference: str | None, names: Sequence[str], side: int
) -> ShownPicture:
    panels = {panel.network: panel for panel in picture.panels}
    origin = panels.get(reference or "")
    return ShownPicture(
        number,
        picture,
        data_uri(picture.pixels),
        tuple(map_uri(panel.heat, side=side) for panel in picture.panels),
        tuple(
            _difference(networks.index(panel.network), panel, origin, side)
            for panel in picture.panels
            if origin is not None and panel is not origin
        ),
        [panels[name].stratum if name in panels else None for name in networks],
        [[_score(panels.get(network), name) for name in names] for network in networks],
    )


def _difference(network: int, panel: Panel, origin: Panel, side: int) -> MapDifference:
    gap = float(np.abs(np.nan_to_num(panel.heat) - np.nan_to_num(origin.heat)).mean())
    return MapDifference(network, difference_uri(panel.heat, origin.heat, side=side), gap)


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
    """Write the page of a run, or of several runs side by side; the file appears whole or not at all.

    Convention:
        - The page loads nothing: styles, script and pictures are in it, and its Content-Security-Policy forbids the
          rest. It shows everything without the script, which only filters, sorts and blends the pictures.
        - All text is escaped, names of classes and runs included.
        - What is not given has no section.

    Args:
        path: The file.
        title: Its heading.
        record: What was measured; the table on top.
        curves: Logs of the runs.
        galleries: Images with maps, one for each test set that is shown.
        facts: For the footer: configuration, seeds, versions, hashes.

    Returns:
        The path.
    """
    return write_text(path, render(title=title, record=record, curves=curves, galleries=galleries, facts=facts or {}))


def render(
    *,
    title: str,
    record: EvaluationRecord | None,
    curves: Sequence[Curves],
    galleries: Sequence[Gallery],
    facts: Facts,
) -> str:
    """Make the text of the page; see :func:`write_report`."""
    templates = template_environment()
    browsing = make_gallery_view(galleries)
    css = templates.get_template("report.css").render() + templates.get_template("gallery.css").render(
        browsing=browsing
    )
    script = templates.get_template("report.js").render()
    styles = _styles(record, curves)
    return templates.get_template("report.html").render(
        title=title,
        css=css,
        script=script,
        policy={"style": csp_hash(css), "script": csp_hash(script)},
        record=record,
        facts=facts,
        **_verdict(record, styles),
        **_maps(browsing),
        styles=styles,
        curves=[(run.run, styles[run.run]) for run in curves],
        charts=make_charts(curves, styles),
    )


def _styles(record: EvaluationRecord | None, curves: Sequence[Curves]) -> dict[str, int]:
    """Give every network one style for the whole page."""
    names = dict.fromkeys([*([] if record is None else record["networks"]), *(run.run for run in curves)])
    return {name: i % STYLES for i, name in enumerate(names)}


def _verdict(record: EvaluationRecord | None, styles: Mapping[str, int]) -> dict[str, Any]:
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
        "stratum_words": STRATA,
    }


def _maps(browsing: GalleryView) -> dict[str, Any]:
    return {"browsing": browsing, "stops": scale_stops(), "difference_stops": scale_stops(11, DIVERGING)}
