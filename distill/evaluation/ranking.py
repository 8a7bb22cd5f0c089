"""Which images a gallery shows: by rank of a score, and by chance; none by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from distill.evaluation.drawing import draw
from distill.evaluation.scores import ImageScores
from distill.measures import MEASURES
from distill.report.pictures import Pick


class Ranking(NamedTuple):
    """A score an image, NaN where there is none, and which it is, in words."""

    scores: Float[np.ndarray, " n"]
    words: str


def rank(scores: Mapping[str, ImageScores], reference: str | None) -> Ranking | None:
    """Choose what the pictures are ranked by: the last network's map cosine, else what of its map is in the object.

    Returns:
        None if neither was measured of any image.
    """
    last = [name for name in scores if name != reference] or list(scores)
    for figure in ("map_cosine", "energy_in_object"):
        column = scores[last[-1]].columns.get(figure) if last else None
        if column is not None and not np.isnan(column.values).all():
            return Ranking(column.values.astype(np.float64), f"{MEASURES[figure].title} of {last[-1]}")
    return None


def choose(
    total: int, count: int, *, seed: int, ranked: Float[np.ndarray, " n"] | None = None
) -> dict[int, tuple[Pick, ...]]:
    """Choose images: a sixth each of the best, the median and the worst, and the rest drawn without looking.

    Convention:
        - An image that is chosen twice is there once, with both reasons, so there may be less than ``count``.
        - Best, median and worst are of the images that have a score; among equals the first comes first.

    Args:
        total: Number of images.
        count: How many at most.
        seed: Of the draw.
        ranked: A score an image, NaN where there is none; without it all are drawn.

    Returns:
        Positions in the order best, median, worst, random, with the reasons of each.

    Example:
        >>> choose(9, 6, seed=0, ranked=np.arange(9.0) / 9)
        {8: ('best',), 4: ('median',), 0: ('worst', 'random'), 2: ('random',), 1: ('random',)}
    """
    each = 0 if ranked is None else count // 6
    picks: dict[int, tuple[Pick, ...]] = {}

    def add(positions: Sequence[int], why: Pick) -> None:
        for i in positions:
            picks[i] = (*picks.get(i, ()), why)

    if ranked is not None:
        order = [int(i) for i in np.argsort(-ranked, kind="stable") if not np.isnan(ranked[i])]
        middle = max((len(order) - each) // 2, 0)
        add(order[:each], "best")
        add(order[middle : middle + each], "median")
        add(order[len(order) - each :][::-1] if each else [], "worst")
    add(draw(total, count - 3 * each, seed=seed), "random")
    return picks
