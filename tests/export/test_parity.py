"""A file that gives something else is refused, whatever the difference is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distill.errors import RunError
from distill.export import Deployed, compare
from tests.export.helpers import network

Outputs = dict[str, Tensor]
SCENES = torch.randint(0, 256, (70, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def deployed() -> Deployed:
    return Deployed(network(), size=(16, 16), layer="group2")


def test_the_network_equals_itself_in_batches_of_several_sizes(deployed: Deployed) -> None:
    met: list[int] = []

    def watched(images: Tensor) -> Outputs:
        met.append(len(images))
        return deployed(images)

    parity = compare(watched, deployed, SCENES)
    assert parity == (70, (1, 3, 64, 2), 0.0, 0, 0.0)
    assert met == [1, 3, 64, 2]
    assert compare(deployed, deployed, SCENES, limit=3)[:2] == (3, (1, 2))


def with_changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Outputs], Outputs]:
    return lambda out: {**out, name: change(out[name])}


def one_site_off(maps: Tensor) -> Tensor:
    return maps.roll(1, -1)


FAULTS: dict[str, tuple[Callable[[Outputs], Outputs], str]] = {
    "without its bias": (with_changed("logits", lambda z: z - 0.1), "logits differ from the student's by 0.1 on test"),
    "not a number": (with_changed("logits", lambda z: z * float("nan")), "logits differ from the student's by nan"),
    "classes in another order": (with_changed("logits", lambda z: z.flip(1)), "logits differ from the student's"),
    "the first image for all": (with_changed("logits", lambda z: z[:1].expand_as(z)), "on test images 1 to 3"),
    "another number of classes": (
        with_changed("logits", lambda z: z[:, :-1]),
        r"gives logits \(1, 9\) on test images 0",
    ),
    "no maps": (lambda out: {"logits": out["logits"]}, "gives maps none on test images 0 to 0"),
    "maps one site off": (with_changed("maps", one_site_off), "1 of the file's maps are not the student's"),
    "empty maps": (with_changed("maps", torch.zeros_like), "1 of the file's maps are not the student's"),
    "maps of no number": (with_changed("maps", lambda m: m * float("nan")), "1 of the file's maps are not"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused(deployed: Deployed, fault: str) -> None:
    change, message = FAULTS[fault]
    with pytest.raises(RunError, match=message):
        compare(lambda images: change(deployed(images)), deployed, SCENES)


def test_a_fault_in_the_last_image_alone_is_refused(deployed: Deployed) -> None:
    def wrong_in_the_end(images: Tensor) -> Outputs:
        out = deployed(images)
        return {**out, "logits": out["logits"] + (len(images) == 2)}

    assert compare(wrong_in_the_end, deployed, SCENES, limit=68).images == 68
    with pytest.raises(RunError, match="on test images 68 to 69"):
        compare(wrong_in_the_end, deployed, SCENES)


def test_where_two_classes_are_equal_the_choice_may_be_another_and_is_counted(deployed: Deployed) -> None:
    def original(images: Tensor) -> Outputs:
        maps = deployed(images)["maps"]
        return {"logits": torch.tensor([[200.001, 200.0, 0.0]]).expand(len(images), 3), "maps": maps}

    def other(images: Tensor) -> Outputs:
        # Such a file explains the other class, so its map may be any.
        logits = torch.tensor([[200.0, 200.001, 0.0]]).expand(len(images), 3)
        return {"logits": logits, "maps": one_site_off(original(images)["maps"])}

    assert compare(other, original, SCENES).ties == 70
    assert compare(original, original, SCENES).ties == 0
