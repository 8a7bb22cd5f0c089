"""The records that pass between rooms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor, nn


class CacheLookup(NamedTuple):
    """Rows about a batch that were known before it was computed, of one or more kinds, and which samples have none.

    Convention:
        - What is not known is zero; ``missing`` holds positions in the batch.
    """

    rows: tuple[Float[Tensor, "n width"], ...]
    missing: Int[Tensor, " m"]


class Batch(NamedTuple):
    """Images with what is known about them.

    Convention:
        - ``images`` come uint8 out of a data set and are float in [0, 1] once their view was applied.
        - ``boxes`` are (x0, y0, x1, y1) in pixels, half open, one row an instance; ``masks`` hold 0 for
          background and i for the i-th instance. Both belong to the untouched image, not to a view of it.
        - ``index`` is the position in the data set and ``view`` the number of the view that was taken: together
          they say which pixels a network saw, so its outputs can be stored.
        - ``cached`` is what the teacher is known to say of these views, where a cache is in use.
    """

    images: Num[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    index: Int[Tensor, " n"]  # type: ignore[assignment]  # the field is the record's, not tuple.index
    view: Int[Tensor, " n"]
    boxes: Int[Tensor, "n m 4"] | None = None
    masks: UInt8[Tensor, "n h w"] | None = None
    cached: CacheLookup | None = None


class Head(Protocol):
    """What a network computes after one of its layers, each sample by itself.

    Batch normalisation inside it is a constant: the statistics of the pass that made the activations.
    """

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer, where the head is nothing but global average pooling and that layer; else None."""

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Carry activations of the layer on to the logits."""

    @property
    def logits(self) -> Float[Tensor, "n classes"]:
        """What the forward pass returned."""

    def obstacle(self, activations: Float[Tensor, "n k *s"]) -> str | None:
        """Say what hinders :meth:`pull_back`, if anything does."""

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k *s"]:
        """Carry a weight for every logit back to the activations, by ordinary forward operations."""

    def with_running_statistics(self) -> Head:
        """Give the same head with the running statistics as its constants."""


@dataclass(frozen=True)
class StagedOutput:
    """One forward pass of a network: its logits, and the layers that were asked for."""

    logits: Float[Tensor, "n classes"]
    activations: Mapping[str, Float[Tensor, "n k ..."]] = field(default_factory=dict)
    heads: Mapping[str, Head] = field(default_factory=dict)


class MapPair(NamedTuple):
    """The student's and the teacher's raw maps of the same images; their sizes may differ."""

    student: Float[Tensor, "n *s"]
    teacher: Float[Tensor, "n *t"]
