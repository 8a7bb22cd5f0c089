"""Images that stay in their files give the batches that images in memory give."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data import BatchLoader, ColourJitter, DecodedImages, ImageSet, Views, channel_statistics, load_split
from distill.errors import InputError
from distill.types import Batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for i in range(15):
            pixels = random.integers(256, size=(20 + i, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


def pair(folder: Path) -> tuple[ImageSet, ImageSet]:
    return tuple(load_split("image_folder", "train", root=folder, size=12, in_memory=m) for m in (True, False))  # type: ignore[return-value]


def lazy(data: ImageSet) -> DecodedImages:
    held: object = data.images
    assert isinstance(held, DecodedImages)
    return held


def assert_same(ours: Batch, theirs: Batch) -> None:
    for mine, other in zip(ours[:4], theirs[:4], strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_equal_byte_for_byte(folder: Path, workers: int) -> None:
    held, streamed = pair(folder)
    assert isinstance(lazy(streamed), DecodedImages)
    options = {"batch_size": 5, "views": Views(pad=2), "shuffle": True, "drop_last": True, "seed": 3}
    ours = BatchLoader(streamed, workers=workers, **options)  # type: ignore[arg-type]
    theirs = BatchLoader(held, **options)  # type: ignore[arg-type]
    for epoch in range(2):
        ours.sampler.set_epoch(epoch)
        theirs.sampler.set_epoch(epoch)
        batches = list(zip(ours, theirs, strict=True))
        assert len(batches) == len(theirs) == 4
        for mine, other in batches:
            assert_same(mine, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_in_the_middle_of_an_epoch(folder: Path, workers: int) -> None:
    _, streamed = pair(folder)

    def loader() -> BatchLoader:
        return BatchLoader(streamed, batch_size=5, views=Views(pad=2), shuffle=True, seed=3, workers=workers)

    first = loader()
    expected = list(loader())
    iterator = iter(first)
    next(iterator)
    next(iterator)
    again = loader()
    again.load_state_dict(first.state_dict())
    rest = list(again)
    assert len(rest) == len(expected) - 2 > 0
    for mine, other in zip(rest, expected[2:], strict=True):
        assert_same(mine, other)


class Telling(ImageSet):
    """Say in the labels which process took a batch."""

    def take(self, index: torch.Tensor, view: torch.Tensor) -> Batch:
        return super().take(index, view)._replace(labels=torch.tensor([os.getpid()]))


def test_workers_are_started_once(folder: Path) -> None:
    _, streamed = pair(folder)
    telling = Telling(streamed.images, streamed.labels, streamed.classes)
    loader = BatchLoader(telling, batch_size=5, workers=2)
    seen = [{int(batch.labels) for batch in loader} for _ in range(2)]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2
    assert os.getpid() not in seen[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(folder: Path, tmp_path: Path, workers: int) -> None:
    broken = tmp_path / "torn.png"
    broken.write_bytes((folder / "ant" / "00.png").read_bytes()[:100])
    data = ImageSet(DecodedImages([folder / "ant" / "01.png", broken], 12).as_tensor(), torch.zeros(2).long(), ("ant",))
    with pytest.raises(InputError, match=r"^cannot decode .*torn\.png: .*; repair or remove it\.$"):
        list(BatchLoader(data, batch_size=2, workers=workers))


def test_what_is_read_off_a_set_without_decoding_it_all(folder: Path) -> None:
    held, streamed = pair(folder)
    assert streamed.images.shape == held.images.shape
    assert channel_statistics(streamed.images) == channel_statistics(held.images)
    files = lazy(streamed)
    assert files.checksum() == lazy(pair(folder)[1]).checksum()
    assert files.checksum() != DecodedImages(files.files[1:], 12).checksum()
    part = streamed.subset([3, 1])
    assert torch.equal(part.images, held.images[torch.tensor([3, 1])])


def test_colours_change_image_by_image_and_stay_in_range() -> None:
    images = torch.rand(64, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    torch.manual_seed(1)
    brighter = ColourJitter(brightness=0.3)(images)
    factors = (brighter / images).flatten(1)
    assert float((factors.amax(1) - factors.amin(1)).amax()) < 1e-5
    assert 0.7 <= float(factors.amin()) < 0.75
    assert 1.25 < float(factors.amax()) <= 1.3
    grey = images.mean(1, keepdim=True).expand_as(images)
    torch.testing.assert_close(ColourJitter(saturation=1.0)(grey), grey)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    contrasted = ColourJitter(contrast=0.5)(images)
    torch.testing.assert_close(
        (contrasted * weights).sum(1).mean((1, 2)), (images * weights).sum(1).mean((1, 2)), rtol=1e-3, atol=1e-2
    )
    assert float((contrasted - images).abs().amax()) > 0.02
    assert 0 <= float(contrasted.amin()) <= float(contrasted.amax()) <= 1
    with pytest.raises(InputError, match="`contrast` must be from 0 to 1, got 2"):
        ColourJitter(contrast=2)
