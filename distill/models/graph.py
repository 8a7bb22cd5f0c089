"""`NetworkGraph`: a network traced by torch.fx, with access to its layers and to the part that follows each of them."""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.feature_extraction import NodePathTracer

from distill.errors import without_addresses
from distill.models.double_backward import hardsigmoid
from distill.models.shape_reads import data_inputs, is_size, traceable_len

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity)


def is_in_place(node: fx.Node, network: nn.Module) -> bool:
    """Return whether an operation overwrites its first input."""
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    if node.target in (operator.iadd, operator.imul) or (name.endswith("_") and not name.endswith("__")):
        return True
    if isinstance(node.target, str):
        return False
    try:
        return bool(inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments.get("inplace"))
    except (TypeError, ValueError):  # builtins have neither a signature nor an argument `inplace`
        return False


def redirect_overwritten_reads(graph: fx.Graph, network: nn.Module) -> dict[fx.Node, tuple[fx.Node, ...]]:
    """Let operations that read an overwritten value read the result of the in-place operation instead.

    Returns:
        For each in-place operation, the values that it overwrites: its first input, followed by the values that may
        share memory with that input through an identity or an inactive dropout.
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    overwritten: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for node in graph.nodes:
        if not node.all_input_nodes or not is_in_place(node, network):
            continue
        aliases = [node.all_input_nodes[0]]
        while aliases[-1].op == "call_module" and isinstance(network.get_submodule(str(aliases[-1].target)), DROPOUT):
            aliases.append(aliases[-1].all_input_nodes[0])
        overwritten[node] = tuple(aliases)
        for value in aliases:
            for later in [user for user in value.users if order[user] > order[node]]:
                later.replace_input_with(value, node)
    return overwritten


_SPATIAL = {(-1,), (2,), (-2, -1), (2, 3), (-3, -2, -1), (2, 3, 4)}


def spatial_axes(node: fx.Node, network: nn.Module) -> int | None:
    """Return the number of spatial axes of an operation's input, or None if it is unknown.

    The number is taken from the class name of the nearest preceding layer that ends with it, such as ``Conv2d``.
    """
    frontier = data_inputs(node)
    for before in frontier:
        if before.op == "call_module":
            classes = type(network.get_submodule(str(before.target))).__mro__
            match = next((m for cls in classes if (m := re.search(r"([123])d$", cls.__name__))), None)
            if match:
                return int(match[1])
        frontier += [n for n in data_inputs(before) if n not in frontier]
    return None


def is_global_pooling(node: fx.Node, module: nn.Module | None, axes: int | None) -> bool:
    """Return whether an operation averages each channel over all sites.

    Args:
        node: The operation.
        module: The module that the node calls, if any.
        axes: Number of spatial axes of the input, if it is known.
    """
    if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d):
        size = module.output_size
        return size == 1 or (isinstance(size, tuple) and all(s == 1 for s in size))
    if node.op == "call_function" and node.target is F.adaptive_avg_pool2d:
        return (*node.args[1:], *node.kwargs.values()) in ((1,), ((1, 1),))
    if (node.op, node.target) in {("call_method", "mean"), ("call_function", torch.mean)}:
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        dims = tuple(dims) if isinstance(dims, tuple | list) else (dims,)
        return dims in _SPATIAL and len(dims) == axes
    return False


_RESHAPES = ("flatten", "view", "reshape", "squeeze", "unsqueeze")


def is_reshape(node: fx.Node, module: nn.Module | None) -> bool:
    """Return whether an operation changes the axes of a value, but neither its numbers nor their order."""
    if isinstance(module, nn.Flatten):
        return True
    if any(isinstance(argument, torch.dtype) for argument in (*node.args, *node.kwargs.values())):
        return False  # `view` of another type
    functions = tuple(getattr(torch, name) for name in _RESHAPES if name != "view")
    is_method = node.op == "call_method" and node.target in _RESHAPES
    return is_method or (node.op == "call_function" and node.target in functions)


def _known(inside: Container[fx.Node], size: fx.Node) -> bool:
    """Return whether a size is computed from given values alone."""
    return all(before in inside or (is_size(before) and _known(inside, before)) for before in size.all_input_nodes)


_CONSTANT = "__constant_"
_NETWORK = "network_"


class NetworkGraph:
    """A traced network whose nodes can be found by the dotted paths of its modules.

    Args:
        network: A module that maps one tensor to logits, without data-dependent control flow.
    """

    def __init__(self, network: nn.Module) -> None:
        tracer = _Tracer()
        self.network = network
        with traceable_len(network):
            self.graph = tracer.trace(network)
        self._overwritten = redirect_overwritten_reads(self.graph, network)
        self._nodes: dict[str, fx.Node] = {}
        for node, path in tracer.node_to_qualname.items():
            parts = path.split(".")
            for end in range(1, len(parts) + 1):
                self._nodes[".".join(parts[:end])] = node
        for path, returned in tracer.returned.items():
            self._nodes.pop(path, None)
            if isinstance(returned, fx.Proxy):
                self._nodes[path] = returned.node
        self._output = next(node for node in self.graph.nodes if node.op == "output")

    @property
    def logits(self) -> fx.Node:
        """The node whose value the network returns."""
        return self._output.all_input_nodes[0]

    def fix_optional_inputs(self) -> None:
        """Replace the inputs of the network that have defaults by these, such as a mask that is None.

        Otherwise the value of such an input would bypass every layer, and no layer before its last use would be a cut.
        """
        for node in [node for node in self.graph.nodes if node.op == "placeholder" and node.args]:

            def default(one: fx.Node, node: fx.Node = node) -> Any:
                return node.args[0] if one is node else one

            for user in list(node.users):
                user.args, user.kwargs = map_arg(user.args, default), map_arg(user.kwargs, default)
            self._nodes = {path: kept for path, kept in self._nodes.items() if kept is not node}
            self.graph.erase_node(node)

    def node(self, path: str) -> fx.Node:
        """Return the node whose value is the output of a module; of its last call if it is called more than once."""
        return self._nodes[path]

    def paths(self) -> list[str]:
        """Return the dotted paths of the layers that can be read, in the order of the forward pass."""
        return list(self._nodes)

    def head_nodes(self, cut: fx.Node) -> list[fx.Node] | None:
        """Return the nodes between a cut and the logits, or None if the node is not a cut.

        A node is a cut if every path from the images to the logits passes through it. Sizes such as ``x.shape[0]``
        are no path, and are not returned.
        """
        nodes, bypassing = self.following(cut)
        return None if bypassing or is_size(cut) else nodes

    def following(self, layer: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
        """Return the nodes between a layer and the logits, and the values on paths from the images that bypass it."""
        after, of_images, seen = {layer}, set(self.graph.find_nodes(op="placeholder")), {layer}
        for node in self.graph.nodes:
            for reached in (after, of_images):
                if any(before in reached for before in data_inputs(node)):
                    reached.add(node)
        frontier = [self._output]
        while frontier:
            for node in data_inputs(frontier.pop()):
                if node not in seen:
                    seen.add(node)
                    frontier += [node] * (node in after or node not in of_images)
        nodes = [node for node in self.graph.nodes if node in seen and node is not layer]
        bypassing = [node for node in nodes if node not in after and node in of_images]
        return [node for node in nodes if node not in bypassing], bypassing

    def head_sizes(self, cut: fx.Node) -> dict[fx.Node, bool]:
        """Return the sizes that a head uses, and whether each must be recorded in the forward pass.

        Sizes of values in the head are computed in the head; all others must be recorded.
        """
        nodes, _ = self.following(cut)
        inside = {cut, *nodes}
        sizes: dict[fx.Node, bool] = {}
        frontier = [before for node in nodes for before in node.all_input_nodes if is_size(before)]
        for node in frontier:
            sizes[node] = not _known(inside, node)
            frontier += [n for n in node.all_input_nodes if not sizes[node] and is_size(n) and n not in frontier]
        return sizes

    def batch_norms(self, nodes: Iterable[fx.Node]) -> dict[str, _BatchNorm]:
        """Return the batch normalisation modules among nodes, by the name of the node."""
        modules = {node.name: self.module(node) for node in nodes}
        return {name: module for name, module in modules.items() if isinstance(module, _BatchNorm)}

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls, or None if it calls a function."""
        return self.network.get_submodule(str(node.target)) if node.op == "call_module" else None

    def spatial_axes(self, node: fx.Node) -> int | None:
        """Return the number of spatial axes of an operation's input, or None if it is unknown."""
        return spatial_axes(node, self.network)

    def reading(self, nodes: Mapping[str, fx.Node]) -> fx.GraphModule:
        """Build the forward pass that returns the logits and, by name, the values of the given nodes."""
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        logits = graph.graph_copy(self.graph, copies)
        for node, values in self._overwritten.items():
            if any(value in nodes.values() for value in values):
                with graph.inserting_before(copies[node]):
                    clone = graph.call_function(torch.clone, (copies[values[0]],))
                copies[node].replace_input_with(copies[values[0]], clone)
        graph.output((logits, {name: copies[node] for name, node in nodes.items()}))
        return self._build(graph)

    def head(self, cut: fx.Node) -> fx.GraphModule:
        """Build the head of a layer: the function (activations, statistics, *recorded sizes, *bypassing) -> logits.

        Convention:
            - The recorded sizes are those of :meth:`head_sizes`, in that order. The last inputs are the values that
              bypass the layer, see :meth:`following`; a cut has none.
            - Batch normalisation uses the given constants: ``statistics`` maps the name of its node to
              (mean, variance).
            - Dropout is inactive, as in evaluation mode.
            - Hardsigmoid can be differentiated twice.
        """
        nodes, bypassing = self.following(cut)
        graph = fx.Graph()
        copies = {cut: graph.placeholder("activations")}
        statistics = graph.placeholder("statistics")
        modules: dict[str, nn.Module] = {}
        sizes = self.head_sizes(cut)
        recorded = [node for node, is_recorded in sizes.items() if is_recorded]
        copies |= {node: graph.placeholder(node.name) for node in (*recorded, *bypassing)}
        needed = {*nodes, *sizes} - {*recorded}
        for node in [node for node in self.graph.nodes if node in needed]:
            module = self.module(node)
            inputs = copies
            overwrites = self._overwritten.get(node, ())
            if cut in overwrites:
                inputs = {**copies, overwrites[0]: graph.call_function(torch.clone, (copies[overwrites[0]],))}
            if isinstance(module, _BatchNorm):
                constant = _CONSTANT + node.name
                modules[constant] = _ConstantBatchNorm(module)
                values = graph.call_function(operator.getitem, (statistics, node.name))
                copies[node] = graph.call_module(constant, (copies[node.all_input_nodes[0]], values))
            elif isinstance(module, DROPOUT):
                copies[node] = copies[node.all_input_nodes[0]]
            elif isinstance(module, nn.Hardsigmoid) or node.target is F.hardsigmoid:
                copies[node] = graph.call_function(hardsigmoid, (copies[node.all_input_nodes[0]],))
            else:
                copies[node] = graph.node_copy(node, inputs.__getitem__)
        graph.output(copies[self.logits])
        return self._build(graph, modules)

    def _build(self, graph: fx.Graph, constants: Mapping[str, nn.Module] = MappingProxyType({})) -> fx.GraphModule:
        targets: dict[str, Any] = dict(constants)
        for node in graph.nodes:
            if node.op in ("call_module", "get_attr") and node.target not in constants:
                value = operator.attrgetter(node.target)(self.network)
                if node.op == "get_attr":  # looked up in the network in each pass, as its buffers may be replaced
                    node.target = f"{_NETWORK}.{node.target}"
                targets[node.target] = value
        built = fx.GraphModule(targets, graph)
        setattr(built, _NETWORK, self.network)
        return built


