"""A network looked at from outside: a copy at rest, that nothing done to it can reach the original through."""

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
from distill.models.hooked import read_layers, read_logits, uncompiled


class HeldOut:
    """Explain a network by a method that no term trains on.

    Convention:
        - The network is explained as it is in evaluation mode, whatever mode it is in. All is done to a copy that
          shares its parameters and buffers: no hook, gradient, mode or statistic of the original is touched, nor the
          random state.
        - Gradients are needed, and enabled, under ``no_grad`` and ``inference_mode`` too.
        - The map of an image depends on no other image, nor on how many pass the network at once.

    Args:
        method: A name of :data:`ATTRIBUTIONS`.
        model: Any module from images to logits.
        layer: The layer of Grad-CAM, for the method that takes one.
        options: Settings of the method.

    Raises:
        ValueError: if it is no module, or normalises by the batch even in evaluation.
    """

    def __init__(self, method: str, model: object, layer: str, options: Mapping[str, Any]) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"`method={method!r}` needs a module from images to logits, got {type(model).__name__}.")
        self.method, self.layer, self.options = method, layer, dict(options)
        self.network = evaluation_copy(model)
        self.rows = int(self.options.get("images_at_a_time", ROWS))

    def logits(self, images: Float[Tensor, "n c *s"]) -> Float[Tensor, "n classes"]:
        """Compute the logits in evaluation mode."""
        if not isinstance(images, Tensor):
            raise ValueError(f"`method={self.method!r}` explains one tensor of images, got {type(images).__name__}.")
        with evaluation_context(self.network), torch.no_grad():
            return torch.cat([read_logits(self.network(some)) for some in as_plain_tensor(images).split(self.rows)])

    def __call__(self, images: Float[Tensor, "n c *s"], classes: Any) -> Float[Tensor, "n *s"]:
        """Explain the logit of one class for each image.

        Raises:
            ValueError: if what is to be explained is not one class for each image, or a rule for ReLUs cannot take
                hold of all of them; the words of Captum where the network could not be traced.
        """
        if not isinstance(classes, Tensor) or classes.ndim != 1:
            raise ValueError(f"`method={self.method!r}` explains the logit of one class a sample; give classes (N,).")
        about = ATTRIBUTIONS[self.method]
        with evaluation_context(self.network):
            images, classes = as_plain_tensor(images), as_plain_tensor(classes)
            given = (self._grad_cam(images, classes),) if about.layered else ()
            network, untraced = self._separated(images) if about.relus else (self.network, [])
            try:
                found = about.function(_Logits(network), images, classes, *given, **self.options)
            except (RuntimeError, AssertionError) as error:
                if not untraced:
                    raise
                raise ValueError(
                    f"`method={self.method!r}` failed on a network that runs as it is, because torch.fx cannot trace "
                    f"{', '.join(untraced)}: {error} Give every ReLU in it a module of its own that is not in place."
                ) from error
            return about.to_maps(found)

    def _grad_cam(self, images: Tensor, classes: Tensor) -> Tensor:
        def explain(x: Tensor, c: Tensor) -> Tensor:
            output = read_layers(self.network, x, [self.layer])
            if self.layer not in output.heads:
                raise ValueError(f"`layer` {self.layer!r} is no cut, so it has no Grad-CAM; name one that is.")
            activations = output.activations[self.layer]
            return grad_cam(activations, score_gradients(output.heads[self.layer], activations, c, create_graph=False))

        with torch.no_grad():
            return map_batches(explain, images, classes, rows=self.rows)

    def _separated(self, images: Tensor) -> tuple[nn.Module, list[str]]:
        network = evaluation_copy(self.network)
        untraced = separate_relus(network)
        hidden = count_functional_relus(network, images[:1])
        if hidden:
            raise ValueError(
                f"`method={self.method!r}` has a rule of its own for ReLUs, and {hidden} of those in "
                f"{type(network).__name__} are called as functions in a part that torch.fx cannot trace; write them "
                "as nn.ReLU modules, or choose a method without such a rule, as 'integrated_gradients'."
            )
        return network, untraced


def evaluation_only_message(method: str) -> str:
    """Say why a method serves no training."""
    return (
        f"`method={method!r}` cannot be trained through, since it perturbs the images or backpropagates to them; the "
        "methods of `distill.explain.METHODS` can."
    )


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError that names what a method takes, unless it takes these."""
    known = ATTRIBUTIONS[method].options if method in ATTRIBUTIONS else []
    for name in options:
        if name not in known:
            raise ValueError(f"`options` of method {method!r}: " + unknown_name("option", name, known))
    at_a_time = options.get("images_at_a_time", 1)
    if at_a_time < 1:
        raise ValueError(f"`images_at_a_time` must be at least 1, got {at_a_time}.")


def evaluation_copy(model: nn.Module) -> nn.Module:
    """Copy the modules of a network, but none of its parameters and buffers, in evaluation mode.

    Raises:
        ValueError: if it normalises by the batch even there.
    """
    network = getattr(model, "_orig_mod", model)
    shared = {id(tensor): tensor for tensor in itertools.chain(network.parameters(), network.buffers())}
    copied: nn.Module = copy.deepcopy(network, shared).eval()
    for path, module in copied.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"module {path!r} normalises by the batch in evaluation too (`track_running_stats=False`), so a map "
                "would depend on its neighbours; explain the images with a network that keeps running statistics."
            )
    return copied


@contextmanager
def evaluation_context(network: nn.Module) -> Iterator[None]:
    """Enable gradients, run compiled modules as they were written, and keep Captum's notes about its hooks quiet."""
    with torch.inference_mode(False), torch.enable_grad(), uncompiled(network), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"captum\.")
        yield


def as_plain_tensor(tensor: Tensor) -> Tensor:
    """Detach a tensor, and copy it if it was made in inference mode."""
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()


class _Logits(nn.Module):
    """Whatever a network returns, its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "n c *s"]) -> Float[Tensor, "n classes"]:
        return read_logits(self.network(images))
