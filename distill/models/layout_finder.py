"""`LayoutFinder`: find out which axes of a layer's activations are its channels and its sites."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import activation

from distill.models.graph import DROPOUT, NetworkGraph
from distill.models.layout_probe import Probe, probe
from distill.models.layouts import REMEDY, to_maps
from distill.types import LayerLayout, Shape

#: Names of parameters that are tokens without a place in the images.
_PREFIX = re.compile(r"(?:^|[._])(?:cls|class|dist|distillation|reg|register)_?tokens?$")
#: Functions and methods that keep the axes of their input.
_KEEPING = re.compile(
    r"^(relu6?|leaky_relu|elu|silu|gelu|hard(swish|sigmoid|tanh)|mish|sigmoid|tanh|dropout.*|stochastic_depth|batch_norm)_?$"
)
#: Functions that return (N, K, *S).
_CHANNELS_FIRST = re.compile(r"(conv|pool|dropout).*[23]d$")
_JOINING = (operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul, torch.cat)
#: Layouts that were found, by network; then by layer, shape of the images and shape of the activations.
_FOUND: WeakKeyDictionary[nn.Module, dict[tuple[str, Shape, Shape], LayerLayout]] = WeakKeyDictionary()


class LayoutFinder:
    """Find the layout of a layer from shapes, and from where its activations change with a part of the images.

    Convention:
        - Of images (N, C, H, W), activations of three axes are tokens (N, T, K). Their grid has the height and width of
          a convolution of the network, such as its patch embedding, else those of the images divided by one number.
          What is left are tokens without a place, which come first: as many as the network names, else one or none.
        - Activations of four axes are (N, K, H, W) or (N, H, W, K). One half of random images is changed: the sites are
          the axes along which the change is seen in the same half, above and below, left and right. If it is seen
          nowhere, the sites are the axes that have the shape of the images.
        - Tokens in another order than that of the rows, attention matrices and windows fail this test. Their layout
          is not certain, which ``problem`` says.
        - Activations of other inputs than images, or of other numbers of axes, are taken as (N, K, *S).
        - A layout is found once for each network, layer and shape.

    Args:
        layer: The layer.
        network: The network whose layer is read.
        read: A function from images to the activations of the layer.
    """

    def __init__(self, layer: str, network: nn.Module, read: Callable[[Tensor], Tensor]) -> None:
        self.layer, self.network, self.read = layer, network, read

    def __call__(self, images: Shape, activations: Shape) -> LayerLayout:
        """Return the layout for a shape of the images and of the activations."""
        if len(images) != 4 or len(activations) not in (3, 4):
            return LayerLayout("nchw")
        if images[0] != activations[0]:
            text = f"for {images[0]} images: windows, or other parts of the images"
            return LayerLayout("tokens" if len(activations) == 3 else "nhwc", problem=self._say(activations, text))
        known, key = _FOUND.setdefault(self.network, {}), (self.layer, images[1:], activations[1:])
        if key not in known:
            seen: Probe | None = None
            with suppress(Exception):  # networks raise many types of exceptions for images that do not fit
                seen = probe(self.network, self.read, channels=images[1], size=(images[2], images[3]))
            find = self._tokens if len(activations) == 3 else self._maps
            known[key] = find(images, activations, seen)
        return known[key]

    def _tokens(self, images: Shape, activations: Shape, seen: Probe | None) -> LayerLayout:
        size, count, named = (images[2], images[3]), activations[1], prefix_tokens(self.network)
        found = find_grid(size, count, prefixes=(named, 0, 1), grids=frozenset() if seen is None else seen.grids)
        if found is None:
            text = f"tokens (N, T, K) that fill no grid of {size[0]} x {size[1]} pixels with {named} tokens before it"
            return LayerLayout("tokens", problem=self._say(activations, text))
        layout = LayerLayout("tokens", *found)
        if seen is not None and seen.agrees(lambda values: to_maps(values, layout)) is False:
            text = "tokens (N, T, K), but not in the order of the rows of the image"
            return layout._replace(problem=self._say(activations, text))
        return layout

    def _maps(self, images: Shape, activations: Shape, seen: Probe | None) -> LayerLayout:
        candidates = {"nchw": activations[2:], "nhwc": activations[1:3]}
        agrees: dict[str, bool | None] = dict.fromkeys(candidates)
        if seen is not None:
            agrees = {"nchw": seen.agrees(lambda v: v), "nhwc": seen.agrees(lambda v: v.movedim(-1, 1))}
        right = [kind for kind, agreed in agrees.items() if agreed]
        if not right:
            right = [
                kind
                for kind, (height, width) in candidates.items()
                if agrees[kind] is None and abs(height * images[3] - width * images[2]) <= 2 * max(images[2:])
            ]
        if right == ["nchw"] or right == ["nhwc"]:
            return LayerLayout("nchw" if right == ["nchw"] else "nhwc")
        text = "either (N, K, H, W) or (N, H, W, K)" if right else "neither (N, K, H, W) nor (N, H, W, K)"
        return LayerLayout("nchw", problem=self._say(activations, f"{text} for all that can be seen"))

    def _say(self, shape: Shape, text: str) -> str:
        return f"`layer` {self.layer!r} returns activations {shape}, {text}. {REMEDY}"


def prefix_tokens(network: nn.Module) -> int:
    """Return the number of tokens that a network puts before those of the patches, by its attributes.

    Example:
        >>> from torchvision.models.vision_transformer import VisionTransformer
        >>> prefix_tokens(VisionTransformer(32, 8, 1, 2, 16, 32))
        1
    """
    for module in network.modules():
        named: Any = getattr(module, "num_prefix_tokens", None)
        if isinstance(named, int):
            return named
    tokens = [p for name, p in network.named_parameters() if _PREFIX.search(name) and p.ndim == 3 and len(p) == 1]
    return sum(parameter.shape[1] for parameter in tokens)


def find_grid(
    size: tuple[int, int], count: int, *, prefixes: tuple[int, ...], grids: frozenset[tuple[int, int]]
) -> tuple[int, tuple[int, int]] | None:
    """Return the number of tokens without a place and the grid of the others; None if there are none, or several.

    Args:
        size: Height and width of the images.
        count: Number of tokens.
        prefixes: Numbers of tokens without a place, the most likely first.
        grids: Heights and widths that are tried first.

    Example:
        >>> find_grid((32, 64), 33, prefixes=(1, 0), grids=frozenset())
        (1, (4, 8))
    """
    strides = range(1, max(size) + 1)
    divided = {(math.ceil(size[0] / s), math.ceil(size[1] / s)) for s in strides}
    divided |= {(size[0] // s, size[1] // s) for s in strides}
    for known in (grids, divided):
        for prefix in prefixes:
            fitting = [grid for grid in known if math.prod(grid) == count - prefix]
            if len(fitting) == 1:
                return prefix, fitting[0]
    return None


def returns_channels_first(module: nn.Module) -> bool:
    """Return whether a module certainly returns (N, K, *S): one of torch such as ``Conv2d``, or a chain of them.

    Example:
        >>> returns_channels_first(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
        True
        >>> returns_channels_first(nn.LayerNorm(4))
        False
    """
    if type(module) is nn.Sequential:
        children = [child for child in module if not _keeps_axes(child)]
        return bool(children) and returns_channels_first(children[-1])
    return any(
        re.search(r"[23]d$", cls.__name__) and cls.__module__.startswith("torch.nn") for cls in type(module).__mro__
    )


def is_channels_first(graph: NetworkGraph, node: fx.Node) -> bool:
    """Return whether a value of a traced network is certainly (N, K, *S).

    It is if it comes from such an operation through others that keep the axes; sums and products have them from either
    input.
    """
    frontier = [node]
    for one in frontier:
        module, name = graph.module(one), str(getattr(one.target, "__name__", one.target))
        is_call = one.op in ("call_function", "call_method")
        if returns_channels_first(module) if module is not None else is_call and _CHANNELS_FIRST.match(name):
            return True
        if _keeps_axes(module) if module is not None else is_call and (_KEEPING.match(name) or one.target in _JOINING):
            frontier += [before for before in one.all_input_nodes if before not in frontier]
    return False


def _keeps_axes(module: nn.Module) -> bool:
    return isinstance(module, DROPOUT) or (
        type(module).__module__ == activation.__name__ and not isinstance(module, nn.MultiheadAttention | nn.GLU)
    )
