"""Find the layer `final`: the last feature map before the pooling, after its last activation or normalisation.

Two ways find it. If the traced network ends with global average pooling and one linear layer, the pooled value is the
layer. Otherwise the network is run once on random images, and the outputs of its modules are looked at from the last
one to the first.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from distill.models.calls import evaluation, read_again, read_logits, uncompiled
from distill.models.graph import DROPOUT, NetworkGraph
from distill.models.layout_finder import LayoutFinder, returns_channels_first
from distill.models.pooled_head import find_linear_classifier

#: Height and width of the images that a network is tried with, until one fits, in pixels.
SIZES = (224, 64, 32, 28, 96, 128, 256, 299)
#: Names of classes that pool, such as AvgPool2d, SelectAdaptivePool2d and MaxPool2dSame.
_POOLING = re.compile(r"Pool(ing)?(\dd)?(Same)?$")
_ACTIVATIONS = ("relu", "relu_", "relu6", "leaky_relu", "elu", "silu", "gelu", "hardswish", "mish", "sigmoid", "tanh")


class ReadModule(NamedTuple):
    """The output of one call of a module.

    Args:
        path: Dotted path of the module.
        module: The module.
        output: Its output; a later operation may have overwritten its values.
        version: Counts the operations that had written into the output when the module returned it.
        negative: Whether it contains negative values.
        edge: Its place in the autograd graph.
    """

    path: str
    module: nn.Module
    output: Tensor
    version: int
    negative: bool
    edge: GradientEdge


class Trial(NamedTuple):
    """The logits of a network on random images, the outputs of its modules as they returned them, and the images."""

    logits: Tensor
    outputs: list[ReadModule]
    images: Tensor


def try_network(network: nn.Module, *, in_channels: int, size: int | Sequence[int]) -> Trial:
    """Run a network in evaluation mode on two random images, and keep the outputs of its modules that have positions.

    Convention:
        - Outputs have positions if they are tokens (N, T, K) or maps (N, K, H, W) with more than one position.
        - Parameters that are zero, such as those of a new classifier, are random in this pass: what depends on what is
          then seen from the gradients.
        - Modes, parameters, batch statistics and the random state are the same afterwards.

    Args:
        network: A module from images to logits.
        in_channels: Number of image channels.
        size: Height and width of the images, in pixels.
    """
    outputs: list[ReadModule] = []

    def record(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if (
                isinstance(output, Tensor)
                and output.is_floating_point()
                and output.requires_grad
                and _sites(output) > 1
            ):
                negative = bool((output.detach() < 0).any())
                outputs.append(ReadModule(path, module, output, output._version, negative, get_gradient_edge(output)))

        return hook

    with (
        fixed_seed(),
        torch.inference_mode(False),
        torch.enable_grad(),
        without_zeros(network),
        evaluation(network),
        uncompiled(network),
        ExitStack() as hooks,
    ):
        for path, module in network.named_modules():
            if path:
                hooks.enter_context(module.register_forward_hook(record(path)))
        like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(1))
        height, width = (size, size) if isinstance(size, int) else size
        images = torch.randn(2, in_channels, height, width).to(like).requires_grad_()
        logits = read_logits(network(images))
    return Trial(logits, outputs, images)


@contextmanager
def fixed_seed() -> Iterator[None]:
    """Draw the same random numbers each time, and restore the random state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


@contextmanager
def without_zeros(network: nn.Module) -> Iterator[None]:
    """Replace parameters that are zero by random ones, and restore them afterwards."""
    zeros = [(p, p.data) for p in network.parameters() if p.is_floating_point() and not bool(p.detach().any())]
    try:
        for parameter, values in zeros:
            parameter.data = torch.randn_like(values) * 0.02
        yield
    finally:
        for parameter, values in zeros:
            parameter.data = values


def find_final(
    network: nn.Module,
    *,
    in_channels: int = 3,
    size: int | Sequence[int] | None = None,
    graph: NetworkGraph | None = None,
) -> dict[str, str]:
    """Find the last feature map before the pooling, after its last activation or normalisation.

    Convention:
        - If the network is traced, the layer is a cut, unless its activations are tokens.
        - Values after a pooling layer are not used, nor are maps of the classes, whose logits are their means: a logit
          must depend on more than one channel. Of tokens, the logits must depend on most. If the logits are read from a
          class token, the layer is therefore the input of the last attention, such as ``blocks.11.norm1``: after it,
          the gradient is zero at all patches.
        - Projections of tokens, such as the keys and values of an attention, and activations whose layout is not
          certain are not used.

    Args:
        network: A module from images to logits.
        in_channels: Number of image channels.
        size: Height and width of the images, in pixels. Default: the first of :func:`named_sizes` and :data:`SIZES`
            that fits.
        graph: The traced network; None if it cannot be traced.

    Returns:
        ``{"final": path}`` with the dotted path of the layer, or an empty dict if there is no such layer.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1800, 2))
        >>> find_final(net, size=32)
        {'final': '1'}
    """
    if graph is not None:
        for path in graph.paths():
            if find_linear_classifier(graph, graph.node(path)) is not None:
                return {"final": path}
    sizes: list[int | Sequence[int]] = [*named_sizes(network), *SIZES] if size is None else [size]
    for one in sizes:
        # networks raise many types of exceptions for images that do not fit
        with suppress(Exception), torch.inference_mode(False), torch.enable_grad():
            trial = try_network(network, in_channels=in_channels, size=one)
            chosen = _choose(trial, network, tuple(trial.images.shape), graph)
            return {} if chosen is None else {"final": chosen}
    return {}


