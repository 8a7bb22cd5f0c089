"""Layouts: bring the activations of any layer, and the gradients with them, into the form (N, K, *S).

Transformers return tokens (N, T, K), and some networks have their channels on the last axis, (N, H, W, K). Whatever
reads maps takes them from :func:`read_maps`, so that explanations, losses and metrics know one form only. The
conversion selects and permutes values. It is linear, so the gradient of a score is converted in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.types import Head, LayerLayout, StagedOutput

Layout = Literal["auto", "nchw", "nhwc", "tokens"]

#: What to do about a layer that has no maps.
REMEDY = (
    "Give its layout where you name it (`layout: nchw`, `nhwc` or `tokens`) if you know it, explain another layer, or "
    "use a method that needs no layer, such as input_x_gradient or rise; see `distill list methods`."
)


class LayerMaps(NamedTuple):
    """Activations (N, K, *S) of a layer, and the part of the network that follows it; None if it has no head."""

    activations: Float[Tensor, "n k ..."]
    head: Head | None


def read_maps(output: StagedOutput, layer: str, layout: Layout = "auto") -> LayerMaps:
    """Return the activations of a layer in the form (N, K, *S), and its head as a function of them.

    Convention:
        - Tokens before those of the patches, such as a class token, are left out of the activations and of the
          gradients. The head uses their values of the forward pass.
        - Activations of at most two axes have no sites, and are returned as they are.

    Args:
        output: Output of the forward pass.
        layer: A layer that was read.
        layout: ``nchw``, ``nhwc``, ``tokens``, or ``auto`` to find it, see
            :class:`distill.models.layout_finder.LayoutFinder`.

    Raises:
        ValueError: If the layout is not certain and none was given, or the activations do not have it.

    Example:
        >>> from torchvision.models.vision_transformer import VisionTransformer
        >>> from distill.models.hooked import run_hooked
        >>> output = run_hooked(VisionTransformer(32, 8, 2, 2, 16, 32), torch.rand(1, 3, 32, 32), ["encoder.ln"])
        >>> output.activations["encoder.ln"].shape, read_maps(output, "encoder.ln").activations.shape
        (torch.Size([1, 17, 16]), torch.Size([1, 16, 4, 4]))
    """
    values, head = output.activations[layer], output.heads.get(layer)
    found = _layout(output, layer, values, layout)
    if found.problem:
        raise ValueError(found.problem)
    if found.kind == "nchw":
        return LayerMaps(values, head)
    maps = to_maps(values, found)
    return LayerMaps(maps, None if head is None else ConvertedHead(head, found, values, maps))


def to_maps(values: Float[Tensor, "n ..."], layout: LayerLayout) -> Float[Tensor, "n k *s"]:
    """Convert activations, or gradients in their form, to (N, K, *S).

    Example:
        >>> to_maps(torch.zeros(2, 7, 5), LayerLayout("tokens", prefix=1, grid=(3, 2))).shape
        torch.Size([2, 5, 3, 2])
    """
    if layout.kind == "tokens" and layout.grid is not None:
        return values[:, layout.prefix :].transpose(1, 2).unflatten(2, layout.grid)
    return values.movedim(-1, 1) if layout.kind == "nhwc" else values


def from_maps(
    maps: Float[Tensor, "n k *s"], layout: LayerLayout, prefix: Float[Tensor, "n p k"]
) -> Float[Tensor, "n ..."]:
    """Convert maps (N, K, *S) to the form of the layer; ``prefix`` holds the tokens before those of the patches."""
    if layout.kind == "tokens":
        tokens = maps.flatten(2).transpose(1, 2)
        return torch.cat([prefix.to(tokens.dtype), tokens], 1) if layout.prefix else tokens
    return maps.movedim(1, -1) if layout.kind == "nhwc" else maps


@dataclass(frozen=True, repr=False)
class ConvertedHead:
    """A head as a function of activations (N, K, *S), for a layer that has another form.

    Convention:
        - It implements :class:`distill.types.Head`.
    """

    head: Head
    layout: LayerLayout
    values: Tensor
    maps: Tensor

    @property
    def classifier(self) -> nn.Linear | None:
        """Always None: the closed form is for activations (N, K, *S)."""
        return None

    @property
    def logits(self) -> Float[Tensor, "n classes"]:
        """The logits of the forward pass."""
        return self.head.logits

    @property
    def has_dropout(self) -> bool:
        """Whether the forward pass used dropout in the head."""
        return self.head.has_dropout

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Compute logits from activations of the layer."""
        prefix = self.values[:, : self.layout.prefix]
        return self.head(from_maps(activations, self.layout, prefix.clone() if prefix.is_inference() else prefix))

    def obstacle(self, activations: Tensor) -> str | None:
        """Return why :meth:`pull_back` cannot be used for these activations, or None if it can."""
        return self.head.obstacle(self.values if activations is self.maps else activations)

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k *s"]:
        """Return the gradient of ``(cotangent * logits).sum()`` with respect to the activations."""
        return to_maps(self.head.pull_back(cotangent), self.layout)

    def with_running_statistics(self) -> ConvertedHead:
        """Return this head with running instead of batch statistics where the network keeps them."""
        return replace(self, head=self.head.with_running_statistics())


def _layout(output: StagedOutput, layer: str, values: Tensor, layout: Layout) -> LayerLayout:
    """Return the layout of a layer: the given one, or the one that is found."""
    shape = tuple(values.shape)
    if values.ndim < 3:
        return LayerLayout("nchw")
    if layout == "nchw" or layout == "nhwc":
        wrong = values.ndim == 3 and len(output.image_shape) == 4
        return LayerLayout(layout, problem=_mismatch(layer, layout, shape) if wrong else "")
    find = output.layouts.get(layer)
    found = LayerLayout("nchw") if find is None else find(output.image_shape, shape)
    if layout == "auto" or (found.kind == "tokens" and found.grid is None):
        return found
    return found._replace(problem="" if found.kind == "tokens" else _mismatch(layer, layout, shape))


def _mismatch(layer: str, layout: str, shape: tuple[int, ...]) -> str:
    axes = {"tokens": "(N, T, K)", "nhwc": "(N, H, W, K)", "nchw": "(N, K, H, W)"}[layout]
    return f"`layout` {layout!r} means activations {axes}, but `layer` {layer!r} returns {shape}. {REMEDY}"
