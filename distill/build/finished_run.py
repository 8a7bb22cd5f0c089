"""A run that is done, as others use it: its student, and the configuration that it was trained by."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NamedTuple

from distill.build.run import load_config
from distill.config import Config, DataSection
from distill.data import DATASETS
from distill.errors import InputError
from distill.models import StagedNetwork, load_model
from distill.training import RunDirectory

#: Sizes of images that nobody can choose.
_FIXED = {"fashion_mnist": 28, "cifar10": 32, "cifar100": 32}


class FinishedRun(NamedTuple):
    """A student in evaluation mode, and its run's configuration."""

    student: StagedNetwork
    config: Config


def load_run(folder: Path | str) -> FinishedRun:
    """Load what a finished run left.

    Raises:
        InputError: if there is no such folder, it holds no run, or the run still trains.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no run directory {folder}.")
    recorded = RunDirectory(folder).config
    if not recorded.exists():
        raise InputError(f"{folder} is not a run directory: it has no {recorded.name}.")
    return FinishedRun(load_model(folder), load_config([recorded]))


def image_size(section: DataSection) -> int | None:
    """Give the height and width of the images that a section names, without loading any; None if it does not say.

    Example:
        >>> image_size(DataSection(name="cifar10")), image_size(DataSection.model_validate({"size": 48}))
        (32, 48)
    """
    if section.name in _FIXED:
        return _FIXED[section.name]
    size = section.options.get("size")
    if size is None and section.name in DATASETS:
        parameter = inspect.signature(DATASETS[section.name]).parameters.get("size")
        size = None if parameter is None else parameter.default
    return size if isinstance(size, int) else None
