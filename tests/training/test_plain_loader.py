"""The Lightning module with batches and networks that are not of distill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import distill
from distill.data import ImageSet, as_image_set
from distill.errors import InputError
from distill.types import as_batch
from tests.training.test_step import make
from tests.workflows.own import QUIET, SCALING, Net, Stripes


@pytest.mark.filterwarnings("ignore")
def test_a_plain_data_loader_of_images_and_labels_can_be_trained_on(tmp_path: Path) -> None:
    data = TensorDataset(torch.rand(8, 3, 16, 16), torch.arange(8) % 10)
    module = make(layer="final")
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    trainer.fit(module, DataLoader(data, 4), DataLoader(data, 4))
    assert trainer.global_step == 2
    assert trainer.callback_metrics["validation/accuracy"] >= 0


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(2), [torch.zeros(2, 3, 4, 4)], [torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2)], "text"],
)
def test_other_batches_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"a batch must be a `distill.types.Batch`, or \(images, labels\)"):
        as_batch(wrong)


def test_a_loader_is_no_data_set() -> None:
    with pytest.raises(InputError, match=r"got a DataLoader; pass its data set"):
        as_image_set(DataLoader(Stripes(4)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(8, 4, dtype=torch.int64), "one column per class, 2, got 4"),
        (torch.zeros(8), r"whole numbers \(N,\), one class per image, or .* got torch.float32 \(8,\)"),
        (torch.tensor(0), r"whole numbers \(N,\), one class per image, or .* got torch.int64 \(\)"),
        (torch.zeros(8, dtype=torch.bool), r"whole numbers \(N,\), one class per image, or .* got torch.bool \(8,\)"),
    ],
)
def test_labels_are_whole_numbers_of_one_class_or_of_every_class(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"`labels` must (be|have) {message}"):
        ImageSet(torch.zeros(8, 3, 2, 2, dtype=torch.uint8), labels, ("a", "b"))


class Untraceable(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if bool(images.sum() > 0) else -images)


def start(folder: Path, *, student: nn.Module | None = None, **terms: Any) -> distill.workflows.train.Run:
    return distill.train(
        student=student or Net(),
        teacher={"network": Untraceable(), "normalisation": SCALING},
        data=(Stripes(16), Stripes(8, seed=1)),
        epochs=1,
        objective={"soft_targets": 1.0},
        output_dir=str(folder),
        overrides={"data.batch_size": 8},
        **{**QUIET, **terms},
    )


def test_a_teacher_that_cannot_be_traced_gives_soft_targets(tmp_path: Path) -> None:
    run = start(tmp_path)
    assert isinstance(run.student.network, nn.Module)
    assert "validation/agreement" in run.metrics


@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
def test_student_and_teacher_that_cannot_be_traced_are_compared_by_their_maps(tmp_path: Path) -> None:
    run = start(tmp_path, student=Untraceable(), explanation=1.0)
    assert run.student.cuts.keys() == {"final"}
    assert run.metrics["train/explanation"] > 0
