"""`Explainer`: explain a network with a method at a layer; `PairExplainer`: explain a student and its teacher."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

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
from distill.explain.methods import METHODS
from distill.maps import Normalization, normalize_maps
from distill.models.calls import preserve_state
from distill.models.hooked import Readable, read_layers
from distill.models.layouts import Layout, read_maps
from distill.types import Head, MapPair, StagedOutput

Statistics = Literal["batch", "running"]

#: Layers for which a warning about negative activations was already given.
_WARNED_LAYERS: set[str] = set()


class Explanation(NamedTuple):
    """The result of an :class:`Explainer`.

    Attributes:
        maps: Maps (N, *S); (N, M, *S) if M classes per sample are explained.
        logits: Logits of the network (N, classes).
        target: The explained classes, (N,) or (N, M). For any other score, its gradient with respect to the logits
            (N, classes).
    """

    maps: Float[Tensor, "n ..."]
    logits: Float[Tensor, "n classes"]
    target: Tensor


@dataclass(frozen=True)
class Explainer:
    """Compute explanation maps of a network's predictions.

    Convention:
        - There are two kinds of methods. Those in :data:`distill.explain.METHODS` compute differentiable maps from the
          activations of a layer; the maps have the size of the layer. Those in :data:`distill.explain.ATTRIBUTIONS` are
          for evaluation only: their maps have the size of the images and are not differentiable, and they explain the
          network in evaluation mode.
        - The map of a sample does not depend on the other samples: batch normalisation after the layer uses constants.
        - Explaining a network does not change it: modes, gradients, batch statistics and the random state are the same
          afterwards.

    Args:
        method: A name in :data:`distill.explain.METHODS` or :data:`distill.explain.ATTRIBUTIONS`.
        layer: The layer to explain; it must be a cut for methods that need gradients. Methods in ``ATTRIBUTIONS``
            ignore it, except ``guided_grad_cam``.
        target: The explained score: ``label`` or ``predicted`` for the logit of that class, a class index for its
            logit, several indices for the mean of their logits, or a function from logits to scores (N,).
        normalize: Normalisation of the maps, see :func:`distill.maps.normalize_maps`; ``none`` returns raw maps.
        gradients: How gradients are computed, see :func:`distill.explain.score_gradients`. ``auto`` uses the closed
            form or the linear backward where they are available, and autograd otherwise.
        layout: The axes of the layer's activations: ``nchw``, ``nhwc`` or ``tokens``; ``auto`` finds them, see
            :class:`distill.models.layout_finder.LayoutFinder`. Maps have the size of the grid of the tokens.
        statistics: Statistics of batch normalisation after the layer if the network is in training mode: ``batch`` for
            those of the current batch, or ``running``.
        options: Further keyword arguments of a method in ``ATTRIBUTIONS``, such as ``images_at_a_time``, ``seed`` or
            ``baseline``.

    Raises:
        ValueError: If a name or an option is unknown.

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
    layout: Layout = field(default="auto", kw_only=True)
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)

    def __post_init__(self) -> None:
        check_choice("method", self.method, [*METHODS, *ATTRIBUTIONS])
        check_options(self.method, self.options)
        if isinstance(self.target, str):
            check_choice("target", self.target, ("label", "predicted"))
        check_choice("normalize", self.normalize, get_args(Normalization))
        check_choice("gradients", self.gradients, get_args(Gradients))
        check_choice("statistics", self.statistics, get_args(Statistics))
        check_choice("layout", self.layout, get_args(Layout))

    @property
    def is_held_out(self) -> bool:
        """Whether the method is one of ``ATTRIBUTIONS``: it runs the network itself, and is for evaluation only."""
        return self.method in ATTRIBUTIONS

    def __call__(
        self,
        model: Readable | nn.Module,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, "n ..."] | None = None,
        *,
        create_graph: bool = False,
    ) -> Explanation:
        """Run a network on images and compute explanation maps.

        Args:
            model: A :class:`~distill.models.StagedNetwork`, or any module; the layers of a module are named by the
                dotted paths of its submodules.
            images: Input of the network.
            labels: The classes to explain, (N,) or M classes per sample (N, M); required if ``target`` is ``label``.
                All M maps of a sample are computed from one forward pass.
            create_graph: Whether the maps must be differentiable.

        Returns:
            The maps, the logits and the explained classes.

        Raises:
            ValueError: If the layer does not exist or is not a cut, the layout of its activations is not certain,
                labels are missing, or the score does not depend on the layer.
        """
        if self.target == "label" and labels is None:
            raise ValueError("`labels` are required for `target='label'`; pass them, or set `target='predicted'`.")
        logits, explain = self._run(model, images, create_graph=create_graph)
        target = choose_score(self.target, logits, labels)
        if isinstance(target, Tensor) and self.target == "label" and target.ndim == 2:
            maps = torch.stack([normalize_maps(explain(column), self.normalize) for column in target.unbind(1)], 1)
        else:
            maps = normalize_maps(explain(target), self.normalize)
        weights = logit_weights(logits, target, create_graph=False) if callable(target) else target
        return Explanation(maps, logits, weights)

    def _run(
        self, model: Readable | nn.Module, images: Tensor, *, create_graph: bool
    ) -> tuple[Tensor, Callable[[Score], Tensor]]:
        """Return the logits, and a function from a score to raw maps."""
        if self.is_held_out:
            if create_graph:
                raise ValueError(f"`create_graph=True` is not available: {evaluation_only_message(self.method)}")
            held_out = HeldOut(self.method, model, self.layer, self.options, layout=self.layout)
            return held_out.logits(images), functools.partial(held_out, images)
        _check_grad(create_graph)
        with preserve_state(model), torch.set_grad_enabled(create_graph):
            output = read_layers(model, images, [self.layer])
        warn_if_signed(self, output)
        return output.logits, functools.partial(self.from_output, output, create_graph=create_graph)

    def from_output(self, output: StagedOutput, target: Score, *, create_graph: bool = False) -> Float[Tensor, "n *s"]:
        """Compute raw maps from the output of a forward pass.

        Args:
            output: Output of the forward pass, with the activations and the head of the layer. A method that needs
                activations only also accepts taps.
            target: Classes (N,), weights of the logits (N, classes), or a function from logits to scores (N,).
            create_graph: Whether the maps must be differentiable.

        Returns:
            Maps of the size of the layer, not normalised.

        Raises:
            ValueError: If the layer was not read or has no head, the layout of its activations is not certain, the
                method is one of ``ATTRIBUTIONS``, or ``create_graph`` is set while gradients are disabled.
        """
        if self.is_held_out:
            raise ValueError(
                f"maps cannot be computed from the output of a forward pass: {evaluation_only_message(self.method)} "
                "Call the explainer on the network and the images."
            )
        function, needs, *_ = METHODS[self.method]
        if needs == "activations":
            if self.layer not in output.activations:
                raise ValueError(f"`layer` {self.layer!r} was not read in this pass; read: {list(output.activations)}.")
            _check_grad(create_graph)
            with torch.set_grad_enabled(create_graph):
                return function(read_maps(output, self.layer, self.layout).activations)
        if self.layer not in output.heads:
            raise ValueError(
                f"`layer` {self.layer!r} was not read as a cut in this forward pass; cuts read: {list(output.heads)}. "
                "Raw sums (taps) have no head and cannot be explained, except by method 'activation_attention'."
            )
        _check_grad(create_graph)
        activations, head = read_maps(output, self.layer, self.layout)
        assert head is not None
        if self.statistics == "running":
            head = head.with_running_statistics()
        with torch.set_grad_enabled(create_graph):
            if needs == "class_weights":
                return function(activations, _class_weights(head, target, self.layer))
            gradients = functools.partial(
                score_gradients, head, activations, create_graph=create_graph, how=self.gradients
            )
            if needs == "gradients":
                return function(activations, gradients(target))
            classes = _classes(target, self.method)
            per_class = [gradients(torch.full_like(classes, c)) for c in range(output.logits.shape[1])]
            # Use the logits of the forward pass only if the head has the same statistics and no graph is needed.
            use_logits = head.obstacle(activations) is None and not head.has_dropout and not create_graph
            logits = head.logits if use_logits else head(activations)
            return function(activations, torch.stack(per_class, 1), logits, classes)


