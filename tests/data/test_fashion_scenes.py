from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.data import TINTS, FashionScenes
from distill.data.fashion_items import load_items, place, placement
from distill.errors import InputError

SAMPLE = Path(__file__).parent / "scenes_sample.npz"
# SHA-256 of labels, boxes and masks; they must never change and be the same on every machine.
CHECKSUMS = {
    "train": "1001748245a94a27e20a79f4127f392f4840c2b1ce9368eeeae8b91c587b3ffa",
    "validation": "01297b8c3f2767715b2418e43d83f7f1cad16810a137af6c2a3d144e2e4d7cb2",
    "test": "ef2dfebbf8f058480e14d224ae758e5cd68c71b565ceebd9a7ec271c5d065581",
}


def checksum(scenes: FashionScenes) -> str:
    assert scenes.boxes is not None
    assert scenes.masks is not None
    digest = hashlib.sha256()
    for part in (scenes.labels, scenes.boxes, scenes.masks):
        digest.update(part.numpy().tobytes())
    return digest.hexdigest()


def equal(a: FashionScenes, b: FashionScenes, *names: str) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_labels_boxes_and_masks_have_the_pinned_checksum(split: Any) -> None:
    assert checksum(FashionScenes(split, count=500, objects=2, seed=3)) == CHECKSUMS[split]


def test_pixels_are_within_one_grey_level_of_the_stored_sample() -> None:
    with np.load(SAMPLE) as sample:
        plain, biased = sample["plain"].astype(int), sample["biased"].astype(int)
    assert plain.shape == (20, 3, 32, 32)
    assert plain.std() > 30
    assert np.abs(FashionScenes("train", count=20).images.numpy() - plain).max() <= 1
    scenes = FashionScenes("test", count=6, size=48, objects=3, seed=7, background="conflicting")
    assert np.abs(scenes.images.numpy() - biased).max() <= 1


@pytest.mark.slow
def test_20_000_scenes_are_made_in_seconds() -> None:
    start = time.perf_counter()
    assert len(FashionScenes("train")) == 20_000
    assert time.perf_counter() - start < 15


def test_default_counts_and_shapes() -> None:
    scenes = FashionScenes("validation")
    assert scenes.boxes is not None
    assert scenes.masks is not None
    assert len(scenes) == 2_000
    assert scenes.images.shape == (2_000, 3, 32, 32)
    assert scenes.images.dtype == torch.uint8
    assert scenes.boxes.shape == (2_000, 1, 4)
    assert scenes.masks.shape == (2_000, 32, 32)
    assert torch.bincount(scenes.labels).tolist() == [200] * 10
    assert scenes.classes[9] == "ankle boot"


def test_items_of_the_splits_are_disjoint_and_balanced() -> None:
    parts = [load_items(split) for split in ("train", "validation", "test")]
    assert [len(images) for images, _ in parts] == [9_000, 1_000, 2_000]
    for _, labels in parts:
        assert (labels == np.arange(len(labels)) % 10).all()
    pixels = [{image.tobytes() for image in images} for images, _ in parts]
    assert not pixels[0] & pixels[1]
    assert not pixels[2] & (pixels[0] | pixels[1])


def test_a_scene_does_not_depend_on_the_count() -> None:
    few, many = FashionScenes("train", count=100, objects=2), FashionScenes("train", count=700, objects=2)
    for name in ("images", "labels", "boxes", "masks", "tint"):
        assert torch.equal(getattr(few, name), getattr(many, name)[:100]), name


def test_items_come_round_with_a_fresh_placement() -> None:
    scenes = FashionScenes("validation", count=1_001)
    assert scenes.boxes is not None
    assert scenes.labels[1_000] == scenes.labels[0]
    assert not torch.equal(scenes.images[1_000], scenes.images[0])
    assert not torch.equal(scenes.boxes[1_000], scenes.boxes[0])


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "test"}])
def test_seeds_and_splits_have_streams_of_their_own(other: dict[str, Any]) -> None:
    a = FashionScenes("train", count=50)
    b = FashionScenes(**{"split": "train", "count": 50, **other})
    assert a.boxes is not None
    assert b.boxes is not None
    assert (a.boxes == b.boxes).all(2).float().mean() < 0.1
    assert (a.images == b.images).float().mean() < 0.1


