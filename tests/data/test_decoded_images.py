"""Images decoded on access give the same batches as images in memory."""

from __future__ import annotations

import logging
import os
import signal
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data import (
    BatchLoader,
    DecodedImages,
    DistillDataModule,
    ImageSet,
    Views,
    channel_statistics,
    load_split,
)
from distill.errors import InputError, RunError
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


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_an_evaluation_out_and_the_last_batch_is_smaller(folder: Path, workers: int) -> None:
    held, streamed = pair(folder)
    ranks = [BatchLoader(streamed, batch_size=5, rank=r, world_size=2, workers=workers) for r in range(2)]
    shares = [list(loader) for loader in ranks]
    assert [[len(batch.index) for batch in share] for share in shares] == [[5, 5, 1]] * 2
    index = [torch.cat([batch.index for batch in share]) for share in shares]
    assert sorted(torch.cat(index).tolist()) == list(range(len(held))) == list(range(22))
    for part, share in zip(index, shares, strict=True):
        assert torch.equal(torch.cat([batch.images for batch in share]), held.images[part])
        assert torch.equal(torch.cat([batch.labels for batch in share]), held.labels[part])


def test_an_epoch_that_was_left_leaves_nothing_to_the_next(folder: Path) -> None:
    held, streamed = pair(folder)
    loader = BatchLoader(streamed, batch_size=2, shuffle=True, workers=2)
    left = iter(loader)
    next(left)
    loader.sampler.set_epoch(1)
    expected = BatchLoader(held, batch_size=2, shuffle=True)
    expected.sampler.set_epoch(1)
    for mine, other in zip(loader, expected, strict=True):
        assert_same(mine, other)
    with pytest.raises(RuntimeError, match="a new pass over this loader was started"):
        next(left)


def test_workers_take_no_random_number_from_training(folder: Path) -> None:
    _, streamed = pair(folder)
    before = torch.get_rng_state()
    assert len(list(BatchLoader(streamed, batch_size=5, workers=1))) == 5
    assert torch.equal(torch.get_rng_state(), before)


class Telling(ImageSet):
    """Returns the process id of the worker as label."""

    def take(self, index: torch.Tensor, view: torch.Tensor) -> Batch:
        return super().take(index, view)._replace(labels=torch.tensor([os.getpid()]))


def test_workers_are_started_once(folder: Path) -> None:
    _, streamed = pair(folder)
    telling = Telling(streamed.images, streamed.labels, streamed.classes)
    data = DistillDataModule(telling, batch_size=5, views=Views(), workers=2)
    loader = data.train_dataloader()
    seen = [{int(batch.labels) for batch in loader} for _ in range(2)]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2
    assert os.getpid() not in seen[0]
    assert {child.pid for child in active_children()} >= seen[0]
    data.teardown("fit")
    assert seen[0].isdisjoint(child.pid for child in active_children())
    assert seen[0].isdisjoint(int(batch.labels) for batch in loader)
    loader.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(folder: Path, tmp_path: Path, workers: int) -> None:
    broken = tmp_path / "torn.png"
    broken.write_bytes((folder / "ant" / "00.png").read_bytes()[:100])
    data = ImageSet(DecodedImages([folder / "ant" / "01.png", broken], 12).as_tensor(), torch.zeros(2).long(), ("ant",))
    with pytest.raises(InputError, match=r"^cannot decode .*torn\.png: .*; repair or remove it"):
        list(BatchLoader(data, batch_size=2, workers=workers))


class Dying(ImageSet):
    """Kills its own process, as the system does when memory runs out."""

    def take(self, index: torch.Tensor, view: torch.Tensor) -> Batch:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().take(index, view)


def test_a_killed_worker_is_reported(folder: Path) -> None:
    _, streamed = pair(folder)
    dying = Dying(streamed.images, streamed.labels, streamed.classes)
    with pytest.raises(RunError, match=r"was killed \(DataLoader worker .*reduce `data.workers` \(0 uses no worker"):
        list(BatchLoader(dying, batch_size=5, workers=1))


class Buggy(ImageSet):
    def take(self, index: torch.Tensor, view: torch.Tensor) -> Batch:
        raise RuntimeError("a fault of ours")


def test_a_fault_in_a_worker_stays_what_it_is(folder: Path) -> None:
    _, streamed = pair(folder)
    buggy = Buggy(streamed.images, streamed.labels, streamed.classes)
    with pytest.raises(RuntimeError, match="a fault of ours") as caught:
        list(BatchLoader(buggy, batch_size=5, workers=1))
    assert not isinstance(caught.value, RunError)


def test_only_sets_in_files_have_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, streamed = pair(folder)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    data = DistillDataModule(held, streamed, streamed, batch_size=5, views=Views())
    assert [data.workers_for(name) for name in ("train", "validation", "test")] == [0, 4, 4]
    data = DistillDataModule(held, streamed, batch_size=5, views=Views(), workers=1)
    assert [data.workers_for(name) for name in ("train", "validation")] == [0, 1]


def test_a_batch_is_decoded_without_a_word(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _, streamed = pair(folder)
        assert [record.message for record in caplog.records] == ["decoding 22 images into 0.00 GB of memory"]
        list(BatchLoader(streamed, batch_size=5))
    assert len(caplog.records) == 1


def test_statistics_of_a_large_set_are_those_of_a_part_wherever_it_lies(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held, streamed = pair(folder)
    monkeypatch.setattr("distill.data.imageset.MAX_VALUES", 7 * 3 * 12 * 12 + 5)
    with caplog.at_level(logging.INFO):
        mean, deviation = channel_statistics(streamed.images)
    assert "from 7 of 22 images" in caplog.text
    assert (mean, deviation) == channel_statistics(held.images)
    part = held.images[[i * 22 // 7 for i in range(7)]].numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, part.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(deviation, part.std((0, 2, 3)), rtol=1e-12)


def test_what_is_read_off_a_set_without_decoding_it_all(folder: Path) -> None:
    held, streamed = pair(folder)
    assert streamed.images.shape == held.images.shape
    assert channel_statistics(streamed.images) == channel_statistics(held.images)
    files = lazy(streamed)
    assert files.checksum() == lazy(pair(folder)[1]).checksum()
    assert files.checksum() != DecodedImages(files.files[1:], 12).checksum()
    part = streamed.subset([3, 1])
    assert torch.equal(part.images, held.images[torch.tensor([3, 1])])
