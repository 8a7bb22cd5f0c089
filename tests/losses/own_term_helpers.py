"""Helpers of the tests of third-party terms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from distill.build import check_config
from distill.config import Config, format_mistakes, validate
from distill.config.loading import merge
from distill.errors import InputError
from tests.losses.own_terms import block
from tests.training.helpers import SMALL

OWN = "tests.losses.own_terms"


def config_of(folder: Path, *pairs: str, terms: dict[str, Any] | None = None, import_terms: bool = True) -> Config:
    values = merge([], [*SMALL, f"output_dir={folder}", *pairs])
    values["objective"] = {**values.get("objective", {}), **(terms or {})}
    config, mistakes = validate(values, check=lambda merged: check_config(merged, import_terms=import_terms))
    if config is None:
        raise InputError(format_mistakes(mistakes, "the configuration"))
    return config


def told(*pairs: str) -> str:
    with pytest.raises(InputError) as caught:
        config_of(Path("none"), *pairs)
    return str(caught.value).partition("\n  ")[2]


def example(**options: Any) -> nn.Module:
    space: dict[str, Any] = {"__name__": "mine"}
    exec(block("python"), space)
    term: nn.Module = space["ChannelWise"](**options)
    return term


def by_loops(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """T^2 / C times the sum over the channels of KL(teacher, student), mean over the samples."""
    total = 0.0
    for n in range(student.shape[0]):
        for c in range(student.shape[1]):
            logits = [values[n, c].flatten().double().tolist() for values in (student, teacher)]
            p, q = ([math.exp(v / temperature) for v in row] for row in logits)
            total += math.fsum(
                b / math.fsum(q) * math.log((b / math.fsum(q)) / (a / math.fsum(p))) for a, b in zip(p, q, strict=True)
            )
    return total * temperature**2 / student.shape[0] / student.shape[1]
