"""Method, layer, class and normalisation put together: from a network and images to maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.explain.cam import cam, grad_cam, grad_cam_pp, positive_grad_cam
from distill.explain.gradients import Gradients, score_gradients
from distill.explain.untouched import untouched
from distill.maps import Normalization, normalize_maps
from distill.types import Head, MapPair, StagedOutput

#: Methods that take activations and gradients of the class score.
GRADIENT_METHODS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad_cam": grad_cam,
    "positive_grad_cam": positive_grad_cam,
    "grad_cam_pp": grad_cam_pp,
}
METHODS = ("cam", *GRADIENT_METHODS)

Statistics = Literal["batch", "running"]
ClassPolicy = Literal["label", "teacher", "student"]


class Readable(Protocol):
    """A network whose layers can be read in one forward pass."""

    def run(self, images: Tensor, layers: Sequence[str] = ()) -> StagedOutput:
        """Compute the logits and read layers on the way."""


class Explanation(NamedTuple):
    """Maps with what they explain."""

    maps: Float[Tensor, "n *s"]
    logits: Float[Tensor, "n classes"]
    target: Int[Tensor, " n"]


@dataclass(frozen=True)
class Explainer:
    """Explain the decision of a network at one of its layers.

    Convention:
        - Maps have the size of the layer. They are raw unless ``normalize`` says otherwise.
        - A map depends on its own sample alone: batch normalisation in the head is a constant.
        - Looking changes nothing: mode, gradients, batch statistics and random state stay as they were.

    Args:
        method: ``cam``, ``grad_cam``, ``positive_grad_cam`` or ``grad_cam_pp``.
        layer: A layer that is an exact cut of the network.
        target: Which class is explained: ``label``, or ``predicted`` for the network's own first choice.
        normalize: See :func:`distill.maps.normalize_maps`.
        gradients: ``auto`` takes the closed form where it is exact; ``autograd`` always differentiates the head.
        statistics: What batch normalisation in the head uses while the network trains: the batch's or the running ones.

    Raises:
        ValueError: if one of the names is unknown.

    Example:
        >>> from distill.models import create_model
        >>> net = create_model("wrn_10_1", num_classes=10).eval()
        >>> Explainer(layer="group2", target="predicted")(net, torch.rand(4, 3, 32, 32)).maps.shape
        torch.Size([4, 16, 16])
    """

    method: str = "grad_cam_pp"
    layer: str = "final"
    target: Literal["label", "predicted"] = "label"
    normalize: Normalization = field(default="none", kw_only=True)
    gradients: Gradients = field(default="auto", kw_only=True)
    statistics: Statistics = field(default="batch", kw_only=True)

    def __post_init__(self) -> None:
        _one_of("method", self.method, METHODS)
        _one_of("target", self.target, ("label", "predicted"))
        _one_of("normalize", self.normalize, get_args(Normalization))
        _one_of("gradients", self.gradients, get_args(Gradients))
        _one_of("statistics", self.statistics, get_args(Statistics))

    def __call__(
        self,
        model: Readable,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"] | None = None,
        *,
        create_graph: bool = False,
    ) -> Explanation:
        """Run a network on images and explain it.

        Args:
            model: A staged network.
            images: What it takes.
            labels: The classes to explain; needed where ``target`` is ``label``.
            create_graph: Whether the maps must be differentiable.

        Raises:
            ValueError: if the layer does not exist or is no cut, or the labels are missing.
        """
        if self.target == "label" and labels is None:
            raise ValueError("`labels` are needed to explain them; give them, or choose `target='predicted'`.")
        with untouched(model), torch.set_grad_enabled(create_graph and torch.is_grad_enabled()):
            output = model.run(images, [self.layer])
        target = output.logits.argmax(1) if self.target == "predicted" else labels
        assert target is not None
        maps = self.from_output(output, target, create_graph=create_graph)
        return Explanation(normalize_maps(maps, self.normalize), output.logits, target)

    def from_output(
        self, output: StagedOutput, target: Int[Tensor, " n"], *, create_graph: bool = False
    ) -> Float[Tensor, "n *s"]:
        """Explain a forward pass that was already made; the maps are raw.

        Args:
            output: The pass, with the layer read.
            target: A class for every sample.
            create_graph: Whether the maps must be differentiable.

        Raises:
            ValueError: if the layer was not read, or has no head.
        """
        if self.layer not in output.heads:
            raise ValueError(
                f"`layer` {self.layer!r} was not read as a cut in this forward pass; cuts read: {list(output.heads)}. "
                "Raw sums (taps) cannot be explained."
            )
        activations, head = output.activations[self.layer], output.heads[self.layer]
        if self.statistics == "running":
            head = head.with_running_statistics()
        with torch.set_grad_enabled(create_graph):
            if self.method == "cam":
                return cam(activations, _class_weights(head, target, self.layer))
            gradients = score_gradients(head, activations, target, create_graph=create_graph, how=self.gradients)
            return GRADIENT_METHODS[self.method](activations, gradients)


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
        _one_of("target", self.policy, get_args(ClassPolicy))

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


def _class_weights(head: Head, target: Tensor, layer: str) -> Tensor:
    if head.classifier is None:
        raise ValueError(
            f"`method='cam'` needs global average pooling and a linear layer right after `layer`, not after {layer!r}; "
            "use 'grad_cam', which is the same there and exists at every layer."
        )
    return head.classifier.weight[target]


def _one_of(name: str, got: str, known: Sequence[str]) -> None:
    if got not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {got!r}.")
