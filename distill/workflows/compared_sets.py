"""Load the test sets of the runs of an evaluation, and check that they are the same for all runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from distill.build import load_images
from distill.config import Config
from distill.config.reading import PARSE_ERRORS
from distill.data import ImageSet, same_images
from distill.errors import InputError
from distill.untrusted import Trust


class TestSets(NamedTuple):
    """Test sets by name, and the error messages of those that could not be loaded."""

    sets: dict[str, ImageSet]
    problems: list[str]


def load_test_sets(
    configs: Mapping[str, Config],
    on: Sequence[str],
    *,
    split: str,
    limit: int | None,
    held: Mapping[str, ImageSet] = MappingProxyType({}),
    trust: Trust | bool = False,
    folders: Mapping[str, Path] | None = None,
) -> TestSets:
    """Load test sets, and check that each is the same for all runs.

    Args:
        configs: Configurations of the runs, by name.
        on: Test sets, each ``key=value[,key=value]`` of the data section. If empty, the runs' own test set is used.
        split: ``test`` or ``validation``.
        limit: Keep only the first ``limit`` images of each test set.
        held: Images of runs whose data set was passed as an object, by name.
        trust: Names ``package.module:callable`` of data sets that may be imported, or whether any may be.
        folders: The run directories, for the message about a name that is not trusted.

    Raises:
        InputError: if an item of ``on`` is not of the form ``key=value[,key=value]``.
    """
    sets: dict[str, ImageSet] = {}
    problems: dict[str, None] = {}
    for name, changes in _changes(on, split).items():
        loaded: dict[str, tuple[str, ImageSet]] = {}
        for run, config in configs.items():
            section = config.data
            key = json.dumps([section.name, section.seed, {**section.options, **changes}], sort_keys=True, default=str)
            if key not in loaded:
                try:
                    if run in held:
                        loaded[key] = (run, held[run])
                        continue
                    source = folders[run] / "config.yaml" if folders and run in folders else "data.name"
                    images = load_images(section, split, trust=trust, source=source, **changes)
                    loaded[key] = (run, images)
                except InputError as error:
                    problems[str(error)] = None
        problems |= dict.fromkeys(_differences(list(loaded.values()), split))
        for _, data in list(loaded.values())[:1]:
            sets[name] = data if limit is None or limit >= len(data) else data.subset(list(range(limit)))
    return TestSets(sets, list(problems))


def _changes(on: Sequence[str], split: str) -> dict[str, dict[str, Any]]:
    """Parse the items of ``on``, and name each test set by its values."""
    sets: dict[str, dict[str, Any]] = {}
    for text in on:
        try:
            pairs = OmegaConf.to_container(OmegaConf.from_dotlist(text.split(",")))
        except PARSE_ERRORS as error:
            raise InputError(
                f"--on: expected key=value[,key=value] of the data section, got {text!r}: {error}"
            ) from error
        assert isinstance(pairs, dict)
        if not pairs or any(value is None for value in pairs.values()):
            raise InputError(f"--on: expected key=value[,key=value] of the data section, got {text!r}.")
        sets[", ".join(str(value) for value in pairs.values())] = {str(key): value for key, value in pairs.items()}
    return sets or {split: {}}


def _differences(loaded: Sequence[tuple[str, ImageSet]], split: str) -> list[str]:
    if not loaded:
        return []
    (first, data), *others = loaded
    problems = []
    for other, other_data in others:
        same = len(data) == len(other_data) and data.images.shape == other_data.images.shape
        if data.classes != other_data.classes or not same or not same_images(data.images, other_data.images):
            problems.append(
                f"runs {first!r} and {other!r} have different {split} images. Choose one test set for both with "
                "--on, such as `--on background=unbiased`, or evaluate the runs separately."
            )
    return problems
