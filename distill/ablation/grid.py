"""An ablation file -> its cells: what each row is called, and what differs in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from distill.ablation.sections import DEFAULT, AblationFile

Settings = dict[str, Any]
_MISSING = object()


class Cell(NamedTuple):
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


def cells(file: AblationFile) -> list[Cell]:
    """List the rows of an ablation, in the file's order.

    Example:
        >>> common = {"name": "a", "base": "b.yaml", "seeds": 1, "metrics": ["test/accuracy"]}
        >>> file = AblationFile(**common, rows={"CE": {}, "KD": {"data.size": 16}}, axes={"optimizer.lr": [0.1, 0.2]})
        >>> [cell.name for cell in cells(file)]
        ['CE, lr=0.1', 'CE, lr=0.2', 'KD, lr=0.1', 'KD, lr=0.2']
        >>> cells(file)[3].settings
        {'data.size': 16, 'optimizer.lr': 0.2}
    """
    short = short_names(_naming(file))
    found = []
    rules = _rules(file)
    for row, differences in (file.rows or {"": {}}).items():
        for point in _points(file):
            label = ", ".join(f"{short[key]}={word(value)}" for key, value in point.items() if key in short)
            departs = bool(file.one_factor_at_a_time and point)
            if file.one_factor_at_a_time and not point:
                label = "" if row else DEFAULT
            layers = (nested(differences), nested(point))
            settings = {**dotted(layers[0]), **point}
            if not any(_matches(rule, {"row": row, **settings}) for rule in rules):
                name = ", ".join(part for part in (row, label) if part) or DEFAULT
                found.append(Cell(name, row, layers, settings, departs))
    return found


def idle_rules(file: AblationFile) -> list[dict[str, Any]]:
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


def nested(differences: Mapping[str, Any]) -> dict[str, Any]:
    """Split dotted keys at their dots; keys of inner mappings stay as they are, for they may be dotted names.

    Example:
        >>> nested({"optimizer.lr": 0.1, "optimizer": {"momentum": 0}})
        {'optimizer': {'lr': 0.1, 'momentum': 0}}
    """
    whole: dict[str, Any] = {}
    for key, value in differences.items():
        for part in reversed(str(key).split(".")):
            value = {part: value}
        whole = merge_values(whole, value)
    return whole


def dotted(differences: Mapping[str, Any], prefix: str = "") -> Settings:
    """Flatten nested mappings to dotted keys.

    Example:
        >>> dotted({"optimizer": {"lr": 0.1, "momentum": 0}, "teacher": None})
        {'optimizer.lr': 0.1, 'optimizer.momentum': 0, 'teacher': None}
    """
    flat: Settings = {}
    for key, value in differences.items():
        where = f"{prefix}{key}"
        flat |= dotted(value, f"{where}.") if isinstance(value, Mapping) and value else {where: value}
    return flat


def merge_values(first: Any, second: Any) -> Any:
    """Merge nested mappings; where one of the two is none, the second wins."""
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return second
    common = {key: merge_values(first[key], value) if key in first else value for key, value in second.items()}
    return {**first, **common}


def look_up(values: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Give the value of a dotted key."""
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return default
        found = found[part]
    return found


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Shorten dotted keys to their last parts, as many as tell them apart.

    Example:
        >>> short_names(["objective.explanation.weight", "objective.hint.weight", "optimizer.lr"]).values()
        dict_values(['explanation.weight', 'hint.weight', 'lr'])
    """

    def suffixes(key: str) -> list[str]:
        parts = key.split(".")
        return [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]

    every = [suffix for key in keys for suffix in suffixes(key)]
    return {key: next((s for s in suffixes(key) if every.count(s) == 1), key) for key in keys}


def word(value: Any) -> str:
    """Write a value as a row's name shows it.

    Example:
        >>> word(True), word(0.5), word("l2"), word({"final": 1.0})
        ('true', '0.5', 'l2', '{final: 1.0}')
    """
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


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
