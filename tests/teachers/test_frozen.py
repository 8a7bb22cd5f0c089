"""The teacher is frozen, is not part of the module's state, and may have another architecture than the student."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.build import build
from distill.config import Config
from distill.errors import InputError
from distill.models import create_model, fold_batch_norm, load_model
from distill.teachers import FrozenTeacher
from distill.training import RunDirectory
from tests.training.helpers import KD, checkpoint, rows, save_teacher, small, train


def bytes_of(network: torch.nn.Module) -> dict[str, bytes]:
    return {key: value.contiguous().numpy().tobytes() for key, value in network.state_dict().items()}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small(tmp_path, *KD, f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}")


def test_no_byte_of_the_teacher_changes(config: Config) -> None:
    assert config.teacher is not None
    before = bytes_of(fold_batch_norm(load_model(str(config.teacher.checkpoint))))
    run = train(config)
    teacher = run.module.teacher
    assert teacher is not None
    assert bytes_of(teacher.network) == before
    assert len(before) > 40
    assert not any(module.training for module in teacher.network.modules())
    assert not any(p.requires_grad or p.grad is not None for p in teacher.network.parameters())
    run.module.train()
    assert not teacher.network.training


def test_it_is_in_no_state_of_the_module_optimiser_or_checkpoint(config: Config) -> None:
    run = train(config)
    assert run.module.teacher is not None
    teacher = {id(t) for t in (*run.module.teacher.network.parameters(), *run.module.teacher.network.buffers())}
    assert not teacher & {id(t) for t in (*run.module.parameters(), *run.module.buffers())}
    names = set(run.module.state_dict())
    assert names == {f"student.{key}" for key in run.module.student.state_dict()} | {
        "train_means.sums",
        "train_means.samples",
        "gradient_norm.sums",
        "gradient_norm.samples",
    }
    optimised = {id(p) for group in run.module.optimizers().param_groups for p in group["params"]}  # type: ignore[union-attr]
    assert optimised == {id(p) for p in run.module.student.parameters()}
    for path in (RunDirectory(config.directory).last, RunDirectory(config.directory).best):
        state = checkpoint(path)
        assert set(state["state_dict"]) == names
        stored = sum(t.numel() for t in _tensors({k: v for k, v in state.items() if k != "random_state"}))
        student = sum(t.numel() for t in run.module.student.state_dict().values())
        assert stored < 2.1 * student  # weights and momentum; the teacher is twice as large as the student


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def test_it_runs_without_gradients() -> None:
    teacher = FrozenTeacher(create_model("wrn_10_1", num_classes=4).train())
    output = teacher(torch.rand(2, 3, 16, 16, requires_grad=True), ["group1"])
    assert not output.logits.requires_grad
    assert not output.activations["group1"].requires_grad
    assert not output.logits.is_inference()


@pytest.mark.parametrize(
    ("name", "options", "objective"),
    [
        ("wrn_16_1", {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}, "layer: final"),
        ("wrn_10_2", {}, "layer: group2"),
        ("wrn_10_2", {}, "layer: group2, teacher_layer: final, method: grad_cam"),
        ("wrn_10_1", {}, "layer: final, teacher_layer: group1, distance: jensen_shannon, normalize: sum"),
        ("wrn_10_1", {}, "layer: block2.layer.0.relu1, teacher_layer: group2, target: teacher"),
        ("resnet18", {"small_images": True}, "layer: final, method: cam, target: student"),
        ("resnet18", {}, "layer: group2, teacher_layer: layer1, statistics: running"),
    ],
)
def test_teachers_of_another_kind_train(tmp_path: Path, name: str, options: dict[str, Any], objective: str) -> None:
    teacher = save_teacher(tmp_path / "teacher", name, **options)
    config = small(
        tmp_path,
        f"teacher.checkpoint={teacher}",
        f"objective={{cross_entropy: {{}}, explanation: {{weight: 5, {objective}}}}}",
        "trainer.max_epochs=1",
        "data.count={train: 16, validation: 16}",
        "optimizer.lr=0.01",
    )
    before = bytes_of(fold_batch_norm(load_model(teacher)))
    run = train(config)
    assert run.module.teacher is not None
    assert bytes_of(run.module.teacher.network) == before
    assert float(rows(config)[-1]["train/explanation"]) > 1e-3


def test_each_network_normalises_with_its_own_mean_and_std(tmp_path: Path) -> None:
    scaling: dict[str, Any] = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
    config = small(tmp_path, *KD, f"teacher.checkpoint={save_teacher(tmp_path / 'teacher', **scaling)}")
    module = build(config).module
    assert module.teacher is not None
    torch.testing.assert_close(module.teacher.network.normalise.mean.flatten(), torch.tensor(scaling["mean"]))
    assert (module.student.normalise.mean.flatten() - torch.tensor(scaling["mean"])).abs().min() > 0.01
    images = torch.rand(2, 3, 16, 16)
    mean, std = (torch.tensor(scaling[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = module.teacher.network.network((images - mean) / std)
    torch.testing.assert_close(module.teacher(images, ()).logits, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_classes": 7},
            r"^the teacher has 7 classes, but fashion_scenes has 10\. Name the teacher's class for each class",
        ),
        ({"in_channels": 1}, r"^the teacher takes 1 channels, but fashion_scenes has 3\.$"),
    ],
)
def test_a_teacher_with_other_classes_or_channels_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    config = small(tmp_path, *KD, f"teacher.checkpoint={save_teacher(tmp_path / 'teacher', **options)}")
    with pytest.raises(InputError, match=message):
        train(config)
    assert not config.directory.exists()


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("layer: group9", r"^student: `layer` must be one of group1, group2, final, .* got 'group9'\. See"),
        ("layer: final, teacher_layer: layer9", r"^teacher: `layer` must be one of group1, .* got 'layer9'\. See"),
        (
            "layer: group1_sum, teacher_layer: group1",
            r"(?s)^student, teacher and objective do not fit together.*'group1_sum'.*cannot be explained",
        ),
        (
            "layer: group2, method: cam",
            r"^student, teacher and objective do not fit together .*`method='cam'` needs global average pooling",
        ),
        ("layer: group1, gradients: closed_form", r"^student, teacher and objective do not fit together .*closed_form"),
    ],
)
def test_a_layer_that_cannot_be_explained_is_refused(tmp_path: Path, term: str, message: str) -> None:
    config = small(
        tmp_path,
        f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}",
        f"objective={{explanation: {{{term}}}}}",
    )
    with pytest.raises(InputError, match=message):
        build(config)


def test_the_given_network_is_not_changed() -> None:
    network = create_model("wrn_10_1", num_classes=4).train()
    before = bytes_of(network)
    FrozenTeacher(network)
    assert bytes_of(network) == before
    assert all(module.training for module in network.modules())
    assert all(p.requires_grad for p in network.parameters())


def test_compiled_it_gives_the_same_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_with = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiled_with)  # this backend needs no C++ compiler
    network = create_model("wrn_10_1", num_classes=4).eval()
    images = torch.rand(3, 3, 16, 16)
    plain, compiled = FrozenTeacher(network), FrozenTeacher(network, compile=True)
    torch.testing.assert_close(compiled(images, []).logits, plain(images, []).logits, rtol=1e-4, atol=1e-5)
