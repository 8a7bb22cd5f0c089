"""Galleries -> what the page shows of every picture, and what it can be filtered and sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.measures import MEASURES
from distill.report.colours import data_uri, difference_uri, map_side, map_uri
from distill.report.evidence import STRATA
from distill.report.pictures import Gallery, Panel, Picture


@dataclass(frozen=True)
class Difference:
    """A network's map less the reference's: the position of the network, the picture, and the mean distance."""

    network: int
    uri: str
    gap: float


@dataclass(frozen=True)
class Shown:
    """One picture: its number on the page, which its style has too, and its maps as pictures."""

    number: int
    picture: Picture
    pixels: str
    maps: tuple[str, ...]
    differences: tuple[Difference, ...]
    strata: list[str | None]
    scores: list[list[float | None]]


@dataclass(frozen=True)
class Room:
    """The pictures of one test set."""

    gallery: Gallery
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class Browsing:
    """All pictures, and the choices that there are."""

    rooms: tuple[Room, ...]
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
            said.setdefault(_drawn(room.gallery), []).append(room.gallery.set_name)
        if len(said) == 1:
            return next(iter(said))
        return "; ".join(f"on {', '.join(names)}, {words}" for words, names in said.items())


def browse(galleries: Sequence[Gallery]) -> Browsing:
    """Draw the pictures of all test sets, and collect what they can be filtered and sorted by."""
    pictures = [picture for gallery in galleries for picture in gallery.pictures]
    panels = [panel for picture in pictures for panel in picture.panels]
    networks = tuple(dict.fromkeys(panel.network for panel in panels))
    reference = next((gallery.reference for gallery in galleries if gallery.reference in networks), None)
    measured = {name for panel in panels for name, value in panel.scores.items() if value is not None}
    names = [*(name for name in MEASURES if name in measured), *sorted(measured - MEASURES.keys())]
    side = map_side(len(panels) + (len(panels) - len(pictures) if reference is not None else 0))
    rooms, number = [], 0
    for gallery in galleries:
        shown = []
        for picture in gallery.pictures:
            shown.append(_show(picture, number, networks, gallery.reference, names, side))
            number += 1
        rooms.append(Room(gallery, tuple(shown)))
    found = {panel.stratum for panel in panels}
    drawn = {pick for picture in pictures for pick in picture.picks}
    return Browsing(
        tuple(rooms),
        networks,
        tuple(i for i, name in enumerate(networks) if reference is not None and name != reference),
        reference,
        tuple(sorted({picture.label for picture in pictures})),
        tuple(pick for pick in ("best", "median", "worst", "random") if pick in drawn),
        tuple((key, words) for key, words in STRATA.items() if key in found),
        tuple((name, MEASURES[name].title if name in MEASURES else name) for name in names),
    )


def _drawn(gallery: Gallery) -> str:
    if gallery.ranked_by is None:
        return f"all were drawn at random by seed {gallery.seed}"
    return f"best, median and worst go by {gallery.ranked_by}, the rest were drawn at random by seed {gallery.seed}"


def _show(
    picture: Picture, number: int, networks: Sequence[str], reference: str | None, names: Sequence[str], side: int
) -> Shown:
    panels = {panel.network: panel for panel in picture.panels}
    origin = panels.get(reference or "")
    return Shown(
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


def _difference(network: int, panel: Panel, origin: Panel, side: int) -> Difference:
    gap = float(np.abs(np.nan_to_num(panel.heat) - np.nan_to_num(origin.heat)).mean())
    return Difference(network, difference_uri(panel.heat, origin.heat, side=side), gap)


def _score(panel: Panel | None, name: str) -> float | None:
    value = None if panel is None else panel.scores.get(name)
    return None if value is None or not np.isfinite(value) else round(float(value), 5)
