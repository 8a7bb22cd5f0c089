"""The objective and its terms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from distill.losses import (
    CrossEntropy,
    ExplanationMatching,
    Objective,
    SoftTargets,
    TermInputs,
    WeightedTerm,
    explanation_loss,
    registered_terms,
    soft_target_loss,
)
from distill.types import MapPair, StagedOutput
from tests.losses.checks import logits, random_maps
from tests.oracles import losses as oracle

LABELS = torch.tensor([2, 0, 1])


class Forbidden(nn.Module):
    """A term that must not be computed."""

    def forward(self, inputs: TermInputs) -> Tensor:
        raise RuntimeError("computed")


def step() -> tuple[StagedOutput, StagedOutput, MapPair]:
    student = StagedOutput(logits(3, 3, seed=1).requires_grad_())
    teacher = StagedOutput(logits(3, 3, seed=2))
    maps = MapPair(random_maps(3, 4, 4, seed=3).requires_grad_(), random_maps(3, 2, 2, seed=4))
    return student, teacher, maps


def everything() -> Objective:
    return Objective(
        {
            "cross_entropy": WeightedTerm(0.1, CrossEntropy()),
            "soft_targets": WeightedTerm(0.9, SoftTargets(temperature=4.0)),
            "explanation": WeightedTerm(5.0, ExplanationMatching(normalize="l2", distance="squared_error")),
        }
    )


def test_the_total_is_the_weighted_sum() -> None:
    student, teacher, maps = step()
    losses = everything()(student, teacher, {"explanation": {"final": maps}}, LABELS)
    z_s, z_t = student.logits.detach().numpy(), teacher.logits.numpy()
    expected = {
        "cross_entropy": oracle.cross_entropy(z_s, LABELS.tolist()),
        "soft_targets": oracle.soft_targets(z_s, z_t, 4.0),
        "explanation": oracle.explanation(maps.student.detach().numpy(), maps.teacher.numpy(), "l2", "squared_error"),
    }
    weights = {"cross_entropy": 0.1, "soft_targets": 0.9, "explanation": 5.0}
    assert set(losses.raw) == set(losses.weighted) == set(expected)
    for name, value in expected.items():
        assert float(losses.raw[name].detach()) == pytest.approx(value, rel=1e-10)
        assert float(losses.weighted[name].detach()) == pytest.approx(weights[name] * value, rel=1e-10)
    total = math.fsum(weights[name] * expected[name] for name in expected)
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-10)
    assert everything().names == ("cross_entropy", "soft_targets", "explanation")


def test_the_gradient_is_the_weighted_sum_of_gradients() -> None:
    student, teacher, maps = step()
    losses = everything()(student, teacher, {"explanation": {"final": maps}}, LABELS)
    found = torch.autograd.grad(losses.total, (student.logits, maps.student))
    by_hand = 0.1 * nn.functional.cross_entropy(student.logits, LABELS)
    by_hand = by_hand + 0.9 * soft_target_loss(student.logits, teacher.logits, temperature=4.0)
    expected = torch.autograd.grad(by_hand, student.logits)
    torch.testing.assert_close(found[0], expected[0])
    alone = 5 * explanation_loss(maps.student, maps.teacher, normalize="l2", distance="squared_error")
    torch.testing.assert_close(found[1], torch.autograd.grad(alone, maps.student)[0])
    assert float(found[1].norm()) > 1e-3


def test_a_term_of_weight_zero_is_not_computed() -> None:
    student, _, _ = step()
    objective = Objective({"a": WeightedTerm(1.0, CrossEntropy()), "b": WeightedTerm(0.0, Forbidden())})
    losses = objective(student, None, {}, LABELS)
    assert list(losses.raw) == ["a"]
    assert objective.names == ("a",)
    with pytest.raises(RuntimeError, match="computed"):
        Objective({"b": WeightedTerm(1e-9, Forbidden())})(student, None, {}, LABELS)


def test_two_terms_of_one_kind() -> None:
    student, teacher, _ = step()
    objective = Objective({f"t{t}": WeightedTerm(1.0, SoftTargets(temperature=float(t))) for t in (1, 4)})
    losses = objective(student, teacher, {}, LABELS)
    z_s, z_t = student.logits.detach().numpy(), teacher.logits.numpy()
    for t in (1, 4):
        assert float(losses.raw[f"t{t}"].detach()) == pytest.approx(oracle.soft_targets(z_s, z_t, t))


def test_a_term_gets_the_maps_of_its_own_name() -> None:
    student, teacher, maps = step()
    other = MapPair(maps.teacher.clone(), maps.teacher.clone())
    names = ("near", "far")
    objective = Objective({name: WeightedTerm(1.0, ExplanationMatching()) for name in names})
    losses = objective(student, teacher, {"near": {"final": other}, "far": {"final": maps}}, LABELS)
    assert float(losses.raw["near"]) == pytest.approx(0.0, abs=1e-15)
    assert float(losses.raw["far"].detach()) > 0.01


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"a": WeightedTerm(0.0, CrossEntropy())},
        {"a": WeightedTerm(1.0, CrossEntropy()), "b": WeightedTerm(-1.0, CrossEntropy())},
    ],
)
def test_an_objective_needs_weights(terms: dict[str, WeightedTerm]) -> None:
    with pytest.raises(ValueError, match="weight"):
        Objective(terms)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        Objective({"a": WeightedTerm(1.0, CrossEntropy()), "b": WeightedTerm(weight, CrossEntropy())})


def test_nan_reaches_the_total() -> None:
    student, teacher, maps = step()
    broken = MapPair(maps.student * math.nan, maps.teacher)
    losses = everything()(student, teacher, {"explanation": {"final": broken}}, LABELS)
    assert math.isnan(float(losses.total.detach()))
    assert math.isnan(float(losses.raw["explanation"].detach()))
    assert math.isfinite(float(losses.raw["cross_entropy"].detach()))


@pytest.mark.parametrize("name", ["soft_targets", "explanation"])
def test_a_term_says_what_it_misses(name: str) -> None:
    student, _, _ = step()
    with pytest.raises(ValueError, match=name):
        registered_terms()[name]()(TermInputs(student, None, LABELS))


def test_cross_entropy_is_the_oracles() -> None:
    student, teacher, _ = step()
    found = CrossEntropy()(TermInputs(student, teacher, LABELS))
    expected = oracle.cross_entropy(student.logits.detach().numpy(), LABELS.tolist())
    assert float(found.detach()) == pytest.approx(expected, rel=1e-12)


def test_pinned_cross_entropy() -> None:
    student = StagedOutput(torch.tensor([[math.log(3), 0.0], [0.0, 0.0]], dtype=torch.float64))
    found = CrossEntropy()(TermInputs(student, None, torch.tensor([1, 0])))
    assert float(found) == pytest.approx((math.log(4) + math.log(2)) / 2, rel=1e-14)


def test_saturated_cross_entropy_stays_finite() -> None:
    student = StagedOutput(torch.tensor([[1e4, -1e4]], requires_grad=True))
    loss = CrossEntropy()(TermInputs(student, None, torch.tensor([1])))
    assert float(loss.detach()) == 2e4
    assert torch.autograd.grad(loss, student.logits)[0].tolist() == [[1.0, -1.0]]


def test_label_smoothing_spreads_its_share() -> None:
    student, _, _ = step()
    z = student.logits.detach().numpy()
    spread = math.fsum(oracle.cross_entropy(z, [c] * 3) for c in range(3)) / 3
    found = CrossEntropy(label_smoothing=0.3)(TermInputs(student, None, LABELS))
    expected = 0.7 * oracle.cross_entropy(z, LABELS.tolist()) + 0.3 * spread
    assert float(found.detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("option", "value"), [("normalize", "l3"), ("distance", "l4")])
def test_an_unknown_option_is_refused_when_the_term_is_made(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=value):
        registered_terms()["explanation"](**{option: value})
