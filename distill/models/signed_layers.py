"""`signed_layers`: which layers of a network have negative activations."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distill.models.calls import evaluation
from distill.models.final_layer import SIZES, fixed_seed, without_zeros
from distill.models.staged import StagedNetwork


def signed_layers(network: StagedNetwork, layers: Sequence[str], *, size: int | None = None) -> tuple[str, ...]:
    """Return the layers whose activations have negative values: those of two random images in evaluation mode.

    Convention:
        - The sign follows from the operations, so the weights may be random. Parameters that are zero are random here.
        - Modes, parameters, batch statistics and the random state are the same afterwards.

    Args:
        network: The network.
        layers: Names of cuts or taps, or dotted paths of modules.
        size: Height and width of the images in pixels that are tried first, before those that networks usually take.

    Raises:
        ValueError: If a layer does not exist, or the network can be run at none of the sizes.

    Example:
        >>> from distill.models import create_model
        >>> signed_layers(create_model("wrn_10_1", num_classes=10), ["final", "block2.layer.0.conv1"])
        ('block2.layer.0.conv1',)
    """
    sizes = [size, network.spec.options.get("image_size"), *sorted(SIZES)]
    with fixed_seed(), evaluation(network), without_zeros(network.network), torch.no_grad():
        for layer in layers:
            network.check_layer(layer)
        reason: Exception | None = None
        for one in dict.fromkeys(size for size in sizes if isinstance(size, int)):
            try:
                activations = network.run(_random_images(network, one), layers).activations
            except Exception as error:  # networks raise many types of exceptions for images that do not fit
                reason = error
                continue
            return tuple(layer for layer in layers if bool((activations[layer] < 0).any()))
    raise ValueError(f"{network.spec.name} cannot be run on random images: {reason}.") from reason


def _random_images(network: StagedNetwork, size: int) -> torch.Tensor:
    """Return images that are standard normal after the normalisation."""
    scaling = network.normalise
    like = next((p for p in network.network.parameters() if p.is_floating_point()), scaling.mean)
    return (torch.randn(2, network.spec.in_channels, size, size) * scaling.std + scaling.mean).to(like)
