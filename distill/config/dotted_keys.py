"""Convert between nested mappings and dotted keys; merge mappings, look up keys, and shorten keys for display."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def nested(differences: Mapping[str, Any]) -> dict[str, Any]:
    """Split dotted keys into nested mappings. Keys of inner mappings are not split, since they may be dotted names.

    Example:
        >>> nested({"optimizer.lr": 0.1, "optimizer": {"momentum": 0}})
        {'optimizer': {'lr': 0.1, 'momentum': 0}}
    """
    result: dict[str, Any] = {}
    for key, value in differences.items():
        for part in reversed(str(key).split(".")):
            value = {part: value}
        result = merge_values(result, value)
    return result


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
    """Merge nested mappings; if either value is not a mapping, return the second one."""
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return second
    common = {key: merge_values(first[key], value) if key in first else value for key, value in second.items()}
    return {**first, **common}


def look_up(values: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the value of a dotted key, or the default if there is no such key."""
    value: Any = values
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Shorten dotted keys to the shortest suffixes that distinguish them.

    Example:
        >>> short_names(["objective.explanation.weight", "objective.hint.weight", "optimizer.lr"]).values()
        dict_values(['explanation.weight', 'hint.weight', 'lr'])
    """

    def suffixes(key: str) -> list[str]:
        parts = key.split(".")
        return [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]

    candidates = [suffix for key in keys for suffix in suffixes(key)]
    return {key: next((s for s in suffixes(key) if candidates.count(s) == 1), key) for key in keys}


def format_setting(value: Any) -> str:
    """Format a value as it appears in the name of a row.

    Example:
        >>> format_setting(True), format_setting(0.5), format_setting("l2"), format_setting({"final": 1.0})
        ('true', '0.5', 'l2', '{final: 1.0}')
    """
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")
