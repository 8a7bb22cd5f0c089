"""Perturbation-based attributions: occlusion and LIME, computed by Captum, and RISE.

Convention:
    - ``network`` returns logits and is in evaluation mode; ``classes`` holds one class per image.
    - Regions are hidden in all channels at once, so attributions have shape (N, 1, *S). They are signed.
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
    """Return the decrease of the logit when a window is hidden; for each site the mean over the windows that cover it.

    Args:
        network: A network in evaluation mode that returns logits.
        images: Images with values in [0, 1].
        classes: The explained class of each image.
        window: Side of the window in pixels; by default a quarter of the shortest side of the image.
        stride: Distance between windows in pixels, at most ``window``; by default half of it.
        baseline: The content of the hidden window: ``black`` or ``mean``.
        images_at_a_time: Limit of the images in one forward pass, including copies.

    Raises:
        ValueError: If the window does not fit into the image, the stride is larger than the window, or ``baseline`` is
            unknown.
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
        values: Tensor = method.attribute(
            x,
            sliding_window_shapes=shape,
            strides=strides,
            baselines=baseline_image(x, baseline),
            target=c,
            perturbations_per_eval=copies_per_batch(x, rows=images_at_a_time),
        )
        return values[:, :1]

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
    """Return the weights of a linear model that predicts the logit from the visible patches (LIME).

    Convention:
        - Patches form a regular grid instead of a segmentation. In each sample, a patch is visible with probability
          1/2. Samples are weighted by exp(-d^2 / 2), with d the cosine distance of their pixels to those of the image,
          as in Captum.
        - The model is ridge regression with an intercept, as in the authors' code for images.
        - All images use the same samples, so the map of an image does not depend on the other images.

    Args:
        network: A network in evaluation mode that returns logits.
        images: Images with values in [0, 1].
        classes: The explained class of each image.
        patches: Number of patches along each axis, at least 1.
        samples: Number of perturbed copies of an image, at least 1.
        penalty: Factor of the squared weights in ridge regression.
        baseline: The content of hidden patches: ``black`` or ``mean``.
        seed: Seed of the samples.
        images_at_a_time: Limit of the images in one forward pass.

    Raises:
        ValueError: If an option is out of its range.
    """
    from captum.attr import Lime

    check_at_least_one(patches=patches, samples=samples)
    method = Lime(network, interpretable_model=Ridge(penalty))
    grid = patch_grid(images.shape[2:], patches).to(images.device)[None, None]

    def explain(x: Tensor, c: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            values: Tensor = method.attribute(
                x,
                baselines=baseline_image(x, baseline),
                target=c,
                feature_mask=grid,
                n_samples=samples,
                perturbations_per_eval=images_at_a_time,
            )
        return values[:, :1]

    with torch.no_grad():
        return map_batches(explain, images, classes, rows=1)


def patch_grid(size: Sequence[int], patches: int) -> Int[Tensor, " *s"]:
    """Return the index of each site's patch in a regular grid; an axis shorter than ``patches`` has fewer patches.

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
    """Weighted ridge regression with an unpenalised intercept, with the interface of Captum's linear models."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self._weights = torch.empty(0)

    def fit(self, train_data: Any, **_: object) -> None:
        """Fit the weights to batches of (inputs, outputs, sample weights)."""
        inputs, outputs, sample = (
            torch.cat([part.double().flatten(1) for part in parts]) for parts in _columns(train_data)
        )
        share = sample / sample.sum()
        inputs, outputs = inputs - (share * inputs).sum(0), outputs - (share * outputs).sum(0)
        square = inputs.T @ (sample * inputs) + self.penalty * torch.eye(inputs.shape[1]).to(inputs)
        self._weights = torch.linalg.solve(square, inputs.T @ (sample * outputs))[:, 0]

    def representation(self) -> Tensor:
        """Return the weights of the inputs, without the intercept."""
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
    r"""Return the mean of random masks, weighted by the probability of the class for the masked image (RISE).

    .. math:: \frac{1}{\mathrm{keep} \cdot \mathrm{masks}} \sum_m p_c(x \odot M_m + b \odot (1 - M_m))\, M_m

    Convention:
        - All images use the same masks, as in the authors' code, so the map of an image does not depend on the other
          images.
        - Differences from the authors' code: masked pixels are set to a baseline (black by default) instead of 0 after
          normalisation, and bilinear upsampling uses ``align_corners=False``.

    Args:
        network: A network in evaluation mode that returns logits.
        images: Images with values in [0, 1].
        classes: The explained class of each image.
        masks: Number of masks, at least 1.
        cells: Number of cells of a mask along each axis before upsampling, at least 1.
        keep: Probability that a cell is visible, in (0, 1].
        baseline: The content of masked pixels: ``black`` or ``mean``.
        seed: Seed of the masks.
        images_at_a_time: Limit of the images in one forward pass, including masked copies.

    Raises:
        ValueError: If an option is out of its range.

    References:
        Petsiuk, Das & Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018,
        arXiv 1806.07421.
    """

    def explain(x: Tensor, c: Tensor) -> Tensor:
        blank = baseline_image(x, baseline)
        total = torch.zeros(len(x), *x.shape[2:], dtype=torch.float64, device=x.device)
        copies = copies_per_batch(x, rows=images_at_a_time)
        for chunk in rise_masks(masks, x.shape[2:], cells=cells, keep=keep, seed=seed, at_a_time=copies):
            visible = chunk.to(x)[None, :, None]
            rows = (blank[:, None] + (x - blank)[:, None] * visible).flatten(0, 1)
            probabilities = network(rows).double().softmax(1)
            scores = probabilities.gather(1, c.repeat_interleave(len(chunk))[:, None]).view(len(x), len(chunk))
            total += torch.einsum("nm,m...->n...", scores, chunk.to(total))
        return (total / (keep * masks)).to(x.dtype)[:, None]

    with torch.no_grad():
        return map_batches(explain, images, classes, rows=images_at_a_time)


def rise_masks(
    count: int, size: Sequence[int], *, cells: int = 7, keep: float = 0.5, seed: int = 0, at_a_time: int = 1000
) -> Iterator[Float[Tensor, "m *s"]]:
    """Generate random masks: binary grids, upsampled bilinearly to one cell more than the image, and cropped at random.

    Args:
        count: Number of masks, at least 1.
        size: Spatial shape of the image.
        cells: Number of cells along each axis, at least 1.
        keep: Probability that a cell is 1, in (0, 1].
        seed: Seed of the masks; the masks do not depend on ``at_a_time``.
        at_a_time: Number of masks per chunk.

    Yields:
        Chunks of masks with values in [0, 1].

    Raises:
        ValueError: If a number is out of its range.

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
    for chunk, starts in zip(grids.split(at_a_time), shifts.split(at_a_time), strict=True):
        large = resize_maps(chunk, [(cells + 1) * c for c in cell])
        windows = [
            tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))
            for corner in starts.tolist()
        ]
        yield torch.stack([mask[window] for mask, window in zip(large, windows, strict=True)])
