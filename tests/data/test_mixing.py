"""Mixup and CutMix: torchvision's arithmetic, with shares that are a function of seed, epoch and batch number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import v2

from distill.data import BatchLoader, DistillDataModule, ImageSet, MixDraw, Mixing, Views
from distill.data.mixing import cut, mix_images, mixed
from distill.errors import InputError
from distill.types import Batch

CLASSES = 4


def batch(n: int = 5, height: int = 6, width: int = 8) -> Batch:
    numbers = torch.arange(n)
    return Batch(torch.rand(n, 3, height, width), numbers % CLASSES, numbers, torch.zeros_like(numbers))


def soft_labels(one: Batch) -> torch.Tensor:
    assert one.mix is not None
    return one.mix.weights(one.labels, CLASSES)


class GivenMixUp(v2.MixUp):
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"lam": self.given}


class GivenCutMix(v2.CutMix):
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"box": self.given[0], "lam_adjusted": self.given[1]}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_mixup_is_torchvisions(share: float) -> None:
    one = batch()
    theirs = GivenMixUp(num_classes=CLASSES)
    theirs.given = share
    images, labels = theirs(one.images, one.labels)
    ours = mixed(one, share)
    torch.testing.assert_close(mix_images(ours), images)
    torch.testing.assert_close(soft_labels(ours), labels)
    assert ours.mix is not None
    assert float(ours.mix.share) == pytest.approx(max(share, 1 - share))


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (2, 1, 8, 4), (0, 0, 8, 6), (0, 0, 7, 6)])
def test_cutmix_is_torchvisions(box: tuple[int, int, int, int]) -> None:
    one = batch()
    share = 1 - (box[2] - box[0]) * (box[3] - box[1]) / 48
    theirs = GivenCutMix(num_classes=CLASSES)
    theirs.given = box, share
    images, labels = theirs(one.images, one.labels)
    ours = mixed(one, share, box)
    assert torch.equal(mix_images(ours), images)
    torch.testing.assert_close(soft_labels(ours), labels)


def test_the_rectangle_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = v2.CutMix(num_classes=CLASSES)
    for share, x, y in ((0.1, 0, 5), (0.5, 3, 3), (0.75, 7, 0), (0.99, 4, 2)):
        centre = iter([x, y])
        with monkeypatch.context() as patch:
            patch.setattr(theirs._dist, "sample", lambda _, share=share: torch.tensor(share))
            patch.setattr(torch, "randint", lambda *_, centre=centre, **__: torch.tensor([next(centre)]))
            params = theirs.make_params([torch.zeros(2, 3, 6, 8)])
        assert cut(share, x=x, y=y, width=8, height=6) == params["box"]


def test_the_labels_are_those_of_the_larger_share() -> None:
    one = batch()
    for share, expected in ((0.8, one.labels), (0.2, one.labels.roll(1))):
        ours = mixed(one, share)
        assert torch.equal(ours.labels, expected)
        assert (soft_labels(ours).gather(1, expected[:, None]) > 0.79).all()


def draw(mixing: Mixing, number: int) -> Batch:
    return mixing.draw(batch(2), seed=1, epoch=0, number=number)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    mixing = Mixing(mixup=MixDraw(alpha))
    shares = [float(one.mix.own) for number in range(1500) if (one := draw(mixing, number)).mix is not None]
    assert len(shares) == 1500
    assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 0.01
    assert kstest(shares, beta(alpha * 1.3, alpha * 1.3).cdf).pvalue < 0.01


def test_batches_are_mixed_as_often_as_asked() -> None:
    mixing = Mixing(mixup=MixDraw(1.0, 0.25), cutmix=MixDraw(1.0, 0.5))
    assert not mixing.is_always
    kinds = [
        "none" if (m := draw(mixing, i).mix) is None else "mixup" if m.box is None else "cutmix" for i in range(2000)
    ]
    assert [kinds.count(kind) / 2000 for kind in ("mixup", "cutmix", "none")] == pytest.approx(
        [0.25, 0.5, 0.25], abs=0.03
    )


def test_a_draw_depends_on_seed_epoch_and_number_alone() -> None:
    mixing, one = Mixing(cutmix=MixDraw(1.0)), batch(2)
    state = torch.get_rng_state()

    def own(number: int, *, seed: int = 1, epoch: int = 0) -> float:
        drawn = mixing.draw(one, seed=seed, epoch=epoch, number=number).mix
        assert drawn is not None
        return float(drawn.own)

    assert own(7, epoch=2) == own(7, epoch=2)
    assert len({own(7), own(8), own(7, epoch=1), own(7, seed=2)}) == 4
    assert torch.equal(state, torch.get_rng_state())


def test_the_loader_mixes_training_batches_and_goes_on_in_the_middle_of_an_epoch() -> None:
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(20) % CLASSES, tuple("abcd"), torch.zeros(20, 1, 4).long())

    def loader() -> BatchLoader:
        both = Mixing(MixDraw(0.5, 0.5), MixDraw(1.0, 0.5))
        module = DistillDataModule(data, data, batch_size=4, views=Views(pad=1), mixing=both)
        evaluation = module.val_dataloader()
        assert isinstance(evaluation, BatchLoader)
        assert next(iter(evaluation)).mix is None
        return module.train_dataloader()

    straight, first = list(loader()), loader()
    iterator = iter(first)
    next(iterator), next(iterator)
    again = loader()
    again.load_state_dict(first.state_dict())
    for mine, other in zip(again, straight[2:], strict=True):
        assert mine.mix is not None
        assert other.mix is not None
        assert torch.equal(mine.labels, other.labels)
        assert float(mine.mix.own) == float(other.mix.own)
        assert (mine.boxes, mine.masks) == (None, None)


def test_images_are_mixed_after_their_views_in_floats() -> None:
    data = ImageSet(torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8), torch.arange(8) % 2, ("a", "b"))
    module = DistillDataModule(data, batch_size=8, views=Views(pad=1), mixing=Mixing(mixup=MixDraw(1.0)))
    one = next(iter(module.train_dataloader()))
    plain = Views(pad=1).apply(one.images, one.view)
    assert one.mix is not None
    own = float(one.mix.own)
    expected = own * plain.numpy() + (1 - own) * np.roll(plain.numpy(), 1, axis=0)
    np.testing.assert_allclose(module.on_after_batch_transfer(one, 0).images.numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("box", [None, (1, 1, 4, 5)])
def test_no_value_is_read_on_the_host(box: tuple[int, int, int, int] | None) -> None:
    one = mixed(batch(), 0.7, box)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert one.mix is not None
        fake = one._replace(
            images=mode.from_tensor(one.images),
            mix=one.mix._replace(
                own=mode.from_tensor(one.mix.own), box=None if one.mix.box is None else mode.from_tensor(one.mix.box)
            ),
        )
        assert mix_images(fake).shape == one.images.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixDraw(0.0), "`alpha` must be above 0, got 0.0"),
        (lambda: MixDraw(1.0, 1.5), "`probability` must be from 0 to 1, got 1.5"),
        (lambda: Mixing(MixDraw(1.0, 0.6), MixDraw(1.0, 0.6)), "must sum to at most 1"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
