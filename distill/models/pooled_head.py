"""Recognise heads that are global average pooling and one linear layer, however they are written.

The shape of the activations is followed through the head. Each axis is a product of factors: ``n`` for the samples,
``k`` for the channels, ``s0``, ``s1``, ... for the spatial axes; an axis of size 1 has no factors. A head is recognised
if every spatial factor is averaged once and the linear layer takes (n, k). What depends on actual sizes, such as the
kernel of ``avg_pool2d(x, 8)``, is checked against the activations of a forward pass.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distill.models.graph import DROPOUT, NetworkGraph
from distill.models.shape_reads import data_inputs, is_size


class _Axis(tuple[str, ...]):
    """An axis as a product of factors."""

    __slots__ = ()


_ONE, _UNKNOWN = _Axis(), object()
_Shape = tuple[_Axis, ...]


class PooledClassifier(NamedTuple):
    """A linear layer that follows global average pooling, if the sizes of a forward pass meet the conditions.

    Args:
        linear: The linear layer.
        axes: Number of spatial axes of the activations.
        sizes: Pairs of a factor and the size or the other factor that it must be equal to.
    """

    linear: nn.Linear
    axes: int
    sizes: tuple[tuple[str, int | str], ...]

    def fits(self, activations: Sequence[int], logits: Sequence[int]) -> bool:
        """Return whether the head is this classifier for the given shapes."""
        if len(activations) != self.axes + 2 or activations[1] != self.linear.in_features:
            return False
        if tuple(logits) != (activations[0], self.linear.out_features):
            return False
        named = dict(zip(_names(self.axes), activations, strict=True))
        return all(named[factor] == (named[size] if isinstance(size, str) else size) for factor, size in self.sizes)


def find_classifiers(graph: NetworkGraph, cut: fx.Node) -> tuple[PooledClassifier, ...]:
    """Return the classifier of a head for each possible number of spatial axes; empty if there is none.

    Example:
        >>> layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten(), nn.Linear(8, 2)]
        >>> graph = NetworkGraph(nn.Sequential(*layers))
        >>> [(found.axes, found.sizes) for found in find_classifiers(graph, graph.node("1"))]
        [(2, (('s0', 6), ('s1', 6)))]
    """
    nodes = _chain(graph, cut)
    followed = [_Follower(graph, cut, axes).follow(nodes) for axes in (1, 2, 3) if nodes]
    return tuple(found for found in followed if found is not None)


def find_linear_classifier(graph: NetworkGraph, cut: fx.Node) -> nn.Linear | None:
    """Return the linear layer if the head is global average pooling followed by that layer, else None.

    No forward pass is needed: the number of spatial axes is that of the nearest layers.
    """
    found = find_classifiers(graph, cut)
    nodes = _chain(graph, cut)
    known = graph.spatial_axes(nodes[0]) if found else None
    known = known or next((axes for node in nodes if (axes := _pooled_axes(node, graph.module(node)))), None)
    return next((one.linear for one in found if one.axes == known and _may_fit(graph, cut, one)), None)


def _chain(graph: NetworkGraph, cut: fx.Node) -> list[fx.Node]:
    """Return the operations from a cut to the logits if each takes the result of the one before, else nothing."""
    chain: list[fx.Node] = []
    node = graph.graph.output_node()
    while node is not cut:
        inputs = data_inputs(node)
        if len(inputs) != 1:
            return []
        chain.append(node)
        node = inputs[0]
    return chain[:0:-1]  # without the output node, in the order of the forward pass


def _may_fit(graph: NetworkGraph, cut: fx.Node, found: PooledClassifier) -> bool:
    """Return False if a window of fixed size is known to leave more than one site: there are too many features."""
    node, channels = cut, None
    while channels is None:
        module = graph.module(node)
        if isinstance(module, _BatchNorm):
            channels = module.num_features
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            channels = module.out_channels
        elif isinstance(module, (nn.ReLU, *DROPOUT)) or node.target in (F.relu, torch.relu, "relu", "relu_"):
            node = node.all_input_nodes[0]
        else:
            return True
    return channels == found.linear.in_features


def _names(axes: int) -> list[str]:
    return ["n", "k", *(f"s{i}" for i in range(axes))]


def _pooled_axes(node: fx.Node, module: nn.Module | None) -> int | None:
    """Return the number of axes that a pooling layer pools, or None if the operation is no such layer."""
    kinds = (
        (1, nn.AdaptiveAvgPool1d, nn.AvgPool1d, F.adaptive_avg_pool1d, F.avg_pool1d),
        (2, nn.AdaptiveAvgPool2d, nn.AvgPool2d, F.adaptive_avg_pool2d, F.avg_pool2d),
        (3, nn.AdaptiveAvgPool3d, nn.AvgPool3d, F.adaptive_avg_pool3d, F.avg_pool3d),
    )
    for axes, adaptive, average, *functions in kinds:
        if isinstance(module, (adaptive, average)) or (node.op == "call_function" and node.target in functions):
            return axes
    return None


class _Refused(Exception):  # noqa: N818
    """The head is not of the kind that is looked for."""


class _Follower:
    """Follows the shape of the activations through a head."""

    def __init__(self, graph: NetworkGraph, cut: fx.Node, axes: int) -> None:
        self.graph, self.axes = graph, axes
        self.shapes: dict[fx.Node, _Shape] = {cut: tuple(_Axis([name]) for name in _names(axes))}
        self.sizes: list[tuple[str, int | str]] = []
        self.averaged: set[str] = set()

    def follow(self, nodes: Sequence[fx.Node]) -> PooledClassifier | None:
        linear: nn.Linear | None = None
        try:
            for node in nodes:
                module = self.graph.module(node)
                shape = self.shapes[data_inputs(node)[0]]
                if isinstance(module, nn.Linear):
                    if linear is not None or shape != (_Axis("n"), _Axis("k")) or len(self.averaged) != self.axes:
                        return None
                    linear = module
                    self.shapes[node] = shape
                elif _keeps_values(node, module):
                    self.shapes[node] = shape
                elif linear is not None:
                    return None
                else:
                    self.shapes[node] = self.after(node, module, shape)
        except (_Refused, TypeError, IndexError, ValueError):  # arguments that do not fit this number of axes
            return None
        return None if linear is None else PooledClassifier(linear, self.axes, tuple(self.sizes))

    def after(self, node: fx.Node, module: nn.Module | None, shape: _Shape) -> _Shape:
        """Return the shape after an operation, and note what it averages."""
        if _pooled_axes(node, module) is not None:
            return self.pool(node, module, shape)
        if isinstance(module, nn.Flatten):
            return _flatten(shape, module.start_dim, module.end_dim)
        if module is not None or node.op not in ("call_function", "call_method"):
            raise _Refused
        name = node.target if isinstance(node.target, str) else _FUNCTIONS.get(node.target, "")
        rules: dict[str, Callable[..., _Shape]] = {
            "mean": self.mean,
            "view": self.view,
            "reshape": self.view,
            "flatten": _flatten,
            "squeeze": _squeeze,
            "permute": _permute,
            "getitem": _getitem,
        }
        if name not in rules:
            raise _Refused
        arguments = [self.value(argument) for argument in node.args[1:]]
        keywords = {key: self.value(value) for key, value in node.kwargs.items() if key != "input"}
        return rules[name](shape, *arguments, **keywords)

    def average(self, axis: _Axis) -> None:
        """Note that an axis is averaged; it must be spatial, and not be averaged already."""
        if not axis or any(not factor.startswith("s") for factor in axis):
            raise _Refused
        self.averaged.update(axis)

    def pool(self, node: fx.Node, module: nn.Module | None, shape: _Shape) -> _Shape:
        count = _pooled_axes(node, module)
        if count is None or len(shape) != count + 2:
            raise _Refused
        spatial = shape[2:]
        sizes = self.value(_argument(node, module, 1, "output_size"))
        if sizes is None:
            window = self.value(_argument(node, module, 1, "kernel_size"))
            windows = window if isinstance(window, list) else [window] * count
            padding = self.value(_argument(node, module, 3, "padding", 0))
            plain = {padding} if isinstance(padding, int) else set(padding)
            plain.add(_argument(node, module, 6, "divisor_override") or 0)
            if plain != {0} or len(windows) != count:
                raise _Refused
            for axis, size in zip(spatial, windows, strict=True):
                self.require(axis, size)
        elif any(size != 1 for size in (sizes if isinstance(sizes, list) else [sizes])):
            raise _Refused
        for axis in spatial:
            self.average(axis)
        return (*shape[:2], *[_ONE] * count)

    def require(self, axis: _Axis, size: Any) -> None:
        """Note that an axis must have a size."""
        if len(axis) != 1 or not (isinstance(size, int) or (isinstance(size, _Axis) and len(size) == 1)):
            raise _Refused
        if axis != size:
            self.sizes.append((axis[0], size if isinstance(size, int) else size[0]))

    def mean(self, shape: _Shape, dim: Any = None, keepdim: bool = False) -> _Shape:
        dims = {_index(one, len(shape)) for one in (dim if isinstance(dim, list) else [dim])}
        for one in dims:
            self.average(shape[one])
        if keepdim:
            return tuple(_ONE if i in dims else axis for i, axis in enumerate(shape))
        return tuple(axis for i, axis in enumerate(shape) if i not in dims)

    def view(self, shape: _Shape, *size: Any) -> _Shape:
        """Return the shape after `view` or `reshape`; each axis takes the next factors in order."""
        wanted = size[0] if len(size) == 1 and isinstance(size[0], list) else list(size)
        left = [factor for axis in shape for factor in axis]
        result = []
        for i, one in enumerate(wanted):
            if one in (1, _ONE):
                axis = _ONE
            elif isinstance(one, _Axis):
                axis = one
            elif i == 0 and left[:1] == ["n"]:  # a number of samples; the shape of the logits is checked
                axis = _Axis("n")
            elif one == -1 and all(rest in (1, _ONE) for rest in wanted[i + 1 :]):
                axis = _Axis(left)
            elif isinstance(one, int) and left[:1] == ["k"]:
                axis = _Axis("k")
                self.sizes.append(("k", one))
            else:
                raise _Refused
            if tuple(left[: len(axis)]) != axis:
                raise _Refused
            left = left[len(axis) :]
            result.append(axis)
        if left:
            raise _Refused
        return tuple(result)

    def value(self, argument: Any) -> Any:
        """Return an argument with sizes as axes, and sequences as lists."""
        if isinstance(argument, list | tuple | torch.Size):
            return [self.value(one) for one in argument]
        if not isinstance(argument, fx.Node):
            return argument
        if not is_size(argument):
            raise _Refused
        source = argument.args[0]
        if argument.target is operator.getitem:
            whole, index = self.value(source), argument.args[1]
            return whole[index] if isinstance(whole, list) and isinstance(index, int | slice) else _UNKNOWN
        shape = self.shapes.get(source) if isinstance(source, fx.Node) else None
        if shape is None:
            return _UNKNOWN
        if argument.target is len:
            return shape[0]
        if argument.target == "size":
            place: list[Any] = [*argument.args[1:], *argument.kwargs.values()]
            return shape[place[0]] if place else list(shape)
        return list(shape) if argument.target is getattr and argument.args[1] == "shape" else _UNKNOWN


_FUNCTIONS: dict[Any, str] = {
    torch.mean: "mean",
    torch.flatten: "flatten",
    torch.reshape: "reshape",
    torch.squeeze: "squeeze",
    torch.permute: "permute",
    operator.getitem: "getitem",
}
_FUNCTIONAL_DROPOUT = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout)


def _keeps_values(node: fx.Node, module: nn.Module | None) -> bool:
    is_contiguous = node.op == "call_method" and node.target in ("contiguous", "clone")
    is_function = node.op == "call_function" and node.target in _FUNCTIONAL_DROPOUT
    inactive = is_function and _argument(node, None, 2, "training", True) is False
    return isinstance(module, DROPOUT) or is_contiguous or inactive


def _argument(node: fx.Node, module: nn.Module | None, position: int, name: str, default: Any = None) -> Any:
    """Return an argument of a pooling function, or the attribute of the module."""
    if module is not None:
        return getattr(module, name, default)
    function = getattr(node.target, "__name__", "")
    if (name == "output_size") != function.startswith("adaptive") and name in ("output_size", "kernel_size"):
        return None
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _index(one: Any, length: int) -> int:
    if type(one) is not int or not -length <= one < length:
        raise _Refused
    return one % length


def _flatten(shape: _Shape, start_dim: Any = 0, end_dim: Any = -1) -> _Shape:
    start, end = _index(start_dim, len(shape)), _index(end_dim, len(shape))
    merged = _Axis(factor for axis in shape[start : end + 1] for factor in axis)
    return (*shape[:start], merged, *shape[end + 1 :])


def _squeeze(shape: _Shape, dim: Any = None) -> _Shape:
    if dim is None:
        return tuple(axis for axis in shape if axis)
    dims = {_index(one, len(shape)) for one in (dim if isinstance(dim, list) else [dim])}
    if any(shape[one] for one in dims):  # it would be removed only if its size happens to be 1
        raise _Refused
    return tuple(axis for i, axis in enumerate(shape) if i not in dims)


def _permute(shape: _Shape, *dims: Any) -> _Shape:
    order = [_index(one, len(shape)) for one in (dims[0] if isinstance(dims[0], list) else dims)]
    return tuple(shape[one] for one in order)


def _getitem(shape: _Shape, index: Any) -> _Shape:
    """Return the shape after `x[:, :, 0, 0]`: an axis of size 1 may be taken out, all others are kept whole."""
    parts = index if isinstance(index, list) else [index]
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    rest = [slice(None)] * (len(shape) - taken)
    place = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    axes, result = iter(shape), []
    for part in [*parts[:place], *rest, *parts[place + 1 :]]:
        if part is None:
            result.append(_ONE)
            continue
        axis = next(axes)
        if part == slice(None):
            result.append(axis)
        elif axis or part not in (0, -1):
            raise _Refused
    return tuple(result)
