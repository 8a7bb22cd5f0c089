"""Classes of different sizes: weights of the cross-entropy, and an order with all classes equally often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.build import build
from distill.config import identity, load
from distill.data import BatchLoader, ImageSet, Views
from distill.data.balanced import balanced_order, class_weights
from distill.errors import InputError
from distill.losses import CrossEntropy
from distill.losses.term import TermInputs
from distill.types import StagedOutput
from tests.e2e.helpers import QUIET

LABELS = np.array([0] * 40 + [1] * 9 + [2] * 2 + [3] * 1)


def images(labels: Any = LABELS, classes: tuple[str, ...] = ("a", "b", "c", "d")) -> ImageSet:
    pixels = torch.randint(
        0, 256, (len(labels), 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return ImageSet(pixels, torch.as_tensor(labels), classes)


@pytest.mark.parametrize("epoch", range(5))
def test_all_classes_occur_equally_often(epoch: int) -> None:
    order = balanced_order(LABELS, seed=1, epoch=epoch)
    positions = order.positions.numpy()
    assert len(positions) == len(LABELS) == 52
    assert Counter(LABELS[positions].tolist()) == {0: 13, 1: 13, 2: 13, 3: 13}
    seen: Counter[int] = Counter()
    repeats = dict.fromkeys(range(52), 0)
    for position, repeat in sorted(
        zip(positions.tolist(), order.repeats.tolist(), strict=True), key=lambda pair: pair[1]
    ):
        assert repeat == seen[position]
        seen[position] += 1
        repeats[position] = seen[position]
    for label in range(4):
        counts = [repeats[i] for i in np.flatnonzero(label == LABELS).tolist()]
        assert max(counts) - min(counts) <= 1


def test_a_number_that_cannot_be_divided_goes_round_the_classes() -> None:
    labels = np.array([0] * 7 + [1] * 2 + [2] * 2)  # 11 entries: 4, 4 and 3
    shorter: Counter[int] = Counter()
    for epoch in range(60):
        counts = Counter(labels[balanced_order(labels, seed=0, epoch=epoch).positions].tolist())
        assert sorted(counts.values()) == [3, 4, 4]
        shorter[min(counts, key=lambda label: counts[label])] += 1
    assert set(shorter) == {0, 1, 2}


def test_the_order_is_a_function_of_seed_and_epoch_and_covers_the_large_class() -> None:
    first = balanced_order(LABELS, seed=3, epoch=2).positions
    assert torch.equal(first, balanced_order(LABELS, seed=3, epoch=2).positions)
    others = [balanced_order(LABELS, seed=3, epoch=3).positions, balanced_order(LABELS, seed=4, epoch=2).positions]
    assert not any(torch.equal(first, other) for other in others)
    seen = {i for epoch in range(40) for i in balanced_order(LABELS, seed=0, epoch=epoch).positions.tolist()}
    assert seen == set(range(52))
    assert len(set(LABELS[first[:13]].tolist())) > 1  # the classes are mixed


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_order_and_views(world_size: int) -> None:
    data = images()
    common: dict[str, Any] = {"views": Views(), "shuffle": True, "balanced": True, "seed": 5, "data_seed": 6}
    whole = BatchLoader(data, batch_size=6 // world_size * world_size, **common)
    parts = [
        BatchLoader(data, batch_size=6 // world_size, rank=rank, world_size=world_size, **common)
        for rank in range(world_size)
    ]
    for epoch in range(2):
        for loader in (whole, *parts):
            loader.sampler.set_epoch(epoch)
        for batch, *shares in list(zip(whole, *parts, strict=True))[:-1]:
            for name in ("index", "view", "labels"):
                together = torch.stack([getattr(share, name) for share in shares], dim=1).flatten()
                assert torch.equal(together, getattr(batch, name))


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_a_resumed_epoch_goes_on(stop: int) -> None:
    def loader() -> BatchLoader:
        return BatchLoader(images(), batch_size=6, views=Views(), shuffle=True, balanced=True, drop_last=True, seed=2)

    straight = loader()
    straight.sampler.set_epoch(4)
    expected = [(batch.index.tolist(), batch.view.tolist()) for batch in straight]
    cut = loader()
    cut.sampler.set_epoch(4)
    first = []
    for batch in cut:
        first.append((batch.index.tolist(), batch.view.tolist()))
        if len(first) == stop:
            break
    again = loader()
    again.load_state_dict(cut.state_dict())
    assert first + [(batch.index.tolist(), batch.view.tolist()) for batch in again] == expected
    assert len(again) == 8


def test_an_image_that_is_repeated_is_seen_in_several_views() -> None:
    loader = BatchLoader(images(), batch_size=52, views=Views(), shuffle=True, balanced=True)
    batch = next(iter(loader))
    views = Views().draw(52, seed=0, epoch=0)
    lonely = batch.view[batch.index == 51]
    assert len(lonely) == 13
    assert len(lonely.unique()) >= 10
    assert int(views[51]) in lonely.tolist()
    for i in batch.index[batch.labels == 0].tolist():  # images that occur once have the view of any other epoch
        assert batch.view[batch.index == i].tolist() == [int(views[i])]


def test_balanced_weights_are_those_of_scikit_learn_and_may_be_named() -> None:
    counts = np.bincount(LABELS)
    expected = len(LABELS) / (4 * counts)
    assert np.allclose(class_weights("balanced", images()).numpy(), expected)
    assert np.isclose(expected[LABELS].mean(), 1)
    empty = images(np.array([0, 0, 2]))
    assert torch.allclose(class_weights("balanced", empty), torch.tensor([0.75, 0, 1.5, 0]))
    assert class_weights({"c": 3.5}, images()).tolist() == [1, 1, 3.5, 1]
    with pytest.raises(InputError, match=r"data\.class_weights: unknown class 'e' \(known: a, b, c, d\)"):
        class_weights({"e": 1.0}, images())


def test_the_weighted_cross_entropy_is_a_weighted_mean() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 3, 2, 0])
    weights = [0.5, 2.0, 3.0, 1.0]
    log_softmax = logits.double().numpy()
    log_softmax = log_softmax - np.log(np.exp(log_softmax).sum(1, keepdims=True))
    weighted = np.array([weights[label] for label in labels.tolist()])
    expected = -(weighted * log_softmax[np.arange(6), labels.numpy()]).sum() / weighted.sum()
    term = CrossEntropy()
    term.weigh_classes(torch.tensor(weights))
    inputs = TermInputs(student=StagedOutput(logits), teacher=None, labels=labels)
    assert float(term(inputs)) == pytest.approx(expected, rel=1e-6)
    assert not term.state_dict()


def config(tmp_path: Path, *pairs: str) -> Any:
    tiny = ["data.size=16", "data.count=60", "data.batch_size=20", "student.name=wrn_10_1", "trainer.max_epochs=2"]
    return load([], [*tiny, f"output_dir={tmp_path}", "trainer.accelerator=cpu", *QUIET, *pairs])


def test_defaults_leave_identities_as_they_were(tmp_path: Path) -> None:
    plain = config(tmp_path)
    assert identity(plain) == identity(config(tmp_path, "data.class_weights=null", "data.sampler=null"))
    others = [identity(config(tmp_path, pair)) for pair in ("data.class_weights=balanced", "data.sampler=balanced")]
    assert len({identity(plain), *others}) == 3


def test_keys_reach_the_term_and_the_loader(tmp_path: Path) -> None:
    run = build(config(tmp_path, "data.class_weights={bag: 4.0}", "data.sampler=balanced"))
    term = run.module.objective.terms["cross_entropy"]
    classes = run.data.split("train").classes
    assert isinstance(term, CrossEntropy)
    assert term.class_weights is not None
    assert term.class_weights.tolist() == [4.0 if name == "bag" else 1.0 for name in classes]
    labels = run.data.split("train").labels[run.data.train_dataloader().sampler.order()]
    assert set(torch.bincount(labels, minlength=10).tolist()) == {6}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["data.class_weights={bga: 2}"], "data.class_weights: unknown class 'bga'; did you mean 'bag'?"),
        (["data.class_weights={bag: -1}"], "data.class_weights"),
        (["data.class_weights=blanced"], "data.class_weights"),
        (["data.sampler=blanced"], "data.sampler"),
        (["data.class_weights=balanced", "objective.cross_entropy=null"], "objective"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, pairs: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        build(config(tmp_path, *pairs))
