"""Fold batch normalisation into the preceding convolution: the same function with fewer passes over memory."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from distill.models.graph import NetworkGraph
from distill.models.staged import StagedNetwork

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_batch_norm(network: StagedNetwork, *, keep: Iterable[str] = ()) -> StagedNetwork:
    """Return a copy of a network with batch normalisation folded into the convolutions, for evaluation.

    Convention:
        - A batch normalisation is folded if its input is the output of a convolution, nothing else uses that output,
          and both modules are called once. All others stay, such as those before a convolution.
        - Outputs and maps are equal up to rounding; the weights are multiplied in float64.
        - A network that torch.fx cannot trace is only copied.
        - An identity replaces each folded layer, under the same path.

    Args:
        network: The network, in evaluation mode. It is not changed.
        keep: Layers that will be explained. A convolution whose output is the output of such a layer is not folded.

    Returns:
        The folded copy.

    Raises:
        ValueError: If the network is in training mode.

    Example:
        >>> from distill.models import create_model
        >>> net = create_model("wrn_10_1", num_classes=10).eval()
        >>> folded, images = fold_batch_norm(net), torch.rand(2, 3, 32, 32)
        >>> bool(torch.allclose(folded(images), net(images), atol=1e-5))
        True
    """
    if network.training:
        raise ValueError("`network` must be in evaluation mode, but it is in training mode; call `.eval()` first.")
    folded = copy.deepcopy(network)
    try:
        graph = NetworkGraph(folded.network)
    except Exception:  # torch.fx raises many types of exceptions; a network that it cannot trace is not folded
        return folded
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    kept_paths = {(folded.cuts | folded.taps).get(layer, layer) for layer in keep}
    kept_nodes = {graph.node(path) for path in kept_paths.intersection(graph.paths())}
    for node in list(graph.graph.nodes):
        norm = graph.module(node)
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if not isinstance(norm, _BatchNorm) or source is None or norm.running_mean is None:
            continue
        convolution = graph.module(source)
        used_once = calls[node.target] == 1 == calls[source.target] and len(source.users) == 1
        if isinstance(convolution, _CONVOLUTIONS) and used_once and source not in kept_nodes:
            dtype = convolution.weight.dtype
            with torch.no_grad():
                fused = fuse_conv_bn_eval(copy.deepcopy(convolution).double(), copy.deepcopy(norm).double())
            folded.network.set_submodule(str(source.target), fused.to(dtype).to(memory_format=torch.preserve_format))
            folded.network.set_submodule(str(node.target), nn.Identity().eval())
    return folded
