"""Attributions to pixels from the gradient of a logit, or from what a rule of its own makes of it; by Captum.

Convention:
    - ``network`` returns logits and is in evaluation mode; ``classes`` holds one class for every image.
    - Attributions are signed, (N, C, *S). What is made of them is said in :data:`ATTRIBUTIONS`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.explain.held_out.batching import (
    ROWS,
    Baseline,
    baseline_image,
    check_at_least_one,
    map_batches,
)
from distill.maps import resize_maps

Images = Float[Tensor, "n c *s"]
Classes = Int[Tensor, " n"]


def saliency(network: nn.Module, images: Images, classes: Classes, *, images_at_a_time: int = ROWS) -> Images:
    """Give the gradient of the logit."""
    from captum.attr import Saliency

    method = Saliency(network)
    return map_batches(lambda x, c: method.attribute(x, target=c, abs=False), images, classes, rows=images_at_a_time)


def input_x_gradient(network: nn.Module, images: Images, classes: Classes, *, images_at_a_time: int = ROWS) -> Images:
    """Give the gradient times the image: the logit's first-order change from a black image."""
    from captum.attr import InputXGradient

    method = InputXGradient(network)
    return map_batches(lambda x, c: method.attribute(x, target=c), images, classes, rows=images_at_a_time)


def integrated_gradients(
    network: nn.Module,
    images: Images,
    classes: Classes,
    *,
    baseline: Baseline = "black",
    steps: int = 50,
    images_at_a_time: int = ROWS,
) -> Images:
    """Give the gradient's mean on the straight way from the baseline, times the way.

    Args:
        network: See the head of this file.
        images: In [0, 1].
        classes: What is explained.
        baseline: Where the way begins.
        steps: Points of the Gauss-Legendre quadrature.
        images_at_a_time: Rows that pass the network at once, points included.
    """
    from captum.attr import IntegratedGradients

    check_at_least_one(steps=steps)
    method = IntegratedGradients(network)

    def explain(x: Tensor, c: Tensor) -> Tensor:
        nothing = baseline_image(x, baseline)
        return method.attribute(x, nothing, target=c, n_steps=steps, internal_batch_size=images_at_a_time)

    return map_batches(explain, images, classes, rows=images_at_a_time)


def smooth_grad(
    network: nn.Module,
    images: Images,
    classes: Classes,
    *,
    noise: float = 0.15,
    samples: int = 50,
    seed: int = 0,
    images_at_a_time: int = ROWS,
) -> Images:
    """Give the gradient's mean over noisy copies of the image.

    Convention:
        - All images meet the same noise, scaled to each: its neighbours do not change a map.

    Args:
        network: See the head of this file.
        images: In [0, 1].
        classes: What is explained.
        noise: Standard deviation, as a share of the image's largest difference of two values.
        samples: Number of copies.
        seed: Of the noise.
        images_at_a_time: Rows that pass the network at once.
    """
    from captum.attr import Saliency

    check_at_least_one(samples=samples)
    method = Saliency(network)

    def explain(x: Tensor, c: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        flat = x.flatten(1)
        spread = noise * (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (x.ndim - 1))
        total = torch.zeros_like(x)
        for _ in range(samples):
            drawn = torch.randn(x.shape[1:], generator=generator).to(x)
            total += method.attribute(x + spread * drawn, target=c, abs=False)
        return total / samples

    return map_batches(explain, images, classes, rows=images_at_a_time)


def guided_backprop(network: nn.Module, images: Images, classes: Classes, *, images_at_a_time: int = ROWS) -> Images:
    """Give the gradient where every ReLU hands back only what is positive, and only where it was open."""
    from captum.attr import GuidedBackprop

    method = GuidedBackprop(network)
    return map_batches(lambda x, c: method.attribute(x, target=c), images, classes, rows=images_at_a_time)


def deconvolution(network: nn.Module, images: Images, classes: Classes, *, images_at_a_time: int = ROWS) -> Images:
    """Give the gradient where every ReLU hands back only what is positive, whether or not it was open."""
    from captum.attr import Deconvolution

    method = Deconvolution(network)
    return map_batches(lambda x, c: method.attribute(x, target=c), images, classes, rows=images_at_a_time)


def guided_grad_cam(
    network: nn.Module,
    images: Images,
    classes: Classes,
    cams: Float[Tensor, "n *t"],
    *,
    images_at_a_time: int = ROWS,
) -> Images:
    """Give guided backpropagation times the layer's Grad-CAM map, resized linearly to the image."""
    guided = guided_backprop(network, images, classes, images_at_a_time=images_at_a_time)
    return guided * resize_maps(cams, images.shape[2:])[:, None]


def deep_lift(
    network: nn.Module,
    images: Images,
    classes: Classes,
    *,
    baseline: Baseline = "black",
    images_at_a_time: int = ROWS,
) -> Images:
    """Give DeepLIFT's contributions by the rescale rule; they add up to the logit's difference from the baseline's.

    Args:
        network: See the head of this file.
        images: In [0, 1].
        classes: What is explained.
        baseline: What an image is compared with.
        images_at_a_time: Rows that pass the network at once, baselines included.
    """
    from captum.attr import DeepLift

    method = DeepLift(network)

    def explain(x: Tensor, c: Tensor) -> Tensor:
        return method.attribute(x, baseline_image(x, baseline), target=c)

    return map_batches(explain, images, classes, rows=images_at_a_time, copies=2)
