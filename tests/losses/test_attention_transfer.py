"""Compare attention transfer with the sum written out and with the authors' code, and test planted faults."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses import AttentionTransfer, TermInputs, attention_transfer_loss
from distill.losses.attention_transfer import FORMS, attention_map_loss
from distill.types import MapPair, StagedOutput
from tests.oracles import losses as oracle
from tests.oracles import maps as map_oracle

double = torch.float64
Loss = Callable[[Tensor, Tensor], Tensor]


def activations(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, dtype=double, generator=torch.Generator().manual_seed(seed))


def check(loss: Loss, form: str) -> None:
    """Compare with the sum written out, for several numbers of channels and axes, and samples of different scale."""
    for samples, mine, theirs, size in ((3, 4, 2, (5,)), (2, 3, 6, (4, 3)), (2, 2, 2, (2, 3, 2))):
        student, teacher = activations(samples, mine, *size, seed=8), activations(samples, theirs, *size, seed=9)
        student[0] *= 7
        expected = oracle.attention_transfer(student.numpy(), teacher.numpy(), form)
        assert float(loss(student, teacher)) == pytest.approx(expected, rel=1e-12)


def at(x: Tensor) -> Tensor:
    """The authors' code."""
    return F.normalize(x.pow(2).mean(1).view(x.size(0), -1))


@pytest.mark.parametrize("form", ["reference", "paper"])
def test_values_match_the_oracle(form: str) -> None:
    check(lambda student, teacher: attention_transfer_loss(student, teacher, form=form), form)


def test_the_reference_form_is_the_authors_code() -> None:
    student, teacher = activations(5, 3, 4, 4, seed=1), activations(5, 8, 4, 4, seed=2)
    theirs = (at(student) - at(teacher)).pow(2).mean()
    torch.testing.assert_close(attention_transfer_loss(student, teacher, form="reference"), theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("form", "expected"), [("reference", 0.04), ("paper", math.sqrt(0.08))])
def test_pinned_values(form: str, expected: float) -> None:
    """Squares of 12 and 16 are 0.6 and 0.8 of their norm, of 4 and 3 they are 0.8 and 0.6."""
    student = torch.tensor([[[2.0, 4.0], [math.sqrt(8.0), 0.0]]], dtype=double)
    teacher = torch.tensor([[[-2.0, math.sqrt(3.0)]]], dtype=double)
    assert float(attention_transfer_loss(student, teacher, form=form)) == pytest.approx(expected, rel=1e-12)


def no_square(student: Tensor, teacher: Tensor) -> Tensor:
    one, other = (F.normalize(x.abs().mean(1).flatten(1)) for x in (student, teacher))
    return (one - other).pow(2).mean()


def not_normalised(student: Tensor, teacher: Tensor) -> Tensor:
    return (student.pow(2).mean(1) - teacher.pow(2).mean(1)).pow(2).mean()


def normalised_over_the_batch(student: Tensor, teacher: Tensor) -> Tensor:
    one, other = (F.normalize(x.pow(2).mean(1).flatten(), dim=0) for x in (student, teacher))
    return (one - other).pow(2).mean()


def sum_over_the_sites(student: Tensor, teacher: Tensor) -> Tensor:
    return (at(student) - at(teacher)).pow(2).sum(1).mean()


def relu_first(student: Tensor, teacher: Tensor) -> Tensor:
    return (at(student.relu()) - at(teacher.relu())).pow(2).mean()


def over_channels(student: Tensor, teacher: Tensor) -> Tensor:
    width = min(student.shape[1], teacher.shape[1])
    one, other = (F.normalize(x.pow(2).flatten(2).mean(2)[:, :width]) for x in (student, teacher))
    return (one - other).pow(2).mean()


@pytest.mark.parametrize(
    "fault", [no_square, not_normalised, normalised_over_the_batch, sum_over_the_sites, relu_first, over_channels]
)
def test_planted_faults_are_found(fault: Loss) -> None:
    with pytest.raises(AssertionError):
        check(fault, "reference")


def test_a_teacher_of_another_size_is_resized() -> None:
    student, teacher = activations(2, 3, 4, 4, seed=1), activations(2, 5, 2, 3, seed=2)
    resized = map_oracle.resize(teacher.square().sum(1).numpy(), (4, 4))
    expected = oracle.attention_transfer(student.numpy(), (resized**0.5)[:, None], "reference")
    assert float(attention_transfer_loss(student, teacher, form="reference")) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_derivatives(form: str) -> None:
    student, teacher = activations(2, 2, 3, 2, seed=1).requires_grad_(), activations(2, 3, 2, 2, seed=2)

    def loss(values: Tensor) -> Tensor:
        return attention_transfer_loss(values, teacher, form=form)

    assert torch.autograd.gradcheck(loss, (student,))
    assert torch.autograd.gradgradcheck(loss, (student,))


