"""`StagedNetwork`: a classifier whose named layers can be read and cut."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.errors import warn_input
from distill.models.class_selection import select_output
from distill.models.final_layer import find_final
from distill.models.graph import NetworkGraph, try_trace
from distill.models.hooked import run_hooked
from distill.models.read_plan import ReadPlan
from distill.types import StagedOutput


class ModelSpec(NamedTuple):
    """The data needed to rebuild a network; it is saved next to the weights."""

    name: str
    num_classes: int
    in_channels: int = 3
    options: Mapping[str, Any] = {}
    classes: tuple[str, ...] = ()


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        """Normalise images, clips or sequences with values in [0, 1]."""
        shape = (-1, *[1] * (images.ndim - 2))
        return (images - self.mean.view(shape)) / self.std.view(shape)


class StagedNetwork(nn.Module):
    """A network with its input normalisation, whose layers can be read and cut.

    Convention:
        - Images are float in [0, 1]. The first layer normalises them by the network's mean and standard deviation.
        - A *cut* is a layer through which every path from the images to the logits passes. A *tap* can be read, but
          has no head.
        - A layer can also be named by the dotted path of a module. Whether it is a cut is then determined from the
          traced network.
        - If torch.fx cannot trace the network, its layers are read by hooks and differentiated by autograd, see
          :func:`distill.models.hooked.run_hooked`; a warning says so once. Every module can then be explained.
        - The layer ``final`` is the last feature map before the pooling, see
          :func:`distill.models.final_layer.find_final`. It is found when it is first asked for. In a transformer that
          reads the logits from a class token, this token bypasses the layer; its values are then constants of the head.
        - Reading layers takes one forward pass, and updates batch statistics once.

    Args:
        network: A module from normalised images to logits, or to an object with an attribute ``logits``.
        spec: The data needed to rebuild the network.
        cuts: Dotted path of the module for each named cut; None to look for ``final``.
        taps: Dotted path of the module for each named tap.
        mean: Mean of each channel, for images in [0, 1]; 0 by default.
        std: Standard deviation of each channel, for images in [0, 1]; 1 by default.

    Attributes:
        spec: The data needed to rebuild the network; number and names of the classes are those of the logits.
        full_spec: The same with all classes, if the network was restricted by :meth:`select_classes`.

    Example:
        >>> from distill.models import create_model
        >>> net = create_model("wrn_10_1", num_classes=10).eval()
        >>> output = net.run(torch.rand(2, 3, 32, 32), ["group2"])
        >>> output.activations["group2"].shape, output.logits.shape
        (torch.Size([2, 32, 16, 16]), torch.Size([2, 10]))
        >>> bool(torch.allclose(output.heads["group2"](output.activations["group2"]), output.logits, atol=1e-5))
        True
    """

    columns: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        *,
        cuts: Mapping[str, str] | None,
        taps: Mapping[str, str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean or [0.0] * spec.in_channels, std or [1.0] * spec.in_channels)
        self.network = network
        self.spec = self.full_spec = spec
        self.register_buffer("columns", None, persistent=False)
        self._cuts = None if cuts is None else dict(cuts)
        self.taps = dict(taps or {})
        self._graphs: dict[bool, NetworkGraph | None] = {}
        self._plans: dict[tuple[bool, tuple[str, ...]], ReadPlan | None] = {}
        self._reason = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits; their indices if the classes have no names."""
        return self.spec.classes or tuple(str(i) for i in range(self.spec.num_classes))

    @property
    def cuts(self) -> dict[str, str]:
        """Dotted path of the module for each named cut."""
        if self._cuts is None:
            size = self.spec.options.get("image_size")
            self._cuts = find_final(
                self.network, in_channels=self.spec.in_channels, size=size, graph=self._traced(quiet=True)
            )
        return self._cuts

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Compute the logits."""
        output = self.network(self.normalise(images))
        is_record = not isinstance(output, Tensor | tuple) and isinstance(getattr(output, "logits", None), Tensor)
        logits = output.logits if is_record else output
        return logits if self.columns is None else logits[:, self.columns]

    def run(self, images: Float[Tensor, "n c h w"], layers: Sequence[str] = ()) -> StagedOutput:
        """Run one forward pass and read layers from it.

        Args:
            images: Images with values in [0, 1].
            layers: Names of cuts or taps, or dotted paths of modules.

        Returns:
            The logits, the activations of the layers, and the head of each layer that is a cut.

        Raises:
            ValueError: If a layer does not exist.
        """
        if not layers:
            return StagedOutput(self(images))
        self._prepare(tuple(layers))
        plan = self._plans[self.training, tuple(layers)]
        output = self._run_hooked(images, layers) if plan is None else plan.run(self.normalise(images))
        return output if self.columns is None else select_output(output, self.columns)

    def select_classes(self, columns: Sequence[int], classes: Sequence[str] = ()) -> StagedNetwork:
        """Return the network restricted to some of its classes: its logits are the selected columns, in their order.

        Convention:
            - The softmax of the selected logits is over these classes only.
            - Parameters and modules are shared. Saving stores the whole network.

        Args:
            columns: Index of each selected class in the logits, each once.
            classes: Names of the selected classes; the network's own names if left out.

        Example:
            >>> from distill.models import create_model
            >>> net, images = create_model("wrn_10_1", num_classes=10).eval(), torch.rand(2, 3, 16, 16)
            >>> bool((net.select_classes([7, 2])(images) == net(images)[:, [7, 2]]).all())
            True
        """
        names = tuple(classes) or (tuple(self.spec.classes[i] for i in columns) if self.spec.classes else ())
        index = torch.tensor(columns, device=self.normalise.mean.device)
        selected = copy.copy(self)
        selected._buffers = {**self._buffers, "columns": index if self.columns is None else self.columns[index]}
        selected.spec = self.spec._replace(num_classes=len(columns), classes=names)
        return selected

    @torch.compiler.disable
    def _run_hooked(self, images: Tensor, layers: Sequence[str]) -> StagedOutput:
        output = run_hooked(self.network, self.normalise(images), {layer: self._path(layer) for layer in layers})
        heads = {layer: head for layer, head in output.heads.items() if layer not in self.taps}
        return replace(output, heads=heads)

    def check_layer(self, layer: str) -> None:
        """Raise a ValueError that lists the closest layers if the layer does not exist."""
        paths = self.paths()
        if self._path(layer) not in paths:
            names = [*self.cuts, *self.taps]
            known = f"one of {', '.join(names)} for {self.spec.name}, or " if names else ""
            modules = [path for path, _ in self.network.named_modules() if path in paths]
            near = difflib.get_close_matches(layer, modules, n=3, cutoff=0.4) or modules[-3:]
            of = "" if names else f" of {self.spec.name}"
            path = f"the dotted path of a module in its forward pass{of}, such as {', '.join(near)}"
            raise ValueError(
                f"`layer` must be {known}{path}; got {layer!r}. See `distill list layers {self.spec.name}`."
            )

    def paths(self) -> list[str]:
        """Return the dotted paths of the layers that can be read."""
        graph = self._traced()
        return [path for path, _ in self.network.named_modules() if path] if graph is None else graph.paths()

    def is_cut(self, layer: str) -> bool:
        """Return whether a layer, which must exist, can be explained by a method that needs gradients."""
        graph = self._traced()
        if layer in self.taps or graph is None:
            return layer not in self.taps
        path = self._path(layer)
        return graph.head_nodes(graph.node(path)) is not None or path in self.cuts.values()

    def _path(self, layer: str) -> str:
        return (self.taps if layer in self.taps else self.cuts if self._is_name(layer) else {}).get(layer, layer)

    def _is_name(self, layer: str) -> bool:
        """Return whether a layer may be a named cut: `final`, if the cuts are not known yet."""
        return layer in self._cuts if self._cuts is not None else layer == "final"

    def _traced(self, *, quiet: bool = False) -> NetworkGraph | None:
        """Return the traced network, or None if it is read by hooks; this is said once for each network."""
        # One graph per mode: operations such as functional dropout differ between the modes.
        if self.training not in self._graphs:
            self._graphs[self.training], self._reason = try_trace(self.network)
        if self._graphs[self.training] is None and not quiet and self.spec.name not in _SAID:
            _SAID.add(self.spec.name)
            warn_input(
                f"model {self.spec.name!r} cannot be traced by torch.fx ({self._reason}): its layers are read by hooks "
                "and differentiated by autograd. In training, a term with maps then costs a second forward pass of the "
                "network and a double backward."
            )
        return self._graphs[self.training]

    @torch.compiler.assume_constant_result  # torch.compile calls this method instead of tracing it
    def _prepare(self, layers: tuple[str, ...]) -> None:
        """Make the plan that reads layers; it is None if they are read by hooks."""
        if (self.training, layers) not in self._plans:
            for layer in layers:
                self.check_layer(layer)
            graph = self._traced()
            paths = {layer: self._path(layer) for layer in layers}
            headed = [layer for layer in layers if self.is_cut(layer)]
            plan = None if graph is None else ReadPlan.make(graph, paths, headed, self.training)
            self._plans[self.training, layers] = plan

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}, "_graphs": {}}  # a copy traces the network again when needed


#: Names of networks of which was said that they are read by hooks.
_SAID: set[str] = set()
