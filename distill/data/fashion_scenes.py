"""Fashion scenes: real items on cluttered, coloured canvases, with box and mask known and no download needed."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from distill.data.imageset import ImageSet
from distill.data.items import CLASSES
from distill.data.scenes import Background, Recipe, Split, paint_scenes
from distill.errors import InputError, unknown

COUNTS = {"train": 20_000, "validation": 2_000, "test": 4_000}


class FashionScenes(ImageSet):
    """Scenes of one split: an item, resized and tinted, over fragments of others. Its class is the label.

    Convention:
        - Scene ``i`` shows item ``i`` of the split, counted round, and depends on every argument but ``count``. Each
          item belongs to one split. The labels take turns: 0, 1, ..., 9, 0, 1, ...
        - Scenes that differ in ``background`` or ``background_bias`` alone are the same but for the tint.
        - A box is tight around the visible pixels of its instance. Instances do not touch: each has its quarter.
        - All of it, the pixels too, is whole-number arithmetic on counted random numbers: the same on every machine.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: Side of the canvas in pixels, 16 to 256. At 32 an item is resized to 14 to 20 pixels, or to 10 to 16
            where there are several.
        seed: Another seed places and colours the items anew.
        count: Number of scenes; 20,000, 2,000 or 4,000 if not given.
        objects: Instances a scene, 1 to 4, all of the scene's class.
        background_bias: Probability that the background is mixed with the colour of the class, five parts to three: a
            shortcut that a network may learn.
        background: Overrides that probability: ``unbiased`` mixes in no colour, ``biased`` always that of the class,
            ``conflicting`` always that of another class.

    Attributes:
        tint: (N,) class whose colour the background has, -1 for none.

    Raises:
        InputError: if an argument is out of its range.

    Example:
        >>> scenes = FashionScenes("test", count=2)
        >>> scenes.images.shape, scenes.labels.tolist(), scenes.boxes.shape
        (torch.Size([2, 3, 32, 32]), [0, 1], torch.Size([2, 1, 4]))
    """

    tint: Int[Tensor, " n"]

    def __init__(
        self,
        split: Split,
        *,
        size: int = 32,
        seed: int = 0,
        count: int | None = None,
        objects: int = 1,
        background_bias: float = 0.0,
        background: Background | None = None,
    ) -> None:
        if split not in COUNTS:
            raise InputError(unknown("split", split, COUNTS))
        recipe = Recipe(split, size, seed, objects, background_bias, background)
        count = COUNTS[split] if count is None else count
        _check(recipe, count)
        runs = zip(*paint_scenes(recipe, count), strict=True)
        images, labels, boxes, masks, tint = (torch.from_numpy(np.concatenate(parts)) for parts in runs)
        super().__init__(images, labels, CLASSES, boxes, masks)
        object.__setattr__(self, "tint", tint)


def _check(recipe: Recipe, count: int) -> None:
    for name, value, low, high in (
        ("size", recipe.size, 16, 256),
        ("objects", recipe.objects, 1, 4),
        ("background_bias", recipe.background_bias, 0, 1),
        ("count", count, 1, 10_000_000),
    ):
        if not low <= value <= high:
            raise InputError(f"`{name}` of fashion_scenes must lie between {low} and {high}, got {value}.")
    if recipe.background is not None and recipe.background not in get_args(Background):
        raise InputError(unknown("background", recipe.background, get_args(Background)))
