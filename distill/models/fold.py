"""Batch normalisation folded into the convolution before it: the same function with fewer passes over memory."""

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
    """Copy a network for evaluation, with every batch normalisation folded that a convolution alone feeds.

    Convention:
        - Folded where the convolution's output goes nowhere else and each of the two is called once; the others, such
          as those before a convolution, stay. Outputs and maps are equal up to rounding: the weights are multiplied in
          float64.
        - In the place of a folded layer stands an identity, under the same path.

    Args:
        network: Is left as it is.
        keep: Layers that are explained; a convolution that is one of them, or the last of one, keeps its own output.

    Raises:
        ValueError: if the network trains.

    Example:
        >>> from distill.models import create_model
        >>> net = create_model("wrn_10_1", num_classes=10).eval()
        >>> folded, images = fold_batch_norm(net), torch.rand(2, 3, 32, 32)
        >>> bool(torch.allclose(folded(images), net(images), atol=1e-5))
        True
    """
    if network.training:
        raise ValueError("only a network in evaluation mode can be folded; call `.eval()` first.")
    folded = copy.deepcopy(network)
    graph = NetworkGraph(folded.network)
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    paths = {(folded.cuts | folded.taps).get(layer, layer) for layer in keep}
    kept = {graph.node(path) for path in paths.intersection(graph.paths())}
    for node in list(graph.graph.nodes):
        norm = graph.module(node)
        before = node.all_input_nodes[0] if node.all_input_nodes else None
        if not isinstance(norm, _BatchNorm) or before is None or norm.running_mean is None:
            continue
        convolution = graph.module(before)
        once = calls[node.target] == 1 == calls[before.target] and len(before.users) == 1
        if isinstance(convolution, _CONVOLUTIONS) and once and before not in kept:
            dtype = convolution.weight.dtype
            with torch.no_grad():
                fused = fuse_conv_bn_eval(copy.deepcopy(convolution).double(), copy.deepcopy(norm).double())
            folded.network.set_submodule(str(before.target), fused.to(dtype).to(memory_format=torch.preserve_format))
            folded.network.set_submodule(str(node.target), nn.Identity().eval())
    return folded
