"""`HeldOut`: explain a network with a held-out method, on a copy in evaluation mode."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distill.errors import unknown_name
from distill.explain.cam import grad_cam
from distill.explain.gradients import score_gradients
from distill.explain.held_out.attributions import ATTRIBUTIONS
from distill.explain.held_out.batching import ROWS, map_batches
from distill.explain.held_out.relu_modules import count_functional_relus, separate_relus
from distill.models.calls import read_logits, uncompiled
from distill.models.hooked import read_layers
from distill.models.layouts import Layout, read_maps


class HeldOut:
    """Explain a network with a held-out method.

    Convention:
        - The network is explained in evaluation mode, whatever its current mode. All work is done on a copy that shares
          its parameters and buffers. Hooks, gradients, modes and statistics of the original network and the random
          state do not change.
        - It also works under ``no_grad`` and ``inference_mode``: gradients are enabled internally.
        - The map of an image depends neither on the other images nor on the batch size.

    Args:
        method: A name in :data:`ATTRIBUTIONS`.
        model: A module from images to logits.
        layer: The layer of Grad-CAM, for ``guided_grad_cam`` only.
        options: Options of the method.
        layout: Layout of the activations of the layer, see :class:`distill.explain.Explainer`.

    Raises:
        ValueError: If ``model`` is not a module, or uses batch statistics in evaluation mode.
    """

    def __init__(
        self, method: str, model: object, layer: str, options: Mapping[str, Any], *, layout: Layout = "auto"
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"`method={method!r}` needs a module from images to logits, got {type(model).__name__}.")
        self.method, self.layer, self.options, self.layout = method, layer, dict(options), layout
        self.network = evaluation_copy(model)
        self.rows = int(self.options.get("images_at_a_time", ROWS))

    def logits(self, images: Float[Tensor, "n c *s"]) -> Float[Tensor, "n classes"]:
        """Compute the logits in evaluation mode."""
        if not isinstance(images, Tensor):
            raise ValueError(f"`method={self.method!r}` explains one tensor of images, got {type(images).__name__}.")
        with evaluation_context(self.network), torch.no_grad():
            return torch.cat([read_logits(self.network(part)) for part in as_plain_tensor(images).split(self.rows)])

    def __call__(self, images: Float[Tensor, "n c *s"], classes: Any) -> Float[Tensor, "n *s"]:
        """Compute the map of the logit of one class per image.

        Raises:
            ValueError: If ``classes`` is not one class per image, or the method replaces the gradient of ReLUs but
                cannot reach all of them.
        """
        if not isinstance(classes, Tensor) or classes.ndim != 1:
            raise ValueError(f"`method={self.method!r}` explains the logit of one class per sample; pass classes (N,).")
        attribution = ATTRIBUTIONS[self.method]
        with evaluation_context(self.network):
            images, classes = as_plain_tensor(images), as_plain_tensor(classes)
            cams = (self._grad_cam(images, classes),) if attribution.layered else ()
            network, untraced = self._with_relu_modules(images) if attribution.relus else (self.network, [])
            try:
                values = attribution.function(_Logits(network), images, classes, *cams, **self.options)
            except (RuntimeError, AssertionError) as error:
                if not untraced:
                    raise
                raise ValueError(
                    f"`method={self.method!r}` failed on a network that was not rewritten, because torch.fx cannot "
                    f"trace {', '.join(untraced)}: {error} Use a separate nn.ReLU module, not in place, for every ReLU "
                    "in it."
                ) from error
            return attribution.to_maps(values)

    def _grad_cam(self, images: Tensor, classes: Tensor) -> Tensor:
        def explain(x: Tensor, c: Tensor) -> Tensor:
            output = read_layers(self.network, x, [self.layer])
            if self.layer not in output.heads:
                raise ValueError(f"`layer` {self.layer!r} is not a cut, so it has no Grad-CAM map; name a cut.")
            activations, head = read_maps(output, self.layer, self.layout)
            assert head is not None
            return grad_cam(activations, score_gradients(head, activations, c, create_graph=False))

        with torch.no_grad():
            return map_batches(explain, images, classes, rows=self.rows)

    def _with_relu_modules(self, images: Tensor) -> tuple[nn.Module, list[str]]:
        network = evaluation_copy(self.network)
        untraced = separate_relus(network)
        functional = count_functional_relus(network, images[:1])
        if functional:
            raise ValueError(
                f"`method={self.method!r}` replaces the gradient of ReLUs, but {functional} of those in "
                f"{type(network).__name__} are called as functions in a part that torch.fx cannot trace; write them "
                "as nn.ReLU modules, or choose another method, such as 'integrated_gradients'."
            )
        return network, untraced


def evaluation_only_message(method: str) -> str:
    """Return the message that a method is for evaluation only."""
    return (
        f"`method={method!r}` is for evaluation only and cannot be trained through, since it perturbs the images or "
        "backpropagates to them; use a method in `distill.explain.METHODS` for training."
    )


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError that lists the options of a method if it does not accept one of the given options."""
    valid_names = ATTRIBUTIONS[method].options if method in ATTRIBUTIONS else []
    for name in options:
        if name not in valid_names:
            raise ValueError(f"`options` of method {method!r}: " + unknown_name("option", name, valid_names))
    at_a_time = options.get("images_at_a_time", 1)
    if at_a_time < 1:
        raise ValueError(f"`images_at_a_time` must be at least 1, got {at_a_time}.")


def evaluation_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode that shares its parameters and buffers.

    Raises:
        ValueError: If the network uses batch statistics in evaluation mode.
    """
    network = getattr(model, "_orig_mod", model)
    shared = {id(tensor): tensor for tensor in itertools.chain(network.parameters(), network.buffers())}
    copied: nn.Module = copy.deepcopy(network, shared).eval()
    for path, module in copied.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"module {path!r} uses batch statistics in evaluation mode (`track_running_stats=False`), so a map "
                "would depend on the other images; use a network that keeps running statistics."
            )
    return copied


@contextmanager
def evaluation_context(network: nn.Module) -> Iterator[None]:
    """Enable gradients, run compiled modules without compilation, and ignore Captum's warnings about its hooks."""
    with torch.inference_mode(False), torch.enable_grad(), uncompiled(network), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"captum\.")
        yield


def as_plain_tensor(tensor: Tensor) -> Tensor:
    """Detach a tensor, and copy it if it was made in inference mode."""
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()


class _Logits(nn.Module):
    """A network that returns its logits, whatever the original network returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "n c *s"]) -> Float[Tensor, "n classes"]:
        return read_logits(self.network(images))
