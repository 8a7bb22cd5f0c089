"""Build the student and the teacher for a data set."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.build.named_weights import has_library_weights, load_named_teacher, named_weights
from distill.build.open_sections import check_keys, check_teacher_keys, unknown_option_errors
from distill.build.student_weights import start_from_weights, weights_option
from distill.build.teacher_classes import keeps_own_classes, select_teacher_classes
from distill.build.trust import trust_in
from distill.config import (
    Config,
    LayeredTerm,
    TeacherSection,
    is_weights_path,
    load_recorded,
)
from distill.data import ImageSet, channel_statistics, to_unit
from distill.errors import InputError
from distill.models import (
    StagedNetwork,
    create_model,
    create_pretrained,
    file_hash,
    image_size_option,
    load_network,
    stage_network,
)
from distill.models.calls import evaluation, read_logits
from distill.models.class_names import class_difference
from distill.objects import is_object, object_hash, object_type
from distill.teachers import FrozenTeacher
from distill.training import RunDirectory
from distill.training.optim import match_names
from distill.untrusted import Trust


def build_student(
    config: Config, train: ImageSet, network: nn.Module | None = None, *, resumed: bool = False
) -> StagedNetwork:
    """Build the student for a data set, with its input normalisation and its starting weights.

    Args:
        config: The configuration of the run.
        train: The training images.
        network: The student, if it is passed as an object. A copy of it is trained.
        resumed: Whether the weights will be those of a checkpoint, so that the starting weights are not needed.

    Raises:
        InputError: if the student cannot be built, names other classes than the data set, or does not fit its starting
            weights.
    """
    section = config.student
    scaling = section.normalisation
    about: dict[str, Any] = {
        "name": config.student.name,
        "num_classes": len(train.classes),
        "in_channels": train.images.shape[1],
        "classes": train.classes,
    }
    of_library = network is None and has_library_weights(section)
    if scaling or not of_library:
        about["mean"], about["std"] = (scaling.mean, scaling.std) if scaling else _statistics(train)
    if network is None:
        options = {**image_size_option(section.name, train.images.shape[2:]), **section.options}
        with unknown_option_errors("student", config.student):
            if of_library:
                about |= {"weights": section.weights, "head": section.head, "download": not resumed}
                student = create_pretrained(**about, **options)
            else:
                student = create_model(**about, **options, **weights_option(section))
    else:
        if is_object(config.student.name):
            check_keys("student", config.student, [], of="a network that is passed as an object")
        student = stage_network(copy.deepcopy(network), **about)
        _check_class_names("the student", student, config, train)
        student.requires_grad_(True).train()
    if is_weights_path(section.weights) and not resumed:
        start_from_weights(student, section, recorded_scaling=not scaling and not isinstance(network, StagedNetwork))
    freeze_parameters(student, config.student.freeze)
    return student.to(memory_format=torch.channels_last)


def freeze_parameters(network: StagedNetwork, patterns: Sequence[str]) -> None:
    """Exclude parameters from training.

    Args:
        network: The network; its names are those of the user's module, such as ``layer1.0.conv1.weight``.
        patterns: Names of modules, or patterns with ``*`` and ``?``.

    Raises:
        InputError: If a pattern matches no parameter.
    """
    parameters = dict(network.network.named_parameters())
    for pattern in patterns:
        for name in match_names("student.freeze", pattern, list(parameters)):
            parameters[name].requires_grad_(False)


def _statistics(train: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel; 1 instead of 0 for a channel that is constant."""
    mean, std = channel_statistics(train.images)
    constant = [f"{channel} (counted from 0)" for channel, value in enumerate(std) if value == 0]
    if constant:
        warnings.warn(
            f"data: channel {', '.join(constant)} has the same value in all pixels of the training images, so it holds "
            "no information; it is normalised with a standard deviation of 1.",
            stacklevel=3,
        )
    return mean, tuple(value or 1.0 for value in std)


def build_teacher(
    config: Config, train: ImageSet, network: nn.Module | None = None, *, trust: Trust | bool = False
) -> FrozenTeacher | None:
    """Load the teacher, and check that it fits the data set.

    Args:
        config: The configuration of the run, which the user wrote.
        train: The training images.
        network: The teacher, if it is passed as an object.
        trust: Names that the files of the teacher may import, in addition to those in the configuration.

    Raises:
        InputError: if the teacher cannot be loaded, its classes differ in number, name or order from those of the data
            set and ``teacher.classes`` does not say which are meant, it takes another number of channels, or it was
            trained on another split of the data set.
    """
    section = config.teacher
    if section is None:
        return None
    trusted = trust_in(config, also=trust)
    loaded = load_teacher(section, train, network, trust=trusted, name=data_name(config))
    if not keeps_own_classes(section):
        _check_class_names("the teacher", loaded, config, train)
    channels = train.images.shape[1]
    if loaded.spec.in_channels != channels:
        raise InputError(
            f"the teacher takes {loaded.spec.in_channels} channels, but {config.data.name} has {channels}."
        )
    if section.checkpoint is not None and section.classes is None:  # others were trained on other data
        _check_validation_split(config, Path(section.checkpoint))
    terms = [t for t in config.objective.values() if isinstance(t, LayeredTerm)]
    layers = {term.layer_of_teacher(layer) for term in terms for layer in term.layers}
    return FrozenTeacher(loaded, layers=layers, compile=section.compile)


