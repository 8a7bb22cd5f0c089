"""Fashion scenes: real items on cluttered, coloured canvases, with known boxes and masks; no download.

Scenes are painted from counted random numbers with integer arithmetic only, so they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64, UInt8, UInt16
from numpy.typing import NDArray
from torch import Tensor

from distill.data.counted import Purpose, integers_below, random_stream
from distill.data.fashion_items import (
    CLASSES,
    ITEM,
    load_items,
    place,
    placement,
    stretch,
)
from distill.data.imageset import ImageSet
from distill.errors import InputError, unknown_name

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Background = Literal["unbiased", "biased", "conflicting"]
Dice = Callable[["int | NDArray[np.int64]"], NDArray[np.int64]]  # whole numbers from 0 to below a bound

TINTS: NDArray[np.uint8] = np.array(
    [
        [235, 35, 35],
        [35, 205, 55],
        [45, 65, 245],
        [240, 220, 35],
        [215, 45, 225],
        [35, 215, 220],
        [250, 135, 20],
        [125, 80, 40],
        [245, 245, 245],
        [10, 10, 10],
    ],
    np.uint8,
)
_STREAM = {"train": 0, "validation": 1, "test": 2}
_GRID = 6  # nodes a side of the smooth background
_FRAGMENTS = 5
_VISIBLE = 24  # an item covers what is under it where it is brighter than this
_NOISE = 16
_QUARTERS = np.array(list(permutations([(0, 0), (0, 1), (1, 0), (1, 1)])))


@dataclass(frozen=True)
class Recipe:
    """What scenes are to look like; :class:`distill.data.FashionScenes` has the meanings and ranges."""

    split: Split
    size: int
    seed: int
    objects: int
    background_bias: float
    background: Background | None


class Scenes(NamedTuple):
    """Consecutive scenes; ``tint`` is the class whose colour the background has, -1 for none."""

    images: UInt8[np.ndarray, "n 3 size size"]
    labels: Int64[np.ndarray, " n"]
    boxes: Int64[np.ndarray, "n objects 4"]
    masks: UInt8[np.ndarray, "n size size"]
    tint: Int64[np.ndarray, " n"]


def paint_scenes(recipe: Recipe, count: int) -> Iterator[Scenes]:
    """Paint the first ``count`` scenes of a recipe, some hundreds at a time, which stay in the processor's cache.

    Convention:
        - Every scene takes the same number of random words, so none depends on how many are made.
        - Biased, unbiased and conflicting scenes take the same words: they differ in the tint and in nothing else.
    """
    layout = random_stream(Purpose.SCENE_LAYOUT, seed=recipe.seed, part=_STREAM[recipe.split])
    texture = random_stream(Purpose.SCENE_TEXTURE, seed=recipe.seed, part=_STREAM[recipe.split])
    layout_words = 3 + 8 * _FRAGMENTS + 7 * recipe.objects
    texture_words = -(-3 * (_GRID**2 + recipe.size**2) // 8)
    run = max(1, 2**18 // recipe.size**2)
    for first in range(0, count, run):
        number = np.arange(first, min(first + run, count))
        words = iter(layout.random_raw((len(number), layout_words)).T)
        noise = texture.random_raw((len(number), texture_words)).astype("<u8", copy=False).view(np.uint8)
        yield _paint_run(recipe, number, _dice(words), noise)


def _dice(words: Iterator[NDArray[np.uint64]]) -> Dice:
    return lambda bound: integers_below(next(words), bound)


def _paint_run(recipe: Recipe, number: NDArray[np.int64], roll: Dice, noise: NDArray[np.uint8]) -> Scenes:
    items, item_labels = load_items(recipe.split)
    number = number % len(items)
    labels = item_labels[number].astype(np.int64)
    tint = _choose_tint(recipe, labels, roll)

    hills = stretch(noise[:, : 3 * _GRID**2].reshape(-1, 3, _GRID, _GRID), recipe.size)
    canvas = (hills.astype(np.uint16) * 3 >> 2).astype(np.uint8)
    tinted = tint >= 0
    canvas[tinted] = (
        5 * canvas[tinted].astype(np.uint16) + 3 * TINTS[tint[tinted], :, None, None].astype(np.uint16)
    ) >> 3
    for _ in range(_FRAGMENTS):
        other = (number + 1 + roll(len(items) - 1)) % len(items)
        _paint(canvas, _fragment(items[other], recipe.size, roll), _colour(roll, 0, 256))

    masks = np.zeros((len(number), recipe.size, recipe.size), np.uint8)
    boxes = np.empty((len(number), recipe.objects, 4), np.int64)
    quarters = _QUARTERS[roll(len(_QUARTERS))]
    for instance in range(recipe.objects):
        other = labels + len(CLASSES) * roll(len(items) // len(CLASSES))
        chosen = items[other if instance else number]
        grey = _instance(chosen, recipe, quarters[:, instance], roll)
        visible = _paint(canvas, grey, _colour(roll, 48, 224))
        masks[visible] = instance + 1
        boxes[:, instance] = tight_boxes(visible)

    levels = noise[:, 3 * _GRID**2 :][:, : canvas[0].size].reshape(canvas.shape)
    grain = (levels.astype(np.int16) * (2 * _NOISE + 1) >> 8) - _NOISE
    return Scenes(np.clip(canvas + grain, 0, 255).astype(np.uint8), labels, boxes, masks, tint)


def _choose_tint(recipe: Recipe, labels: NDArray[np.int64], roll: Dice) -> NDArray[np.int64]:
    chance = {None: recipe.background_bias, "unbiased": 0.0}.get(recipe.background, 1.0)
    tinted = roll(2**32) < round(chance * 2**32)
    step = 1 + roll(len(CLASSES) - 1)
    tint = (labels + step) % len(CLASSES) if recipe.background == "conflicting" else labels
    return np.where(tinted, tint, -1)


def _colour(roll: Dice, low: int, high: int) -> UInt16[np.ndarray, "n 3"]:
    return (low + np.stack([roll(high - low) for _ in range(3)], axis=1)).astype(np.uint16)


def _fragment(items: UInt8[np.ndarray, "n 28 28"], size: int, roll: Dice) -> UInt8[np.ndarray, "n size size"]:
    """A square of 8 x 8 pixels (at size 32) out of the middle of an item, somewhere on a black canvas."""
    extent, side = size * ITEM // 32, size // 4
    weights = []
    for _ in range(2):
        corner, cut = roll(size - side + 1), side // 2 + roll(extent - 2 * side + 1)
        line = placement(corner - cut, np.full_like(corner, extent), size)
        within = np.arange(size) - corner[:, None]
        weights.append(line * ((within >= 0) & (within < side))[:, :, None])
    return place(items, *weights)


def _instance(
    items: UInt8[np.ndarray, "n 28 28"], recipe: Recipe, quarter: Int64[np.ndarray, "n 2"], roll: Dice
) -> UInt8[np.ndarray, "n size size"]:
    """An item somewhere on a black canvas, or somewhere in its quarter where there are several."""
    cell = recipe.size if recipe.objects == 1 else recipe.size // 2
    shortest, longest = (cell * 14 // 32, cell * 20 // 32) if recipe.objects == 1 else (cell * 20 // 32, cell)
    extent = shortest + roll(longest - shortest + 1)
    origin = np.zeros_like(quarter) if recipe.objects == 1 else quarter * cell
    y, x = (origin[:, axis] + roll(cell - extent + 1) for axis in range(2))
    return place(items, placement(y, extent, recipe.size), placement(x, extent, recipe.size))


def _paint(
    canvas: UInt8[np.ndarray, "n 3 size size"],
    grey: UInt8[np.ndarray, "n size size"],
    colour: UInt16[np.ndarray, "n 3"],
) -> Bool[np.ndarray, "n size size"]:
    """Colour an item, paint it over the canvas, and say where it is seen."""
    visible = grey > _VISIBLE
    shade = 128 + (grey.astype(np.uint16) >> 1)
    np.copyto(canvas, (colour[:, :, None, None] * shade[:, None] >> 8).astype(np.uint8), where=visible[:, None])
    return visible


def tight_boxes(visible: Bool[np.ndarray, "n h w"]) -> Int64[np.ndarray, "n 4"]:
    """The smallest half-open box (x0, y0, x1, y1) around what is visible; zeros where nothing is.

    Example:
        >>> tight_boxes(np.array([[[False, False, False], [False, True, True]]]))
        array([[1, 1, 3, 2]])
    """
    rows, columns = visible.max(axis=2), visible.max(axis=1)
    low = [line.argmax(axis=1) for line in (columns, rows)]
    high = [line.shape[1] - line[:, ::-1].argmax(axis=1) for line in (columns, rows)]
    boxes: NDArray[np.int64] = np.stack([*low, *high], axis=1)
    return boxes * rows.max(axis=1, keepdims=True)


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
            raise InputError(unknown_name("split", split, COUNTS))
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
        raise InputError(unknown_name("background", recipe.background, get_args(Background)))
