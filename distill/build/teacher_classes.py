"""Which classes of the teacher stand for the classes of the data (`teacher.classes`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distill.config import OWN_CLASSES, TeacherSection
from distill.errors import InputError, unknown_name
from distill.models import StagedNetwork
from distill.models.class_names import find_class

#: What a teacher with other classes than the data needs.
ADVICE = (
    "Name the teacher's class for each class of the data, `teacher.classes: {cat: 281, dog: 'Labrador retriever'}` or "
    "a list of indices in the order of the data's classes; or set `teacher.classes=own` for a teacher that keeps its "
    "own classes, without soft targets and with maps of its own top class"
)


def keeps_own_classes(section: TeacherSection | None) -> bool:
    """Return whether a teacher keeps its own classes, so that its logits are not those of the data's classes."""
    return section is not None and section.classes == OWN_CLASSES


def select_teacher_classes(
    teacher: StagedNetwork, section: TeacherSection, classes: Sequence[str], *, name: str = "the data set"
) -> StagedNetwork:
    """Return a teacher whose logits are those of the data's classes, or the teacher itself if it keeps its own.

    Args:
        teacher: The teacher with all its classes.
        section: The ``teacher`` section.
        classes: Names of the data's classes.
        name: Name of the data set, for messages.

    Raises:
        InputError: If the teacher has another number of classes and the section does not say which are meant, or a
            class in the section does not exist, is missing or stands for two classes of the data.
    """
    if section.classes is None:
        if teacher.spec.num_classes != len(classes):
            raise InputError(
                f"the teacher has {teacher.spec.num_classes} classes, but {name} has {len(classes)}. {ADVICE}."
            )
        return teacher
    if isinstance(section.classes, str):
        return teacher
    return teacher.select_classes(find_columns(section.classes, teacher, classes), classes)


def find_columns(
    mapping: Mapping[str, int | str] | Sequence[int | str], teacher: StagedNetwork, classes: Sequence[str]
) -> list[int]:
    """Return the index of the teacher's class for each class of the data.

    Args:
        mapping: Index or name of a class of the teacher: by name of the data's class, or in the order of these.
        teacher: The teacher.
        classes: Names of the data's classes.

    Raises:
        InputError: If a class does not exist, is missing or stands for two classes of the data.

    Example:
        >>> from distill.models import create_model
        >>> find_columns({"dog": 7, "cat": 3}, create_model("wrn_10_1", num_classes=10), ["cat", "dog"])
        [3, 7]
    """
    if isinstance(mapping, Mapping):
        for name in mapping:
            if name not in classes:
                raise InputError(f"teacher.classes: {unknown_name('class of the data', name, classes)}")
        if missing := [name for name in classes if name not in mapping]:
            raise InputError(
                f"teacher.classes: {len(missing)} classes of the data have no class of the teacher: "
                f"{', '.join(missing[:10])}. Add them, or leave their images out."
            )
        mapping = [mapping[name] for name in classes]
    if len(mapping) != len(classes):
        raise InputError(
            f"teacher.classes: expected one entry for each of the {len(classes)} classes of the data, "
            f"{', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}; got {len(mapping)}."
        )
    columns = [_find(one, teacher) for one in mapping]
    first: dict[int, str] = {}
    for name, column in zip(classes, columns, strict=True):
        if column in first:
            raise InputError(
                f"teacher.classes: class {column} of the teacher ({teacher.classes[column]!r}) stands for "
                f"{first[column]!r} and for {name!r}; each class of the data needs a class of its own."
            )
        first[column] = name
    return columns


def _find(one: int | str, teacher: StagedNetwork) -> int:
    if isinstance(one, str) and not one.isdecimal() and not teacher.spec.classes:
        raise InputError(
            f"teacher.classes: {one!r} is a name, but the classes of the teacher have no names. Give an index from 0 "
            f"to {teacher.spec.num_classes - 1}."
        )
    try:
        return find_class(one, teacher.classes)
    except InputError as error:
        raise InputError(f"teacher.classes, of the teacher: {error}") from error
