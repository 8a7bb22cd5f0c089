"""Nested mappings and dotted keys: split, flatten, merge, look up, shorten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


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


def dotted(differences: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys.

    Example:
        >>> dotted({"optimizer": {"lr": 0.1, "momentum": 0}, "teacher": None})
        {'optimizer.lr': 0.1, 'optimizer.momentum': 0, 'teacher': None}
    """
    flat: dict[str, Any] = {}
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


def format_setting(value: Any) -> str:
    """Write a value as a row's name shows it.

    Example:
        >>> format_setting(True), format_setting(0.5), format_setting("l2"), format_setting({"final": 1.0})
        ('true', '0.5', 'l2', '{final: 1.0}')
    """
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")