@pytest.mark.parametrize(("form", "far"), [("reference", 1 / 12), ("paper", 1.0)])
def test_a_silent_layer_trains_nothing(form: str, far: float) -> None:
    teacher = activations(2, 2, 3, 4)
    silent = torch.zeros(2, 5, 3, 4, dtype=double, requires_grad=True)
    for other, expected in ((teacher, far), (torch.zeros_like(teacher), 0.0)):
        loss = attention_transfer_loss(silent, other, form=form)
        assert float(loss.detach()) == pytest.approx(expected, abs=1e-12)
        (gradient,) = torch.autograd.grad(loss, silent)
        assert gradient.eq(0).all()
    lively = activations(2, 2, 3, 4, seed=4).requires_grad_()
    loss = attention_transfer_loss(lively, torch.zeros_like(teacher), form=form)
    (gradient,) = torch.autograd.grad(loss, lively)
    assert float(loss.detach()) == pytest.approx(far)
    assert float(gradient.abs().amax()) < 1e-12  # of a length that is 1 whatever happens


@pytest.mark.parametrize("form", FORMS)
def test_the_distance_to_itself_is_zero_and_flat(form: str) -> None:
    student = activations(3, 2, 4, 4).requires_grad_()
    loss = attention_transfer_loss(student, student.detach().clone(), form=form)
    assert float(loss.detach()) == 0
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.eq(0).all()


@pytest.mark.parametrize("form", FORMS)
def test_scale_sign_and_order_of_channels_do_not_matter(form: str) -> None:
    student, teacher = activations(3, 4, 3, 3, seed=1), activations(3, 2, 3, 3, seed=2)
    expected = float(attention_transfer_loss(student, teacher, form=form))
    assert expected > 1e-3
    for mine, theirs in ((1e3 * student, -teacher), (student[:, [2, 0, 3, 1]], 1e-3 * teacher)):
        assert float(attention_transfer_loss(mine, theirs, form=form)) == pytest.approx(expected, rel=1e-12)
    each = [float(attention_transfer_loss(student[n : n + 1], teacher[n : n + 1], form=form)) for n in (2, 0, 1)]
    assert math.fsum(each) / 3 == pytest.approx(expected, rel=1e-12)


def test_nothing_flows_into_the_teacher() -> None:
    student, teacher = activations(2, 2, 4, 4, seed=1).requires_grad_(), activations(2, 2, 4, 4).requires_grad_()
    attention_transfer_loss(student, teacher, form="reference").backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert float(student.grad.norm()) > 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_the_square(dtype: torch.dtype) -> None:
    student, teacher = ((300 * activations(2, 3, 4, 4, seed=s)).to(dtype) for s in (1, 2))
    found = attention_transfer_loss(student, teacher, form="reference")
    assert found.dtype == torch.float32
    expected = attention_transfer_loss(student.double(), teacher.double(), form="reference")
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def inputs(maps: dict[str, MapPair] | None) -> TermInputs:
    return TermInputs(StagedOutput(torch.zeros(2, 3)), None, torch.zeros(2, dtype=torch.int64), maps)


def test_the_term_adds_up_weighted_layers() -> None:
    pairs = {
        layer: MapPair(activations(2, n, n).square(), activations(2, n, n, seed=5).square())
        for layer, n in (("a", 4), ("b", 2))
    }
    each = {layer: attention_map_loss(*pair, form="paper") for layer, pair in pairs.items()}
    found = AttentionTransfer(layers={"a": 1.0, "b": 0.25}, form="paper")(inputs(pairs))
    torch.testing.assert_close(found, each["a"] + 0.25 * each["b"])
    torch.testing.assert_close(AttentionTransfer(form="paper")(inputs(pairs)), each["a"] + each["b"])
    with pytest.raises(ValueError, match=r"term 'attention_transfer' needs maps of student and teacher at a, got \[\]"):
        AttentionTransfer(layers={"a": 1.0})(inputs(None))


def test_what_makes_no_sense_is_refused() -> None:
    one = torch.ones(2, 2, 3, 3)
    for call in (lambda: attention_transfer_loss(one, one, form="papr"), lambda: AttentionTransfer(form="papr")):
        with pytest.raises(ValueError, match="`form` must be one of reference, paper, got 'papr'"):
            call()


def test_other_samples_are_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="student and teacher must have the same number of maps, got 2 and 3"):
        attention_transfer_loss(torch.ones(2, 2, 3), torch.ones(3, 2, 3), form="paper")
