"""`ComparedNetworks` (the networks of an evaluation) and `EvaluationJob` (those networks on one test set)."""

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
from distill.data.class_counts import warn_about_classes
from distill.data.imageset import ImageSet
from distill.errors import InputError, unknown_name
from distill.evaluation.settings import MapSettings
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.metrics import boxes_to_instances
from distill.models import StagedNetwork
from distill.models.class_names import class_difference
from distill.teachers.evaluation_cache import CachedOutput, EvaluationCache
from distill.types import StagedOutput


class NetworkOutput(NamedTuple):
    """Logits of one network for a batch, raw maps in the size of the layer, and maps in the size of the images."""

    logits: Float[Tensor, "n classes"]
    raw: Float[Tensor, "n i j"]
    maps: Float[Tensor, "n h w"]

    def probability(self, target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the softmax probability of one class for every image."""
        return self.logits.float().softmax(1).gather(1, target[:, None])[:, 0]


class BatchOutputs(NamedTuple):
    """Outputs of all networks for a batch, by name, and the class that their maps explain."""

    target: Int[Tensor, " n"]
    networks: dict[str, NetworkOutput]


class ComparedNetworks:
    """Networks that have the same classes and are explained in the same way.

    Args:
        networks: Networks by name.
        reference: Name of the network that the others are compared with, usually the teacher; None: no reference.
        maps: How the networks are explained.

    Raises:
        InputError: if there are no networks, their classes differ, ``reference`` is not among them, or a network lacks
            the layer.
    """

    def __init__(self, networks: Mapping[str, StagedNetwork], reference: str | None, maps: MapSettings) -> None:
        if not networks:
            raise InputError("`networks` is empty; give at least one network.")
        if reference is not None and reference not in networks:
            raise InputError(unknown_name("reference", reference, networks))
        if maps.target == "teacher" and reference is None:
            raise InputError("class policy 'teacher' needs a reference; name one, or use the class policy 'label'.")
        problems = differing_classes(networks)
        for name, network in networks.items():
            layer = maps.explainer(name).layer
            if problem := _layer_problem(network, layer):
                problems.append(f"network {name!r}: {problem}")
        if problems:
            raise InputError("\n".join(problems))
        self.by_name = dict(networks)
        self.reference = reference
        self.maps = maps

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        named = [network.classes for network in self.by_name.values() if network.spec.classes]
        return named[0] if named else next(iter(self.by_name.values())).classes

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the networks that are compared with the reference; empty without a reference."""
        return tuple(name for name in self.by_name if self.reference is not None and name != self.reference)

    def check(self, set_name: str, data: ImageSet) -> None:
        """Check that the networks can take the images of a test set.

        Raises:
            InputError: if the set is empty, or has other classes or another number of channels.
        """
        if not len(data):
            raise InputError(f"test set {set_name!r} has no images.")
        warn_about_classes(data, where=f"test set {set_name!r}")
        first = next(iter(self.by_name))
        problem = class_difference(data.classes, self.by_name[first].classes)
        if problem:
            raise InputError(f"test set {set_name!r} has other classes than network {first!r}: {problem}.")
        for name, network in self.by_name.items():
            if network.spec.in_channels != data.images.shape[1]:
                raise InputError(
                    f"network {name!r} takes images of {network.spec.in_channels} channels, "
                    f"test set {set_name!r} has {data.images.shape[1]}."
                )

    def run(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        cached: Mapping[str, CachedOutput] | None = None,
    ) -> BatchOutputs:
        """Run and explain every network once.

        Args:
            images: In [0, 1], on the device of the networks.
            labels: Classes of the images.
            cached: Outputs that are known already, by network; these networks are not run.
        """
        cached = {name: CachedOutput(*(part.to(images.device) for part in one)) for name, one in (cached or {}).items()}
        outputs = {name: self._forward(name, images) for name in self.by_name if name not in cached}
        target = labels
        if self.maps.target == "teacher":
            target = (cached | outputs)[str(self.reference)].logits.argmax(1)
        explained = {
            name: NetworkOutput(*cached[name], resize_maps(cached[name].raw, images.shape[2:]))
            if name in cached
            else self._explain(name, outputs[name], target, images)
            for name in self.by_name
        }
        return BatchOutputs(target, explained)

    def rerun(self, name: str, images: Float[Tensor, "n c h w"], target: Int[Tensor, " n"]) -> NetworkOutput:
        """Run and explain one network on changed images, for the classes that were explained before."""
        return self._explain(name, self._forward(name, images), target, images)

    def target(self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return the class that all maps of an image explain."""
        if self.maps.target == "label":
            return labels
        with torch.no_grad():
            return self.by_name[str(self.reference)](images).argmax(1)

    def explainer(self, name: str) -> Explainer:
        """Return the explainer of one network."""
        return self.maps.explainer(name)

    def _forward(self, name: str, images: Tensor) -> StagedOutput:
        with torch.no_grad():
            return self.by_name[name].run(images, [self.explainer(name).layer])

    def _explain(self, name: str, output: StagedOutput, target: Tensor, images: Tensor) -> NetworkOutput:
        explainer = self.explainer(name)
        with torch.no_grad(), name_network_in_errors(name):
            if explainer.is_held_out:
                raw = explainer(self.by_name[name], images, target).maps
            else:
                raw = explainer.from_output(output, target)
            return NetworkOutput(output.logits, raw, resize_maps(raw, images.shape[2:]))


@contextmanager
def name_network_in_errors(name: str) -> Iterator[None]:
    """Turn a ValueError into an InputError that starts with the name of the network."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"network {name!r}: {error}") from error


@contextmanager
def evaluation_mode(networks: Mapping[str, StagedNetwork], device: torch.device | str) -> Iterator[None]:
    """Put networks into evaluation mode on a device; at the end, restore the mode of every module and the device."""
    modes = {module: module.training for network in networks.values() for module in network.modules()}
    devices = {name: next(network.parameters()).device for name, network in networks.items()}
    try:
        for network in networks.values():
            network.eval().to(device)
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for name, network in networks.items():
            network.to(devices[name])


def differing_classes(networks: Mapping[str, StagedNetwork]) -> list[str]:
    """Return an error message for every network whose classes differ from those of the first network."""
    if not networks:
        return []
    first = next((name for name, network in networks.items() if network.spec.classes), next(iter(networks)))
    problems = (
        (name, class_difference(networks[first].classes, network.classes)) for name, network in networks.items()
    )
    return [
        f"networks {first!r} and {name!r} have different classes and cannot be compared: {problem}."
        for name, problem in problems
        if problem
    ]


#: Called after every batch with the name of the step, the work done so far and the total work.
Progress: TypeAlias = Callable[[str, int, int], None]


class EvaluationBatch(NamedTuple):
    """Positions, images in [0, 1], labels and objects of a batch.

    ``instances`` is i where the i-th object is and 0 elsewhere; None if the test set has no boxes or masks.
    """

    positions: Int[Tensor, " n"]
    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    instances: Num[Tensor, "n h w"] | None

    @property
    def objects(self) -> Bool[Tensor, "n h w"] | None:
        """Mask of all objects."""
        return None if self.instances is None else self.instances != 0


class EvaluationJob(NamedTuple):
    """Networks on one test set.

    Args:
        networks: The networks, in evaluation mode and on the device.
        set_name: Name of the test set.
        data: Images of the test set.
        batch_size: Number of images, perturbed ones included, that are processed at a time; bounds the memory.
        device: Device of the networks.
        progress: See :data:`Progress`.
        caches: Caches of outputs on this test set, by network; missing outputs are computed and added.
    """

    networks: ComparedNetworks
    set_name: str
    data: ImageSet
    batch_size: int
    device: torch.device | str = "cpu"
    progress: Progress | None = None
    caches: Mapping[str, EvaluationCache] = MappingProxyType({})

    def batches(self, positions: Sequence[int] | np.ndarray) -> Iterator[EvaluationBatch]:
        """Yield the images at some positions in batches, in the given order."""
        for index in torch.as_tensor(positions, dtype=torch.int64).split(self.batch_size):
            part = self.data.subset(index)
            images, labels = to_unit(part.images.to(self.device)), part.labels.to(self.device)
            yield EvaluationBatch(index, images, labels, self._instances(part))

    def run(self, batch: EvaluationBatch) -> BatchOutputs:
        """Run and explain every network once; outputs are read from the caches where possible."""
        stored = {name: cache.lookup(batch.positions) for name, cache in self.caches.items()}
        cached = {name: output for name, output in stored.items() if output is not None}
        outputs = self.networks.run(batch.images, batch.labels, cached)
        for name in self.caches.keys() - cached.keys():
            output = outputs.networks[name]
            self.caches[name].add(batch.positions, CachedOutput(output.logits, output.raw))
        return outputs

    def report_progress(self, step: str, done: int, total: int) -> None:
        """Report progress under the name of the test set, followed by the name of the step if there is one."""
        if self.progress is not None:
            self.progress(f"{self.set_name}: {step}" if step else self.set_name, done, total)

    @property
    def image_size(self) -> torch.Size:
        """Height and width of the images."""
        return self.data.images.shape[2:]

    def _instances(self, part: ImageSet) -> Tensor | None:
        if part.masks is not None:
            return part.masks.to(self.device)
        if part.boxes is not None:
            return boxes_to_instances(part.boxes.to(self.device), self.image_size)
        return None


def _layer_problem(network: StagedNetwork, layer: str) -> str | None:
    """Return why a layer cannot be explained, or None: it is a named cut, or the dotted path of one."""
    try:
        network.check_layer(layer)
    except ValueError as error:
        names = list(network.cuts)
        return (
            unknown_name("layer", layer, names, see=f"`distill list layers {network.spec.name}`")
            if names
            else str(error)
        )
    if network.is_cut(layer):
        return None
    return f"layer {layer!r} cannot be explained: a path from the images to the logits bypasses it. Name another layer."
