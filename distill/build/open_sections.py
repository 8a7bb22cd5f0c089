"""Unknown keys of the sections `data`, `student` and `teacher`, whose other keys are options of what they name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distill.config.base import OpenSection
from distill.data import DATASETS, dataset_info
from distill.data.own_data import check_callable_keys, is_callable_path
from distill.errors import InputError, unknown_name
from distill.models import StagedNetwork
from distill.models.catalogue import network_options


def check_keys(name: str, section: OpenSection, options: Collection[str], *, of: str) -> None:
    """Raise an error for the first key of a section that is neither a key of the section nor an option.

    Args:
        name: Name of the section.
        section: The section.
        options: Options that the section can pass on.
        of: What the options belong to, for the message.

    Raises:
        InputError: If there is an unknown key; the message has the most similar key.

    Example:
        >>> from distill.config import TeacherSection
        >>> section = TeacherSection.model_validate({"checkpoint": "runs/a", "cahce": "disk"})
        >>> check_keys("teacher", section, [], of="runs/a")
        Traceback (most recent call last):
        distill.errors.InputError: teacher.cahce: unknown key or option of runs/a 'cahce'; did you mean 'cache'? ...
    """
    for key in section.options:
        if key not in options:
            known = {*type(section).model_fields, *options}
            raise InputError(f"{name}.{key}: " + unknown_name(f"key or option of {of}", key, known))


def check_network_keys(merged: Mapping[str, Any]) -> Iterator[str]:
    """Yield an error message for each key of ``student`` and ``teacher`` that the data set determines.

    Example:
        >>> list(check_network_keys({"teacher": {"num_classes": 3}}))
        ['teacher.num_classes: it is that of the data set; remove the key']
    """
    determined = dict.fromkeys(("num_classes", "in_channels", "classes"), "it is that of the data set; remove the key")
    determined |= dict.fromkeys(("mean", "std"), "write `normalisation: {mean: [...], std: [...]}`")
    for name in ("student", "teacher"):
        section = merged.get(name)
        for key in section if isinstance(section, Mapping) else ():
            if key in determined and (name, key) != ("teacher", "classes"):
                yield f"{name}.{key}: {determined[key]}"


def check_data_keys(section: OpenSection, data: str) -> None:
    """Raise an error for an unknown key of the ``data`` section; an unknown data set is reported elsewhere.

    A data set ``package.module:callable`` is imported, so check before whether it is trusted.

    Args:
        section: The ``data`` section.
        data: Name of the data set.

    Raises:
        InputError: If there is an unknown key.
    """
    if is_callable_path(data):
        check_callable_keys(data, section.options)
    if data in DATASETS:
        options = next(info.options for info in dataset_info() if info.name == data)
        check_keys("data", section, options, of=f"data set {data}")


def check_teacher_keys(section: OpenSection, teacher: StagedNetwork, checkpoint: str) -> None:
    """Raise an error for a key of the ``teacher`` section that is unknown, or contradicts the checkpoint.

    Args:
        section: The ``teacher`` section.
        teacher: The loaded teacher.
        checkpoint: Where it was loaded from.

    Raises:
        InputError: If there is such a key.
    """
    recorded = {**network_options(teacher.spec.name), **teacher.spec.options}
    check_keys("teacher", section, recorded, of=f"the teacher {checkpoint}")
    for key, value in section.options.items():
        if value != recorded[key]:
            raise InputError(
                f"teacher.{key}: the teacher {checkpoint} was built with {recorded[key]!r}, got {value!r}. Remove the "
                "key."
            )


@contextmanager
def unknown_option_errors(name: str, section: OpenSection) -> Iterator[None]:
    """Replace the error of a network that does not accept an option by one with the most similar key."""
    try:
        yield
    except InputError as error:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if found and found[1] in section.options:
            network = str(getattr(section, "name", None))
            check_keys(name, section, [k for k in network_options(network) if k != found[1]], of=f"network {network}")
        raise
