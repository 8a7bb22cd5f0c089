"""Sanity check: compares the maps of a network with its maps after its weights were randomised, part by part.

References:
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: cascading randomisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from distill.evaluation.job import EvaluationJob, name_network_in_errors
from distill.maps import resize_maps
from distill.metrics import map_spearman, map_ssim
from distill.models import StagedNetwork
from distill.models.randomise import cascade


class RandomisedScores(NamedTuple):
    """Similarity of every image's map before and after all weights from the logits down to ``part`` were randomised."""

    part: str
    spearman: Float[Tensor, " n"]
    ssim: Float[Tensor, " n"]


def score_randomised(job: EvaluationJob, positions: Sequence[int], *, seed: int) -> dict[str, list[RandomisedScores]]:
    """Randomise every network from the logits down, one more part at a time, and compare the maps before and after.

    Convention:
        - The class that a map explains stays the same.

    Args:
        job: Networks and test set.
        positions: Positions of the images that were drawn; the images and their maps are held in memory.
        seed: Seed of the random weights.
    """
    networks, batches = job.networks, list(job.batches(positions))
    targets = [networks.target(batch.images, batch.labels) for batch in batches]
    scores: dict[str, list[RandomisedScores]] = {}
    total = len(networks.by_name) * len(positions)
    job.report_progress("random weights", 0, total)
    for name, network in networks.by_name.items():

        def explain(changed: StagedNetwork, name: str = name) -> Tensor:
            explainer = networks.explainer(name)
            maps = [explainer(changed, b.images, target).maps for b, target in zip(batches, targets, strict=True)]
            return resize_maps(torch.cat(maps), job.image_size)

        scores[name] = []
        with name_network_in_errors(name):
            before = explain(network)
            for part, changed in cascade(network, seed=seed):
                after = explain(changed)
                spearman, ssim = map_spearman(before, after), map_ssim(before, after)
                scores[name].append(RandomisedScores(part, spearman.cpu(), ssim.cpu()))
        job.report_progress("random weights", len(scores) * len(positions), total)
    return scores
