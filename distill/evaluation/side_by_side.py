"""Several networks looking at the same images: one forward pass each, and maps of one class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data.imageset import ImageSet
from distill.errors import InputError, unknown
from distill.evaluation.known import Said
from distill.evaluation.map_settings import MapSettings
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.models import StagedNetwork
from distill.types import StagedOutput


class Look(NamedTuple):
    """What one network says about a batch: raw maps in the size of the layer, and in that of the images."""

    logits: Float[Tensor, "n classes"]
    raw: Float[Tensor, "n i j"]
    maps: Float[Tensor, "n h w"]

    def probability(self, target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Give the softmax probability of one class an image."""
        return self.logits.float().softmax(1).gather(1, target[:, None])[:, 0]


class Looks(NamedTuple):
    """What all networks say about a batch, and the class that their maps explain."""

    target: Int[Tensor, " n"]
    networks: dict[str, Look]


class SideBySide:
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
            raise InputError(unknown("reference", reference, networks))
        if settings.target == "teacher" and reference is None:
            raise InputError("class policy 'teacher' needs a reference; name one, or explain the 'label'.")
        problems = differing_classes(networks)
        for name, net in networks.items():
            layer = settings.explainer(name).layer
            if layer not in net.cuts:
                problems.append(f"network {name!r}: " + unknown("layer", layer, net.cuts, see="`distill list models`"))
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
        problem = _difference(data.classes, self.networks[first])
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
        said: Mapping[str, Said] | None = None,
    ) -> Looks:
        """Run every network once and explain it.

        Args:
            images: In [0, 1], on the networks' device.
            labels: Classes of the images.
            said: What some networks are known to say of them; those are not run.
        """
        known = {name: Said(*(part.to(images.device) for part in one)) for name, one in (said or {}).items()}
        outputs = {name: self._run(name, images) for name in self.networks if name not in known}
        target = labels
        if self.settings.target == "teacher":
            target = (known | outputs)[str(self.reference)].logits.argmax(1)
        looks = {
            name: _known(known[name], images) if name in known else self._explain(name, outputs[name], target, images)
            for name in self.networks
        }
        return Looks(target, looks)

    def target(self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Give the class that all maps of an image explain."""
        if self.settings.target == "label":
            return labels
        with torch.no_grad():
            return self.networks[str(self.reference)](images).argmax(1)

    def look_again(self, network: str, images: Float[Tensor, "n c h w"], target: Int[Tensor, " n"]) -> Look:
        """Run one network once, on other images, and explain the same class as before."""
        return self._explain(network, self._run(network, images), target, images)

    def explainer(self, network: str) -> Explainer:
        """Give the explainer of one network."""
        return self.settings.explainer(network)

    def _run(self, network: str, images: Tensor) -> StagedOutput:
        with torch.no_grad():
            return self.networks[network].run(images, [self.explainer(network).layer])

    def _explain(self, network: str, output: StagedOutput, target: Tensor, images: Tensor) -> Look:
        explainer = self.explainer(network)
        with torch.no_grad(), naming(network):
            if explainer.from_outside:
                raw = explainer(self.networks[network], images, target).maps
            else:
                raw = explainer.from_output(output, target)
            return Look(output.logits, raw, resize_maps(raw, images.shape[2:]))


def _known(said: Said, images: Tensor) -> Look:
    return Look(*said, resize_maps(said.raw, images.shape[2:]))


@contextmanager
def naming(network: str) -> Iterator[None]:
    """Say in the error of an explainer which network it was."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"network {network!r}: {error}") from error


@contextmanager
def evaluating(networks: Mapping[str, StagedNetwork], device: torch.device | str) -> Iterator[None]:
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
    problems = ((name, _difference(networks[first].classes, net)) for name, net in networks.items())
    return [
        f"networks {first!r} and {name!r} have different classes and cannot be compared: {problem}."
        for name, problem in problems
        if problem
    ]


def _difference(classes: tuple[str, ...], net: StagedNetwork) -> str | None:
    if len(classes) != net.spec.num_classes:
        return f"{len(classes)} and {net.spec.num_classes}"
    for i, (one, other) in enumerate(zip(classes, net.spec.classes, strict=False)):  # a foreign network may name none
        if one != other:
            return f"class {i} is {one!r} and {other!r}"
    return None
