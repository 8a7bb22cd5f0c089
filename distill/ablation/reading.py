"""YAML and `key=value` pairs -> an ablation file, checked by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill.ablation.grid import dotted, merge_values, nested
from distill.ablation.sections import AblationFile
from distill.config import merge, told
from distill.config.mistakes import explain
from distill.errors import InputError


def read_file(path: Path, pairs: Sequence[str]) -> AblationFile:
    """Read and check an ablation file.

    Raises:
        InputError: with every mistake, a line each.
    """
    content = merge_values(_spread(merge([path])), _spread(merge([], pairs)))
    try:
        return AblationFile.model_validate(content)
    except ValidationError as error:
        mistakes = [explain(item, record=AblationFile) for item in error.errors()]
        raise InputError(told(mistakes, str(path))) from error


def _spread(content: Mapping[str, Any]) -> dict[str, Any]:
    """Bring differences and axes to one form each, so that pairs find what the file says."""
    spread = dict(content)
    for key, form in (("overrides", nested), ("axes", dotted), ("one_factor_at_a_time", dotted)):
        if isinstance(spread.get(key), Mapping):
            spread[key] = form(spread[key])
    if isinstance(teacher := spread.get("teacher"), Mapping):
        spread["teacher"] = {
            k: nested(v) if k == "overrides" and isinstance(v, Mapping) else v for k, v in teacher.items()
        }
    if isinstance(rows := spread.get("rows"), Mapping):
        spread["rows"] = {
            str(name): {} if row is None else nested(row) if isinstance(row, Mapping) else row
            for name, row in rows.items()
        }
    return spread
