"""Weights that are named instead of stored in a file: `weights: true | DEFAULT | NAME` of a library or a callable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.build.open_sections import unknown_option_errors
from distill.config import StudentSection, TeacherSection, is_weights_path
from distill.errors import InputError
from distill.importing import is_library_name
from distill.models import StagedNetwork, create_model, create_pretrained, find_library_weights, image_size_option
from distill.untrusted import Trust


def has_library_weights(section: StudentSection | TeacherSection) -> bool:
    """Return whether a section names weights of a library's network."""
    return bool(section.weights) and not is_weights_path(section.weights) and is_library_name(section.name)


def named_weights(section: StudentSection | TeacherSection) -> str | None:
    """Return which weights a section names, with the default resolved; None if it names none, or a path.

    Raises:
        InputError: If the library has no such weights.

    Example:
        >>> named_weights(StudentSection(name="torchvision:resnet18", weights="DEFAULT"))
        'torchvision:resnet18.IMAGENET1K_V1'
    """
    if not section.weights or is_weights_path(section.weights) or section.name is None:
        return None
    if is_library_name(section.name):
        return find_library_weights(section.name, section.weights).name
    return f"{section.name}.{section.weights}"


def load_named_teacher(
    section: TeacherSection,
    *,
    num_classes: int,
    in_channels: int,
    size: Sequence[int] | None,
    trust: Trust | bool | None = None,
) -> StagedNetwork:
    """Build the teacher of a section that has no checkpoint, with the weights that it names.

    Args:
        section: The ``teacher`` section.
        num_classes: Number of classes that a callable is asked for; a library's network has those of its weights.
        in_channels: Number of image channels.
        size: Height and width of the images, in pixels, if they are known.
        trust: Names ``package.module:callable`` that may be imported, or whether any may be. Default: the name in the
            section.

    Raises:
        InputError: If the network or its weights do not exist or cannot be loaded, or the name is not trusted.
    """
    name, weights = str(section.name), section.weights
    assert weights
    scaling: dict[str, Any] = section.normalisation.model_dump() if section.normalisation else {}
    if has_library_weights(section):
        sized = image_size_option(name, size) if size is not None else {}
        options = {**sized, **section.options, **scaling}
        with unknown_option_errors("teacher", section):
            return create_pretrained(name, weights, in_channels=in_channels, **options)
    if trust is None or isinstance(trust, bool):
        trust = Trust.in_names([name] if trust is None else [], everything=bool(trust))
    trust.check(name, "teacher.name", f"`teacher.name={name}`")
    if not scaling:
        raise InputError(
            f"teacher: {name} does not say how its images are normalised; set `normalisation: {{mean: [...], std: "
            "[...]}`. Use mean 0 and std 1 for a network that takes images in [0, 1]."
        )
    about = {"num_classes": num_classes, "in_channels": in_channels, **scaling}
    with unknown_option_errors("teacher", section):
        return create_model(name, weights=weights, **about, **section.options)
