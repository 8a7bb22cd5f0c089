"""Agreement under explainers that no network was trained on: a learnt reason, or a fitted loss?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import InputError
from distill.evaluation.image_scores import Figures, cosine_floor
from distill.evaluation.networks import ComparedNetworks, EvaluationBatch, EvaluationJob, name_network_in_errors
from distill.evaluation.sampling import other_images
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.metrics import energy_in_mask, map_cosine, map_spearman


def make_explainers(side: ComparedNetworks, methods: Sequence[str]) -> dict[str, dict[str, Explainer]]:
    """Make the explainer of every method and network.

    Raises:
        InputError: if there is no such method.
    """
    try:
        return {
            method: {network: Explainer(method, side.explainer(network).layer) for network in side.networks}
            for method in methods
        }
    except ValueError as error:
        raise InputError(f"held-out explainer: {error}") from error


def score_held_out(
    subject: EvaluationJob, positions: Sequence[int], *, methods: Sequence[str], seed: int
) -> dict[str, dict[str, Figures]]:
    """Explain drawn images by other methods, and compare as with the method itself.

    Args:
        subject: Networks and test set.
        positions: The images that were drawn; all their maps under one method are held.
        methods: Names of explainers.
        seed: Of the other image in the floor.

    Returns:
        Figures by network and method.
    """
    side = subject.side
    found: dict[str, dict[str, Figures]] = {network: {} for network in side.networks}
    others = other_images(len(positions), seed=seed)
    for method, explainers in make_explainers(side, methods).items():
        maps: dict[str, list[Tensor]] = {network: [] for network in side.networks}
        scores: dict[str, list[Figures]] = {network: [] for network in side.networks}
        done = 0
        subject.tell(method, 0, len(positions) * len(explainers))
        for piece in subject.pieces(positions):
            target = side.target(piece.images, piece.labels)
            for network, explainer in explainers.items():
                with name_network_in_errors(network):
                    maps[network].append(explainer(side.networks[network], piece.images, target).maps.detach())
                done += len(piece.labels)
                subject.tell(method, done, len(positions) * len(explainers))
            for network in side.networks:
                reference = maps[str(side.reference)][-1] if network in side.others else None
                scores[network].append(_compare(maps[network][-1], reference, piece))
        for network, parts in scores.items():
            figures = {figure: torch.cat([part[figure] for part in parts]) for figure in parts[0]}
            if network in side.others:
                pair = torch.cat(maps[network]), torch.cat(maps[str(side.reference)])
                floor = cosine_floor(*pair, others, size=subject.size, batch_size=subject.batch_size)
                figures["map_cosine_floor"] = floor
            found[network][method] = figures
    return found


def _compare(raw: Float[Tensor, "n *s"], reference: Float[Tensor, "n *t"] | None, piece: EvaluationBatch) -> Figures:
    size = piece.images.shape[2:]
    maps = resize_maps(raw, size)
    figures = {} if piece.objects is None else {"energy_in_object": energy_in_mask(maps, piece.objects)}
    if reference is not None:
        resized = resize_maps(reference, size)
        figures |= {"map_cosine": map_cosine(maps, resized), "map_spearman": map_spearman(maps, resized)}
    return figures
