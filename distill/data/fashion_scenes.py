"""Fashion scenes: Fashion-MNIST items on cluttered, coloured backgrounds, with boxes and masks; no download.

Scenes are computed from counter-based random numbers in integer arithmetic, so they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any, Literal, NamedTuple, get_args

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
from distill.data.scene_classes import (
    CHOICE_WORDS,
    MOST,
    CoOccurrence,
    Partners,
    check_partners,
    choose_classes,
    read_co_occurrence,
)
from distill.errors import InputError, unknown_name

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Background = Literal["unbiased", "biased", "conflicting"]
#: Whether a scene has one label or several.
Labels = Literal["one", "several"]
#: Draws one random integer per scene, from 0 to below a bound.
Draw = Callable[["int | NDArray[np.int64]"], NDArray[np.int64]]

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
_GRID = 6  # nodes per side of the smooth background
_FRAGMENTS = 5  # fragments of other items in the background
_VISIBLE = 24  # an item is opaque where its grey level is above this
_NOISE = 16  # largest change of a grey level by noise
_QUARTERS = np.array(list(permutations([(0, 0), (0, 1), (1, 0), (1, 1)])))


@dataclass(frozen=True)
class SceneOptions:
    """Options of a set of scenes; see :class:`distill.data.FashionScenes`."""

    split: Split
    size: int
    seed: int
    objects: int
    background_bias: float
    background: Background | None
    several: bool = False
    co_occurrence: CoOccurrence | None = None
    partners: Partners = "usual"


class Scenes(NamedTuple):
    """A block of consecutive scenes.

    ``classes`` are those of the objects, -1 for none. ``tint`` is the class whose colour tints the background, -1 for
    none.
    """

    images: UInt8[np.ndarray, "n 3 size size"]
    labels: Int64[np.ndarray, " n"]
    classes: Int64[np.ndarray, "n objects"]
    boxes: Int64[np.ndarray, "n objects 4"]
    masks: UInt8[np.ndarray, "n size size"]
    tint: Int64[np.ndarray, " n"]


def paint_scenes(options: SceneOptions, count: int) -> Iterator[Scenes]:
    """Paint the first ``count`` scenes in blocks that fit into the processor's cache.

    Convention:
        - Every scene uses the same number of random words, so it does not depend on ``count``.
        - Biased, unbiased and conflicting scenes use the same words, so they differ only in the tint.
    """
    layout = random_stream(Purpose.SCENE_LAYOUT, seed=options.seed, part=_STREAM[options.split])
    texture = random_stream(Purpose.SCENE_TEXTURE, seed=options.seed, part=_STREAM[options.split])
    layout_words = 3 + 8 * _FRAGMENTS + 7 * options.objects + CHOICE_WORDS * options.several
    texture_words = -(-3 * (_GRID**2 + options.size**2) // 8)
    block = max(1, 2**18 // options.size**2)
    for first in range(0, count, block):
        number = np.arange(first, min(first + block, count))
        words = iter(layout.random_raw((len(number), layout_words)).T)
        noise = texture.random_raw((len(number), texture_words)).astype("<u8", copy=False).view(np.uint8)
        yield _paint_block(options, number, partial(_draw, words), noise)


def _draw(words: Iterator[NDArray[np.uint64]], bound: int | NDArray[np.int64]) -> NDArray[np.int64]:
    return integers_below(next(words), bound)


def _paint_block(options: SceneOptions, number: NDArray[np.int64], draw: Draw, noise: NDArray[np.uint8]) -> Scenes:
    items, item_labels = load_items(options.split)
    number = number % len(items)
    labels = item_labels[number].astype(np.int64)
    tint = _choose_tint(options, labels, draw)

    background = stretch(noise[:, : 3 * _GRID**2].reshape(-1, 3, _GRID, _GRID), options.size)
    canvas = (background.astype(np.uint16) * 3 >> 2).astype(np.uint8)
    tinted = tint >= 0
    canvas[tinted] = (
        5 * canvas[tinted].astype(np.uint16) + 3 * TINTS[tint[tinted], :, None, None].astype(np.uint16)
    ) >> 3
    for _ in range(_FRAGMENTS):
        other = (number + 1 + draw(len(items) - 1)) % len(items)
        _paint(canvas, _fragment(items[other], options.size, draw), _colour(draw, 0, 256))

    masks = np.zeros((len(number), options.size, options.size), np.uint8)
    boxes = np.empty((len(number), options.objects, 4), np.int64)
    quarters = _QUARTERS[draw(len(_QUARTERS))]
    classes = (
        choose_classes(labels, options.co_occurrence, options.partners, draw)
        if options.several
        else np.repeat(labels[:, None], options.objects, axis=1)
    )
    for instance in range(options.objects):
        same_class = classes[:, instance].clip(min=0) + len(CLASSES) * draw(len(items) // len(CLASSES))
        item = items[same_class if instance else number]
        grey = _instance(item, options, quarters[:, instance], draw)
        grey[classes[:, instance] < 0] = 0
        visible = _paint(canvas, grey, _colour(draw, 48, 224))
        masks[visible] = instance + 1
        boxes[:, instance] = tight_boxes(visible)

    levels = noise[:, 3 * _GRID**2 :][:, : canvas[0].size].reshape(canvas.shape)
    change = (levels.astype(np.int16) * (2 * _NOISE + 1) >> 8) - _NOISE
    return Scenes(np.clip(canvas + change, 0, 255).astype(np.uint8), labels, classes, boxes, masks, tint)


def _choose_tint(options: SceneOptions, labels: NDArray[np.int64], draw: Draw) -> NDArray[np.int64]:
    probability = {None: options.background_bias, "unbiased": 0.0}.get(options.background, 1.0)
    tinted = draw(2**32) < round(probability * 2**32)
    step = 1 + draw(len(CLASSES) - 1)
    tint = (labels + step) % len(CLASSES) if options.background == "conflicting" else labels
    return np.where(tinted, tint, -1)


def _colour(draw: Draw, low: int, high: int) -> UInt16[np.ndarray, "n 3"]:
    return (low + np.stack([draw(high - low) for _ in range(3)], axis=1)).astype(np.uint16)


def _fragment(items: UInt8[np.ndarray, "n 28 28"], size: int, draw: Draw) -> UInt8[np.ndarray, "n size size"]:
    """Cut a square of 8 x 8 pixels (at size 32) from the middle of each item; place it at random on a black canvas."""
    length, side = size * ITEM // 32, size // 4
    weights = []
    for _ in range(2):
        corner, cut = draw(size - side + 1), side // 2 + draw(length - 2 * side + 1)
        line = placement(corner - cut, np.full_like(corner, length), size)
        within = np.arange(size) - corner[:, None]
        weights.append(line * ((within >= 0) & (within < side))[:, :, None])
    return place(items, *weights)


def _instance(
    items: UInt8[np.ndarray, "n 28 28"], options: SceneOptions, quarter: Int64[np.ndarray, "n 2"], draw: Draw
) -> UInt8[np.ndarray, "n size size"]:
    """Place each item at random on a black canvas; with several objects, within the given quarter."""
    cell = options.size if options.objects == 1 else options.size // 2
    shortest, longest = (cell * 14 // 32, cell * 20 // 32) if options.objects == 1 else (cell * 20 // 32, cell)
    length = shortest + draw(longest - shortest + 1)
    origin = np.zeros_like(quarter) if options.objects == 1 else quarter * cell
    y, x = (origin[:, axis] + draw(cell - length + 1) for axis in range(2))
    return place(items, placement(y, length, options.size), placement(x, length, options.size))


def _paint(
    canvas: UInt8[np.ndarray, "n 3 size size"],
    grey: UInt8[np.ndarray, "n size size"],
    colour: UInt16[np.ndarray, "n 3"],
) -> Bool[np.ndarray, "n size size"]:
    """Paint coloured items onto the canvas in place; return the pixels where they are visible."""
    visible = grey > _VISIBLE
    shade = 128 + (grey.astype(np.uint16) >> 1)
    np.copyto(canvas, (colour[:, :, None, None] * shade[:, None] >> 8).astype(np.uint8), where=visible[:, None])
    return visible


def tight_boxes(visible: Bool[np.ndarray, "n h w"]) -> Int64[np.ndarray, "n 4"]:
    """Return the smallest half-open box (x0, y0, x1, y1) around the visible pixels; zeros if there are none.

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
    """Scenes of one split: resized, coloured items over fragments of other items, whose classes are the labels.

    Convention:
        - Scene ``i`` shows item ``i`` modulo the number of items of the split, and depends on every argument except
          ``count``. The items of the splits are disjoint. The labels are 0, 1, ..., 9, 0, 1, ...
        - Scenes that differ only in ``background`` or ``background_bias`` are equal except for the tint.
        - A box is tight around the visible pixels of its instance. Instances do not overlap: each has its own quarter.
        - Scenes are computed from counter-based random numbers in integer arithmetic: all arrays, including the pixels,
          are the same on every machine.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: Side of the image in pixels, 16 to 256. At 32, an item is resized to 14 to 20 pixels, or to 10 to 16 if
            there are several.
        seed: Determines positions and colours.
        count: Number of scenes; defaults to 20,000 for train, 2,000 for validation, 4,000 for test.
        objects: Instances per scene, 1 to 4, all of the same class. Only for ``labels="one"``.
        background_bias: Probability that the background is mixed with the colour of the class, in the proportion 5:3: a
            shortcut that a network may learn.
        background: Overrides that probability: ``unbiased`` mixes in no colour, ``biased`` always the colour of the
            class, ``conflicting`` always the colour of another class.
        labels: ``one``: the label of a scene is one class. ``several``: a scene has 2 to 4 objects of different
            classes, and the labels are (N, 10), 1 for each class that is shown and 0 otherwise. Item ``i`` is the first
            object, whose class is that of the background.
        co_occurrence: Pairs of classes of which one accompanies the other with a probability, for
            ``labels="several"``: ``{"pairs": [["shirt", "trouser"]], "probability": 0.95}``.
        partners: ``usual``: partners appear with that probability. ``exclusive``: never. ``unbiased``: as often as any
            other class. See :func:`distill.data.scene_classes.choose_classes`.

    Attributes:
        tint: (N,) class whose colour tints the background, -1 for none.

    Raises:
        InputError: if an argument is out of range or unknown.

    Example:
        >>> scenes = FashionScenes("test", count=2)
        >>> scenes.images.shape, scenes.labels.tolist(), scenes.boxes.shape
        (torch.Size([2, 3, 32, 32]), [0, 1], torch.Size([2, 1, 4]))
        >>> FashionScenes("test", count=2, labels="several").labels.tolist()
        [[1, 1, 0, 0, 0, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 1, 0, 1, 0, 0]]
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
        labels: Labels = "one",
        co_occurrence: Mapping[str, Any] | None = None,
        partners: Partners = "usual",
    ) -> None:
        if split not in COUNTS:
            raise InputError(unknown_name("split", split, COUNTS))
        count = COUNTS[split] if count is None else count
        for name, value, low, high in (
            ("size", size, 16, 256),
            ("objects", objects, 1, 4),
            ("background_bias", background_bias, 0, 1),
            ("count", count, 1, 10_000_000),
        ):
            if not low <= value <= high:
                raise InputError(f"`{name}` of fashion_scenes must be between {low} and {high}, got {value}.")
        if background is not None and background not in get_args(Background):
            raise InputError(unknown_name("background", background, get_args(Background)))
        if labels not in get_args(Labels):
            raise InputError(unknown_name("labels", labels, get_args(Labels)))
        several = labels == "several"
        if not several and (co_occurrence is not None or partners != "usual"):
            raise InputError("`co_occurrence` and `partners` of fashion_scenes need `labels: several`.")
        if several and objects != 1:
            raise InputError("`objects` of fashion_scenes cannot be set with `labels: several`: 2 to 4 are drawn.")
        pairs = None if co_occurrence is None else read_co_occurrence(co_occurrence)
        check_partners(partners, pairs)
        objects = MOST if several else objects
        options = SceneOptions(split, size, seed, objects, background_bias, background, several, pairs, partners)
        blocks = zip(*paint_scenes(options, count), strict=True)
        images, label, shown, boxes, masks, tint = (torch.from_numpy(np.concatenate(parts)) for parts in blocks)
        if several:
            present = torch.zeros(len(label), len(CLASSES) + 1, dtype=torch.int64)
            present.scatter_(1, shown.remainder(len(CLASSES) + 1), 1)
            super().__init__(images, present[:, :-1].contiguous(), CLASSES, boxes, masks, box_classes=shown)
        else:
            super().__init__(images, label, CLASSES, boxes, masks)
        object.__setattr__(self, "tint", tint)
