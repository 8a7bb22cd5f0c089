"""Student and teacher for a data set."""

from __future__ import annotations

from pathlib import Path

import torch

from distill.config import (
    Config,
    LayeredTerm,
    TeacherSection,
    load,
)
from distill.data import ImageSet, channel_statistics
from distill.errors import InputError
from distill.models import StagedNetwork, create_model, load_network
from distill.teachers import FrozenTeacher


def build_student(config: Config, train: ImageSet) -> StagedNetwork:
    """Build a student for a data set, with its input scaling."""
    scaling = config.student.normalisation
    mean, std = (scaling.mean, scaling.std) if scaling else channel_statistics(train.images)
    return create_model(
        config.student.name,
        num_classes=len(train.classes),
        in_channels=train.images.shape[1],
        mean=mean,
        std=std,
        classes=train.classes,
        **config.student.options,
    ).to(memory_format=torch.channels_last)


def build_teacher(config: Config, train: ImageSet) -> FrozenTeacher | None:
    """Load the teacher, and see that it is one for this data set."""
    section = config.teacher
    if section is None:
        return None
    network = load_teacher(section, train)
    if network.spec.num_classes != len(train.classes):
        raise InputError(
            f"the teacher has {network.spec.num_classes} classes, but {config.data.name} has {len(train.classes)}; "
            "teacher and student must tell the same classes apart."
        )
    channels = train.images.shape[1]
    if network.spec.in_channels != channels:
        raise InputError(
            f"the teacher takes {network.spec.in_channels} channels, but {config.data.name} has {channels}."
        )
    _keep_validation_unseen(config, Path(section.checkpoint))
    terms = [t for t in config.objective.values() if isinstance(t, LayeredTerm)]
    layers = {term.layer_of_teacher(layer) for term in terms for layer in term.layers}
    return FrozenTeacher(network, layers=layers, compile=section.compile)


def load_teacher(section: TeacherSection, data: ImageSet) -> StagedNetwork:
    """Load the network that a section names, as one for the classes and channels of a data set."""
    return load_network(
        section.checkpoint,
        name=section.name,
        num_classes=len(data.classes),
        in_channels=data.images.shape[1],
        normalisation=section.normalisation.model_dump() if section.normalisation else None,
        options=section.options,
    )


def _keep_validation_unseen(config: Config, teacher: Path) -> None:
    """Refuse a teacher that was trained on what this run would validate with."""
    recorded = teacher / "config.yaml"
    if config.data.name == "fashion_scenes" or not recorded.exists():
        return  # splits of the scenes are made of disjoint items, whatever the seed
    theirs = load([recorded]).data
    split, own = ((d.seed, d.options.get("validation"), d.options.get("test")) for d in (theirs, config.data))
    if theirs.name == config.data.name and split != own:
        raise InputError(
            f"the teacher {teacher} was trained on another split of {theirs.name} (data.seed, validation and test are "
            f"{split}; here {own}): it may have seen the validation images. Give both runs the same."
        )
