"""Images that a rule or a seed chose, with what every network sees in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from distill.data.imageset import ImageSet
from distill.errors import InputError
from distill.evaluation.extent import choose_batch_size
from distill.evaluation.map_settings import MapSettings
from distill.evaluation.ranking import choose, rank
from distill.evaluation.scores import STRATA, ImageScores
from distill.evaluation.side_by_side import Look, SideBySide, evaluating
from distill.evaluation.subject import Subject
from distill.maps import normalize_maps
from distill.measures import MEASURES
from distill.models import StagedNetwork
from distill.report.pictures import Gallery, Panel, Picture


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
    """Explain a few images that their rank or a seed chose, not a person.

    Convention:
        - A sixth of the images each are the best, the median and the worst by the map cosine of the last network that
          is not the reference; without a reference by the share of its map in the object; the rest is drawn.

    Args:
        networks: In the order in which they are shown.
        reference: The one among them that the others are compared with; None: with none.
        set_name: Name of the test set.
        data: The test set.
        scores: What :func:`distill.evaluation.evaluate` found on it.
        count: How many images at most.
        seed: Of the draw.
        maps: How networks are explained; as in :func:`distill.evaluation.evaluate`.
        batch_size: Images at a time; see :func:`choose_batch_size`.
        device: Where to compute.

    Raises:
        InputError: as :func:`distill.evaluation.evaluate` does.
    """
    if count < 1:
        raise InputError(f"a gallery needs at least 1 image, got {count}.")
    side = SideBySide(networks, reference, maps or MapSettings())
    side.check(set_name, data)
    ranking = rank(scores, reference)
    picks = choose(len(data), count, seed=seed, ranked=None if ranking is None else ranking.scores)
    positions = list(picks)
    subject = Subject(side, set_name, data, batch_size or choose_batch_size(*data.images.shape[2:]), device)
    panels: dict[str, list[Panel]] = {name: [] for name in networks}
    explained: list[int] = []
    with evaluating(networks, device):
        for piece in subject.pieces(positions):
            looks = subject.look(piece)
            at = positions[len(explained) : len(explained) + len(piece.labels)]
            for name, look in looks.networks.items():
                panels[name] += _panels(name, look, looks.target, data.classes, scores[name], at)
            explained += looks.target.tolist()
    return Gallery(
        set_name=set_name,
        seed=seed,
        total=len(data),
        ranked_by=None if ranking is None or count < 6 else ranking.words,
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
    look: Look,
    target: torch.Tensor,
    classes: Sequence[str],
    scores: ImageScores,
    positions: Sequence[int],
) -> list[Panel]:
    best, predicted = (part.tolist() for part in look.logits.float().softmax(1).max(1))
    explained = look.probability(target).tolist()
    heat = normalize_maps(look.maps, "max").float().cpu().numpy()
    return [
        Panel(
            network=name,
            heat=heat[i],
            predicted=classes[predicted[i]],
            probability=best[i],
            correct=bool(scores.columns["accuracy"].values[position] == 1),
            explained_probability=explained[i],
            stratum=None if scores.stratum is None else STRATA[scores.stratum[position]],
            scores=_scores(scores, position),
        )
        for i, position in enumerate(positions)
    ]


def _scores(scores: ImageScores, position: int) -> dict[str, float | None]:
    found = {name: float(scores.columns[name].values[position]) for name in MEASURES if name in scores.columns}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def _boxes(data: ImageSet, i: int) -> tuple[tuple[int, int, int, int], ...]:
    rows = [] if data.boxes is None else data.boxes[i].tolist()
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in rows if x1 > x0 and y1 > y0)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    return np.ascontiguousarray(channels.transpose(1, 2, 0))
