"""Load the student and the configuration of a finished run, and a teacher to compare with."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from distill.build.named_weights import load_named_teacher
from distill.build.teacher_classes import keeps_own_classes, select_teacher_classes
from distill.build.training_run import load_recorded_config
from distill.config import Config, DataSection, TeacherSection
from distill.data import DATASETS
from distill.errors import InputError
from distill.files import expand_home
from distill.models import StagedNetwork, load_model, load_network, stage_network
from distill.models.class_names import class_difference
from distill.objects import is_object, object_type
from distill.training import RunDirectory
from distill.untrusted import Trust

#: Suffixes of plain state dicts, which do not contain the architecture of their network.
STATE_DICTS = (".pth", ".pt")

#: Image sizes of the data sets that have a fixed one, in pixels.
_FIXED_SIZES = {"fashion_mnist": 28, "cifar10": 32, "cifar100": 32}


class FinishedRun(NamedTuple):
    """A student in evaluation mode, and the configuration of its run."""

    student: StagedNetwork
    config: Config


def load_run(folder: Path | str, *, network: nn.Module | str | None = None, trust: Trust | bool = False) -> FinishedRun:
    """Load the student and the configuration of a finished run.

    Args:
        folder: The run directory.
        network: A network with the student's architecture, or ``package.module:callable`` that builds one. Needed if
            the student was passed as a Python object, or is ``package.module:callable``.
        trust: Whether the files may name any code to import; or the names that may be imported.

    Raises:
        InputError: if the folder does not exist, contains no run, the run is not finished, or it names code to import
            that is not trusted.
    """
    folder = Path(expand_home(folder))
    if not folder.is_dir():
        raise InputError(f"no run directory {folder}. Check the path.")
    recorded = RunDirectory(folder).config
    if not recorded.exists():
        raise InputError(f"{folder} is not a run directory: it has no {recorded.name}. Check the path.")
    RunDirectory(folder).check_config()
    return FinishedRun(load_model(folder, network=network, trust=trust), load_recorded_config(recorded))


def load_reference(
    path: Path | str | None,
    section: TeacherSection | None,
    student: StagedNetwork,
    *,
    teacher: TeacherSection | None = None,
    size: int | None = None,
    network: nn.Module | None = None,
    trust: Trust | bool = False,
) -> StagedNetwork:
    """Load a teacher for comparison with a student, in evaluation mode.

    Args:
        path: A run directory, a file of weights, or the recorded name of an object. None for the weights that the
            section names.
        section: The ``teacher`` section. It describes a plain state dict or an object: architecture, options and
            normalisation.
        student: The student. The teacher must have the same channels, and the same classes unless ``teacher`` selects
            them, or says that it keeps its own.
        teacher: The ``teacher`` section of the student's run.
        size: Height and width of the images in pixels, if they are known.
        network: The teacher, if it is passed as an object.
        trust: Whether the files and the section may name any code to import; or the names that may be imported.

    Raises:
        InputError: if the teacher cannot be loaded or does not fit the student.
    """
    scaling = section.normalisation.model_dump() if section is not None and section.normalisation else None
    classes = _least_classes(teacher) or student.spec.num_classes
    about: dict[str, Any] = {"num_classes": classes, "in_channels": student.spec.in_channels}
    if path is None:
        assert section is not None
        path = section.source
        loaded = load_named_teacher(section, size=None if size is None else (size, size), trust=trust, **about)
    elif network is not None:
        loaded = stage_network(copy.deepcopy(network), name=str(path), **about, **(scaling or {}))
    elif is_object(str(path)):
        raise InputError(
            f"the teacher was passed as a Python object ({object_type(str(path))}), which cannot be rebuilt from a run "
            "directory."
        )
    else:
        architecture: dict[str, Any] = {} if section is None else {"name": section.name, "options": section.options}
        if section is not None and str(path) == section.checkpoint:
            architecture["weights_key"] = section.weights_key
        loaded = load_network(path, **about, normalisation=scaling, trust=trust, any_classes=True, **architecture)
    loaded = match_classes(loaded, path, teacher, student)
    own = keeps_own_classes(teacher)
    classes = loaded.spec.num_classes
    for difference, actual, expected in (
        ("a different number of classes", classes, classes if own else student.spec.num_classes),
        ("a different number of channels", loaded.spec.in_channels, student.spec.in_channels),
    ):
        if actual != expected:
            raise InputError(f"{path} has {difference} than the student: {actual}; the student has {expected}.")
    if not own and (names := class_difference(loaded.classes, student.classes)):
        raise InputError(f"{path} has different classes than the student: {names}.")
    return loaded.eval()


def match_classes(
    loaded: StagedNetwork, path: Path | str | None, teacher: TeacherSection | None, student: StagedNetwork
) -> StagedNetwork:
    """Return a teacher with the classes that a run selected from its teacher (``teacher.classes``).

    Args:
        loaded: The teacher with all its classes.
        path: Where it was loaded from. The teacher of the run itself is always restricted, another one if its classes
            differ from the student's.
        teacher: The ``teacher`` section of the student's run.
        student: The student.

    Raises:
        InputError: if it lacks a class that the run selected.
    """
    if teacher is None or teacher.classes is None or loaded.columns is not None:
        return loaded
    recorded = Path(teacher.source).absolute()
    own_teacher = path is not None and Path(path).absolute() == recorded
    if own_teacher or class_difference(loaded.classes, student.classes):
        return select_teacher_classes(loaded, teacher, student.classes, name="the student")
    return loaded


def _least_classes(teacher: TeacherSection | None) -> int | None:
    """Return the smallest number of classes of a teacher of which classes are selected by index."""
    selected: Any = None if teacher is None else teacher.classes
    entries = list(selected.values()) if isinstance(selected, dict) else selected
    numbers = [int(one) for one in entries or () if str(one).isdecimal()] if isinstance(entries, list) else []
    return max(numbers) + 1 if numbers else None


def image_size(section: DataSection) -> int | None:
    """Return the height and width of a data set's images, in pixels, without loading any; None if unknown.

    Example:
        >>> image_size(DataSection(name="cifar10")), image_size(DataSection.model_validate({"size": 48}))
        (32, 48)
    """
    if section.name in _FIXED_SIZES:
        return _FIXED_SIZES[section.name]
    size = section.options.get("size")
    if size is None and section.name in DATASETS:
        parameter = inspect.signature(DATASETS[section.name]).parameters.get("size")
        size = None if parameter is None else parameter.default
    return size if isinstance(size, int) else None