def load_teacher(
    section: TeacherSection,
    data: ImageSet,
    network: nn.Module | None = None,
    *,
    trust: Trust | bool | None = None,
    name: str = "the data set",
) -> StagedNetwork:
    """Load the network of a ``teacher`` section for the classes and channels of a data set.

    Args:
        section: The ``teacher`` section.
        data: Images with the same channels as the teacher. ``teacher.classes`` may select the teacher's classes.
        network: The teacher, if it is passed as an object.
        trust: Names that the files of the teacher may import, or whether they may import any. Default: the name in the
            section.
        name: Name of the data set, for messages.

    Raises:
        InputError: if the weights cannot be loaded, their files name code that is not trusted, the teacher was
            passed as an object and ``network`` is missing, or its classes are not those of the data.
    """
    normalisation = section.normalisation.model_dump() if section.normalisation else None
    channels, size = data.images.shape[1], data.images.shape[2:]
    if section.checkpoint is None:
        named = load_named_teacher(section, num_classes=len(data.classes), in_channels=channels, size=size, trust=trust)
        return _with_classes(named, section, data, name=name)
    if network is not None:
        if is_object(section.checkpoint):
            check_keys("teacher", section, [], of="a network that is passed as an object")
        staged = _stage_teacher(network, section, data, normalisation)
        return _with_classes(staged, section, data, name=name)
    if is_object(section.checkpoint):
        raise InputError(
            f"teacher: it was passed as a Python object ({object_type(section.checkpoint)}), which cannot be rebuilt "
            "from a run directory. Pass it again as `teacher=` or `reference=`, or leave it out."
        )
    with unknown_option_errors("teacher", section):
        teacher = load_network(
            section.checkpoint,
            name=section.name,
            num_classes=len(data.classes),
            in_channels=channels,
            normalisation=normalisation,
            options={**image_size_option(section.name, size), **section.options},
            weights_key=section.weights_key,
            trust=trust,
            any_classes=True,
        )
    check_teacher_keys(section, teacher, section.checkpoint)
    return _with_classes(teacher, section, data, name=name)


def _with_classes(teacher: StagedNetwork, section: TeacherSection, data: ImageSet, *, name: str) -> StagedNetwork:
    """Return the teacher with the classes of the section; those of a network without a record are counted."""
    if section.classes is not None and not teacher.spec.classes:
        try:
            with evaluation(teacher), torch.no_grad():
                count = read_logits(teacher(to_unit(data.images[:1]))).shape[1]
        except Exception as error:  # networks raise many types of exceptions
            raise InputError(f"the teacher fails on an image of the data: {error}") from error
        teacher.spec = teacher.full_spec = teacher.spec._replace(num_classes=count)
    return select_teacher_classes(teacher, section, data.classes, name=name)


def teacher_hash(section: TeacherSection) -> str:
    """Return the hash of the teacher's weights, or their name if a library keeps them.

    Raises:
        InputError: if the file or run directory does not exist, or the library has no such weights.
    """
    if section.checkpoint is None:
        return str(named_weights(section))
    if is_object(section.checkpoint):
        return object_hash(section.checkpoint)
    if not Path(section.checkpoint).exists():
        raise InputError(
            f"teacher.checkpoint: {section.checkpoint} does not exist. Train a teacher first, or correct the path."
        )
    return file_hash(section.checkpoint)


def _stage_teacher(
    network: nn.Module, section: TeacherSection, data: ImageSet, normalisation: dict[str, Any] | None
) -> StagedNetwork:
    if normalisation is None and not isinstance(network, StagedNetwork):
        raise InputError(
            "teacher: a network that is passed as an object needs a normalisation: "
            'teacher={"network": net, "normalisation": {"mean": [...], "std": [...]}}. Use mean 0 and std 1 for a '
            "network that takes images in [0, 1]."
        )
    return stage_network(
        network,
        name=section.source,
        num_classes=len(data.classes),
        in_channels=data.images.shape[1],
        classes=data.classes if section.classes is None else (),
        **(normalisation or {}),
    )


def data_name(config: Config) -> str:
    """Return the name of the data set for messages; the class of a data set that was passed as an object."""
    return object_type(config.data.name) if is_object(config.data.name) else config.data.name


def _check_class_names(role: str, network: StagedNetwork, config: Config, data: ImageSet) -> None:
    """Raise an error if a network names its classes, and the data set has other names or another order."""
    difference = class_difference(network.classes, data.classes)
    name = data_name(config)
    if difference:
        raise InputError(
            f"{role} and the data set {name} have different classes: {difference}. Give both the same "
            f"classes in the same order, for example by the same names of class folders, or choose another {role[4:]}."
        )


def _check_validation_split(config: Config, teacher: Path) -> None:
    """Raise an error if the teacher may have been trained on this run's validation images."""
    recorded = teacher / "config.yaml"
    if config.data.name == "fashion_scenes" or not recorded.exists():
        return  # the splits of fashion_scenes use disjoint items for every seed
    RunDirectory(teacher).check_config()
    section = load_recorded(recorded).data
    actual, expected = ((d.seed, d.options.get("validation"), d.options.get("test")) for d in (section, config.data))
    if section.name == config.data.name and actual != expected:
        raise InputError(
            f"the teacher {teacher} was trained on another split of {section.name}, so its training images may include "
            f"validation images of this run. data.seed, data.validation and data.test are {actual} for the teacher and "
            f"{expected} for this run; set the same values in both."
        )
