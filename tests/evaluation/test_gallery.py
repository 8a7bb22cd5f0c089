"""Which images are drawn, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill.data import ImageSet
from distill.errors import InputError
from distill.evaluation import make_gallery
from distill.evaluation.gallery import draw
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.models import create_model
from tests.evaluation.checks import image_set, network


def test_the_draw_is_pinned() -> None:
    assert draw(10, 4, seed=0) == [0, 2, 9, 1]
    assert draw(10, 4, seed=1) != draw(10, 4, seed=0)
    assert sorted(draw(10, 50, seed=0)) == list(range(10))


def test_panels_say_what_the_network_says() -> None:
    data = image_set()
    nets = {"teacher": network(1), "student": network(2)}
    gallery = make_gallery(nets, reference="teacher", set_name="plain", data=data, count=5, seed=3)
    assert [picture.index for picture in gallery.pictures] == draw(10, 5, seed=3)
    assert (gallery.set_name, gallery.seed, gallery.total) == ("plain", 3, 10)
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
        assert picture.panels[0].cosine is None


def test_boxes_without_area_are_not_drawn() -> None:
    gallery = make_gallery({"net": network(1)}, reference=None, set_name="plain", data=image_set(), count=10, seed=0)
    boxes = {picture.index: picture.boxes for picture in gallery.pictures}
    assert boxes[2] == ((2, 6, 10, 14),)
    assert boxes[9] == ()


def test_grey_images_become_red_green_and_blue() -> None:
    data = image_set()
    grey = ImageSet(data.images[:, :1], data.labels, data.classes)
    net = create_model("wrn_10_1", num_classes=3, in_channels=1)
    (picture,) = make_gallery({"net": net}, reference=None, set_name="grey", data=grey, count=1, seed=0).pictures
    assert picture.pixels.shape == (16, 16, 3)
    assert np.array_equal(picture.pixels[..., 2], grey.images[picture.index, 0].numpy())
    assert net.training


def test_an_empty_gallery_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 image, got 0"):
        make_gallery({"net": network(1)}, reference=None, set_name="plain", data=image_set(), count=0, seed=0)
