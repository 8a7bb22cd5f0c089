"""The trial step finds, before a file is written, what fails in a training step; it does not change the run."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import distill
from distill.build import build, load_config
from distill.build.trial_step import check_step
from distill.errors import InputError
from distill.explain import Explainer
from distill.explain.gradients import through_head
from distill.models import create_model, save_model, stage_network
from tests.training.helpers import SMALL, train
from tests.workflows.own import QUIET, SCALING, Net, Stripes


class Head(Net):
    """A network with an operation between the explained layer and the pooling."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.mark = nn.Identity()

    def tail(self, x: Tensor) -> Tensor:
        return x

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.tail(self.mark(self.features(images))).mean((2, 3)))


class Attention(Head):
    def tail(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        attended = F.scaled_dot_product_attention(tokens[:, None], tokens[:, None], tokens[:, None])
        return attended[:, 0].transpose(1, 2).reshape(x.size(0), x.size(1), x.size(2), x.size(3))


class Gated(Head):
    """Hardsigmoid as a module, a function and in Hardswish."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.gate, self.act = nn.Hardsigmoid(inplace=True), nn.Hardswish()

    def tail(self, x: Tensor) -> Tensor:
        return self.act(x) * self.gate(x.mean((2, 3), keepdim=True) - 0.5) * F.hardsigmoid(x)


class NoSecondDerivative(Head):
    def tail(self, x: Tensor) -> Tensor:
        return torch.ops.aten.hardsigmoid(x)


class Outputs(NamedTuple):
    logits: Tensor
    aux_logits: Tensor


class Auxiliary(Net):
    """Two outputs in training mode, as GoogLeNet and Inception have."""

    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return Outputs(logits, logits) if self.training else logits


class InADict(Net):
    def forward(self, images: Tensor) -> Any:
        return {"out": super().forward(images)}


class TooFew(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, :1]


@torch.fx.wrap
def _fails_in_training(x: Tensor, training: bool) -> Tensor:
    if training:
        raise KeyError("missing")
    return x


class Failing(Net):
    def forward(self, images: Tensor) -> Tensor:
        return _fails_in_training(super().forward(images), self.training)


def make_nothing(**options: Any) -> nn.Module:
    raise KeyError("width")


def start(student: nn.Module, folder: Path, **more: Any) -> distill.workflows.train.Run:
    return distill.train(
        student=student,
        teacher=more.pop("teacher", {"network": Head(), "normalisation": SCALING}),
        data=more.pop("data", (Stripes(16), Stripes(8, seed=1))),
        explanation=more.pop("explanation", {"weight": 1.0, "layers": {"mark": 1.0}}),
        epochs=1,
        output_dir=str(folder),
        overrides={"data.batch_size": 8},
        **{**QUIET, **more},
    )


@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
@pytest.mark.parametrize("network", [Attention, Gated])
def test_operations_without_a_second_derivative_can_be_trained_through(network: type[Head], tmp_path: Path) -> None:
    start(network(), tmp_path)
    assert (tmp_path / "run" / "student.safetensors").exists()


@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
@pytest.mark.parametrize("network", [Attention, Gated])
def test_their_maps_and_second_derivatives_are_exact(network: type[Head]) -> None:
    net = stage_network(network().double(), name="own", num_classes=2)
    images, labels = torch.rand(2, 3, 6, 6, dtype=torch.float64) * 8, torch.tensor([0, 1])
    output = net.run(images, ["mark"])
    activations = output.activations["mark"]

    def gradient(leaf: Tensor) -> Tensor:
        return through_head(output.heads["mark"], leaf, labels, create_graph=True)

    leaf = activations.detach().requires_grad_()
    found = gradient(leaf)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert isinstance(net.network, Head)
        logits = net.network.fc(net.network.tail(leaf).mean((2, 3)))
        (expected,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), leaf, create_graph=False)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(gradient, leaf)
    assert Explainer("grad_cam", "mark")(net, images, labels, create_graph=True).maps.requires_grad


@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Auxiliary, r"the student must return .* got Outputs with logits, aux_logits. Auxiliary .*aux_logits: false"),
        (InADict, r"the student must return .* = \(2, 2\), got dict with out. Wrap the network in a module that"),
        (TooFew, r"the student must return logits \(samples, classes\) = \(2, 2\), got \(2, 1\)\."),
        (Failing, r"forward pass in training mode fails on two images: KeyError: 'missing' \(.*test_trial_step.py, "),
    ],
)
def test_what_a_student_returns_is_checked_before_a_file_is_written(
    network: type[Net], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        start(network(), tmp_path, explanation=0.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
def test_an_operation_without_a_second_derivative_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the backward pass of the objective fails .* explain a later layer"):
        start(NoSecondDerivative(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_teacher_whose_outputs_are_not_finite_is_named(value: float, tmp_path: Path) -> None:
    teacher = Head()
    teacher.fc.weight.data[0, 3] = value
    with pytest.raises(InputError, match=r"the teacher's outputs are not finite .* its weights network.fc.weight are"):
        start(Net(), tmp_path, explanation=0.0, teacher={"network": teacher, "normalisation": SCALING})
    assert not list(tmp_path.iterdir())


def test_a_constant_channel_is_named_and_does_not_end_the_run(tmp_path: Path) -> None:
    train, validation = Stripes(16), Stripes(8, seed=1)
    for images in (train.images, validation.images):
        images[:, 1] = 0.5
    with pytest.warns(UserWarning, match=r"channel 1 \(counted from 0\) has the same value in all pixels"):
        run = start(Net(), tmp_path, explanation=0.0, data=(train, validation))
    assert run.student.normalise.std.flatten()[1] == 1
    assert all(bool(value.isfinite().all()) for value in run.student.state_dict().values())


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_of_half_precision_are_refused(precision: str, tmp_path: Path) -> None:
    config = load_config([], [*SMALL, f"output_dir={tmp_path}", f"trainer.precision={precision}"])
    with pytest.raises(InputError, match=f"trainer.precision: {precision} is not supported.* use b?f?16-mixed"):
        build(config)


def test_an_exception_of_a_callable_is_one_message() -> None:
    with pytest.raises(InputError, match=r"model 'tests.build.test_trial_step:make_nothing' .* KeyError: 'width'"):
        create_model(f"{__name__}:make_nothing", num_classes=2)


def test_the_trial_step_changes_nothing(tmp_path: Path) -> None:
    teacher = save_model(create_model("wrn_10_1", num_classes=10), tmp_path / "teacher").parent
    explanation = "objective={explanation: {weight: 5, layer: group2}}"
    pairs = [*SMALL, f"output_dir={tmp_path}", f"teacher.checkpoint={teacher}", explanation, "student.dropout=0.3"]
    run = build(load_config([], pairs))
    state = {key: value.clone() for key, value in run.module.state_dict().items()}
    batch = run.data.trial_batch()
    drawn = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    check_step(run.module, batch, 10)
    assert torch.equal(drawn[0], torch.get_rng_state())
    assert drawn[1:] == (random.getstate(), str(np.random.get_state()))
    assert all(torch.equal(value, state[key]) for key, value in run.module.state_dict().items())
    assert all(parameter.grad is None for parameter in run.module.parameters())
    assert run.module.student.training


def test_the_weights_of_a_seed_do_not_depend_on_the_trial_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for name in ("with", "without"):
        config = load_config([], [*SMALL, f"output_dir={tmp_path}", f"name={name}", "student.dropout=0.3"])
        train(config)
        weights.append((tmp_path / name / "student.safetensors").read_bytes())
        monkeypatch.setattr("distill.build.training_run.check_step", lambda *_: None)
    assert weights[0] == weights[1]
