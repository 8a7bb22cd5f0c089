"""Kullback-Leibler divergence of outputs, and calibration."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from distill.metrics import (
    ExpectedCalibrationError,
    OutputKL,
    calibration_bins,
    expected_calibration_error,
    output_kl,
)
from tests.metrics.inputs import NAN, as_tensor, close, random
from tests.oracles import figures


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_matches_the_oracle(temperature: float) -> None:
    logits, reference = random(20, 5) * 12, random(20, 5, seed=4) * 12
    got = output_kl(logits, reference, temperature=temperature)
    pairs = zip((logits / temperature).tolist(), (reference / temperature).tolist(), strict=True)
    close(got, as_tensor([figures.divergence(z, r) for z, r in pairs]))


def test_divergence_is_of_the_network_from_the_reference() -> None:
    even, sure = torch.tensor([[0.0, 0.0]]), torch.tensor([[100.0, 0.0]])
    assert output_kl(even, sure).item() == pytest.approx(math.log(2))
    assert output_kl(sure, even).item() == pytest.approx(50 - math.log(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_logits_have_a_finite_divergence(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype)
    got = output_kl(logits.flip(1), logits)
    assert got.item() == pytest.approx(float(logits[0, 0]), rel=1e-6)
    assert got.dtype == torch.float32
    assert output_kl(logits, logits).tolist() == [0.0]


def test_logits_that_are_no_numbers_are_left_out() -> None:
    metric = OutputKL(temperature=2.0)
    metric.update(torch.tensor([[0.0, 0.0], [NAN, 0.0], [math.inf, 0.0]]), torch.tensor([[2.0, 0.0]] * 3))
    value, n, excluded = metric.compute()
    assert float(value) == pytest.approx(figures.divergence([0.0, 0.0], [1.0, 0.0]), abs=1e-7)
    assert (int(n), int(excluded)) == (1, 2)


@pytest.mark.parametrize("temperature", [0.0, -1.0, NAN])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="`temperature` must be above 0, got"):
        output_kl(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_matches_the_oracle_and_torchmetrics(bins: int) -> None:
    confidence, correct = random(200), (random(200, seed=4) > 0.4).double()
    got = expected_calibration_error(confidence, correct, bins=bins)
    assert float(got) == pytest.approx(
        figures.calibration_error(confidence.tolist(), correct.tolist(), bins), abs=1e-12
    )
    # torchmetrics' confidence is that of class 1
    theirs = binary_calibration_error(confidence, correct.int(), n_bins=bins, norm="l1")
    assert float(got) == pytest.approx(float(theirs), abs=1e-6)


def test_the_edges_of_a_bin_are_the_papers() -> None:
    sums = calibration_bins(torch.tensor([0.0, 0.25, 0.26, 0.5, 1.0]), torch.tensor([1, 0, 1, 1, 1]), bins=4)
    assert sums.n.tolist() == [2, 2, 0, 1]
    assert sums.correct.tolist() == [1.0, 2.0, 0.0, 1.0]


def test_calibration_leaves_out_what_has_no_confidence() -> None:
    metric = ExpectedCalibrationError()
    metric.update(torch.tensor([0.9, NAN, 0.7]), torch.tensor([1.0, 1.0, NAN]))
    value, n, excluded = metric.compute()
    assert float(value) == pytest.approx(0.1, abs=1e-7)
    assert (int(n), int(excluded)) == (1, 2)


def test_calibration_of_nothing_is_not_a_number() -> None:
    metric = ExpectedCalibrationError()
    metric.update(torch.tensor([NAN]), torch.tensor([1.0]))
    assert math.isnan(float(metric.compute().value))


@pytest.mark.usefixtures("unchecked")
def test_wrong_input_to_calibration_is_named() -> None:
    with pytest.raises(ValueError, match="`bins` must be at least 1, got 0"):
        ExpectedCalibrationError(bins=0)
    with pytest.raises(ValueError, match=r"`confidence` and `correct` must have the same shape, got \(2,\) and \(3,\)"):
        calibration_bins(torch.zeros(2), torch.zeros(3))
