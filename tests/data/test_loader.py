from __future__ import annotations

from typing import Any

import pytest
import torch

from distill.data import (
    BatchLoader,
    DistillDataModule,
    EpochSampler,
    ImageSet,
    Views,
)
from distill.errors import InputError
from distill.types import Batch


def numbered(n: int) -> ImageSet:
    """A set in which all pixels of image ``i`` have grey level ``i``."""
    images = torch.arange(n).to(torch.uint8).view(n, 1, 1, 1).expand(n, 1, 6, 6).contiguous()
    boxes = torch.arange(n).view(n, 1, 1).expand(n, 1, 4).contiguous()
    return ImageSet(images, torch.arange(n) % 3, ("a", "b", "c"), boxes, images[:, 0])


def flat(batches: list[list[int]]) -> list[int]:
    return [i for batch in batches for i in batch]


def seen(loader: BatchLoader) -> list[list[int]]:
    return [batch.index.tolist() for batch in loader]


def test_a_batch_holds_what_belongs_together() -> None:
    batch = next(iter(BatchLoader(numbered(20), batch_size=8, shuffle=True, drop_last=True, views=Views())))
    assert isinstance(batch, Batch)
    assert batch.images.dtype == torch.uint8
    assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.index)
    assert torch.equal(batch.labels, batch.index % 3)
    assert batch.boxes is not None
    assert batch.masks is not None
    assert torch.equal(batch.boxes[:, 0, 0], batch.index)
    assert torch.equal(batch.masks[:, 0, 0].long(), batch.index)
    assert torch.equal(batch.view, Views().draw(20, seed=0, epoch=0)[batch.index])