def named_sizes(network: nn.Module) -> list[tuple[int, int]]:
    """Return the sizes of images (height, width) that a network's modules name, as those that take only one size do.

    Example:
        >>> from torchvision.models.vision_transformer import VisionTransformer
        >>> named_sizes(VisionTransformer(48, 16, 1, 2, 16, 32))
        [(48, 48)]
    """
    found = []
    for module in network.modules():
        for holder in (module, getattr(module, "config", None)):
            for name in ("image_size", "img_size"):
                size = getattr(holder, name, None)
                pair = (size, size) if isinstance(size, int) else size
                if isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(n, int) for n in pair):
                    found.append((pair[0], pair[1]))
    return list(dict.fromkeys(found))


def feature_maps(trial: Trial) -> list[ReadModule]:
    """Return the outputs that are no pooled values, each once, in the order of the forward pass.

    If several modules return the same value, the one with the shortest path is kept, without identities and dropout.
    """
    pooled = {_identity(one) for one in trial.outputs if _POOLING.search(type(one.module).__name__)}
    kept: dict[tuple[int, int], ReadModule] = {}
    for one in trial.outputs:
        key = _identity(one)
        if key in pooled or isinstance(one.module, DROPOUT):
            continue
        if key not in kept or one.path.count(".") < kept[key].path.count("."):
            kept[key] = one
    return list(kept.values())


def _identity(one: ReadModule) -> tuple[int, int]:
    return id(one.output), one.version


def _sites(output: Tensor) -> int:
    shape = output.shape
    return shape[1] if output.ndim == 3 else shape[2] * shape[3] if output.ndim == 4 else 0


def _choose(trial: Trial, network: nn.Module, size: Sequence[int], graph: NetworkGraph | None) -> str | None:
    """Return the path of the last suitable output; the last one of all if no logit has a gradient."""
    maps = [one for one in reversed(feature_maps(trial)) if graph is None or _can_be_read(graph, one)]
    for one in maps:
        if _carries_features(trial.logits, one) and _has_layout(network, one, size):
            return one.path if graph is None or one.output.ndim == 3 else _after_activations(graph, one.path)
    return maps[0].path if maps else None


def _can_be_read(graph: NetworkGraph, one: ReadModule) -> bool:
    return one.path in graph.paths() and (one.output.ndim == 3 or _is_cut(graph, one.path))


def _has_layout(network: nn.Module, one: ReadModule, size: Sequence[int]) -> bool:
    if returns_channels_first(one.module):
        return True
    read = functools.partial(read_again, network, one.module, torch.zeros(1))
    return not LayoutFinder(one.path, network, read)(tuple(size), tuple(one.output.shape)).problem


def _is_cut(graph: NetworkGraph, path: str) -> bool:
    return graph.head_nodes(graph.node(path)) is not None


def _carries_features(logits: Tensor, one: ReadModule) -> bool:
    """Return whether a logit depends on more than one channel of maps, and on at least half of the tokens."""
    score = logits[:, 0].sum()
    gradient: Any = torch.autograd.grad(score, one.edge, retain_graph=True, allow_unused=True)[0]
    if gradient is None or (one.output.ndim == 3 and isinstance(one.module, nn.Linear)):
        return False
    used = int((gradient.transpose(0, 1).flatten(1) != 0).any(1).sum())
    tokens = one.output.ndim == 3
    return used >= one.output.shape[1] / 2 if tokens else used > 1


def _after_activations(graph: NetworkGraph, path: str) -> str:
    """Return the path after the functional activations that follow a layer, such as `F.relu(self.features(x))`."""
    paths: dict[fx.Node, str] = {graph.node(name): name for name in reversed(graph.paths())}
    node = graph.node(path)
    while len(node.users) == 1:
        (user,) = node.users
        is_activation = (
            user.op in ("call_function", "call_method")
            and str(getattr(user.target, "__name__", user.target)) in _ACTIVATIONS
        )
        if not is_activation or user not in paths:
            break
        node, path = user, paths[user]
    return path