@pytest.mark.parametrize(("size", "objects"), [(32, 1), (32, 3), (32, 4), (50, 2), (16, 1)])
def test_boxes_are_tight_around_disjoint_instances(size: int, objects: int) -> None:
    scenes = FashionScenes("train", count=60, size=size, objects=objects)
    assert scenes.boxes is not None
    assert scenes.masks is not None
    for mask, boxes in zip(scenes.masks.numpy(), scenes.boxes.tolist(), strict=True):
        assert set(np.unique(mask)) == set(range(objects + 1))
        for instance, (x0, y0, x1, y1) in enumerate(boxes, 1):
            ys, xs = np.nonzero(mask == instance)
            assert [x0, y0, x1, y1] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            others = mask[y0:y1, x0:x1]
            assert set(np.unique(others)) <= {0, instance}


def test_items_measure_14_to_20_pixels() -> None:
    boxes = FashionScenes("train", count=2_000).boxes
    assert boxes is not None
    sides = (boxes[:, 0, 2:] - boxes[:, 0, :2]).amax(1)
    assert int(sides.max()) == 20
    assert 15 <= sides.float().mean() <= 18
    assert int(boxes.min()) == 0
    assert int(boxes.max()) == 32


def mean_outside(scenes: FashionScenes) -> torch.Tensor:
    assert scenes.masks is not None
    outside = (scenes.masks == 0)[:, None]
    return (scenes.images * outside).sum((2, 3)) / outside.sum((2, 3))


def nearest_tint(scenes: FashionScenes) -> torch.Tensor:
    plain = FashionScenes("test", count=len(scenes), background="unbiased")
    untinted = mean_outside(plain).mean(0)
    expected = (5 * untinted + 3 * torch.from_numpy(TINTS).float()) / 8
    return torch.cdist(mean_outside(scenes), expected).argmin(1)


def test_biased_backgrounds_show_the_class_and_conflicting_ones_never_do() -> None:
    biased = FashionScenes("test", count=300, background="biased")
    conflicting = FashionScenes("test", count=300, background="conflicting")
    assert torch.equal(biased.tint, biased.labels)
    assert (nearest_tint(biased) == biased.labels).float().mean() > 0.9
    assert not (conflicting.tint == conflicting.labels).any()
    assert (nearest_tint(conflicting) == conflicting.tint).float().mean() > 0.9
    steps = torch.bincount((conflicting.tint - conflicting.labels) % 10, minlength=10)
    assert steps[0] == 0
    assert steps[1:].min() > 15  # 33 expected of each


def test_background_bias_is_a_probability() -> None:
    scenes = FashionScenes("train", count=4_000, background_bias=0.7)
    tinted = scenes.tint >= 0
    assert abs(tinted.float().mean() - 0.7) < 0.03
    assert torch.equal(scenes.tint[tinted], scenes.labels[tinted])


def test_backgrounds_differ_in_the_tint_alone() -> None:
    plain, zero = FashionScenes("test", count=50, background="unbiased"), FashionScenes("test", count=50)
    biased = FashionScenes("test", count=50, background="biased")
    certain = FashionScenes("test", count=50, background_bias=1.0)
    assert (plain.tint == -1).all()
    assert equal(plain, zero, "images", "masks", "boxes")
    assert equal(biased, certain, "images", "masks", "boxes", "tint")
    assert equal(plain, biased, "masks", "boxes", "labels")
    assert plain.masks is not None
    inside = (plain.masks > 0)[:, None].expand_as(plain.images)
    assert torch.equal(plain.images[inside], biased.images[inside])
    assert (plain.images != biased.images)[~inside].float().mean() > 0.5


def test_placing_equals_a_slow_mean_over_pixels() -> None:
    item = load_items("train")[0][5]
    extent, offset, size = 17, 3, 24
    fine = np.kron(item.astype(np.int64), np.ones((extent, extent), np.int64))  # 28 * 17 pixels per side
    expected = np.zeros((size, size), np.int64)
    for y in range(extent):
        for x in range(extent):
            patch = fine[y * 28 : (y + 1) * 28, x * 28 : (x + 1) * 28]
            expected[y + offset, x + offset] = patch.sum() // 28**2
    weights = placement(np.array([offset]), np.array([extent]), size)
    assert (place(item[None], weights, weights)[0] == expected).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
        ({"size": 8}, "`size` of fashion_scenes must be between 16 and 256, got 8"),
        ({"objects": 5}, "`objects` of fashion_scenes must be between 1 and 4, got 5"),
        ({"count": 0}, "`count` of fashion_scenes must be between 1"),
        ({"background_bias": 1.5}, "`background_bias` of fashion_scenes must be between 0 and 1, got 1.5"),
        ({"background": "bias"}, "unknown background 'bias'; did you mean 'biased'"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FashionScenes(**{"split": "train", "count": 10, **options})
