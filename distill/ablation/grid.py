"""Rows of an ablation: their names and their changes to the base, from the ablation file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from distill.ablation.file import DEFAULT, AblationFile
from distill.config.dotted_keys import dotted, format_setting, nested, short_names

Settings = dict[str, Any]
_MISSING = object()
#: Largest number of characters of a folder name; with the seed and a suffix, file systems take 255.
_LONGEST = 235


class GridRow(NamedTuple):
    """A row of the table.

    Args:
        name: Name of the row.
        row: Key in the file's ``rows``; empty if there is only a grid.
        overrides: Nested changes to the base, merged in order.
        settings: The same changes by dotted key.
        one_factor: Whether the row changes one factor of a one-factor-at-a-time grid.
    """

    name: str
    row: str
    overrides: tuple[Mapping[str, Any], ...]
    settings: Settings
    one_factor: bool = False


def grid_rows(file: AblationFile) -> list[GridRow]:
    """Return the rows of an ablation, in the order of the file.

    Example:
        >>> common = {"name": "a", "base": "b.yaml", "seeds": 1, "metrics": ["test/accuracy"]}
        >>> file = AblationFile(**common, rows={"CE": {}, "KD": {"data.size": 16}}, axes={"optimizer.lr": [0.1, 0.2]})
        >>> [row.name for row in grid_rows(file)]
        ['CE, lr=0.1', 'CE, lr=0.2', 'KD, lr=0.1', 'KD, lr=0.2']
        >>> grid_rows(file)[3].settings
        {'data.size': 16, 'optimizer.lr': 0.2}
    """
    short = short_names(_naming_keys(file))
    rows = []
    rules = _rules(file)
    for row, overrides in (file.rows or {"": {}}).items():
        for point in _grid_points(file):
            label = ", ".join(f"{short[key]}={format_setting(value)}" for key, value in point.items() if key in short)
            one_factor = bool(file.one_factor_at_a_time and point)
            if file.one_factor_at_a_time and not point:
                label = "" if row else DEFAULT
            layers = (nested(overrides), nested(point))
            settings = {**dotted(layers[0]), **point}
            if not any(_matches(rule, {"row": row, **settings}) for rule in rules):
                name = ", ".join(part for part in (row, label) if part) or DEFAULT
                rows.append(GridRow(name, row, layers, settings, one_factor))
    return rows


def unused_exclusions(file: AblationFile) -> list[dict[str, Any]]:
    """Return the rules of ``exclude`` that match no combination."""
    combinations = [
        {"row": row, **dotted(nested(overrides)), **point}
        for row, overrides in (file.rows or {"": {}}).items()
        for point in _grid_points(file)
    ]
    pairs = zip(file.exclude, _rules(file), strict=True)
    return [rule for rule, flat in pairs if not any(_matches(flat, settings) for settings in combinations)]


def _rules(file: AblationFile) -> list[Settings]:
    return [dotted(nested(rule)) for rule in file.exclude]


def _naming_keys(file: AblationFile) -> list[str]:
    """Return the keys whose values are in the names: of each ``zip`` group, only as many as distinguish its rows."""
    redundant: set[str] = set()
    for group in file.zip:
        keys = list(group)
        for count in range(1, len(keys)):
            prefixes = [
                json.dumps(values, default=str) for values in zip(*(group[key] for key in keys[:count]), strict=True)
            ]
            if len(set(prefixes)) == len(prefixes):
                redundant.update(keys[count:])
                break
    return [key for key in file.grid_axes if key not in redundant]


def _grid_points(file: AblationFile) -> Iterator[Settings]:
    if file.one_factor_at_a_time:
        yield {}
        yield from ({key: value} for key, values in file.one_factor_at_a_time.items() for value in values)
        return
    axes = [[{key: value} for value in values] for key, values in file.axes.items()]
    groups = [
        [dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)] for group in file.zip
    ]
    for parts in product(*axes, *groups):
        yield {key: value for part in parts for key, value in part.items()}


def _matches(rule: Mapping[str, Any], settings: Settings) -> bool:
    return all(settings.get(key, _MISSING) == value for key, value in rule.items())


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """Return a unique folder name for each row.

    Example:
        >>> folder_names(["CE + KD", "CE+KD", "Grad-CAM++"])
        {'CE + KD': 'ce-kd', 'CE+KD': 'ce-kd-2', 'Grad-CAM++': 'grad-cam-pp'}
    """
    slugs: dict[str, str] = {}
    for name in names:
        slug = re.sub(r"[^a-z0-9._]+", "-", name.lower().replace("++", "-pp")).strip("-.") or DEFAULT
        if len(slug) > _LONGEST:
            slug = f"{slug[: _LONGEST - 9]}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"
        number = 1
        while (numbered := slug if number == 1 else f"{slug}-{number}") in slugs.values():
            number += 1
        slugs[name] = numbered
    return slugs
