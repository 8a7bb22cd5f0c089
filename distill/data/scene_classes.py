"""Which classes a scene with several objects shows, and which pairs of classes occur together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from distill.data.fashion_items import CLASSES
from distill.errors import InputError, unknown_name

#: Which partners a set of scenes shows.
Partners = Literal["usual", "exclusive", "unbiased"]
#: Smallest and largest number of objects in a scene.
FEWEST, MOST = 2, 4
#: Random integers that :func:`choose_classes` draws per scene.
CHOICE_WORDS = 2 + len(CLASSES)
#: Classes without a partner that a scene needs, besides the one that may be its first object.
_FREE = MOST - 1
#: Draws one random integer per scene, from 0 to below a bound.
_Draw = Callable[["int | NDArray[np.int64]"], NDArray[np.int64]]


@dataclass(frozen=True)
class CoOccurrence:
    """Pairs of classes of which one accompanies the other with a probability.

    Args:
        pairs: Pairs of class names; a class is in at most one pair.
        probability: Probability that an object of a class in a pair is accompanied by its partner.

    Raises:
        InputError: if a class is unknown or in two pairs, the pairs leave too few other classes, or the probability is
            out of range.

    Example:
        >>> CoOccurrence([("shirt", "trouser")], 0.95).partner()[[6, 1, 0]]
        array([ 1,  6, -1])
    """

    pairs: Sequence[tuple[str, str]]
    probability: float

    def __post_init__(self) -> None:
        names = [name for pair in self.pairs for name in pair]
        for name in names:
            if name not in CLASSES:
                raise InputError(unknown_name("class in `co_occurrence.pairs`", name, CLASSES))
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"`co_occurrence.pairs`: class {twice!r} is in two pairs, or twice in one.")
        if not names or len(CLASSES) - len(names) < _FREE + 1:
            most = (len(CLASSES) - _FREE - 1) // 2
            raise InputError(
                f"`co_occurrence.pairs` must have 1 to {most} pairs, got {len(self.pairs)}: a scene is filled up with "
                f"classes that are in no pair, and has up to {MOST} objects."
            )
        if not 0 <= self.probability <= 1:
            raise InputError(f"`co_occurrence.probability` must be between 0 and 1, got {self.probability}.")

    def partner(self) -> Int64[np.ndarray, " classes"]:
        """Return the partner of each class, -1 for none."""
        partner = np.full(len(CLASSES), -1)
        for one, other in self.pairs:
            first, second = CLASSES.index(one), CLASSES.index(other)
            partner[[first, second]] = second, first
        return partner


def read_co_occurrence(value: Any) -> CoOccurrence:
    """Return the record of the option ``co_occurrence``: a mapping with ``pairs`` and ``probability``.

    Raises:
        InputError: if a key is missing or unknown, or a value is wrong.
    """
    keys = ("pairs", "probability")
    if not isinstance(value, dict) or set(value) != set(keys):
        got = sorted(map(str, value)) if isinstance(value, dict) else value
        raise InputError(f"`co_occurrence` must have the keys pairs and probability, got {got!r}.")
    pairs, probability = value["pairs"], value["probability"]
    if (
        isinstance(pairs, str)
        or not isinstance(pairs, Sequence)
        or any(isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2 for pair in pairs)
    ):
        raise InputError(f"`co_occurrence.pairs` must be a list of pairs of class names, got {pairs!r}.")
    if isinstance(probability, bool) or not isinstance(probability, int | float):
        raise InputError(f"`co_occurrence.probability` must be a number, got {probability!r}.")
    return CoOccurrence([(str(one), str(other)) for one, other in pairs], float(probability))


def choose_classes(
    first: Int64[np.ndarray, " n"], co_occurrence: CoOccurrence | None, partners: Partners, draw: _Draw
) -> Int64[np.ndarray, "n 4"]:
    """Return the classes of the objects of each scene, all different; -1 in the places of missing objects.

    Convention:
        - A scene has 2, 3 or 4 objects, equally often. The first one has the class ``first``.
        - ``usual``: of the scenes that show a class of a pair, the share p that is the given probability shows its
          partner too. The first object is accompanied by its partner with probability p / (2 - p), since the scenes
          whose first object is the partner count as well. All other objects have classes that are in no pair.
        - ``exclusive``: as ``usual`` with probability 0. ``unbiased``: all other classes are equally likely.
        - The number of random integers that are drawn per scene is always the same.

    Args:
        first: Class of the first object.
        co_occurrence: Pairs of classes; None: no class has a partner.
        partners: Which scenes to make.
        draw: Source of random integers.
    """
    count = FEWEST + draw(MOST - FEWEST + 1)
    keys = np.stack([draw(2**32) for _ in CLASSES], axis=1)
    accompanied = draw(2**32)
    rows = np.arange(len(first))
    never = 2**33
    keys[rows, first] = never
    if co_occurrence is not None and partners != "unbiased":
        partner = co_occurrence.partner()
        keys[:, partner >= 0] = never
        share = co_occurrence.probability if partners == "usual" else 0.0
        with_partner = (partner[first] >= 0) & (accompanied < round(share / (2 - share) * 2**32))
        keys[rows[with_partner], partner[first[with_partner]]] = -1
    others = np.argsort(keys, axis=1, kind="stable")[:, : MOST - 1]
    classes = np.concatenate([first[:, None], others], axis=1)
    return np.where(np.arange(MOST) < count[:, None], classes, -1)


def check_partners(partners: str, co_occurrence: CoOccurrence | None) -> None:
    """Raise an InputError if ``partners`` is unknown, or needs pairs that are not given."""
    if partners not in get_args(Partners):
        raise InputError(unknown_name("partners", partners, get_args(Partners)))
    if partners == "exclusive" and co_occurrence is None:
        raise InputError("`partners: exclusive` needs `co_occurrence` with pairs of classes.")
