"""Gradient-based attributions to pixels, computed by Captum.

Convention:
    - ``network`` returns logits and is in evaluation mode; ``classes`` holds one class per image.
    - Attributions are signed and have shape (N, C, *S). :data:`distill.explain.ATTRIBUTIONS` defines how they are
      reduced to maps.
    - ``images_at_a_time`` limits the images in one forward pass, including copies.
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
    """Return the gradient of the logit with respect to the image."""
    from captum.attr import Saliency

    method = Saliency(network)
    return map_batches(lambda x, c: method.attribute(x, target=c, abs=False), images, classes, rows=images_at_a_time)


def input_x_gradient(network: nn.Module, images: Images, classes: Classes, *, images_at_a_time: int = ROWS) -> Images:
    """Return the gradient times the image: the first-order change of the logit from a black image."""
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
    """Return integrated gradients: the mean gradient between the baseline and the image, times their difference.

    Args:
        network: A network in evaluation mode that returns logits.
        images: Images with values in [0, 1].
        classes: The explained class of each image.
        baseline: Start of the straight line along which gradients are averaged: ``black`` or ``mean``.
        steps: Number of points of the Gauss-Legendre quadrature, at least 1.
        images_at_a_time: Limit of the images in one forward pass, including points on the line.

    Raises:
        ValueError: If an option is out of its range.
    """
    from captum.attr import IntegratedGradients

    check_at_least_one(steps=steps)
    method = IntegratedGradients(network)

    def explain(x: Tensor, c: Tensor) -> Tensor:
        start = baseline_image(x, baseline)
        return method.attribute(x, start, target=c, n_steps=steps, internal_batch_size=images_at_a_time)

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
    """Return the mean gradient over noisy copies of the image (SmoothGrad).

    Convention:
        - All images get the same noise up to a factor, so the map of an image does not depend on the other images.

    Args:
        network: A network in evaluation mode that returns logits.
        images: Images with values in [0, 1].
        classes: The explained class of each image.
        noise: Standard deviation of the noise, as a fraction of the range of the image's values.
        samples: Number of noisy copies, at least 1.
        seed: Seed of the noise.
        images_at_a_time: Limit of the images in one forward pass.

    Raises:
        ValueError: If ``samples`` is below 1.
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
            unit_noise = torch.randn(x.shape[1:], generator=generator).to(x)
            total += method.attribute(x + spread * unit_noise, target=c, abs=False)
        return total / samples

    return map_batches(explain, images, classes, rows=images_at_a_time)


def guided_backprop(network: nn.Module, images: Images, classes: Classes, *, images_at_a_time: int = ROWS) -> Images:
    """Return guided backpropagation: ReLUs pass back positive gradients, and only where their input was positive."""
    from captum.attr import GuidedBackprop

    method = GuidedBackprop(network)
    return map_batches(lambda x, c: method.attribute(x, target=c), images, classes, rows=images_at_a_time)


def deconvolution(network: nn.Module, images: Images, classes: Classes, *, images_at_a_time: int = ROWS) -> Images:
    """Return the deconvolution gradient: ReLUs pass back positive gradients, whatever their input was."""
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
    """Return guided backpropagation times the Grad-CAM maps ``cams``, resized linearly to the size of the images."""
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
    """Return DeepLIFT contributions by the rescale rule.

    They sum to the difference between the logits of the image and of the baseline.

    Args:
        network: A network in evaluation mode that returns logits.
        images: Images with values in [0, 1].
        classes: The explained class of each image.
        baseline: The reference image: ``black`` or ``mean``.
        images_at_a_time: Limit of the images in one forward pass, including baselines.

    Raises:
        ValueError: If ``baseline`` is unknown.
    """
    from captum.attr import DeepLift

    method = DeepLift(network)

    def explain(x: Tensor, c: Tensor) -> Tensor:
        return method.attribute(x, baseline_image(x, baseline), target=c)

    return map_batches(explain, images, classes, rows=images_at_a_time, copies=2)
