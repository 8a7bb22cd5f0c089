"""Several networks looking at the same images: one forward pass each, and maps of one class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data.imageset import ImageSet
from distill.errors import InputError, unknown
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.models import StagedNetwork

#: Which class is explained, as a record words it.
POLICIES = {
    "label": "Every map explains the image's label, whatever the network predicts.",
    "teacher": "Every map explains the class that the reference chooses, whatever the network predicts.",
}
PIPELINE = "raw map, relu, bilinear (align_corners=False) to image size"


@dataclass(frozen=True)
class MapSettings:
    """How networks are explained so that their maps can be compared.

    Args:
        method: A method of :class:`distill.explain.Explainer`.
        layer: The layer explained in every network,
        layers: but for these, by the network's name.
        target: The class explained, one for all networks: the ``label``, or the ``teacher``'s (the reference's) choice.

    Raises:
        InputError: if a name is unknown.
    """

    method: str = "grad_cam_pp"
    layer: str = "final"
    layers: Mapping[str, str] = field(default_factory=dict)
    target: str = "label"

    def __post_init__(self) -> None:
        if self.target not in POLICIES:
            raise InputError(
                unknown("class policy", self.target, POLICIES) + "; maps compare only if all explain the same class."
            )
        self.explainer("")

    def explainer(self, network: str) -> Explainer:
        """Give the explainer of one network."""
        try:
            return Explainer(self.method, self.layers.get(network, self.layer))
        except ValueError as error:
            raise InputError(str(error)) from error


class Look(NamedTuple):
    """What one network says about a batch; maps are raw, in the size of the images."""

    logits: Float[Tensor, "n classes"]
    maps: Float[Tensor, "n h w"]


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
        _same_classes(networks)
        for name, net in networks.items():
            layer = settings.explainer(name).layer
            if layer not in net.cuts:
                raise InputError(f"network {name!r}: " + unknown("layer", layer, net.cuts, see="`distill list models`"))
        self.networks = dict(networks)
        self.reference = reference
        self.settings = settings

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        named = [net.classes for net in self.networks.values() if net.spec.classes]
        return named[0] if named else next(iter(self.networks.values())).classes

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

    def look(self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Looks:
        """Run every network once and explain it.

        Args:
            images: In [0, 1], on the networks' device.
            labels: Classes of the images.
        """
        explainers = {name: self.settings.explainer(name) for name in self.networks}
        with torch.no_grad():
            outputs = {name: net.run(images, [explainers[name].layer]) for name, net in self.networks.items()}
            target = outputs[self.reference].logits.argmax(1) if self.settings.target == "teacher" else labels  # type: ignore[index]  # checked above
            looks = {}
            for name, output in outputs.items():
                try:
                    maps = explainers[name].from_output(output, target)
                except ValueError as error:
                    raise InputError(f"network {name!r}: {error}") from error
                looks[name] = Look(output.logits, resize_maps(maps, images.shape[2:]))
        return Looks(target, looks)


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


def _same_classes(networks: Mapping[str, StagedNetwork]) -> None:
    first = next((name for name, net in networks.items() if net.spec.classes), next(iter(networks)))
    for name, net in networks.items():
        problem = _difference(networks[first].classes, net)
        if problem:
            raise InputError(
                f"networks {first!r} and {name!r} have different classes and cannot be compared: {problem}."
            )


def _difference(classes: tuple[str, ...], net: StagedNetwork) -> str | None:
    if len(classes) != net.spec.num_classes:
        return f"{len(classes)} and {net.spec.num_classes}"
    for i, (one, other) in enumerate(zip(classes, net.spec.classes, strict=False)):  # a foreign network may name none
        if one != other:
            return f"class {i} is {one!r} and {other!r}"
    return None
