"""The runs that were named on a command line: where they lie, what they hold, and whether they go together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from distill.build import load_config
from distill.config import Config
from distill.errors import InputError
from distill.evaluation import differing_classes
from distill.models import StagedNetwork, load_model
from distill.models.weights import WEIGHTS_NAME
from distill.training import RunDirectory


class Given(NamedTuple):
    """Finished runs by name: the reference, the ceiling, then the others in their order.

    Args:
        folders: Where they lie.
        configs: What they were made from.
        networks: What came out.
        reference: Name of the teacher's.
        ceiling: Name of the teacher's second training.
        problems: Why some could not be read, or do not go together.
    """

    folders: dict[str, Path]
    configs: dict[str, Config]
    networks: dict[str, StagedNetwork]
    reference: str | None
    ceiling: str | None
    problems: list[str]


def read_given(runs: Sequence[str], *, reference: str | None, ceiling: str | None) -> Given:
    """Read finished runs, and collect what is wrong with any of them.

    Args:
        runs: Run directories, each with a label before it if it likes: ``CE + KD=runs/kd``.
        reference: The teacher's.
        ceiling: That of a second training of the teacher.

    Raises:
        InputError: if two runs have one name, or a ceiling has no reference.
    """
    if ceiling is not None and reference is None:
        raise InputError("--ceiling is a second training of the reference; name the first one with --reference.")
    special = [text for text in (reference, ceiling) if text is not None]
    folders = _labelled([*special, *runs])
    names = list(folders)
    configs: dict[str, Config] = {}
    networks: dict[str, StagedNetwork] = {}
    problems: list[str] = []
    for name, folder in folders.items():
        try:
            configs[name] = load_config([_recorded(folder)])
            networks[name] = _load(folder, configs[name])
        except InputError as error:
            problems.append(str(error))
    return Given(
        folders,
        configs,
        networks,
        names[0] if reference else None,
        names[1] if ceiling else None,
        problems + differing_classes(networks),
    )


def parent(folders: Iterable[Path]) -> Path:
    """Give the folder that all lie in."""
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders]))


def split_label(text: str) -> tuple[str, Path]:
    """Read ``LABEL=RUN``; a path that is there may hold a `=` itself."""
    label, mark, path = text.partition("=")
    return (label, Path(path)) if mark and not Path(text).exists() else ("", Path(text))


def _labelled(given: Sequence[str]) -> dict[str, Path]:
    """Name runs; one without a label has its path below what all runs share."""
    pairs = [split_label(text) for text in given]
    shared = parent([path for _, path in pairs])
    folders: dict[str, Path] = {}
    for label, path in pairs:
        name = label or str(path.resolve().relative_to(shared))
        if folders.setdefault(name, path) != path:
            raise InputError(f"two runs are called {name!r}: {folders[name]} and {path}; label one, LABEL=RUN.")
    return folders


def _recorded(folder: Path) -> Path:
    if not folder.exists():
        raise InputError(f"there is no run directory at {folder}; train one with `distill train`, or mend the path.")
    recorded = RunDirectory(folder).config
    if not recorded.exists():
        raise InputError(f"{folder} is not a run directory: it has no {recorded.name}.")
    return recorded


def _load(folder: Path, config: Config) -> StagedNetwork:
    directory = RunDirectory(folder)
    if not (folder / WEIGHTS_NAME).exists() and directory.environment.exists():
        raise InputError(
            f"{folder} is still training ({_progress(directory, config)}), or was cut off; wait for it, or let "
            "`distill train` with the same configuration go on."
        )
    return load_model(folder)


def _progress(directory: RunDirectory, config: Config) -> str:
    if not directory.last.exists():
        return f"no epoch of {config.max_epochs} is done"
    state = torch.load(directory.last, map_location="cpu", weights_only=True, mmap=True)
    return f"epoch {int(state['epoch']) + 1} of {config.max_epochs} was the last that was saved"
