"""The test sets of an evaluation: the runs' own, or their own with other keys of the data section."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distill.build import load_images
from distill.config import Config
from distill.data import ImageSet, same_images
from distill.errors import InputError


class Sets(NamedTuple):
    """Test sets by name, and what was wrong with some."""

    sets: dict[str, ImageSet]
    problems: list[str]


def read_sets(configs: Mapping[str, Config], on: Sequence[str], *, split: str, limit: int | None) -> Sets:
    """Load test sets, and see that each is the same for all runs.

    Args:
        configs: Of the runs, by name.
        on: Test sets, each ``key=value[,key=value]`` of the data section; the runs' own if there are none.
        split: ``test`` or ``validation``.
        limit: Keep only the first images of each.

    Raises:
        InputError: if a test set cannot be read as such pairs.
    """
    sets: dict[str, ImageSet] = {}
    problems: dict[str, None] = {}
    for name, changes in _changes(on, split).items():
        found: dict[str, tuple[str, ImageSet]] = {}
        for run, config in configs.items():
            section = config.data
            key = json.dumps([section.name, section.seed, {**section.options, **changes}], sort_keys=True, default=str)
            if key not in found:
                try:
                    found[key] = (run, load_images(section, split, **changes))
                except InputError as error:
                    problems[str(error)] = None
        problems |= dict.fromkeys(_differences(list(found.values()), split))
        for _, data in list(found.values())[:1]:
            sets[name] = data if limit is None or limit >= len(data) else data.subset(list(range(limit)))
    return Sets(sets, list(problems))


def _changes(on: Sequence[str], split: str) -> dict[str, dict[str, Any]]:
    """Read the test sets that were asked for, and name each by its values."""
    sets: dict[str, dict[str, Any]] = {}
    for text in on:
        try:
            pairs = OmegaConf.to_container(OmegaConf.from_dotlist(text.split(",")))
        except OmegaConfBaseException as error:
            raise InputError(f"--on takes key=value[,key=value] of the data section, got {text!r}: {error}") from error
        assert isinstance(pairs, dict)
        if not pairs or any(value is None for value in pairs.values()):
            raise InputError(f"--on takes key=value[,key=value] of the data section, got {text!r}.")
        sets[", ".join(str(value) for value in pairs.values())] = {str(key): value for key, value in pairs.items()}
    return sets or {split: {}}


def _differences(found: Sequence[tuple[str, ImageSet]], split: str) -> list[str]:
    if not found:
        return []
    (first, data), *others = found
    problems = []
    for other, theirs in others:
        same = len(data) == len(theirs) and data.images.shape == theirs.images.shape
        if data.classes != theirs.classes or not same or not same_images(data.images, theirs.images):
            problems.append(
                f"runs {first!r} and {other!r} have different {split} images; name the set for both with --on, such "
                "as `--on background=unbiased`, or evaluate them apart."
            )
    return problems
