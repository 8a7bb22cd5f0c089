r"""RISE: what masks that happen to hide or show a site do to the probability of a class.

References:
    Petsiuk, Das & Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018,
    arXiv 1806.07421.

Deliberate differences from the authors' code: what is masked out becomes a baseline in the pixels (black by default),
not 0 after normalisation; the bilinear enlargement is ``align_corners=False``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.explain.attribution.groups import ROWS, Baseline, at_least_one, baseline_of, by_groups, copies_of
from distill.maps import resize_maps


def rise(
    network: nn.Module,
    images: Float[Tensor, "n c *s"],
    classes: Int[Tensor, " n"],
    *,
    masks: int = 1000,
    cells: int = 7,
    keep: float = 0.5,
    baseline: Baseline = "black",
    seed: int = 0,
    images_at_a_time: int = ROWS,
) -> Float[Tensor, "n 1 *s"]:
    r"""Give the mean of the masks, weighted by the class's probability on the masked image.

    .. math:: \frac{1}{\mathrm{keep} \cdot \mathrm{masks}} \sum_m p_c(x \odot M_m + b \odot (1 - M_m))\, M_m

    Convention:
        - All images meet the same masks, as in the authors' code: its neighbours do not change a map.

    Args:
        network: Images to logits, in evaluation mode.
        images: In [0, 1].
        classes: What is explained.
        masks: Their number.
        cells: Cells of a mask on every axis, before it is enlarged.
        keep: Probability that a cell is seen.
        baseline: What is seen where a mask is 0.
        seed: Of the masks.
        images_at_a_time: Rows that pass the network at once, masked copies included.

    Raises:
        ValueError: if a number is out of its range.
    """

    def explain(x: Tensor, c: Tensor) -> Tensor:
        blank = baseline_of(x, baseline)
        total = torch.zeros(len(x), *x.shape[2:], dtype=torch.float64, device=x.device)
        copies = copies_of(x, rows=images_at_a_time)
        for some in rise_masks(masks, x.shape[2:], cells=cells, keep=keep, seed=seed, at_a_time=copies):
            seen = some.to(x)[None, :, None]
            rows = (blank[:, None] + (x - blank)[:, None] * seen).flatten(0, 1)
            probabilities = network(rows).double().softmax(1)
            own = probabilities.gather(1, c.repeat_interleave(len(some))[:, None]).view(len(x), len(some))
            total += torch.einsum("nm,m...->n...", own, some.to(total))
        return (total / (keep * masks)).to(x.dtype)[:, None]

    with torch.no_grad():
        return by_groups(explain, images, classes, rows=images_at_a_time)


def rise_masks(
    count: int, size: Sequence[int], *, cells: int = 7, keep: float = 0.5, seed: int = 0, at_a_time: int = 1000
) -> Iterator[Float[Tensor, "m *s"]]:
    """Draw masks: random grids of 0 and 1, enlarged bilinearly by one cell more than the image, cut out at random.

    Args:
        count: Number of masks.
        size: Of the image.
        cells: Cells on every axis.
        keep: Probability of 1.
        seed: Of all masks; how many come at a time changes none.
        at_a_time: Masks that are made at once.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> [tuple(masks.shape) for masks in rise_masks(5, (8, 8), at_a_time=3)]
        [(3, 8, 8), (2, 8, 8)]
    """
    at_least_one(masks=count, cells=cells)
    if not 0 < keep <= 1:
        raise ValueError(f"`keep` must be a probability above 0, got {keep}.")
    generator = torch.Generator().manual_seed(seed)
    cell = [math.ceil(length / cells) for length in size]
    grids = (torch.rand(count, *[cells] * len(size), generator=generator) < keep).float()
    shifts = torch.stack([torch.randint(0, c, (count,), generator=generator) for c in cell], 1)
    for some, starts in zip(grids.split(at_a_time), shifts.split(at_a_time), strict=True):
        large = resize_maps(some, [(cells + 1) * c for c in cell])
        windows = [
            tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))
            for corner in starts.tolist()
        ]
        yield torch.stack([mask[window] for mask, window in zip(large, windows, strict=True)])