def warn_if_signed(explainer: Explainer, output: StagedOutput) -> None:
    """Warn once per layer if a Grad-CAM++ method explains negative activations; synchronises with the device."""
    activations = output.activations[explainer.layer]
    if not explainer.method.startswith("grad_cam_pp") or explainer.layer in _WARNED_LAYERS:
        return
    negative = float((activations < 0).float().mean())
    if negative > 0:
        _WARNED_LAYERS.add(explainer.layer)
        warnings.warn(
            f"{negative:.0%} of the activations of layer {explainer.layer!r} are negative: the denominator of "
            f"{explainer.method} can reach 0 there and is clamped at 1e-3. Use `method: grad_cam`, which is defined "
            "for both signs, or explain a layer that follows a ReLU.",
            stacklevel=4,
        )


def _check_grad(create_graph: bool) -> None:
    if create_graph and not torch.is_grad_enabled():
        raise ValueError(
            "`create_graph=True` needs gradients, but they are disabled (`no_grad` or `inference_mode`, as in a "
            "validation step); leave it out, or call the explainer under `torch.enable_grad()`."
        )


def check_choice(name: str, got: str, choices: Sequence[str]) -> None:
    """Raise a ValueError that lists the choices if the value is not one of them."""
    if got not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {got!r}.")


