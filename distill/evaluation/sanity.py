"""Do maps depend on what a network learnt? Its own against those of networks whose weights are random, part by part.

References:
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: cascading randomisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from distill.evaluation.networks import EvaluationJob, name_network_in_errors
from distill.maps import resize_maps
from distill.metrics import map_spearman, map_ssim
from distill.models import StagedNetwork
from distill.models.randomise import cascade


class RandomisedScores(NamedTuple):
    """The maps of every image once all down to one part is random, against those of before."""

    part: str
    spearman: Float[Tensor, " n"]
    ssim: Float[Tensor, " n"]


def score_randomised(
    subject: EvaluationJob, positions: Sequence[int], *, seed: int
) -> dict[str, list[RandomisedScores]]:
    """Randomise every network from the logits down, one more part at a time, and compare maps before and after.

    Convention:
        - The class that a map explains stays the same.

    Args:
        subject: Networks and test set.
        positions: The images that were drawn; they and their maps are held.
        seed: Of the random weights.
    """
    side, pieces = subject.side, list(subject.pieces(positions))
    targets = [side.target(piece.images, piece.labels) for piece in pieces]
    found: dict[str, list[RandomisedScores]] = {}
    subject.tell("random weights", 0, len(side.networks) * len(positions))
    for network, net in side.networks.items():

        def explain(some: StagedNetwork, network: str = network) -> Tensor:
            explainer = side.explainer(network)
            maps = [explainer(some, p.images, target).maps for p, target in zip(pieces, targets, strict=True)]
            return resize_maps(torch.cat(maps), subject.size)

        found[network] = []
        with name_network_in_errors(network):
            own = explain(net)
            for part, changed in cascade(net, seed=seed):
                maps = explain(changed)
                found[network].append(RandomisedScores(part, map_spearman(own, maps).cpu(), map_ssim(own, maps).cpu()))
        subject.tell("random weights", len(found) * len(positions), len(side.networks) * len(positions))
    return found
