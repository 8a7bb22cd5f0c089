"""The weights from which a student is trained further (`student.weights`): load, identify and record them."""

from __future__ import annotations

from typing import Any

from distill.build.named_weights import has_library_weights, named_weights
from distill.config import Config, StudentSection, is_weights_path
from distill.errors import InputError
from distill.models import StagedNetwork, file_hash, load_starting_weights
from distill.training import RunDirectory
from distill.training.run_directory import STARTING_WEIGHTS


def weights_option(section: StudentSection) -> dict[str, Any]:
    """Return the option ``weights`` of a callable, such as a function of torchvision.models; empty for a path."""
    if not section.weights or is_weights_path(section.weights):
        return {}
    for key, default in (("head", "keep"), ("weights_key", None)):
        if getattr(section, key) != default:
            raise InputError(f"student.{key}: it belongs to a path in student.weights, which is {section.weights!r}.")
    if ":" in section.name:
        return {"weights": section.weights}
    raise InputError(
        f"student.weights: {section.weights!r} is not a path; write `./{section.weights}` for a file or folder here."
    )


def start_from_weights(student: StagedNetwork, section: StudentSection, *, recorded_scaling: bool) -> None:
    """Load the weights of a ``student`` section into the student.

    Args:
        student: The student; it changes in place.
        section: The section; its ``weights`` are a path.
        recorded_scaling: Whether the student takes over the input normalisation that is recorded with the weights.

    Raises:
        InputError: if the file is missing or damaged, or does not fit the student.
    """
    try:
        load_starting_weights(
            student,
            str(section.weights),
            head=section.head,
            key=section.weights_key,
            recorded_scaling=recorded_scaling,
        )
    except InputError as error:
        raise InputError(f"student.weights: {error}") from error


def starting_weights_hash(config: Config) -> str | None:
    """Return the hash of the student's starting weights, or their name in a library; None if there are none.

    If the file is gone, the hash that the run recorded is returned: a run that has a checkpoint does not need the file.

    Raises:
        InputError: if the file does not exist, and the run did not record it; or the library has no such weights.
    """
    weights = config.student.weights
    if not is_weights_path(weights):
        return named_weights(config.student) if has_library_weights(config.student) else None
    try:
        return file_hash(str(weights))
    except InputError as error:
        directory = RunDirectory(config.directory)
        recorded = directory.read_environment().get(STARTING_WEIGHTS) if directory.environment.exists() else None
        if isinstance(recorded, dict) and recorded.get("file") == weights:
            return str(recorded.get("sha256"))
        raise InputError(f"student.weights: {error}") from error


def starting_weights_record(config: Config) -> dict[str, str]:
    """Return the student's starting weights, for the record of a run: path and hash, or name; empty without any."""
    value = starting_weights_hash(config)
    if value is None:
        return {}
    if not is_weights_path(config.student.weights):
        return {"name": value}
    return {"file": str(config.student.weights), "sha256": value}
