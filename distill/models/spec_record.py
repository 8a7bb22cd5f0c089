"""The record of a network beside its weights (`student.json`): read it and check its values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from distill.checksums import read_checked
from distill.errors import InputError

#: Larger numbers are no float32.
_LARGEST = 3e38
_KEYS = {"name", "num_classes", "in_channels", "options", "classes", "normalisation"}


def read_spec(path: Path) -> dict[str, Any]:
    """Read ``student.json``, the record that describes how to rebuild a network.

    Raises:
        InputError: If the file is not such a record.
    """
    record = read_checked(path, remedy="Copy the files of the network again, or train the run again.")
    check_spec(record, path)
    return record


def check_spec(record: Any, path: Path) -> None:
    """Raise an error unless a record describes a network, with values of the right kind.

    Raises:
        InputError: The message names the file and the first wrong key.
    """
    if not isinstance(record, dict) or record.get("format") != 1 or not record.keys() >= _KEYS:
        raise InputError(
            f"{path} is not the record of a network: expected format 1 with the keys {', '.join(sorted(_KEYS))}."
        )
    scaling = record["normalisation"] if isinstance(record["normalisation"], dict) else {}
    count, channels = record["num_classes"], record["in_channels"]
    for key, expected, valid in (
        ("name", "a text", isinstance(record["name"], str)),
        ("num_classes", "a number from 1", _is_count(count)),
        ("in_channels", "a number from 1", _is_count(channels)),
        ("options", "keys and values", isinstance(record["options"], dict)),
        ("classes", f"a list of {count} names", _are_names(record["classes"], count)),
        ("normalisation.mean", "finite numbers, one per channel", _are_finite(scaling.get("mean"), channels)),
        ("normalisation.std", "numbers above 0, one per channel", _are_finite(scaling.get("std"), channels, above=0)),
    ):
        if not valid:
            raise InputError(f"{path}: {key} must be {expected}. Copy the files again, or train the run again.")


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 1 << 24


def _are_names(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) in (0, count) and all(isinstance(name, str) for name in value)


def _are_finite(value: Any, count: int, *, above: float = -math.inf) -> bool:
    numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
    return numbers and len(value) in (1, count) and all(abs(one) < _LARGEST and one > above for one in value)