def test_evaluation_keeps_the_order_and_every_image() -> None:
    loader = BatchLoader(numbered(10), batch_size=4, views=40)
    assert seen(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert seen(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(loader) == 3
    assert {view for batch in loader for view in batch.view.tolist()} == {40}


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    loader = BatchLoader(numbered(12), batch_size=4, shuffle=True, seed=2)
    first = seen(loader)
    assert sorted(flat(first)) == list(range(12))
    assert seen(loader) == first
    loader.sampler.set_epoch(1)
    second = seen(loader)
    assert second != first
    loader.sampler.set_epoch(0)
    assert seen(loader) == first
    assert seen(BatchLoader(numbered(12), batch_size=4, shuffle=True, seed=3)) != first
    assert first == [[2, 7, 10, 0], [9, 11, 8, 1], [5, 6, 3, 4]]


def test_views_do_not_depend_on_the_order() -> None:
    def views_of(**options: Any) -> dict[int, int]:
        loader = BatchLoader(numbered(30), batch_size=7, views=Views(), data_seed=4, **options)
        loader.sampler.set_epoch(5)
        return {int(i): int(v) for batch in loader for i, v in zip(batch.index, batch.view, strict=True)}

    expected = dict(enumerate(Views().draw(30, seed=4, epoch=5).tolist()))
    assert views_of() == expected
    assert views_of(shuffle=True, seed=1) == expected
    assert views_of(shuffle=True, seed=2) == expected


@pytest.mark.parametrize("n", [24, 29])
def test_the_batches_of_all_ranks_side_by_side_are_those_of_one_process(n: int) -> None:
    options: dict[str, Any] = {"shuffle": True, "drop_last": True, "seed": 9}
    alone = BatchLoader(numbered(n), batch_size=8, **options)
    ranks = [BatchLoader(numbered(n), batch_size=4, rank=r, world_size=2, **options) for r in range(2)]
    assert [len(loader) for loader in ranks] == [len(alone)] * 2
    for whole, *parts in zip(seen(alone), *map(seen, ranks), strict=True):
        assert [i for pair in zip(*parts, strict=True) for i in pair] == whole


@pytest.mark.parametrize("n", [21, 22, 23, 24])
def test_training_ranks_have_equally_many_images(n: int) -> None:
    ranks = [BatchLoader(numbered(n), batch_size=4, shuffle=True, rank=r, world_size=3) for r in range(3)]
    shares = [flat(seen(loader)) for loader in ranks]
    assert {len(share) for share in shares} == {-(-n // 3)}
    assert {len(loader) for loader in ranks} == {2}
    assert set().union(*shares) == set(range(n))


def test_evaluation_counts_no_image_twice() -> None:
    ranks = [BatchLoader(numbered(10), batch_size=2, rank=r, world_size=4) for r in range(4)]
    shares = [flat(seen(loader)) for loader in ranks]
    assert shares == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]
    assert [len(loader) for loader in ranks] == [2, 2, 1, 1]
    assert [len(BatchLoader(numbered(1), batch_size=2, rank=r, world_size=2)) for r in range(2)] == [1, 0]


def test_the_sampler_counts_and_lists_its_share() -> None:
    sampler = EpochSampler(7, shuffle=False, even=True, seed=0, rank=1, world_size=2)
    assert len(sampler) == 4
    assert list(sampler) == [1, 3, 5, 0]


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_a_resumed_loader_goes_on_with_the_next_batch(stop: int) -> None:
    def make() -> BatchLoader:
        return BatchLoader(numbered(20), batch_size=6, shuffle=True, drop_last=True, views=Views(), seed=1)

    straight = make()
    straight.sampler.set_epoch(3)
    whole = [(batch.index.tolist(), batch.view.tolist()) for batch in straight]
    stopped = make()
    stopped.sampler.set_epoch(3)
    iterator = iter(stopped)
    for _ in range(stop):
        next(iterator)
    state = stopped.state_dict()
    assert state["position"] == stop

    resumed = make()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert len(resumed) == 3
    resumed.sampler.set_epoch(3)
    assert [(batch.index.tolist(), batch.view.tolist()) for batch in resumed] == whole[stop:]
    assert len(seen(resumed)) == 3

    later = make()
    later.load_state_dict(state)
    later.sampler.set_epoch(4)
    assert len(seen(later)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be 1 or more, got 0"),
        ({"batch_size": 11, "shuffle": True}, "`batch_size` is 11, but there are only 10 training images"),
        (
            {"batch_size": 6, "drop_last": True, "world_size": 2},
            "`batch_size` is 6 on each of 2 processes, but there are only 10 training images",
        ),
    ],
)
def test_wrong_batch_sizes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BatchLoader(numbered(10), **options)


def test_the_datamodule_makes_sets_when_needed_and_takes_views_on_arrival() -> None:
    made: list[str] = []

    def make(name: str) -> ImageSet:
        made.append(name)
        return numbered(10)

    data = DistillDataModule(
        lambda: make("train"), lambda: make("validation"), batch_size=4, eval_batch_size=10, views=Views(pad=1), seed=5
    )
    assert made == []
    data.setup("fit")
    assert made == ["train", "validation"]
    train = next(iter(data.train_dataloader()))
    moved = data.on_after_batch_transfer(train, 0)
    assert torch.equal(moved.images, Views(pad=1).apply(train.images, train.view))
    assert torch.equal(moved.index, train.index)
    validation = data.val_dataloader()
    assert isinstance(validation, BatchLoader)
    (batch,) = [data.on_after_batch_transfer(batch, 0) for batch in validation]
    assert torch.equal(batch.images, numbered(10).images / 255)
    assert made == ["train", "validation"]
    with pytest.raises(InputError, match="no test set was given; pass `test=`"):
        data.test_dataloader()
    assert DistillDataModule(numbered(4), batch_size=2, views=Views()).val_dataloader() == []


@pytest.mark.usefixtures("unchecked")
def test_sets_with_unequal_parts_are_refused() -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="`labels` must have one entry per image, 3, got 2"):
        ImageSet(images, torch.zeros(2).long(), ("a",))
    with pytest.raises(ValueError, match="`labels` must lie between 0 and 0, the last of `classes`; got 0 to 1"):
        ImageSet(images, torch.tensor([0, 1, 0]), ("a",))
    with pytest.raises(ValueError, match=r"must be uint8 \(N, C, H, W\), got torch.float32"):
        ImageSet(images.float(), torch.zeros(3).long(), ("a",))


def test_a_subset_carries_everything_along() -> None:
    part = numbered(9).subset([7, 2])
    assert part.boxes is not None
    assert part.masks is not None
    assert len(part) == 2
    assert part.images[:, 0, 0, 0].tolist() == part.masks[:, 0, 0].tolist() == part.boxes[:, 0, 0].tolist() == [7, 2]
    assert part.labels.tolist() == [1, 2]
