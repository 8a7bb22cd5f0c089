"""The networks that are compared, and one evaluation job: those networks on one test set, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from distill.data.augment import to_unit
from distill.data.imageset import ImageSet
from distill.errors import InputError, unknown_name
from distill.evaluation.settings import MapSettings
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.metrics import boxes_to_instances
from distill.models import StagedNetwork
from distill.teachers.evaluation_cache import CachedOutput, EvaluationCache
from distill.types import StagedOutput


class NetworkOutput(NamedTuple):
    """What one network says about a batch: raw maps in the size of the layer, and in that of the images."""

    logits: Float[Tensor, "n classes"]
    raw: Float[Tensor, "n i j"]
    maps: Float[Tensor, "n h w"]

    def probability(self, target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Give the softmax probability of one class an image."""
        return self.logits.float().softmax(1).gather(1, target[:, None])[:, 0]


class BatchOutputs(NamedTuple):
    """What all networks say about a batch, and the class that their maps explain."""

    target: Int[Tensor, " n"]
    networks: dict[str, NetworkOutput]


class ComparedNetworks:
    """Networks that can be compared: of the same classes, explained alike.

    Args:
        networks: By name.
        reference: Name of the network that the others are compared with, usually the teacher; or None.
        settings: How they are explained.

    Raises:
        InputError: if there are none, their classes differ, the reference is not among them, or one lacks the layer.
    """

    def __init__(self, networks: Mapping[str, StagedNetwork], reference: str | None, settings: MapSettings) -> None:
        if not networks:
            raise InputError("nothing to evaluate: give at least one network.")
        if reference is not None and reference not in networks:
            raise InputError(unknown_name("reference", reference, networks))
        if settings.target == "teacher" and reference is None:
            raise InputError("class policy 'teacher' needs a reference; name one, or explain the 'label'.")
        problems = differing_classes(networks)
        for name, net in networks.items():
            layer = settings.explainer(name).layer
            if layer not in net.cuts:
                problems.append(
                    f"network {name!r}: " + unknown_name("layer", layer, net.cuts, see="`distill list models`")
                )
        if problems:
            raise InputError("\n".join(problems))
        self.networks = dict(networks)
        self.reference = reference
        self.settings = settings

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        named = [net.classes for net in self.networks.values() if net.spec.classes]
        return named[0] if named else next(iter(self.networks.values())).classes

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the networks that are compared with the reference; none without one."""
        return tuple(name for name in self.networks if self.reference is not None and name != self.reference)

    def check(self, name: str, data: ImageSet) -> None:
        """Raise an InputError unless these images are what the networks take."""
        if not len(data):
            raise InputError(f"test set {name!r} holds no images.")
        first = next(iter(self.networks))
        problem = _class_difference(data.classes, self.networks[first])
        if problem:
            raise InputError(f"test set {name!r} has other classes than network {first!r}: {problem}.")
        for network, net in self.networks.items():
            if net.spec.in_channels != data.images.shape[1]:
                raise InputError(
                    f"network {network!r} takes images of {net.spec.in_channels} channels, "
                    f"test set {name!r} has {data.images.shape[1]}."
                )

    def look(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        said: Mapping[str, CachedOutput] | None = None,
    ) -> BatchOutputs:
        """Run every network once and explain it.

        Args:
            images: In [0, 1], on the networks' device.
            labels: Classes of the images.
            said: What some networks are known to say of them; those are not run.
        """
        known = {name: CachedOutput(*(part.to(images.device) for part in one)) for name, one in (said or {}).items()}
        outputs = {name: self._run(name, images) for name in self.networks if name not in known}
        target = labels
        if self.settings.target == "teacher":
            target = (known | outputs)[str(self.reference)].logits.argmax(1)
        looks = {
            name: _from_cache(known[name], images)
            if name in known
            else self._explain(name, outputs[name], target, images)
            for name in self.networks
        }
        return BatchOutputs(target, looks)

    def target(self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Give the class that all maps of an image explain."""
        if self.settings.target == "label":
            return labels
        with torch.no_grad():
            return self.networks[str(self.reference)](images).argmax(1)

    def look_again(self, network: str, images: Float[Tensor, "n c h w"], target: Int[Tensor, " n"]) -> NetworkOutput:
        """Run one network once, on other images, and explain the same class as before."""
        return self._explain(network, self._run(network, images), target, images)

    def explainer(self, network: str) -> Explainer:
        """Give the explainer of one network."""
        return self.settings.explainer(network)

    def _run(self, network: str, images: Tensor) -> StagedOutput:
        with torch.no_grad():
            return self.networks[network].run(images, [self.explainer(network).layer])

    def _explain(self, network: str, output: StagedOutput, target: Tensor, images: Tensor) -> NetworkOutput:
        explainer = self.explainer(network)
        with torch.no_grad(), name_network_in_errors(network):
            if explainer.is_held_out:
                raw = explainer(self.networks[network], images, target).maps
            else:
                raw = explainer.from_output(output, target)
            return NetworkOutput(output.logits, raw, resize_maps(raw, images.shape[2:]))


