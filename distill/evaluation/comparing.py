"""Do two networks differ, image by image? Every pair, with the chance of a false finding kept over all of a set.

This is about these networks on images like these. Whether two recipes differ is a question for several seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

from distill.evaluation.extent import Extent
from distill.evaluation.scores import ImageScores
from distill.metrics.statistics import compare_many, holm
from distill.report.record import ComparisonRecord

#: Figures that networks are compared by.
COMPARED = (
    "accuracy",
    "agreement",
    "map_cosine",
    "energy_in_object",
    "average_drop",
    "deletion_auc",
    "insertion_auc",
)
#: Most networks of which every pair is compared; of more, each with the first.
ALL_PAIRS = 5


def compare(scores: Mapping[str, ImageScores], *, reference: str | None, extent: Extent) -> list[ComparisonRecord]:
    """Compare the networks that are not the reference.

    Convention:
        - A figure that one of the two lacks, or that less than two images have of both, is left out.

    Args:
        scores: By network, of the same images.
        reference: The network that is not compared.
        extent: Resamples of the bootstrap, and their seed.
    """
    found: list[ComparisonRecord] = []
    for first, second in pairs([name for name in scores if name != reference]):
        one, other = scores[first], scores[second]
        figures = [name for name in COMPARED if name in one.columns and name in other.columns]
        if not figures:
            continue
        compared = compare_many(
            _table(one, figures), _table(other, figures), resamples=extent.resamples, seed=extent.seed
        )
        for figure, result in zip(figures, compared, strict=True):
            if result.n < 2:
                continue
            found.append({"figure": figure, "first": first, "second": second, "p_holm": 1.0, **result._asdict()})  # type: ignore[typeddict-item]  # the fields of a Comparison
    for record, adjusted in zip(found, holm([record["p"] for record in found]), strict=True):
        record["p_holm"] = adjusted
    return found


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Say who is compared with whom.

    Example:
        >>> pairs(["a", "b", "c"])
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
        >>> pairs("abcdef")
        [('a', 'b'), ('a', 'c'), ('a', 'd'), ('a', 'e'), ('a', 'f')]
    """
    found = list(combinations(names, 2))
    return found if len(names) <= ALL_PAIRS else [pair for pair in found if pair[0] == names[0]]


def _table(scores: ImageScores, figures: Sequence[str]) -> Float[np.ndarray, "images figures"]:
    return np.stack([scores.columns[name].values.astype(np.float64) for name in figures], 1)
