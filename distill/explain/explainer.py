"""Method, layer, score and normalisation put together: from a network and images to maps."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.explain.attribution import ATTRIBUTIONS, HeldOut, check_options, evaluation_only
from distill.explain.gradients import Gradients, score_gradients
from distill.explain.methods import METHODS
from distill.explain.reading import Readable, read_layers
from distill.explain.score import Score, Target, choose_score, logit_weights
from distill.explain.untouched import untouched
from distill.maps import Normalization, normalize_maps
from distill.types import Head, StagedOutput

Statistics = Literal["batch", "running"]

#: Layers of which it was said that their activations take both signs.
_WARNED: set[str] = set()


class Explanation(NamedTuple):
    """Maps with what they explain.

    Convention:
        - ``target`` holds classes (N,) or (N, M); for another score, its gradient in the logits (N, classes).
    """

    maps: Float[Tensor, "n ..."]
    logits: Float[Tensor, "n classes"]
    target: Tensor


@dataclass(frozen=True)
class Explainer:
    """Explain the decision of a network, at one of its layers or from outside.

    Convention:
        - Maps have the size of the layer. They are raw unless ``normalize`` says otherwise.
        - A map depends on its own sample alone: batch normalisation in the head is a constant.
        - Looking changes nothing: mode, gradients, batch statistics and random state stay as they were.
        - The methods of :data:`distill.explain.ATTRIBUTIONS` explain from outside, for evaluation only: maps have the
          size of the images and cannot be trained through, the network is taken as it is in evaluation mode, and the
          layer does not matter but for ``guided_grad_cam``.

    Args:
        method: A name of :data:`distill.explain.METHODS` or :data:`distill.explain.ATTRIBUTIONS`.
        layer: A layer that is an exact cut of the network.
        target: What is explained: the logit of the ``label``, of the ``predicted`` class, of one class by its number,
            the mean of several, or a function of the logits to (N,).
        normalize: See :func:`distill.maps.normalize_maps`.
        gradients: ``auto`` takes the closed form or the linear backward where they are exact, else autograd.
        statistics: What batch normalisation in the head uses while the network trains: the batch's or the running ones.
        options: Settings of a method of ATTRIBUTIONS, such as ``images_at_a_time``, ``seed`` or ``baseline``: the
            keywords of its function.

    Raises:
        ValueError: if one of the names is unknown.

    Example:
        >>> from distill.models import create_model
        >>> net = create_model("wrn_10_1", num_classes=10).eval()
        >>> Explainer(layer="group2", target="predicted")(net, torch.rand(4, 3, 32, 32)).maps.shape
        torch.Size([4, 16, 16])
        >>> Explainer("rise", target="predicted", options={"masks": 10})(net, torch.rand(4, 3, 32, 32)).maps.shape
        torch.Size([4, 32, 32])
    """

    method: str = "grad_cam_pp"
    layer: str = "final"
    target: Target = "label"
    normalize: Normalization = field(default="none", kw_only=True)
    gradients: Gradients = field(default="auto", kw_only=True)
    statistics: Statistics = field(default="batch", kw_only=True)
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)

    def __post_init__(self) -> None:
        one_of("method", self.method, [*METHODS, *ATTRIBUTIONS])
        check_options(self.method, self.options)
        if isinstance(self.target, str):
            one_of("target", self.target, ("label", "predicted"))
        one_of("normalize", self.normalize, get_args(Normalization))
        one_of("gradients", self.gradients, get_args(Gradients))
        one_of("statistics", self.statistics, get_args(Statistics))

    @property
    def from_outside(self) -> bool:
        """Whether the method takes the network as a whole, and so needs passes of its own."""
        return self.method in ATTRIBUTIONS

    def __call__(
        self,
        model: Readable | nn.Module,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, "n ..."] | None = None,
        *,
        create_graph: bool = False,
    ) -> Explanation:
        """Run a network on images and explain it.

        Args:
            model: A staged network, or any other module: its layers are the dotted paths of its modules.
            images: What it takes.
            labels: The classes to explain, (N,) or several for each sample (N, M); needed where ``target`` is
                ``label``. Several give maps (N, M, *S) out of one forward pass.
            create_graph: Whether the maps must be differentiable.

        Raises:
            ValueError: if the layer does not exist or is no cut, the labels are missing, or the score does not depend
                on the layer.
        """
        if self.target == "label" and labels is None:
            raise ValueError("`labels` are needed to explain them; give them, or choose `target='predicted'`.")
        logits, explain = self._look(model, images, create_graph=create_graph)
        target = choose_score(self.target, logits, labels)
        if isinstance(target, Tensor) and self.target == "label" and target.ndim == 2:
            maps = torch.stack([normalize_maps(explain(column), self.normalize) for column in target.unbind(1)], 1)
        else:
            maps = normalize_maps(explain(target), self.normalize)
        weights = logit_weights(logits, target, create_graph=False) if callable(target) else target
        return Explanation(maps, logits, weights)

    def _look(
        self, model: Readable | nn.Module, images: Tensor, *, create_graph: bool
    ) -> tuple[Tensor, Callable[[Score], Tensor]]:
        """Give the logits, and a function from a score to raw maps."""
        if self.from_outside:
            if create_graph:
                raise ValueError(f"`create_graph=True` cannot be had: {evaluation_only(self.method)}")
            held_out = HeldOut(self.method, model, self.layer, self.options)
            return held_out.logits(images), functools.partial(held_out, images)
        _check_grad(create_graph)
        with untouched(model), torch.set_grad_enabled(create_graph):
            output = read_layers(model, images, [self.layer])
        warn_if_signed(self, output)
        return output.logits, functools.partial(self.from_output, output, create_graph=create_graph)

    def from_output(self, output: StagedOutput, target: Score, *, create_graph: bool = False) -> Float[Tensor, "n *s"]:
        """Explain a forward pass that was already made; the maps are raw.

        Args:
            output: The pass, with the layer read; a method that takes activations alone explains taps as well.
            target: Classes (N,), weights of the logits (N, classes), or a function of the logits to (N,).
            create_graph: Whether the maps must be differentiable.

        Raises:
            ValueError: if the layer was not read or has no head, the method explains from outside, or a graph is asked
                for where gradients are off.
        """
        if self.from_outside:
            raise ValueError(
                f"a forward pass that was already made is not enough: {evaluation_only(self.method)} Call the "
                "explainer on the network and the images."
            )
        function, needs, *_ = METHODS[self.method]
        if needs == "activations":
            return self._active(output, create_graph=create_graph)
        if self.layer not in output.heads:
            raise ValueError(
                f"`layer` {self.layer!r} was not read as a cut in this forward pass; cuts read: {list(output.heads)}. "
                "Raw sums (taps) have no head and cannot be explained, except by method 'activation_attention'."
            )
        _check_grad(create_graph)
        activations, head = output.activations[self.layer], output.heads[self.layer]
        if self.statistics == "running":
            head = head.with_running_statistics()
        with torch.set_grad_enabled(create_graph):
            if needs == "class_weights":
                return function(activations, _class_weights(head, target, self.layer))
            find = functools.partial(score_gradients, head, activations, create_graph=create_graph, how=self.gradients)
            if needs == "gradients":
                return function(activations, find(target))
            classes = _classes(target, self.method)
            every = [find(torch.full_like(classes, c)) for c in range(output.logits.shape[1])]
            # The logits of this head: those of the pass, unless batch statistics are other constants or must be some.
            same = head.opaque(activations) is None and not create_graph
            return function(activations, torch.stack(every, 1), head.logits if same else head(activations), classes)

    def _active(self, output: StagedOutput, *, create_graph: bool) -> Float[Tensor, "n *s"]:
        if self.layer not in output.activations:
            raise ValueError(f"`layer` {self.layer!r} was not read in this pass; read: {list(output.activations)}.")
        _check_grad(create_graph)
        with torch.set_grad_enabled(create_graph):
            return METHODS[self.method].function(output.activations[self.layer])


def warn_if_signed(explainer: Explainer, output: StagedOutput) -> None:
    """Warn once for every layer whose activations take both signs; reads the device."""
    activations = output.activations[explainer.layer]
    if not explainer.method.startswith("grad_cam_pp") or explainer.layer in _WARNED:
        return
    negative = float((activations < 0).float().mean())
    if negative > 0:
        _WARNED.add(explainer.layer)
        warnings.warn(
            f"{negative:.0%} of the activations of layer {explainer.layer!r} are negative: the denominator of "
            f"{explainer.method} can vanish there and is held at 1e-3. Explain a layer that follows a ReLU.",
            stacklevel=4,
        )


def _check_grad(create_graph: bool) -> None:
    if create_graph and not torch.is_grad_enabled():
        raise ValueError(
            "`create_graph=True` needs gradients, and they are off here (`no_grad` or `inference_mode`, as in a "
            "validation step); leave it out to look at maps, or call this under `torch.enable_grad()`."
        )


def one_of(name: str, got: str, known: Sequence[str]) -> None:
    """Raise a ValueError that names what there is, unless this is one of them."""
    if got not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {got!r}.")


def _classes(target: Score, method: str) -> Tensor:
    if not isinstance(target, Tensor) or target.ndim != 1:
        raise ValueError(f"`method={method!r}` explains the logit of one class a sample; give classes (N,).")
    return target


def _class_weights(head: Head, target: Score, layer: str) -> Tensor:
    if head.classifier is None:
        raise ValueError(
            "`method='cam'` needs global average pooling and a linear layer right after `layer`, not after "
            f"{layer!r}; use 'grad_cam', which is the same there and exists at every layer."
        )
    return head.classifier.weight[_classes(target, "cam")]