def _from_cache(said: CachedOutput, images: Tensor) -> NetworkOutput:
    return NetworkOutput(*said, resize_maps(said.raw, images.shape[2:]))


@contextmanager
def name_network_in_errors(network: str) -> Iterator[None]:
    """Say in the error of an explainer which network it was."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"network {network!r}: {error}") from error


@contextmanager
def evaluation_mode(networks: Mapping[str, StagedNetwork], device: torch.device | str) -> Iterator[None]:
    """Put networks into evaluation mode on a device, and every part of them back as it was."""
    modes = {module: module.training for net in networks.values() for module in net.modules()}
    places = {name: next(net.parameters()).device for name, net in networks.items()}
    try:
        for net in networks.values():
            net.eval().to(device)
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for name, net in networks.items():
            net.to(places[name])


def differing_classes(networks: Mapping[str, StagedNetwork]) -> list[str]:
    """Say of every network whose classes are not those of the first in what they differ."""
    if not networks:
        return []
    first = next((name for name, net in networks.items() if net.spec.classes), next(iter(networks)))
    problems = ((name, _class_difference(networks[first].classes, net)) for name, net in networks.items())
    return [
        f"networks {first!r} and {name!r} have different classes and cannot be compared: {problem}."
        for name, problem in problems
        if problem
    ]


def _class_difference(classes: tuple[str, ...], net: StagedNetwork) -> str | None:
    if len(classes) != net.spec.num_classes:
        return f"{len(classes)} and {net.spec.num_classes}"
    for i, (one, other) in enumerate(zip(classes, net.spec.classes, strict=False)):  # a foreign network may name none
        if one != other:
            return f"class {i} is {one!r} and {other!r}"
    return None


#: Called after every batch with what is being done, how much of it is done, and how much there is.
Progress: TypeAlias = Callable[[str, int, int], None]


class EvaluationBatch(NamedTuple):
    """Some images in [0, 1], by position, and their objects, if known: i where the i-th instance is, 0 elsewhere."""

    positions: Int[Tensor, " n"]
    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    instances: Num[Tensor, "n h w"] | None

    @property
    def objects(self) -> Bool[Tensor, "n h w"] | None:
        """Where any object is."""
        return None if self.instances is None else self.instances != 0


class EvaluationJob(NamedTuple):
    """Networks on one test set.

    Args:
        side: The networks, in evaluation mode and on the device.
        name: Of the set.
        data: Its images.
        batch_size: Images at a time, perturbed ones counted; bounds the memory.
        device: Where the networks are.
        progress: See :data:`Progress`.
        known: What some networks said of these images before; what is missing there is added.
    """

    side: ComparedNetworks
    name: str
    data: ImageSet
    batch_size: int
    device: torch.device | str = "cpu"
    progress: Progress | None = None
    known: Mapping[str, EvaluationCache] = MappingProxyType({})

    def pieces(self, positions: Sequence[int] | np.ndarray) -> Iterator[EvaluationBatch]:
        """Cut some images into batches, in the order given."""
        for index in torch.as_tensor(positions, dtype=torch.int64).split(self.batch_size):
            part = self.data.subset(index)
            images, labels = to_unit(part.images.to(self.device)), part.labels.to(self.device)
            yield EvaluationBatch(index, images, labels, self._instances(part))

    def look(self, piece: EvaluationBatch) -> BatchOutputs:
        """Run every network once and explain it, but for what is known of it."""
        found = {network: known.lookup(piece.positions) for network, known in self.known.items()}
        said = {network: one for network, one in found.items() if one is not None}
        looks = self.side.look(piece.images, piece.labels, said)
        for network in self.known.keys() - said.keys():
            look = looks.networks[network]
            self.known[network].add(piece.positions, CachedOutput(look.logits, look.raw))
        return looks

    def tell(self, what: str, done: int, total: int) -> None:
        """Report progress; ``what`` is added to the name of the set."""
        if self.progress is not None:
            self.progress(f"{self.name}: {what}" if what else self.name, done, total)

    @property
    def size(self) -> torch.Size:
        """Height and width of the images."""
        return self.data.images.shape[2:]

    def _instances(self, part: ImageSet) -> Tensor | None:
        if part.masks is not None:
            return part.masks.to(self.device)
        if part.boxes is not None:
            return boxes_to_instances(part.boxes.to(self.device), self.size)
        return None
