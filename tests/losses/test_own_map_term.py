"""The documented third-party term that compares maps, and the message of a term that fails on their shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from distill.build import Objects, build, split_terms
from distill.errors import InputError
from distill.losses import ComparedLayer, Objective, TermInputs, WeightedTerm
from distill.losses.failure import TermError
from distill.types import MapPair, StagedOutput
from tests.losses.own_term_helpers import config_of
from tests.losses.own_terms import block
from tests.training.helpers import save_teacher

LABELS = torch.tensor([2, 0])


def overlap() -> nn.Module:
    space: dict[str, Any] = {"__name__": "mine"}
    exec(block("python", 1), space)
    term: nn.Module = space["MapOverlap"]()
    return term


class Unequal(nn.Module):
    """Subtracts maps of different sizes."""

    needs_maps = "grad_cam"

    def forward(self, inputs: TermInputs) -> Tensor:
        ((student, teacher),) = (inputs.maps or {}).values()
        return (student - teacher).square().mean()


def value(term: nn.Module, student: Tensor, teacher: Tensor, weight: float = 1.0) -> Tensor:
    objective = Objective({"overlap": WeightedTerm(1.0, term, {"a": ComparedLayer("b", weight)})})
    output = StagedOutput(torch.zeros(2, 3))
    return objective(output, output, {"overlap": {"a": MapPair(student, teacher)}}, LABELS).total


def test_the_example_compares_maps_of_different_sizes() -> None:
    left, right = torch.zeros(2, 4, 4), torch.zeros(2, 2, 2)
    left[:, :, :2], right[:, :, 1] = 3.0, 5.0
    assert float(value(overlap(), left, left[:, ::2, ::2] * 7)) == pytest.approx(0)
    assert float(value(overlap(), left, right, weight=0.5)) == pytest.approx(0.5)
    half = torch.ones(2, 2, 2)
    assert float(value(overlap(), left, half)) == pytest.approx(0.5)


def test_the_example_trains_layers_of_different_sizes(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "wrn_10_1")
    keys = yaml.safe_load(block("yaml", 1))["objective"]["overlap"]
    values, modules = split_terms({"overlap": {**keys, "term": overlap()}})
    config = config_of(tmp_path, f"teacher.checkpoint={teacher}", terms=values)
    run = build(config, Objects(terms=modules))
    batch = next(iter(run.data.train_dataloader()))
    loss = run.module.training_step(batch._replace(images=torch.rand(batch.images.shape)))
    loss.backward()
    assert float(loss.detach()) > 0


def test_a_failure_names_the_shapes(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "wrn_10_1")
    values, modules = split_terms({"x": {"term": Unequal(), "layer": "group2", "teacher_layer": "group1"}})
    config = config_of(tmp_path, f"teacher.checkpoint={teacher}", terms=values)
    with pytest.raises(InputError, match=r"^objective\.x: Unequal failed on two images with RuntimeError: ") as error:
        build(config, Objects(terms=modules))
    assert "It got logits (student (2, 10), teacher (2, 10)), maps of group2 (student (2, " in str(error.value)
    with pytest.raises(
        TermError, match=r"^objective\.overlap: .*maps of a \(student \(2, 4, 4\), teacher \(2, 2, 2\)\)"
    ):
        value(Unequal(), torch.ones(2, 4, 4), torch.ones(2, 2, 2))
