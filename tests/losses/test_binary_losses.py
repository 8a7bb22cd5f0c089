"""Binary cross-entropy and soft targets of every class, against torch, torchvision and numpy in float64."""

from __future__ import annotations

from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from distill.losses import binary_cross_entropy_loss, binary_soft_target_loss, soft_target_loss
from tests.losses.checks import logits

double = torch.float64


def labels(n: int, classes: int, *, low: int = 0) -> torch.Tensor:
    return torch.randint(low, 2, (n, classes), generator=torch.Generator().manual_seed(3))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0], dtype=double)])
def test_it_is_torchs_loss_times_the_number_of_classes(weight: torch.Tensor | None) -> None:
    z, y = logits(6, 5, seed=1), labels(6, 5)
    expected = 5 * F.binary_cross_entropy_with_logits(z, y.double(), pos_weight=weight)
    torch.testing.assert_close(binary_cross_entropy_loss(z, y, positive_weight=weight), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_equal_exponents_are_torchvisions_focal_loss(gamma: float) -> None:
    z, y = logits(6, 5, seed=1), labels(6, 5)
    expected = sigmoid_focal_loss(z, y.double(), alpha=-1, gamma=gamma).sum() / 6
    found = binary_cross_entropy_loss(z, y, gamma_positive=gamma, gamma_negative=gamma)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_asymmetric_loss_is_that_of_the_paper() -> None:
    z, y = logits(6, 5, seed=1), labels(6, 5)
    p = sigmoid(z.numpy())
    shifted = np.maximum(p - 0.05, 0)
    each = np.where(y.numpy() == 1, (1 - p) * np.log(p), shifted**4 * np.log(1 - shifted))
    found = binary_cross_entropy_loss(z, y, gamma_positive=1.0, gamma_negative=4.0, margin=0.05)
    assert float(found) == pytest.approx(-each.sum() / 6, rel=1e-12)


def test_unknown_classes_have_neither_loss_nor_gradient() -> None:
    z, y = logits(6, 5, seed=1).requires_grad_(), labels(6, 5, low=-1)
    known = (y >= 0).double()
    expected = (F.binary_cross_entropy_with_logits(z, y.clamp(min=0).double(), reduction="none") * known).sum() / 6
    found = binary_cross_entropy_loss(z, y)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(found, z)
    assert (gradient[y < 0] == 0).all()
    assert (gradient[y >= 0] != 0).all()


def test_label_smoothing_moves_the_labels_towards_a_half() -> None:
    z, y = logits(6, 5, seed=1), labels(6, 5)
    expected = F.binary_cross_entropy_with_logits(z, 0.8 * y.double() + 0.1, reduction="sum") / 6
    torch.testing.assert_close(binary_cross_entropy_loss(z, y, label_smoothing=0.2), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", [{}, {"gamma_positive": 1.0, "gamma_negative": 4.0, "margin": 0.05}])
def test_saturated_logits_have_finite_loss_and_gradient(options: dict[str, Any]) -> None:
    z = torch.tensor([[200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    loss = binary_cross_entropy_loss(z, torch.tensor([[1, 1, 0, 0]]), **options)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"gamma_positive": 1.0, "gamma_negative": 2.0, "margin": 0.05}])
def test_gradients_equal_finite_differences(options: dict[str, Any]) -> None:
    z, y = logits(3, 4, seed=1).requires_grad_(), labels(3, 4)
    assert torch.autograd.gradcheck(lambda z: binary_cross_entropy_loss(z, y, **options), z)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_binary_soft_targets_are_the_sum_of_softmaxes_of_two(temperature: float) -> None:
    student, teacher = logits(4, 5, seed=1), logits(4, 5, seed=2)
    expected = sum(
        soft_target_loss(
            torch.stack([student[:, c], torch.zeros(4, dtype=double)], 1),
            torch.stack([teacher[:, c], torch.zeros(4, dtype=double)], 1),
            temperature=temperature,
        )
        for c in range(5)
    )
    found = binary_soft_target_loss(student, teacher, temperature=temperature)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_binary_soft_targets_with_hard_teachers_are_the_binary_cross_entropy() -> None:
    z, y = logits(4, 5, seed=1), labels(4, 5)
    hard = torch.where(y == 1, 1e3, -1e3).double()
    found = binary_soft_target_loss(z, hard, temperature=1.0)
    torch.testing.assert_close(found, binary_cross_entropy_loss(z, y), rtol=1e-12, atol=0)


def test_two_classes_with_one_label_are_logistic_regression() -> None:
    """Weights that minimise the loss are those of two logistic regressions, one for every class."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, dtype=double, generator=generator)
    y = F.one_hot((x[:, 0] + 0.8 * torch.randn(60, dtype=double, generator=generator) > 0).long(), 2)
    weights = torch.zeros(3, 2, dtype=double, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = binary_cross_entropy_loss(x @ weights, y)
        loss.backward()
        return loss

    optimizer.step(closure)
    for column in range(2):  # Newton's method on the likelihood of one class
        w = np.zeros(3)
        for _ in range(30):
            p = sigmoid(x.numpy() @ w)
            hessian = x.numpy().T * (p * (1 - p)) @ x.numpy()
            w += np.linalg.solve(hessian, x.numpy().T @ (y[:, column].numpy() - p))
        np.testing.assert_allclose(weights[:, column].detach().numpy(), w, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing.*got 1.0"),
        ({"margin": -0.1}, "margin.*got -0.1"),
        ({"gamma_negative": -1.0}, "gamma_negative.*got -1.0"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        binary_cross_entropy_loss(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.int64), **options)


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"as the logits \(2, 3\), got \(2,\)"):
        binary_cross_entropy_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"same classes|typechecking"):
        binary_soft_target_loss(torch.zeros(2, 3), torch.zeros(2, 4), temperature=1.0)
    with pytest.raises(ValueError, match="temperature"):
        binary_soft_target_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0)
