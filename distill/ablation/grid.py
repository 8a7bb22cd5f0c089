"""An ablation file -> its cells: what each row is called, and what differs in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from distill.ablation.file import DEFAULT, AblationFile
from distill.config.dotted_keys import dotted, format_setting, nested, short_names

Settings = dict[str, Any]
_MISSING = object()


class GridRow(NamedTuple):
    """One row of the table.

    Args:
        name: What it is called.
        row: Which of the named rows it belongs to; none where there is only a grid.
        differences: Layers of nested values, the last one wins.
        settings: The same by dotted key.
        departs: Whether it departs from the default by one factor.
    """

    name: str
    row: str
    differences: tuple[Mapping[str, Any], ...]
    settings: Settings
    departs: bool = False


def grid_rows(file: AblationFile) -> list[GridRow]:
    """List the rows of an ablation, in the file's order.

    Example:
        >>> common = {"name": "a", "base": "b.yaml", "seeds": 1, "metrics": ["test/accuracy"]}
        >>> file = AblationFile(**common, rows={"CE": {}, "KD": {"data.size": 16}}, axes={"optimizer.lr": [0.1, 0.2]})
        >>> [cell.name for cell in grid_rows(file)]
        ['CE, lr=0.1', 'CE, lr=0.2', 'KD, lr=0.1', 'KD, lr=0.2']
        >>> grid_rows(file)[3].settings
        {'data.size': 16, 'optimizer.lr': 0.2}
    """
    short = short_names(_naming(file))
    found = []
    rules = _rules(file)
    for row, differences in (file.rows or {"": {}}).items():
        for point in _points(file):
            label = ", ".join(f"{short[key]}={format_setting(value)}" for key, value in point.items() if key in short)
            departs = bool(file.one_factor_at_a_time and point)
            if file.one_factor_at_a_time and not point:
                label = "" if row else DEFAULT
            layers = (nested(differences), nested(point))
            settings = {**dotted(layers[0]), **point}
            if not any(_matches(rule, {"row": row, **settings}) for rule in rules):
                name = ", ".join(part for part in (row, label) if part) or DEFAULT
                found.append(GridRow(name, row, layers, settings, departs))
    return found


def unused_exclusions(file: AblationFile) -> list[dict[str, Any]]:
    """Name the rules of ``exclude`` that leave nothing out."""
    every = [
        {"row": row, **dotted(nested(differences)), **point}
        for row, differences in (file.rows or {"": {}}).items()
        for point in _points(file)
    ]
    pairs = zip(file.exclude, _rules(file), strict=True)
    return [rule for rule, flat in pairs if not any(_matches(flat, settings) for settings in every)]


def _rules(file: AblationFile) -> list[Settings]:
    return [dotted(nested(rule)) for rule in file.exclude]


def _naming(file: AblationFile) -> list[str]:
    """Choose the keys whose values name a row: of keys that go together, no more than tell the rows apart."""
    moved_along: set[str] = set()
    for group in file.zip:
        keys = list(group)
        for count in range(1, len(keys)):
            seen = [
                json.dumps(values, default=str) for values in zip(*(group[key] for key in keys[:count]), strict=True)
            ]
            if len(set(seen)) == len(seen):
                moved_along.update(keys[count:])
                break
    return [key for key in file.grid_axes if key not in moved_along]


def _points(file: AblationFile) -> Iterator[Settings]:
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
    """Name a folder for every row.

    Example:
        >>> folder_names(["CE + KD", "CE+KD", "Grad-CAM++"])
        {'CE + KD': 'ce-kd', 'CE+KD': 'ce-kd-2', 'Grad-CAM++': 'grad-cam-pp'}
    """
    slugs: dict[str, str] = {}
    for name in names:
        slug = re.sub(r"[^a-z0-9._]+", "-", name.lower().replace("++", "-pp")).strip("-.") or DEFAULT
        number = 1
        while (numbered := slug if number == 1 else f"{slug}-{number}") in slugs.values():
            number += 1
        slugs[name] = numbered
    return slugs
