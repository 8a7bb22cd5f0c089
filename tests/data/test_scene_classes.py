"""Scenes with several objects of different classes, and pairs of classes that occur together."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch

from distill.data import FashionScenes, ImageSet
from distill.data.class_counts import check_class_counts
from distill.data.fashion_items import CLASSES
from distill.data.fashion_scenes import tight_boxes
from distill.errors import InputError

PAIRS = [["shirt", "trouser"], ["dress", "bag"], ["sneaker", "coat"]]
COUNT = 4000


def scenes(probability: float | None = None, count: int = COUNT, **options: Any) -> FashionScenes:
    pairs = None if probability is None else {"pairs": PAIRS, "probability": probability}
    return FashionScenes("train", count=count, labels="several", co_occurrence=pairs, **options)


def share_with_partner(data: ImageSet) -> list[float]:
    """Return, for each class in a pair, the share of its images that show the partner."""
    shown = data.labels.bool()
    index = [(CLASSES.index(a), CLASSES.index(b)) for pair in PAIRS for a, b in (pair, pair[::-1])]
    return [float(shown[shown[:, a], b].float().mean()) for a, b in index]


def test_labels_boxes_and_masks_agree() -> None:
    data = scenes(0.5, count=300)
    assert data.multilabel
    assert data.boxes is not None
    assert data.masks is not None
    assert data.box_classes is not None
    for labels, boxes, classes, mask in zip(data.labels, data.boxes, data.box_classes, data.masks, strict=True):
        count = int((classes >= 0).sum())
        assert 2 <= count <= 4
        assert sorted(classes[:count].tolist()) == labels.nonzero()[:, 0].tolist()
        assert (classes[count:] == -1).all()
        assert not boxes[count:].any()
        for number in range(count):
            visible = mask == number + 1
            assert visible.any()
            assert boxes[number].tolist() == tight_boxes(visible[None].numpy())[0].tolist()
        assert int(mask.max()) == count


def test_numbers_of_objects_are_equally_frequent_and_all_classes_appear() -> None:
    data = scenes()
    counts = torch.bincount(data.labels.sum(1), minlength=5).double() / COUNT
    assert counts[2:].sub(1 / 3).abs().max() < 0.03
    assert data.labels.double().mean(0).sub(0.3).abs().max() < 0.03


@pytest.mark.parametrize("probability", [0.0, 0.8, 0.95, 1.0])
def test_partners_appear_with_the_probability(probability: float) -> None:
    shares = share_with_partner(scenes(probability))
    # Each class of a pair is in some 700 scenes: a standard deviation of at most 0.016.
    assert max(abs(share - probability) for share in shares) <= (0.06 if 0 < probability < 1 else 0)


def test_exclusive_scenes_never_show_a_partner_and_unbiased_ones_as_often_as_other_classes() -> None:
    assert max(share_with_partner(scenes(0.95, partners="exclusive"))) == 0
    data = scenes(0.95, partners="unbiased")
    assert torch.equal(data.images, scenes().images)
    # 2, 3 or 4 objects of 10 classes: a class is beside another one in (n - 1) / 9, weighted by the size of the scene.
    expected = sum(n * (n - 1) / 9 for n in (2, 3, 4)) / 9
    assert max(abs(share - expected) for share in share_with_partner(data)) < 0.06


def test_a_scene_does_not_depend_on_the_count() -> None:
    few, many = scenes(0.8, count=5), scenes(0.8, count=700)
    assert torch.equal(few.images, many.images[:5])
    assert torch.equal(few.labels, many.labels[:5])


def test_scenes_have_the_pinned_checksum() -> None:
    data = scenes(0.8, count=200)
    assert data.boxes is not None
    assert data.masks is not None
    parts = (data.labels, data.boxes.long(), data.masks, data.images)
    digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()
    assert digest == "77c6a82cd9766c6045ff12e1add9074f2125028c8c7dbd85edaa85f149d522f1"


def test_subsets_keep_the_classes_of_the_boxes() -> None:
    data = scenes(0.8, count=10)
    part = data.subset([3, 1])
    assert part.box_classes is not None
    assert data.box_classes is not None
    assert torch.equal(part.box_classes, data.box_classes[[3, 1]])
    assert torch.equal(part.take(torch.tensor([1]), torch.tensor([0])).labels, data.labels[[1]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "many"}, "labels 'many'"),
        ({"co_occurrence": {"pairs": PAIRS, "probability": 0.5}}, "need `labels: several`"),
        ({"labels": "several", "objects": 3}, "2 to 4 are drawn"),
        ({"labels": "several", "partners": "exclusive"}, "needs `co_occurrence`"),
        ({"labels": "several", "partners": "never"}, "partners 'never'"),
        ({"labels": "several", "co_occurrence": {"pairs": [["shirt", "shrit"]], "probability": 1}}, "'shrit'.*shirt"),
        ({"labels": "several", "co_occurrence": {"pairs": [["shirt", "shirt"]], "probability": 1}}, "twice in one"),
        ({"labels": "several", "co_occurrence": {"pairs": [], "probability": 1}}, "1 to 3 pairs, got 0"),
        ({"labels": "several", "co_occurrence": {"pairs": ["shirt"], "probability": 1}}, "list of pairs"),
        ({"labels": "several", "co_occurrence": {"pairs": PAIRS, "probability": 1.5}}, "between 0 and 1, got 1.5"),
        ({"labels": "several", "co_occurrence": {"pairs": PAIRS, "probability": True}}, "must be a number"),
        ({"labels": "several", "co_occurrence": {"pairs": PAIRS}}, "keys pairs and probability"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FashionScenes("test", count=2, **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), "one column per class, 2, got 3"),
        (torch.full((2, 2), 2), "between -1 and 1; got 2 to 2"),
        (torch.zeros(2, 2), "whole numbers"),
    ],
)
def test_wrong_labels_are_refused(labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSet(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), labels, ("a", "b"))


def test_images_with_several_labels_are_refused_where_one_class_is_needed() -> None:
    with pytest.raises(InputError, match="the split train of the data set fashion_scenes has several labels per image"):
        check_class_counts(scenes(count=2), split="train", name="fashion_scenes")
