"""`resolve_methods`: the method of explanation terms with `method: auto`, by the sign of the explained activations."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from distill.build.trust import trust_in
from distill.config import Config, ExplanationTerm, StudentSection, TeacherSection
from distill.errors import note_input
from distill.models import StagedNetwork, create_model, load_network, stage_network
from distill.models.catalogue import known_signs
from distill.models.final_layer import fixed_seed
from distill.models.signed_layers import signed_layers
from distill.models.weights import SPEC_NAME, read_spec, weights_file
from distill.untrusted import Trust

if TYPE_CHECKING:
    from distill.build.training_run import Objects

#: What `auto` stands for: at activations that are never negative, and at signed ones.
NEVER_NEGATIVE, SIGNED = "grad_cam_pp", "grad_cam"
#: Numbers of image channels that a network of a Python object or a plain state dict is tried with.
_CHANNELS = (3, 1)
_Layers = tuple[str, ...]
#: Number of classes of a network whose own number is not known; the signs do not depend on it.
_CLASSES = 2


def resolve_methods(
    config: Config, objects: Objects | None = None, *, trust: Trust | bool = False, trained: Config | None = None
) -> Config:
    """Replace ``method: auto`` of explanation terms: ``grad_cam`` at signed activations, otherwise ``grad_cam_pp``.

    The denominator of Grad-CAM++ can vanish if the activations are signed. A term that is not computed, and one whose
    network or layer cannot be read, have ``grad_cam_pp``; :func:`distill.build.build` reports what cannot be read.

    Convention:
        - The signs of built-in networks are known. Other networks are built, with random weights if they are named, and
          run on two random images. Nothing is downloaded.
        - A configuration without ``auto`` is returned as it is, so that the identity of a run has no ``auto``.

    Args:
        config: The configuration of the run, which the user wrote: the names in it are imported.
        objects: The objects for the names in the configuration that begin with ``object:``.
        trust: Names that the files of the teacher may import, in addition to those in the configuration.
        trained: The run of the teacher, if it may not be trained yet.
    """
    terms = {
        name: term
        for name, term in config.objective.items()
        if isinstance(term, ExplanationTerm) and term.method == "auto"
    }
    resolved: dict[str, Any] = {}
    for name, term in terms.items():
        signed = _signed(term, config, objects, trust_in(config, also=trust), trained) if term.weight else []
        if signed:
            note_input(
                f"objective.{name}.method: auto is {SIGNED}, because activations are signed: {', '.join(signed)}. The "
                f"denominator of {NEVER_NEGATIVE} can be 0 there."
            )
        resolved[name] = term.model_copy(update={"method": SIGNED if signed else NEVER_NEGATIVE})
    return config.model_copy(update={"objective": {**config.objective, **resolved}}) if resolved else config


class _Images(NamedTuple):
    """Size and possible numbers of channels of the images that a network is tried with."""

    size: int | None
    channels: tuple[int, ...]


def _signed(
    term: ExplanationTerm, config: Config, objects: Objects | None, trust: Trust, trained: Config | None
) -> list[str]:
    """Return the signed layers of student and teacher, as a message names them."""
    size = config.data.options.get("size")
    images = _Images(size if isinstance(size, int) else None, _CHANNELS)
    student = teacher = None
    if objects is not None:
        student, teacher = objects.student, objects.teacher
        if objects.train is not None:
            images = _Images(objects.train.images.shape[-1], (objects.train.images.shape[1],))
    layers = tuple(term.layers)
    measures = {"student": _named(config.student, layers, images)}
    if student is not None:
        measures["student"] = partial(_in_object, student, layers, images)
    if config.teacher is not None:
        layers = tuple(dict.fromkeys(term.layer_of_teacher(layer) for layer in layers))
        if teacher is not None:
            measures["teacher"] = partial(_in_object, teacher, layers, images)
        elif trained is not None and config.teacher.checkpoint == str(trained.directory):
            measures["teacher"] = _named(trained.student, layers, images)
        elif config.teacher.checkpoint is None:
            measures["teacher"] = _named(config.teacher, layers, images)
        else:
            measures["teacher"] = partial(_in_checkpoint, config.teacher, layers, images, trust)
    found: list[str] = []
    for role, measure in measures.items():
        with suppress(Exception):  # networks raise many types of exceptions; the build of the run reports them
            found += [f"{layer!r} of the {role}" for layer in measure()]
    return found


def _in_object(network: nn.Module, layers: _Layers, images: _Images) -> _Layers:
    def make(channels: int) -> StagedNetwork:
        return stage_network(network, name=type(network).__name__, num_classes=_CLASSES, in_channels=channels)

    return _measure(make, layers, images)


def _named(section: StudentSection | TeacherSection, layers: _Layers, images: _Images) -> Callable[[], _Layers]:
    options = json.dumps(section.options, sort_keys=True, default=str)
    return partial(_in_named, str(section.name), options, layers, images)


@cache  # the rows of an ablation have the same networks
def _in_named(name: str, options: str, layers: _Layers, images: _Images) -> _Layers:
    def make(channels: int) -> StagedNetwork:
        with fixed_seed():
            return create_model(name, num_classes=_CLASSES, in_channels=channels, **json.loads(options))

    known = _known(name, layers)
    return _measure(make, layers, images) if known is None else known


def _in_checkpoint(section: TeacherSection, layers: _Layers, images: _Images, trust: Trust) -> _Layers:
    path = weights_file(str(section.checkpoint))
    record = path.with_name(SPEC_NAME)
    name = read_spec(record)["name"] if path.suffix == ".safetensors" and record.exists() else section.name
    known = _known(name, layers)
    changed = path.stat().st_mtime_ns
    return _in_file(section.model_dump_json(), changed, trust, layers, images) if known is None else known


@cache
def _in_file(section: str, changed: int, trust: Trust, layers: _Layers, images: _Images) -> _Layers:
    """Measure the signs in a checkpoint; ``changed`` is the time when its file was written."""
    teacher = TeacherSection.model_validate_json(section)

    def make(channels: int) -> StagedNetwork:
        return load_network(
            str(teacher.checkpoint),
            name=teacher.name,
            num_classes=_CLASSES,
            in_channels=channels,
            normalisation=teacher.normalisation.model_dump() if teacher.normalisation else None,
            options=teacher.options,
            weights_key=teacher.weights_key,
            trust=trust,
            any_classes=True,
        )

    return _measure(make, layers, images)


def _known(name: str | None, layers: _Layers) -> _Layers | None:
    """Return the signed layers of a built-in network, or None if the signs must be measured."""
    signs = known_signs(name)
    return tuple(layer for layer in layers if signs[layer]) if signs.keys() >= set(layers) else None


def _measure(make: Callable[[int], StagedNetwork], layers: _Layers, images: _Images) -> _Layers:
    reason: Exception | None = None
    for channels in images.channels:
        try:
            return signed_layers(make(channels), layers, size=images.size)
        except Exception as error:  # networks raise many types of exceptions
            reason = error
    assert reason is not None
    raise reason
