"""Images drawn at random, with what every network sees in them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from distill.data.augment import to_unit
from distill.data.imageset import ImageSet
from distill.errors import InputError
from distill.evaluation.side_by_side import Looks, MapSettings, SideBySide, evaluating
from distill.maps import normalize_maps
from distill.metrics import map_cosine
from distill.models import StagedNetwork
from distill.report.pictures import Gallery, Panel, Picture


def draw(total: int, count: int, *, seed: int) -> list[int]:
    """Draw positions without looking at what is there.

    Convention:
        - The same seed gives the same positions everywhere; a larger ``count`` continues a smaller one.

    Args:
        total: Number of images.
        count: How many to draw; all of them if there are fewer.
        seed: Of the draw.

    Example:
        >>> draw(1000, 3, seed=0) == draw(1000, 8, seed=0)[:3]
        True
    """
    words = np.random.Philox(key=[seed % 2**64, 0]).random_raw(total)
    return [int(i) for i in np.argsort(words, kind="stable")[:count]]


def make_gallery(
    networks: Mapping[str, StagedNetwork],
    *,
    reference: str | None,
    set_name: str,
    data: ImageSet,
    count: int,
    seed: int,
    maps: MapSettings | None = None,
    device: torch.device | str = "cpu",
) -> Gallery:
    """Explain a few images that a seed chose, not a person.

    Args:
        networks: In the order in which they are shown.
        reference: The one among them that the others are compared with; None: with none.
        set_name: Name of the test set.
        data: The test set.
        count: How many images.
        seed: Of the draw.
        maps: How networks are explained; as in :func:`distill.evaluation.evaluate`.
        device: Where to compute.

    Raises:
        InputError: as :func:`distill.evaluation.evaluate` does.
    """
    if count < 1:
        raise InputError(f"a gallery needs at least 1 image, got {count}.")
    side = SideBySide(networks, reference, maps or MapSettings())
    side.check(set_name, data)
    positions = draw(len(data), count, seed=seed)
    part = data.subset(positions)
    with evaluating(networks, device):
        looks = side.look(to_unit(part.images.to(device)), part.labels.to(device))
    panels = _panels(looks, part, reference)
    explained = looks.target.tolist()
    return Gallery(
        set_name=set_name,
        seed=seed,
        total=len(data),
        pictures=tuple(
            Picture(
                index=position,
                pixels=_rgb(part.images[i].numpy()),
                label=data.classes[int(part.labels[i])],
                explained=data.classes[explained[i]],
                boxes=_boxes(part, i),
                panels=tuple(column[i] for column in panels),
            )
            for i, position in enumerate(positions)
        ),
    )


def _panels(looks: Looks, data: ImageSet, reference: str | None) -> list[list[Panel]]:
    columns = []
    for name, look in looks.networks.items():
        probabilities = look.logits.softmax(1)
        best, predicted = (part.tolist() for part in probabilities.max(1))
        explained = probabilities.gather(1, looks.target[:, None])[:, 0].tolist()
        heat = normalize_maps(look.maps, "max").float().cpu().numpy()
        cosines: list[float | None] = [None] * len(predicted)
        if reference is not None and name != reference:
            values = map_cosine(look.maps, looks.networks[reference].maps)
            cosines = [None if np.isnan(value) else value for value in values.tolist()]
        columns.append(
            [
                Panel(
                    network=name,
                    heat=heat[i],
                    predicted=data.classes[predicted[i]],
                    probability=best[i],
                    correct=predicted[i] == int(data.labels[i]),
                    explained_probability=explained[i],
                    cosine=cosines[i],
                )
                for i in range(len(predicted))
            ]
        )
    return columns


def _boxes(data: ImageSet, i: int) -> tuple[tuple[int, int, int, int], ...]:
    rows = [] if data.boxes is None else data.boxes[i].tolist()
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in rows if x1 > x0 and y1 > y0)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    return np.ascontiguousarray(channels.transpose(1, 2, 0))
