"""The parity check rejects a file whose outputs differ from those of the network."""

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


def test_the_network_matches_itself_at_several_batch_sizes(deployed: Deployed) -> None:
    sizes: list[int] = []

    def watched(images: Tensor) -> Outputs:
        sizes.append(len(images))
        return deployed(images)

    parity = compare(watched, deployed, SCENES)
    assert parity == (70, (1, 3, 64, 2), 0.0, 0, 0.0)
    assert sizes == [1, 3, 64, 2]
    assert compare(deployed, deployed, SCENES, limit=3)[:2] == (3, (1, 2))


def with_changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Outputs], Outputs]:
    return lambda out: {**out, name: change(out[name])}


def shifted_by_one(maps: Tensor) -> Tensor:
    return maps.roll(1, -1)


FAULTS: dict[str, tuple[Callable[[Outputs], Outputs], str]] = {
    "no bias": (with_changed("logits", lambda z: z - 0.1), "logits differ from the student's by 0.1 on test"),
    "NaN logits": (with_changed("logits", lambda z: z * float("nan")), "logits differ from the student's by nan"),
    "wrong class order": (with_changed("logits", lambda z: z.flip(1)), "logits differ from the student's"),
    "first image repeated": (with_changed("logits", lambda z: z[:1].expand_as(z)), "on test images 1 to 3"),
    "wrong number of classes": (
        with_changed("logits", lambda z: z[:, :-1]),
        r"returns logits of shape \(1, 9\) on test images 0 to 0, but the student returns \(1, 10\)",
    ),
    "no maps": (lambda out: {"logits": out["logits"]}, "returns maps of shape none on test images 0 to 0"),
    "maps shifted by one position": (
        with_changed("maps", shifted_by_one),
        "1 of the file's maps differ from the student's",
    ),
    "empty maps": (with_changed("maps", torch.zeros_like), "1 of the file's maps differ from the student's"),
    "NaN maps": (with_changed("maps", lambda m: m * float("nan")), "1 of the file's maps differ"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_rejected(deployed: Deployed, fault: str) -> None:
    change, message = FAULTS[fault]
    with pytest.raises(RunError, match=message):
        compare(lambda images: change(deployed(images)), deployed, SCENES)


def test_a_fault_in_the_last_image_only_is_rejected(deployed: Deployed) -> None:
    def wrong_in_last_batch(images: Tensor) -> Outputs:
        out = deployed(images)
        return {**out, "logits": out["logits"] + (len(images) == 2)}

    assert compare(wrong_in_last_batch, deployed, SCENES, limit=68).images == 68
    with pytest.raises(RunError, match="on test images 68 to 69"):
        compare(wrong_in_last_batch, deployed, SCENES)


def test_a_different_prediction_is_allowed_and_counted_for_tied_classes(deployed: Deployed) -> None:
    def original(images: Tensor) -> Outputs:
        maps = deployed(images)["maps"]
        return {"logits": torch.tensor([[200.001, 200.0, 0.0]]).expand(len(images), 3), "maps": maps}

    def tied(images: Tensor) -> Outputs:
        # Such a file explains the other class, so its maps may differ.
        logits = torch.tensor([[200.0, 200.001, 0.0]]).expand(len(images), 3)
        return {"logits": logits, "maps": shifted_by_one(original(images)["maps"])}

    assert compare(tied, original, SCENES).ties == 70
    assert compare(original, original, SCENES).ties == 0
