"""Records and protocols that the packages exchange: batches, network outputs, heads and pairs of maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import torch
from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor, nn

from distill.errors import InputError


class CacheLookup(NamedTuple):
    """The cached rows of a batch, and the samples that the cache does not hold.

    Convention:
        - ``rows`` holds one tensor for each kind of cached output. The rows of missing samples are zero.
        - ``missing`` holds the positions of the missing samples in the batch.
    """

    rows: tuple[Float[Tensor, "n width"], ...]
    missing: Int[Tensor, " m"]


class Mix(NamedTuple):
    """How every image of a batch is mixed with its partner, the image before it; that of the first is the last.

    Convention:
        - ``labels`` of the batch are the classes of the larger share, ``share`` is that share, from 0.5 to 1, and
          ``others`` are the classes of the smaller share, 1 - ``share``.
        - ``own`` is the share of the image itself: ``share`` or 1 - ``share``.
        - Mixup averages: own * image + (1 - own) * partner. CutMix takes the pixels in ``box``, (x0, y0, x1, y1), half
          open, from the partner.
    """

    others: Int[Tensor, " n"]
    share: Float[Tensor, ""]
    own: Float[Tensor, ""]
    box: Int[Tensor, " 4"] | None = None

    def weights(self, labels: Int[Tensor, " n"], classes: int) -> Float[Tensor, "n classes"]:
        """Return the shares of all classes, which are the probabilities of soft labels."""
        weights = self.share.new_zeros(len(labels), classes)
        weights.scatter_add_(1, labels[:, None], self.share.expand(len(labels), 1))
        return weights.scatter_add_(1, self.others[:, None], (1 - self.share).expand(len(labels), 1))


class Batch(NamedTuple):
    """A batch of images with labels and optional annotations.

    Convention:
        - ``images`` are uint8 when they leave the data set, and float in [0, 1] after their view was applied.
        - ``boxes`` are (x0, y0, x1, y1) in pixels, half open, with one row per instance. ``masks`` hold 0 for
          background and i for the i-th instance. Both refer to the original image, not to a crop or flip of it;
          transforms carry them along. Mixed images have none.
        - ``labels`` are one class per image, or 1, 0 or -1 (not known) for every class. ``box_classes`` are the classes
          of the instances, -1 for none.
        - ``index`` is the position in the data set and ``view`` the number of the applied view. Together they
          determine the pixels that a network sees, so its outputs can be cached.
        - ``cached`` holds the teacher's cached outputs for these views, if a cache is in use.
        - ``mix`` says how the images are mixed in pairs; None if they are not.
    """

    images: Num[Tensor, "n c h w"]
    labels: Int[Tensor, " n"] | Int[Tensor, "n classes"]
    index: Int[Tensor, " n"]  # type: ignore[assignment]  # the field shadows the method tuple.index
    view: Int[Tensor, " n"]
    boxes: Int[Tensor, "n m 4"] | None = None
    masks: UInt8[Tensor, "n h w"] | None = None
    box_classes: Int[Tensor, "n m"] | None = None
    cached: CacheLookup | None = None
    mix: Mix | None = None


def as_batch(batch: Any) -> Batch:
    """Return a batch, also for (images, labels) of a plain ``DataLoader``.

    Args:
        batch: A :class:`Batch`, or a pair of images and labels.

    Raises:
        InputError: If it is neither, or the images are not float.

    Example:
        >>> as_batch([torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])]).index
        tensor([0, 1])
    """
    if isinstance(batch, Batch):
        return batch
    pair = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (None, None)
    images, labels = pair
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor) and images.is_floating_point()):
        got = [type(part).__name__ for part in batch] if isinstance(batch, tuple | list) else type(batch).__name__
        raise InputError(
            f"a batch must be a `distill.types.Batch`, or (images, labels) with float images in [0, 1], got {got}."
        )
    index = torch.arange(len(labels), device=labels.device)
    return Batch(images, labels, index, torch.zeros_like(index))


class Head(Protocol):
    """The part of a network that follows one of its layers: a function from activations to logits.

    Convention:
        - A head belongs to one forward pass. Batch normalisation in the head uses the statistics of that pass as
          constants, so the head processes each sample independently.
    """

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer if the head is global average pooling followed by that layer, else None."""

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Compute logits from activations of the layer."""

    @property
    def logits(self) -> Float[Tensor, "n classes"]:
        """The logits of the forward pass."""

    @property
    def has_dropout(self) -> bool:
        """Whether the forward pass used dropout in the head, which the head leaves out, so that its logits differ."""

    def obstacle(self, activations: Float[Tensor, "n k *s"]) -> str | None:
        """Return why :meth:`pull_back` cannot be used for these activations, or None if it can."""

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k ..."]:
        """Return the gradient of ``(cotangent * logits).sum()`` with respect to the activations of the forward pass.

        The result is differentiable where gradients are enabled. Its spatial axes may have size 1 if it is the same at
        every site.
        """

    def with_running_statistics(self) -> Head:
        """Return this head with running instead of batch statistics where the network keeps them."""


class LayerLayout(NamedTuple):
    """The axes of a layer's activations.

    Attributes:
        kind: ``nchw``: channels on axis 1, (N, K, *S); ``nhwc``: channels on the last axis, (N, *S, K); ``tokens``:
            (N, T, K).
        prefix: Number of tokens before those of the patches, such as a class token.
        grid: Rows and columns of the patches, whose tokens are in the order of the rows; None if they are unknown.
        problem: Why it is not certain that the activations have these axes; empty if it is.
    """

    kind: Literal["nchw", "nhwc", "tokens"]
    prefix: int = 0
    grid: tuple[int, int] | None = None
    problem: str = ""


Shape: TypeAlias = tuple[int, ...]
#: Returns the layout of a layer from the shape of the images and the shape of the activations.
FindLayout: TypeAlias = Callable[[Shape, Shape], LayerLayout]


@dataclass(frozen=True)
class StagedOutput:
    """The result of one forward pass: the logits, and the activations and heads of the requested layers.

    Convention:
        - The activations have the axes that the network gave them. :func:`distill.models.layouts.read_maps` returns
          them, and their head, in the form (N, K, *S).

    Attributes:
        logits: The logits.
        activations: The activations, by layer.
        heads: The part of the network that follows the layer, by layer.
        layouts: How the axes of the activations are found, by layer. A layer that is not in it has the form (N, K, *S).
        image_shape: Shape of the images; empty if there are no ``layouts``.
    """

    logits: Float[Tensor, "n classes"]
    activations: Mapping[str, Float[Tensor, "n k ..."]] = field(default_factory=dict)
    heads: Mapping[str, Head] = field(default_factory=dict)
    layouts: Mapping[str, FindLayout] = field(default_factory=dict)
    image_shape: Shape = ()


class MapPair(NamedTuple):
    """Raw maps of the student and the teacher for the same images; the two sizes may differ."""

    student: Float[Tensor, "n *s"]
    teacher: Float[Tensor, "n *t"]