def try_trace(network: nn.Module) -> tuple[NetworkGraph | None, str]:
    """Trace a network of images; return None and the reason if torch.fx cannot, or if it does not return a tensor.

    Example:
        >>> class Branches(nn.Module):
        ...     def forward(self, x):
        ...         return x if x.sum() > 0 else -x
        >>> try_trace(Branches())[1]
        'symbolically traced variables cannot be used as inputs to control flow'
    """
    try:
        graph = NetworkGraph(network)
        graph.fix_optional_inputs()
    except Exception as error:  # torch.fx raises many types of exceptions
        return None, without_addresses(str(error)).rstrip(".")
    returned = graph.graph.output_node().args[0]
    is_record = isinstance(returned, fx.Node) and returned.op == "call_function" and isinstance(returned.target, type)
    if is_record or not isinstance(returned, fx.Node | tuple):
        return None, "it returns an object"
    return graph, ""


class _Tracer(NodePathTracer):
    """Record the value that each module returned last; it may differ from the value that it computed last."""

    def __init__(self) -> None:
        super().__init__()
        self.returned: dict[str, Any] = {}

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        returned = super().call_module(m, forward, args, kwargs)
        self.returned[self.path_of_module(m)] = returned
        return returned


class _ConstantBatchNorm(nn.Module):
    """Batch normalisation with given statistics; it shares the affine parameters of the original module."""

    def __init__(self, original: _BatchNorm) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: Float[Tensor, "n k *s"], statistics: tuple[Tensor, Tensor]) -> Float[Tensor, "n k *s"]:
        mean, variance = statistics
        return F.batch_norm(x, mean, variance, self.original.weight, self.original.bias, False, 0.0, self.original.eps)
