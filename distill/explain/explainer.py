"""`Explainer`: method, layer, score and normalisation; and `PairExplainer` for a student beside its teacher."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.explain.cam import METHODS
from distill.explain.gradients import (
    Gradients,
    Score,
    Target,
    choose_score,
    logit_weights,
    score_gradients,
)
from distill.explain.held_out import (
    ATTRIBUTIONS,
    HeldOut,
    check_options,
    evaluation_only_message,
)
from distill.maps import Normalization, normalize_maps
from distill.models.hooked import Readable, read_layers
from distill.types import Head, MapPair, StagedOutput


@contextmanager
def preserve_state(model: object) -> Iterator[None]:
    """Let a network run, in whatever mode it is, and give back its buffers and the random state as they were.

    Convention:
        - The pass works on copies of the buffers, and the originals are put back: a graph made in the pass stays valid.
        - A network that is all in evaluation mode changes nothing by itself and is left alone.

    Example:
        >>> norm = nn.BatchNorm2d(2)
        >>> with preserve_state(norm):
        ...     _ = norm(torch.rand(4, 2, 3, 3) + 1)
        >>> norm.running_mean
        tensor([0., 0.])
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    if not any(module.training for module in modules):
        yield
        return
    kept = [(module, name, buffer) for module in modules for name, buffer in module._buffers.items()]
    devices = {buffer.device for _, _, buffer in kept if buffer is not None and buffer.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            with torch.inference_mode(False):  # what was made in inference mode would be lost to a graph
                for module, name, buffer in kept:
                    module._buffers[name] = None if buffer is None else buffer.clone()
            yield
        finally:
            for module, name, buffer in kept:
                module._buffers[name] = buffer


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
        check_choice("method", self.method, [*METHODS, *ATTRIBUTIONS])
        check_options(self.method, self.options)
        if isinstance(self.target, str):
            check_choice("target", self.target, ("label", "predicted"))
        check_choice("normalize", self.normalize, get_args(Normalization))
        check_choice("gradients", self.gradients, get_args(Gradients))
        check_choice("statistics", self.statistics, get_args(Statistics))

    @property
    def is_held_out(self) -> bool:
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
        if self.is_held_out:
            if create_graph:
                raise ValueError(f"`create_graph=True` cannot be had: {evaluation_only_message(self.method)}")
            held_out = HeldOut(self.method, model, self.layer, self.options)
            return held_out.logits(images), functools.partial(held_out, images)
        _check_grad(create_graph)
        with preserve_state(model), torch.set_grad_enabled(create_graph):
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
        if self.is_held_out:
            raise ValueError(
                f"a forward pass that was already made is not enough: {evaluation_only_message(self.method)} Call the "
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
            same = head.obstacle(activations) is None and not create_graph
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


def check_choice(name: str, got: str, known: Sequence[str]) -> None:
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


ClassPolicy = Literal["label", "teacher", "student"]


@dataclass(frozen=True)
class PairExplainer:
    """Explain the same class in a student and in its teacher, out of forward passes that were already made.

    Args:
        student: How the student is explained; its maps are differentiable.
        teacher: How the teacher is; nothing flows into it.
        policy: Which class: the ``label``, or the first choice of the ``teacher`` or of the ``student``.
    """

    student: Explainer
    teacher: Explainer
    policy: ClassPolicy = "label"

    def __post_init__(self) -> None:
        check_choice("target", self.policy, get_args(ClassPolicy))

    def from_outputs(
        self, student: StagedOutput, teacher: StagedOutput, labels: Int[Tensor, " n"], *, create_graph: bool
    ) -> MapPair:
        """Give the raw maps of both."""
        target = self.choose(student, teacher, labels)
        return MapPair(
            self.student.from_output(student, target, create_graph=create_graph),
            self.teacher.from_output(teacher, target),
        )

    def choose(self, student: StagedOutput, teacher: StagedOutput, labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Choose the class that is explained."""
        if self.policy == "label":
            return labels
        return (teacher if self.policy == "teacher" else student).logits.argmax(1)