def _classes(target: Score, method: str) -> Tensor:
    if not isinstance(target, Tensor) or target.ndim != 1:
        raise ValueError(f"`method={method!r}` explains the logit of one class per sample; pass classes (N,).")
    return target


def _class_weights(head: Head, target: Score, layer: str) -> Tensor:
    if head.classifier is None:
        raise ValueError(
            f"`method='cam'` needs global average pooling and a linear layer right after `layer`, but {layer!r} is "
            "followed by other layers; use 'grad_cam', which is available at every layer."
        )
    if isinstance(target, Tensor) and target.ndim == 2:
        return target.to(head.classifier.weight.dtype) @ head.classifier.weight
    return head.classifier.weight[_classes(target, "cam")]


ClassPolicy = Literal["label", "teacher", "student"]


@dataclass(frozen=True)
class PairExplainer:
    """Explain the same class for a student and its teacher, from the outputs of their forward passes.

    Args:
        student: Explainer of the student; its maps can be differentiable.
        teacher: Explainer of the teacher; its maps are not differentiable.
        policy: The explained class: the ``label``, or the class that the ``teacher`` or the ``student`` predicts.
        own_classes: Whether the teacher has other classes than the student. Its map then explains the class that it
            predicts itself.

    Raises:
        ValueError: If the policy is unknown, or needs the same classes.
    """

    student: Explainer
    teacher: Explainer
    policy: ClassPolicy = "label"
    own_classes: bool = False

    def __post_init__(self) -> None:
        check_choice("target", self.policy, get_args(ClassPolicy))
        if self.own_classes:
            check_choice("target", self.policy, ("label", "student"))

    def from_outputs(
        self, student: StagedOutput, teacher: StagedOutput, labels: Num[Tensor, "n ..."], *, create_graph: bool
    ) -> MapPair:
        """Return the raw maps of the student and the teacher; see :meth:`choose`."""
        target = self.choose(student, teacher, labels)
        return MapPair(
            self.student.from_output(student, target, create_graph=create_graph),
            self.teacher.from_output(teacher, teacher.logits.argmax(1) if self.own_classes else target),
        )

    def choose(
        self, student: StagedOutput, teacher: StagedOutput, labels: Num[Tensor, "n ..."]
    ) -> Num[Tensor, "n ..."]:
        """Return what is explained of the student: classes (N,), or weights of the logits (N, classes).

        ``labels`` are classes, or the shares of the classes of mixed images, and returned if the policy is ``label``.
        """
        if self.policy == "label":
            return labels
        return (teacher if self.policy == "teacher" else student).logits.argmax(1)

    @property
    def teacher_policy(self) -> ClassPolicy:
        """The class that the teacher's map explains."""
        return "teacher" if self.own_classes else self.policy

    def choose_for_teacher(self, teacher: StagedOutput, labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return the class of the teacher to explain for each sample, if it does not depend on the student."""
        return labels if self.teacher_policy == "label" else teacher.logits.argmax(1)
