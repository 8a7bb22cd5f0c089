"""Held-out explainers: agreement with the reference under explainers that no network was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import InputError
from distill.evaluation.image_scores import Figures, cosine_floor
from distill.evaluation.job import ComparedNetworks, EvaluationBatch, EvaluationJob, name_network_in_errors
from distill.evaluation.sampling import other_images
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.metrics import energy_in_mask, map_cosine, map_spearman


def make_explainers(networks: ComparedNetworks, methods: Sequence[str]) -> dict[str, dict[str, Explainer]]:
    """Make an explainer for every method and network.

    Raises:
        InputError: if a method is unknown.
    """
    try:
        return {
            method: {name: Explainer(method, networks.explainer(name).layer) for name in networks.by_name}
            for method in methods
        }
    except ValueError as error:
        raise InputError(f"held-out explainer: {error}") from error


def score_held_out(
    job: EvaluationJob, positions: Sequence[int], *, methods: Sequence[str], seed: int
) -> dict[str, dict[str, Figures]]:
    """Explain a sample of the images by other methods, and compare the maps as those of the method of the evaluation.

    Args:
        job: Networks and test set.
        positions: Positions of the images that were drawn; all their maps of one method are held in memory.
        methods: Names of explainers.
        seed: Seed of the assignment of other images, for the floor of the map cosine.

    Returns:
        Figures by network and method.
    """
    networks = job.networks
    figures: dict[str, dict[str, Figures]] = {name: {} for name in networks.by_name}
    others = other_images(len(positions), seed=seed)
    for method, explainers in make_explainers(networks, methods).items():
        maps: dict[str, list[Tensor]] = {name: [] for name in networks.by_name}
        parts: dict[str, list[Figures]] = {name: [] for name in networks.by_name}
        done, total = 0, len(positions) * len(explainers)
        job.report_progress(method, 0, total)
        for batch in job.batches(positions):
            target = networks.target(batch.images, batch.labels)
            for name, explainer in explainers.items():
                with name_network_in_errors(name):
                    maps[name].append(explainer(networks.by_name[name], batch.images, target).maps.detach())
                done += len(batch.labels)
                job.report_progress(method, done, total)
            for name in networks.by_name:
                reference = maps[str(networks.reference)][-1] if name in networks.others else None
                parts[name].append(_compare(maps[name][-1], reference, batch))
        for name, some in parts.items():
            figures[name][method] = {figure: torch.cat([part[figure] for part in some]) for figure in some[0]}
            if name in networks.others:
                pair = torch.cat(maps[name]), torch.cat(maps[str(networks.reference)])
                floor = cosine_floor(*pair, others, size=job.image_size, batch_size=job.batch_size)
                figures[name][method]["map_cosine_floor"] = floor
    return figures


def _compare(raw: Float[Tensor, "n *s"], reference: Float[Tensor, "n *t"] | None, batch: EvaluationBatch) -> Figures:
    size = batch.images.shape[2:]
    maps = resize_maps(raw, size)
    figures = {} if batch.objects is None else {"energy_in_object": energy_in_mask(maps, batch.objects)}
    if reference is not None:
        resized = resize_maps(reference, size)
        figures |= {"map_cosine": map_cosine(maps, resized), "map_spearman": map_spearman(maps, resized)}
    return figures
