"""Find layers whose activations are not maps: tokens (N, T, K), and channels on the last axis (N, H, W, K)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from distill.models.graph import NetworkGraph

#: Sizes of the last axis that modules around a layer normalise or project, by the names of these modules' classes.
LastAxis = Mapping[str, tuple[int, ...]]
#: Modules that act on the last axis of their input; subclasses may permute the axes first.
LAST_AXIS_MODULES = (nn.LayerNorm, nn.Linear)

_REMEDY = (
    "Maps need the channels on axis 1, (N, K, H, W), as convolutions return them. Explain a layer with such "
    "activations, for example the patch embedding or a permutation before the pooling, or use a method that needs no "
    "layer, such as input_x_gradient or rise; see `distill list methods`."
)


@dataclass
class ReadOutput:
    """The last output of a module, and the modules of :data:`LAST_AXIS_MODULES` that read it directly."""

    returned: Tensor | None = None
    readers: list[nn.Module] = field(default_factory=list)


def record_readers(outputs: Collection[ReadOutput]) -> Callable[..., None]:
    """Return a forward pre-hook that adds its module to the readers of the outputs that it reads."""

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        for output in outputs:
            if inputs and inputs[0] is output.returned:
                output.readers.append(module)

    return hook


def last_axis_in_graph(graph: NetworkGraph, path: str) -> LastAxis:
    """Return the modules that act on the last axis of a layer, which is named by its dotted path."""
    users = [graph.module(user) for user in graph.node(path).users]
    readers = [module for module in users if module is not None and type(module) in LAST_AXIS_MODULES]
    module = dict(graph.network.named_modules()).get(path)  # a path of the graph can also be that of a function
    return last_axis_around(nn.Identity() if module is None else module, readers)


def last_axis_around(module: nn.Module, readers: Iterable[nn.Module]) -> LastAxis:
    """Return the modules that act on the last axis of a module's output.

    Args:
        module: The module. The modules inside it count if it has no convolution, pooling or batch normalisation.
        readers: Modules of :data:`LAST_AXIS_MODULES` that read its output directly.
    """
    inner = list(module.modules())
    if any(re.search(r"[123]d$", cls.__name__) for one in inner for cls in type(one).__mro__):
        inner = []
    found: dict[str, list[int]] = {}
    for modules, reads in ((inner, False), (readers, True)):
        for one in modules:
            found.setdefault(type(one).__name__, []).extend(_last_axis_sizes(one, reads=reads))
    return {name: tuple(sizes) for name, sizes in found.items() if sizes}


def layout_problems(
    images: Any, activations: Mapping[str, Tensor], last_axis: Mapping[str, LastAxis]
) -> dict[str, str]:
    """Return why the activations of layers are not maps, by layer; layers with maps are left out.

    Convention:
        - Only what is certain is reported. Activations (N, T, K) of images (N, C, H, W) are no maps. Activations of
          four axes are channels-last if a module normalises or projects their last axis, and its size differs from that
          of axis 1.

    Args:
        images: Input of the network.
        activations: Activations by layer.
        last_axis: The modules that act on the last axis, by layer.
    """
    problems = {}
    for layer, values in activations.items():
        shape = tuple(values.shape)
        if values.ndim == 3 and isinstance(images, Tensor) and images.ndim == 4:
            problems[layer] = (
                f"`layer` {layer!r} returns activations of 3 axes, {shape}, for images of 4 axes: tokens (N, T, K), "
                f"whose positions in the image are unknown. {_REMEDY}"
            )
        elif values.ndim == 4:
            acting = [name for name, sizes in last_axis.get(layer, {}).items() if shape[3] in sizes]
            if acting and shape[1] != shape[3]:
                problems[layer] = (
                    f"`layer` {layer!r} returns activations (N, H, W, K) = {shape}: its channels are on the last axis, "
                    f"on which {acting[0]} acts. {_REMEDY}"
                )
    return problems


def _last_axis_sizes(module: nn.Module, *, reads: bool) -> Sequence[int]:
    """Return the size of the last axis that a module reads, or that it returns; empty if it is no such module."""
    if type(module) is nn.LayerNorm:
        return module.normalized_shape if len(module.normalized_shape) == 1 else ()
    if type(module) is nn.Linear:
        return (module.in_features if reads else module.out_features,)
    return ()
