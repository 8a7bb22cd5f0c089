"""Gallery of maps: chooses images by rank and at random, and explains them with every network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from distill.data.imageset import ImageSet
from distill.errors import InputError
from distill.evaluation.image_scores import STRATA, ImageScores
from distill.evaluation.job import ComparedNetworks, EvaluationJob, NetworkOutput, evaluation_mode
from distill.evaluation.sampling import sample
from distill.evaluation.settings import MapSettings, choose_batch_size
from distill.maps import normalize_maps
from distill.metrics.names import METRIC_INFO
from distill.models import StagedNetwork
from distill.report.evaluation.gallery import Gallery, Panel, Pick, Picture


class Ranking(NamedTuple):
    """Scores that images are ranked by, NaN where an image has none, and a description of the score."""

    scores: Float[np.ndarray, " n"]
    description: str


def rank_images(scores: Mapping[str, ImageScores], reference: str | None) -> Ranking | None:
    """Choose the score that images are ranked by: the last network's map cosine, else its energy in the object.

    Returns:
        The scores; None if neither figure was measured for any image.
    """
    last = [name for name in scores if name != reference] or list(scores)
    for figure in ("map_cosine", "energy_in_object"):
        column = scores[last[-1]].columns.get(figure) if last else None
        if column is not None and not np.isnan(column.values).all():
            return Ranking(column.values.astype(np.float64), f"{METRIC_INFO[figure].title} of {last[-1]}")
    return None


def choose_images(
    total: int, count: int, *, seed: int, ranked: Float[np.ndarray, " n"] | None = None
) -> dict[int, tuple[Pick, ...]]:
    """Choose images: a sixth each of the best, the median and the worst, and the rest at random.

    Convention:
        - An image that is chosen twice is returned once, with both reasons, so there may be fewer than ``count``.
        - Only images with a score can be best, median or worst. Of equal scores the first image is taken first.

    Args:
        total: Number of images.
        count: Largest number of images to choose.
        seed: Seed of the draw.
        ranked: Scores of all images, NaN where an image has none; None: all images are drawn at random.

    Returns:
        Positions in the order best, median, worst, random, with the reasons for each.

    Example:
        >>> choose_images(9, 6, seed=0, ranked=np.arange(9.0) / 9)
        {8: ('best',), 4: ('median',), 0: ('worst', 'random'), 2: ('random',), 1: ('random',)}
    """
    each = 0 if ranked is None else count // 6
    picks: dict[int, tuple[Pick, ...]] = {}

    def add(positions: Sequence[int], reason: Pick) -> None:
        for i in positions:
            picks[i] = (*picks.get(i, ()), reason)

    if ranked is not None:
        order = [int(i) for i in np.argsort(-ranked, kind="stable") if not np.isnan(ranked[i])]
        middle = max((len(order) - each) // 2, 0)
        add(order[:each], "best")
        add(order[middle : middle + each], "median")
        add(order[len(order) - each :][::-1] if each else [], "worst")
    add(sample(total, count - 3 * each, seed=seed), "random")
    return picks


def make_gallery(
    networks: Mapping[str, StagedNetwork],
    *,
    reference: str | None,
    set_name: str,
    data: ImageSet,
    scores: Mapping[str, ImageScores],
    count: int,
    seed: int,
    maps: MapSettings | None = None,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
) -> Gallery:
    """Explain a few images of a test set, chosen by rank and at random.

    Convention:
        - A sixth of the images each are the best, the median and the worst by the map cosine of the last network that
          is not the reference, or, without a reference, by the share of its map in the object. The rest is drawn at
          random.

    Args:
        networks: Networks by name, in the order in which they are shown.
        reference: Name of the network that the others are compared with; None: no reference.
        set_name: Name of the test set.
        data: The test set.
        scores: Scores of the images by network; see :func:`distill.evaluation.evaluate`.
        count: Largest number of images.
        seed: Seed of the draw.
        maps: How networks are explained; see :func:`distill.evaluation.evaluate`.
        batch_size: Number of images that are processed at a time; default: see :func:`choose_batch_size`.
        device: Device to compute on.

    Raises:
        InputError: if ``count`` is less than 1, or networks and set do not fit; see
            :func:`distill.evaluation.evaluate`.
    """
    if count < 1:
        raise InputError(f"`count` must be at least 1, got {count}.")
    compared = ComparedNetworks(networks, reference, maps or MapSettings())
    compared.check(set_name, data)
    ranking = rank_images(scores, reference)
    picks = choose_images(len(data), count, seed=seed, ranked=None if ranking is None else ranking.scores)
    positions = list(picks)
    job = EvaluationJob(compared, set_name, data, batch_size or choose_batch_size(*data.images.shape[2:]), device)
    panels: dict[str, list[Panel]] = {name: [] for name in networks}
    explained: list[int] = []
    with evaluation_mode(networks, device):
        for batch in job.batches(positions):
            outputs = job.run(batch)
            for name, output in outputs.networks.items():
                panels[name] += _panels(
                    name, output, outputs.target, data.classes, scores[name], batch.positions.tolist()
                )
            explained += outputs.target.tolist()
    return Gallery(
        set_name=set_name,
        seed=seed,
        total=len(data),
        ranked_by=None if ranking is None or count < 6 else ranking.description,
        reference=reference,
        pictures=tuple(
            Picture(
                index=position,
                pixels=_rgb(data.images[torch.tensor([position])][0].numpy()),
                label=data.classes[int(data.labels[position])],
                explained=data.classes[explained[i]],
                boxes=_boxes(data, position),
                panels=tuple(column[i] for column in panels.values()),
                picks=picks[position],
            )
            for i, position in enumerate(positions)
        ),
    )


def _panels(
    name: str,
    output: NetworkOutput,
    target: torch.Tensor,
    classes: Sequence[str],
    scores: ImageScores,
    positions: Sequence[int],
) -> list[Panel]:
    probability, predicted = (part.tolist() for part in output.logits.float().softmax(1).max(1))
    explained_probability = output.probability(target).tolist()
    heat = normalize_maps(output.maps, "max").float().cpu().numpy()
    return [
        Panel(
            network=name,
            heat=heat[i],
            predicted=classes[predicted[i]],
            probability=probability[i],
            correct=bool(scores.columns["accuracy"].values[position] == 1),
            explained_probability=explained_probability[i],
            stratum=None if scores.stratum is None else STRATA[scores.stratum[position]],
            scores=_scores_of_image(scores, position),
        )
        for i, position in enumerate(positions)
    ]


def _scores_of_image(scores: ImageScores, position: int) -> dict[str, float | None]:
    values = {name: float(scores.columns[name].values[position]) for name in METRIC_INFO if name in scores.columns}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def _boxes(data: ImageSet, i: int) -> tuple[tuple[int, int, int, int], ...]:
    rows = [] if data.boxes is None else data.boxes[i].tolist()
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in rows if x1 > x0 and y1 > y0)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    return np.ascontiguousarray(channels.transpose(1, 2, 0))
