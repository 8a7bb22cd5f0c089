"""Third-party terms: the documented example, needs, registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.losses import (
    ActivationPair,
    AttentionTransfer,
    ComparedLayer,
    CrossEntropy,
    ExplanationMatching,
    Needs,
    Objective,
    SoftTargets,
    TermInputs,
    WeightedTerm,
    needs_of,
    register_term,
    registered_terms,
)
from distill.types import StagedOutput
from tests.losses import own_term_helpers, own_terms
from tests.losses.own_term_helpers import OWN, by_loops, config_of, example, told
from tests.losses.own_terms import Confidence, Hint, block

pytestmark = pytest.mark.usefixtures("own_registry")
LABELS = torch.tensor([2, 0])


# the documented example


def inputs_of(student: Tensor, teacher: Tensor, weight: float = 1.0) -> TermInputs:
    logits = torch.zeros(len(student), 3)
    return TermInputs(
        StagedOutput(logits, {"a": student}),
        StagedOutput(logits, {"b": teacher}),
        torch.zeros(len(student), dtype=torch.int64),
        activations={"a": ActivationPair(student, teacher)},
        layers={"a": weight},
    )


def activations() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher


def test_the_example_has_at_most_30_lines() -> None:
    assert len(block("python").splitlines()) <= 30


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_example_is_the_formula(temperature: float) -> None:
    student, teacher = activations()
    found = example(temperature=temperature)(inputs_of(student, teacher, weight=0.5))
    assert float(found.detach()) == pytest.approx(0.5 * by_loops(student.detach(), teacher, temperature), rel=1e-10)
    assert float(example()(inputs_of(teacher, teacher))) == pytest.approx(0, abs=1e-12)


def test_the_gradient_of_the_example_equals_finite_differences() -> None:
    student, teacher = activations()
    assert torch.autograd.gradcheck(lambda a: example(temperature=2.0)(inputs_of(a, teacher)), student)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (" * self.temperature**2", ""),
        ("log_softmax(2)", "log_softmax(1)"),
        ("F.kl_div(log_student, log_teacher", "F.kl_div(log_teacher, log_student"),
        ("student[..., 0, 0].numel()", "len(student)"),
        ("weight * self", "self"),
    ],
)
def test_a_fault_in_the_example_is_found(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    text = block("python")
    assert right in text
    monkeypatch.setattr(own_term_helpers, "block", lambda language: text.replace(right, wrong))
    with pytest.raises(AssertionError):
        test_the_example_is_the_formula(4.0)


# needs


def test_needs_are_read_from_class_attributes() -> None:
    assert needs_of(CrossEntropy) == needs_of(Confidence()) == Needs()
    assert needs_of(SoftTargets()) == Needs(teacher=True)
    assert needs_of(ExplanationMatching()) == Needs(teacher=True, maps="grad_cam_pp")
    assert needs_of(AttentionTransfer) == Needs(teacher=True, maps="activation_attention")
    assert needs_of(Hint) == Needs(teacher=True, activations=True)


class Recorder(nn.Module):
    """Keeps its input."""

    def __init__(self, **needs: Any) -> None:
        super().__init__()
        self.seen: list[TermInputs] = []
        for name, value in needs.items():
            setattr(self, name, value)

    def forward(self, inputs: TermInputs) -> Tensor:
        self.seen.append(inputs)
        return inputs.student.logits.mean()


def test_a_term_gets_what_it_declares_and_nothing_else() -> None:
    student, teacher = activations()
    layers = {"a": ComparedLayer("b", 0.25)}
    terms = {
        "plain": Recorder(),
        "taught": Recorder(needs_teacher=True),
        "active": Recorder(needs_activations=True),
        "both": Recorder(needs_activations=True, needs_teacher=True),
    }
    objective = Objective({name: WeightedTerm(1.0, term, layers) for name, term in terms.items()})
    own, other = StagedOutput(torch.zeros(2, 3), {"a": student}), StagedOutput(torch.ones(2, 3), {"b": teacher})
    objective(own, other, {}, LABELS)
    seen = {name: term.seen[0] for name, term in terms.items()}
    assert {name: one.teacher is other for name, one in seen.items()} == {
        "plain": False,
        "taught": True,
        "active": False,
        "both": True,
    }
    assert seen["plain"].activations == seen["taught"].activations == {}
    assert seen["both"].activations["a"].student is student
    assert seen["both"].activations["a"].teacher is teacher
    assert seen["active"].activations["a"] == (student, None)
    assert all(one.layers == {"a": 0.25} for one in seen.values())
    assert (objective.layers_to_read("student", terms), objective.layers_to_read("teacher", terms)) == (
        ["a", "a"],
        ["b"],
    )
    assert objective.layers_to_read("student", ["plain", "taught"]) == []
    assert objective.layers_to_read("teacher", ["plain", "taught", "active"]) == []


@pytest.mark.parametrize(
    ("term", "got"),
    [
        (own_terms.PerSample, r"torch.float32 \(2,\)"),
        (own_terms.Number, "float"),
        (own_terms.Count, r"torch.int64 \(\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_term_that_returns_no_scalar(term: type[nn.Module], got: str) -> None:
    objective = Objective({"mine": WeightedTerm(1.0, term())})
    message = rf"^{term.__name__}\.forward must return a floating-point scalar tensor, got {got}\.$"
    with pytest.raises(ValueError, match=message):
        objective(StagedOutput(torch.zeros(2, 3)), None, {}, LABELS)


@pytest.mark.parametrize("name", ["loss", "a.b", "keys", "training"])
def test_a_name_that_a_term_cannot_have(name: str) -> None:
    with pytest.raises(ValueError, match="choose another one"):
        Objective({name: WeightedTerm(1.0, CrossEntropy())})


# registry


def test_a_registered_class_is_a_term_of_that_name(tmp_path: Path) -> None:
    assert register_term("confidence", Confidence) is Confidence
    assert list(registered_terms())[-1] == "confidence"
    term = config_of(tmp_path, "objective.confidence.power=2", import_terms=False).objective["confidence"]
    assert (term.term, term.weight, term.model_extra) == (f"{OWN}:Confidence", 1.0, {"power": 2.0})
    assert told("objective.confidence.powr=2") == "objective.confidence.powr: unknown key; did you mean 'power'?"
    assert "attention_transfer, confidence;" in told("objective.confidenc={}")


def test_a_class_that_is_defined_anew_replaces_the_old_one() -> None:
    first, second = (type("Mine", (nn.Module,), {"__module__": "notebook"}) for _ in range(2))
    register_term("mine", first)
    register_term("mine", second)
    assert registered_terms()["mine"] is second


@pytest.mark.parametrize(
    ("name", "term", "error", "message"),
    [
        ("soft_targets", Confidence, ValueError, "'soft_targets' is taken by distill.losses.soft_targets:SoftTargets"),
        ("hint", Confidence, ValueError, f"'hint' is taken by {OWN}:Hint"),
        ("a:b", Confidence, ValueError, "`name` must consist of letters, digits and underscores, got 'a:b'"),
        ("mine", own_terms.NoModule, TypeError, "`term` must be a subclass of torch.nn.Module, got <class"),
        ("mine", Confidence(), TypeError, r"`term` must be a subclass of torch.nn.Module, got Confidence\(\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_registered(name: str, term: Any, error: type[Exception], message: str) -> None:
    register_term("hint", Hint)
    with pytest.raises(error, match=message):
        register_term(name, term)
