"""The teacher that a student is shown beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from distill.config import Config, ExplanationTerm, TeacherSection
from distill.errors import InputError
from distill.models import StagedNetwork, load_network

#: Files that hold a state dict and do not say of what network.
_PLAIN = (".pth", ".pt")


class Reference(NamedTuple):
    """A network in evaluation mode, and the layer of it that is explained."""

    network: StagedNetwork
    layer: str


def find_reference(
    given: Path | str | Literal[False] | None,
    *,
    config: Config,
    student: StagedNetwork,
    layer: str,
    say: Callable[[str], object],
) -> Reference | None:
    """Load the teacher that was asked for, or the run's own.

    Convention:
        - The run's own teacher is left out, and that is said, if it cannot be loaded; one that was asked for is not.
        - A plain state dict is read with the architecture and scaling of the run's ``teacher`` section.

    Args:
        given: A run directory or file of weights; None for the run's own; False for none.
        config: The run's.
        student: Whose classes and channels it must have.
        layer: The student's.
        say: Told if the run's own teacher is left out.

    Raises:
        InputError: if the one that was asked for cannot be loaded, or does not fit the student.
    """
    section = config.teacher
    if given is False or (given is None and section is None):
        return None
    if given is not None:
        described_by = section if Path(given).suffix in _PLAIN else None
        return Reference(_load(given, described_by, student), _teachers_layer(config, layer))
    assert section is not None
    try:
        return Reference(_load(section.checkpoint, section, student), _teachers_layer(config, layer))
    except InputError as error:
        say(f"the student is shown without its teacher: {error}")
        return None


def _load(path: Path | str, section: TeacherSection | None, student: StagedNetwork) -> StagedNetwork:
    described = {} if section is None else {"name": section.name, "options": section.options}
    scaling = section.normalisation if section else None
    network = load_network(
        path,
        num_classes=student.spec.num_classes,
        in_channels=student.spec.in_channels,
        normalisation=scaling.model_dump() if scaling else None,
        **described,  # type: ignore[arg-type]
    ).eval()
    for what, theirs, ours in (
        ("another number of classes", network.spec.num_classes, student.spec.num_classes),
        ("another number of channels", network.spec.in_channels, student.spec.in_channels),
        ("other classes", network.spec.classes or student.classes, student.classes),
    ):
        if theirs != ours:
            raise InputError(f"{path} has {what} than the student: {_short(theirs)}; the student has {_short(ours)}.")
    return network


def _teachers_layer(config: Config, layer: str) -> str:
    """Give the layer whose maps the run compared with those of the student's layer, else the one of the same name."""
    terms = (term for term in config.objective.values() if isinstance(term, ExplanationTerm) and layer in term.layers)
    return next((term.layer_of_teacher(layer) for term in terms), layer)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value[:10]) + (", ..." if len(value) > 10 else "")
    return str(value)
