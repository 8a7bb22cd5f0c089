"""See where a layer's activations change with a part of the images: find the axes of its sites, in their order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.models.calls import evaluation, uncompiled

#: A reading of the axes is right if the share of a half of the images differs by this much between two halves of the
#: sites, and by as much as the standard deviation over the sites: it is about half the difference for a right reading,
#: and several times the difference for a wrong one. Networks with random weights reach 0.15 to 1.
CLEAR = 0.1
#: Standard deviation of the shares over the sites, above which the halves can be told apart in the activations.
SPREAD = 0.2


class Probe(NamedTuple):
    """How activations change with halves of the images.

    Args:
        upper: For each value of the activations, how far it moves with the upper half of the images, and with the lower
            half.
        left: Likewise with the left and the right half.
        grids: Heights and widths of the outputs of the network's convolutions.
    """

    upper: tuple[Tensor, Tensor]
    left: tuple[Tensor, Tensor]
    grids: frozenset[tuple[int, int]]

    def agrees(self, to_maps: Callable[[Tensor], Tensor]) -> bool | None:
        """Return whether the sites of a reading of the axes lie where the images change; None if that is not seen.

        Args:
            to_maps: Brings the activations into the form (N, K, H, W).
        """
        upper, left = (_share(*(to_maps(part) for part in pair)) for pair in (self.upper, self.left))
        along = [(_contrast(share), float(share.std())) for share in (upper, left.T) if len(share) > 1]
        if not along:
            return None
        if all(contrast >= max(CLEAR, spread) for contrast, spread in along):
            return True
        least, most = min(along)[0], max(along)[0]
        along_one_axis = least < CLEAR / 2 and most >= 2 * CLEAR
        in_another_order = any(spread >= max(SPREAD, contrast) for contrast, spread in along)
        return False if along_one_axis or in_another_order else None


def probe(network: nn.Module, read: Callable[[Tensor], Tensor], *, channels: int, size: tuple[int, int]) -> Probe:
    """Read a layer for two random images, and for images that have one half of the first and one of the second.

    Convention:
        - Four forward passes of two images, in evaluation mode and without gradients.
        - Modes, batch statistics and the random state are the same afterwards.

    Args:
        network: The network whose layer is read.
        read: A function from images to the activations of the layer.
        channels: Number of image channels.
        size: Height and width of the images.
    """
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(1))
    devices = [like.device] if like.is_cuda else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.inference_mode(False),
        torch.no_grad(),
        evaluation(network),
        uncompiled(network),
        ExitStack() as hooks,
    ):
        torch.manual_seed(0)
        first, second = torch.randn(2, 2, channels, *size).to(like)
        upper, left = first.clone(), first.clone()
        upper[:, :, : size[0] // 2] = second[:, :, : size[0] // 2]
        left[..., : size[1] // 2] = second[..., : size[1] // 2]
        grids: set[tuple[int, int]] = set()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                hooks.enter_context(module.register_forward_hook(lambda m, i, out: grids.add(tuple(out.shape[-2:]))))
        values = []
        for images in (first, second, upper, left):
            torch.manual_seed(0)  # the same dropout in all passes, if it is active
            values.append(read(images).float())
    return Probe(
        upper=((values[2] - values[0]).abs(), (values[2] - values[1]).abs()),
        left=((values[3] - values[0]).abs(), (values[3] - values[1]).abs()),
        grids=frozenset(grids),
    )


def _share(mine: Float[Tensor, "n k h w"], other: Float[Tensor, "n k h w"]) -> Float[Tensor, "h w"]:
    """Return how much of the change of each site comes from the half of the images that is named first."""
    mine, other = mine.mean(1), other.mean(1)
    return (mine / (mine + other).clamp(min=torch.finfo(mine.dtype).tiny)).mean(0)


def _contrast(share: Float[Tensor, "h w"]) -> float:
    """Return the mean of the first half of the rows minus that of the last half."""
    half = len(share) // 2
    return float(share[:half].mean() - share[-half:].mean())
