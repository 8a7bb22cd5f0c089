"""Mixup and CutMix: the images of a batch mixed in pairs, with shares that are a function of epoch and batch number.

References:
    - Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    - Yun et al., "CutMix", ICCV 2019.
    - ``torchvision.transforms.v2.MixUp`` and ``CutMix``: the same pairs, shares and rectangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import betaincinv
from torch import Tensor

from distill.data.counted import Purpose, integers_below, random_stream
from distill.errors import InputError
from distill.types import Batch, Mix


@dataclass(frozen=True)
class MixDraw:
    """One way of mixing.

    Args:
        alpha: Parameter of the distribution Beta(alpha, alpha) of the share, above 0.
        probability: Share of the batches that are mixed in this way, from 0 to 1; 0 turns it off.

    Raises:
        InputError: If an argument is out of range.
    """

    alpha: float
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise InputError(f"`alpha` must be above 0, got {self.alpha}.")
        if not 0 <= self.probability <= 1:
            raise InputError(f"`probability` must be from 0 to 1, got {self.probability}.")


_OFF = MixDraw(1.0, 0.0)


@dataclass(frozen=True)
class Mixing:
    """Mixing of the images of a batch in pairs.

    Convention:
        - A batch is mixed by mixup, by CutMix, or not at all, with one share for the whole batch. All is a function of
          the seed, the epoch and the number of the batch in the epoch.
        - The share of CutMix is that of the remaining pixels, after the rectangle was cut at the border.

    Args:
        mixup: Averages of two images.
        cutmix: Rectangles of one image in another.

    Raises:
        InputError: If the probabilities sum to more than 1.

    Example:
        >>> images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
        >>> batch = Batch(images, torch.tensor([3, 5]), torch.arange(2), torch.zeros(2))
        >>> mixed = Mixing(mixup=MixDraw(alpha=1.0)).draw(batch, seed=0, epoch=0, number=0)
        >>> mixed.mix.share, mix_images(mixed).flatten()
        (tensor(0.5155), tensor([0.4845, 0.5155]))
    """

    mixup: MixDraw = _OFF
    cutmix: MixDraw = _OFF

    def __post_init__(self) -> None:
        if self.mixup.probability + self.cutmix.probability > 1:
            raise InputError("the probabilities of mixup and cutmix must sum to at most 1.")

    @property
    def is_always(self) -> bool:
        """Whether every batch is mixed."""
        return self.mixup.probability + self.cutmix.probability == 1

    def draw(self, batch: Batch, *, seed: int, epoch: int, number: int) -> Batch:
        """Return a batch with the classes of both images of each pair; the images are mixed by :func:`mix_images`.

        Args:
            batch: The batch.
            seed: Determines all draws.
            epoch: The epoch.
            number: Number of the batch in the epoch.
        """
        words = random_stream(Purpose.MIX, seed=seed, part=epoch, position=number).random_raw(4)
        choice, quantile = ((words[:2] >> np.uint64(11)).astype(np.float64) / 2**53).tolist()
        if choice < self.mixup.probability:
            own, box = float(betaincinv(self.mixup.alpha, self.mixup.alpha, quantile)), None
        elif choice < self.mixup.probability + self.cutmix.probability:
            share = float(betaincinv(self.cutmix.alpha, self.cutmix.alpha, quantile))
            height, width = batch.images.shape[2:]
            x, y = integers_below(words[2:], np.array([width, height])).tolist()
            box = cut(share, x=x, y=y, width=width, height=height)
            own = 1 - (box[2] - box[0]) * (box[3] - box[1]) / (width * height)
        else:
            return batch
        return mixed(batch, own, box)


def cut(share: float, *, x: int, y: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the rectangle around (x, y) that leaves a share of an image, cut at the border, as (x0, y0, x1, y1).

    Example:
        >>> cut(0.75, x=1, y=5, width=10, height=10)
        (0, 3, 3, 7)
    """
    half = 0.5 * (1 - share) ** 0.5
    wide, high = int(half * width), int(half * height)
    return max(x - wide, 0), max(y - high, 0), min(x + wide, width), min(y + high, height)


def mixed(batch: Batch, own: float, box: tuple[int, int, int, int] | None = None) -> Batch:
    """Return a batch with the classes of both images of each pair.

    Args:
        batch: The batch.
        own: Share of each image in its pair.
        box: Rectangle that comes from the other image, for CutMix.
    """
    labels, others = batch.labels, batch.labels.roll(1)
    if own < 0.5:
        labels, others = others, labels
    where = None if box is None else torch.tensor(box)
    mix = Mix(others, torch.tensor(max(own, 1 - own)), torch.tensor(own), where)
    return batch._replace(labels=labels, boxes=None, masks=None, mix=mix)


def mix_images(batch: Batch) -> Float[Tensor, "n c h w"]:
    """Return the mixed images of a batch whose images are float; runs on their device without synchronisation."""
    images, mix = batch.images, batch.mix
    if mix is None:
        return images
    partners = images.roll(1, 0)
    if mix.box is None:
        return images * mix.own + partners * (1 - mix.own)
    x0, y0, x1, y1 = mix.box.unbind()
    rows = torch.arange(images.shape[2], device=images.device)[:, None]
    columns = torch.arange(images.shape[3], device=images.device)
    inside = (rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1)
    return torch.where(inside, partners, images)
