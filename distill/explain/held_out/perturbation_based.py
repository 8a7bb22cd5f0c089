"""Perturbation-based attributions: occlusion and LIME by Captum, and RISE.

Convention:
    - ``network`` returns logits and is in evaluation mode; ``classes`` holds one class per image.
    - A region is hidden in all channels at once, so attributions have shape (N, 1, *S) and are signed.

References:
    Petsiuk, Das & Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018,
    arXiv 1806.07421. Deliberate differences from the authors' code: masked pixels become a baseline (black by default),
    not 0 after normalisation; the bilinear enlargement uses ``align_corners=False``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.explain.held_out.batching import (
    ROWS,
    Baseline,
    baseline_image,
    check_at_least_one,
    copies_per_batch,
    map_batches,
)
from distill.maps import resize_maps

Images = Float[Tensor, "n c *s"]
Classes = Int[Tensor, " n"]
Sites = Float[Tensor, "n 1 *s"]


def occlusion(
    network: nn.Module,
    images: Images,
    classes: Classes,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: Baseline = "black",
    images_at_a_time: int = ROWS,
) -> Sites:
    """Give how much the logit falls when a window is hidden, as the mean over the windows that hide a site.

    Args:
        network: See the head of this file.
        images: In [0, 1].
        classes: What is explained.
        window: Side of the window in pixels; a quarter of the image's shortest side if left out.
        stride: Its steps, at most its side; half of it if left out.
        baseline: What is seen in the window.
        images_at_a_time: Rows that pass the network at once, copies of an image included.

    Raises:
        ValueError: if the window does not fit into the image, or steps over a part of it.
    """
    from captum.attr import Occlusion

    shortest = min(images.shape[2:])
    window = max(1, shortest // 4) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= window <= shortest:
        raise ValueError(f"`window` must be from 1 to the image's shortest side, {shortest}; got {window}.")
    if not 1 <= stride <= window:
        raise ValueError(f"`stride` must be from 1 to the window's side, {window}; got {stride}.")
    axes = images.ndim - 2
    shape, strides = (images.shape[1], *[window] * axes), (images.shape[1], *[stride] * axes)
    method = Occlusion(network)

    def explain(x: Tensor, c: Tensor) -> Tensor:
        found: Tensor = method.attribute(
            x,
            sliding_window_shapes=shape,
            strides=strides,
            baselines=baseline_image(x, baseline),
            target=c,
            perturbations_per_eval=copies_per_batch(x, rows=images_at_a_time),
        )
        return found[:, :1]

    with torch.no_grad():
        return map_batches(explain, images, classes, rows=images_at_a_time)


def lime(
    network: nn.Module,
    images: Images,
    classes: Classes,
    *,
    patches: int = 8,
    samples: int = 500,
    penalty: float = 1.0,
    baseline: Baseline = "black",
    seed: int = 0,
    images_at_a_time: int = ROWS,
) -> Sites:
    """Give the weights of a linear model of the logit in which patches are seen.

    Convention:
        - Patches lie in a grid: no segmentation has a say. A sample sees each with probability 1/2 and counts by
          exp(-d^2 / 2), d the cosine distance of its pixels to the image's, as Captum has it.
        - The model is ridge regression with an intercept, as in the authors' code for images.
        - All images meet the same samples: its neighbours do not change a map.

    Args:
        network: See the head of this file.
        images: In [0, 1].
        classes: What is explained.
        patches: Patches on every axis.
        samples: Number of copies of an image.
        penalty: On the squares of the weights.
        baseline: What is seen in the place of a hidden patch.
        seed: Of the samples.
        images_at_a_time: Rows that pass the network at once.
    """
    from captum.attr import Lime

    check_at_least_one(patches=patches, samples=samples)
    method = Lime(network, interpretable_model=Ridge(penalty))
    grid = patch_grid(images.shape[2:], patches).to(images.device)[None, None]

    def explain(x: Tensor, c: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            found: Tensor = method.attribute(
                x,
                baselines=baseline_image(x, baseline),
                target=c,
                feature_mask=grid,
                n_samples=samples,
                perturbations_per_eval=images_at_a_time,
            )
        return found[:, :1]

    with torch.no_grad():
        return map_batches(explain, images, classes, rows=1)


def patch_grid(size: Sequence[int], patches: int) -> Int[Tensor, " *s"]:
    """Number the patches of a grid, site by site; an axis that is shorter has as many as it has sites.

    Example:
        >>> patch_grid([2, 4], 2)
        tensor([[0, 0, 1, 1],
                [2, 2, 3, 3]])
    """
    counts = [min(patches, length) for length in size]
    numbers = torch.zeros(*size, dtype=torch.int64)
    for axis, (length, count) in enumerate(zip(size, counts, strict=True)):
        along = torch.arange(length) * count // length
        numbers += (along * math.prod(counts[axis + 1 :])).view(-1, *itertools.repeat(1, len(size) - axis - 1))
    return numbers


class Ridge:
    """Weighted ridge regression with an intercept that is not penalised, in the words of Captum's models."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self._weights = torch.empty(0)

    def fit(self, train_data: Any, **_: object) -> None:
        """Solve for (inputs, outputs, weights of the samples)."""
        inputs, outputs, sample = (
            torch.cat([part.double().flatten(1) for part in parts]) for parts in _columns(train_data)
        )
        share = sample / sample.sum()
        inputs, outputs = inputs - (share * inputs).sum(0), outputs - (share * outputs).sum(0)
        square = inputs.T @ (sample * inputs) + self.penalty * torch.eye(inputs.shape[1]).to(inputs)
        self._weights = torch.linalg.solve(square, inputs.T @ (sample * outputs))[:, 0]

    def representation(self) -> Tensor:
        """Give the weights, one for every input, without the intercept."""
        return self._weights.float()


def _columns(batches: Any) -> Any:
    rows = [(x, y.view(-1, 1), w.view(-1, 1)) for x, y, w in batches]
    return zip(*rows, strict=True)


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
        blank = baseline_image(x, baseline)
        total = torch.zeros(len(x), *x.shape[2:], dtype=torch.float64, device=x.device)
        copies = copies_per_batch(x, rows=images_at_a_time)
        for some in rise_masks(masks, x.shape[2:], cells=cells, keep=keep, seed=seed, at_a_time=copies):
            seen = some.to(x)[None, :, None]
            rows = (blank[:, None] + (x - blank)[:, None] * seen).flatten(0, 1)
            probabilities = network(rows).double().softmax(1)
            own = probabilities.gather(1, c.repeat_interleave(len(some))[:, None]).view(len(x), len(some))
            total += torch.einsum("nm,m...->n...", own, some.to(total))
        return (total / (keep * masks)).to(x.dtype)[:, None]

    with torch.no_grad():
        return map_batches(explain, images, classes, rows=images_at_a_time)


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
    check_at_least_one(masks=count, cells=cells)
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
