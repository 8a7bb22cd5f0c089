"""Which images are shown, and what is said about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from distill.data import ImageSet
from distill.errors import InputError
from distill.evaluation import (
    ONE_PASS,
    EvaluationResult,
    MapSettings,
    evaluate,
    make_gallery,
)
from distill.evaluation.gallery import choose_images, rank_images
from distill.evaluation.sampling import sample
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.models import StagedNetwork, create_model
from distill.report import Gallery
from tests.evaluation.checks import image_set, network


def made(
    nets: dict[str, StagedNetwork], data: ImageSet, *, reference: str | None = "teacher", **settings: Any
) -> tuple[Gallery, EvaluationResult]:
    maps = settings.pop("maps", None)
    done = evaluate(nets, reference=reference, sets={"plain": data}, settings=ONE_PASS, maps=maps)
    scores = done.scores["plain"]
    given: dict[str, Any] = {"count": 5, "seed": 3, "maps": maps, **settings}
    return make_gallery(nets, reference=reference, set_name="plain", data=data, scores=scores, **given), done


def test_best_median_and_worst_are_those_of_the_last_network() -> None:
    data = image_set(30)
    nets = {"teacher": network(1), "first": network(3), "last": network(2)}
    gallery, done = made(nets, data, count=18, maps=MapSettings(layer="group2"))
    cosine = done.scores["plain"]["last"].columns["map_cosine"].values
    order = [int(i) for i in np.argsort(-cosine, kind="stable") if not np.isnan(cosine[i])]
    middle = (len(order) - 3) // 2
    for why, expected in (
        ("best", order[:3]),
        ("median", order[middle : middle + 3]),
        ("worst", order[::-1][:3]),
        ("random", sample(30, 9, seed=3)),
    ):
        assert {p.index for p in gallery.pictures if why in p.picks} == set(expected)
    assert [p.index for p in gallery.pictures][:3] == order[:3]
    assert len({p.index for p in gallery.pictures}) == len(gallery.pictures) <= 18
    assert gallery.ranked_by == "Map cosine of last"
    assert gallery.reference == "teacher"


def test_panels_say_what_the_network_says() -> None:
    data = image_set()
    nets = {"teacher": network(1), "student": network(2)}
    gallery, done = made(nets, data, batch_size=2)
    assert [picture.index for picture in gallery.pictures] == sample(10, 5, seed=3)
    assert {picture.picks for picture in gallery.pictures} == {("random",)}
    assert (gallery.set_name, gallery.seed, gallery.total, gallery.ranked_by) == ("plain", 3, 10, None)
    for picture in gallery.pictures:
        image, label = data.images[picture.index], int(data.labels[picture.index])
        assert picture.label == picture.explained == data.classes[label]
        assert np.array_equal(picture.pixels, image.permute(1, 2, 0).numpy())
        assert [panel.network for panel in picture.panels] == ["teacher", "student"]
        for panel in picture.panels:
            explained = Explainer()(nets[panel.network].eval(), image[None].float() / 255, torch.tensor([label]))
            probabilities = explained.logits.softmax(1)[0]
            assert panel.predicted == data.classes[int(probabilities.argmax())]
            assert panel.probability == pytest.approx(float(probabilities.max()), abs=1e-5)
            assert panel.explained_probability == pytest.approx(float(probabilities[label]), abs=1e-5)
            assert panel.correct == (int(probabilities.argmax()) == label)
            heat = resize_maps(explained.maps, (16, 16))[0].numpy()
            assert np.allclose(panel.heat, heat / max(heat.max(), 1e-30), atol=1e-4)
            assert panel.empty == (not heat.any())
            columns = done.scores["plain"][panel.network].columns
            energy = columns["energy_in_object"].values[picture.index]
            assert panel.scores["energy_in_object"] == (None if np.isnan(energy) else energy)
        teacher, student = picture.panels
        assert teacher.cosine is None
        assert teacher.stratum is None
        stratum = {
            (True, True): {"both_right"},
            (True, False): {"only_reference"},
            (False, True): {"only_network"},
            (False, False): {"same_wrong" if teacher.predicted == student.predicted else "different_wrong"},
        }
        assert {student.stratum} == stratum[teacher.correct, student.correct]


def test_without_a_reference_the_object_ranks_and_without_objects_chance_alone() -> None:
    gallery, done = made({"net": network(1)}, image_set(30), reference=None, count=6)
    energy = done.scores["plain"]["net"].columns["energy_in_object"].values
    assert gallery.ranked_by == "In object of net"
    assert gallery.pictures[0].index == int(np.nanargmax(energy))
    bare, done = made({"net": network(1)}, image_set(30, masks=False, boxes=False), reference=None, count=6)
    assert bare.ranked_by is None
    assert rank_images(done.scores["plain"], None) is None
    assert [picture.index for picture in bare.pictures] == sample(30, 6, seed=3)


def test_images_without_a_score_have_no_rank() -> None:
    picks = choose_images(12, 6, seed=0, ranked=np.array([np.nan] * 9 + [0.3, 0.1, 0.2]))
    assert [next(i for i, whys in picks.items() if why in whys) for why in ("best", "median", "worst")] == [9, 11, 10]


def test_a_set_that_is_smaller_than_the_gallery_is_shown_whole() -> None:
    picks = choose_images(4, 48, seed=0, ranked=np.array([0.4, 0.1, 0.2, 0.3]))
    assert sorted(picks) == [0, 1, 2, 3]


def test_boxes_without_area_are_not_drawn() -> None:
    gallery, _ = made({"net": network(1)}, image_set(), reference=None, count=10)
    boxes = {picture.index: picture.boxes for picture in gallery.pictures}
    assert boxes[2] == ((2, 6, 10, 14),)
    assert boxes.get(9, ()) == ()


def test_grey_images_become_red_green_and_blue() -> None:
    data = image_set()
    grey = ImageSet(data.images[:, :1], data.labels, data.classes)
    net = create_model("wrn_10_1", num_classes=3, in_channels=1)
    gallery, _ = made({"net": net}, grey, reference=None, count=1)
    (picture,) = gallery.pictures
    assert picture.pixels.shape == (16, 16, 3)
    assert np.array_equal(picture.pixels[..., 2], grey.images[picture.index, 0].numpy())
    assert net.training


def test_an_empty_gallery_is_refused() -> None:
    with pytest.raises(InputError, match="`count` must be at least 1, got 0"):
        made({"net": network(1)}, image_set(), reference=None, count=0)
