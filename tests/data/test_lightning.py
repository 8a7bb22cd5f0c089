"""The loaders under Lightning: a run stopped after any step resumes with the next batch."""

from __future__ import annotations

from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

from distill.data import (
    DecodedImages,
    DistillDataModule,
    FashionScenes,
    ImageSet,
    Views,
)
from distill.types import Batch

Seen = tuple[int, tuple[int, ...], tuple[int, ...]]
STEPS = 5  # batches per epoch


class Recorder(pl.LightningModule):
    """A trivial module that records the batches it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 10)
        self.seen: list[Seen] = []
        self.validated: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((self.current_epoch, tuple(batch.index.tolist()), tuple(batch.view.tolist())))
        return nn.functional.cross_entropy(self.layer(batch.images.mean((2, 3))), batch.labels)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert (batch.view == Views().identity).all()
        self.validated += batch.index.tolist()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Stop(pl.Callback):
    """Saves a checkpoint after a number of steps, then aborts the run."""

    def __init__(self, after: int, path: Path) -> None:
        self.after, self.path = after, path

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        if trainer.global_step == self.after:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def scenes() -> FashionScenes:
    return FashionScenes("train", count=44)


def run(scenes: ImageSet, *, resume: Path | None = None, **options: Any) -> Recorder:
    torch.manual_seed(0)
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = pl.Trainer(**quiet | {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1} | options)
    data = DistillDataModule(
        scenes, scenes.subset(range(10)), scenes.subset(range(7)), batch_size=8, views=Views(), seed=3, data_seed=4
    )
    module = Recorder()
    try:
        trainer.fit(module, data, ckpt_path=resume)
    except (KeyboardInterrupt, SystemExit):
        assert "callbacks" in options
    return module


@pytest.mark.parametrize("after", [1, 3, STEPS, STEPS + 2, 2 * STEPS])
def test_a_run_stopped_after_any_step_goes_on_with_the_next_batch(
    scenes: FashionScenes, tmp_path: Path, after: int
) -> None:
    straight = run(scenes).seen
    path = tmp_path / "stop.ckpt"
    before = run(scenes, callbacks=[Stop(after, path)]).seen
    resumed = run(scenes, resume=path)
    assert len(straight) == 3 * STEPS
    assert before == straight[:after]
    assert resumed.seen == straight[after:]


@pytest.mark.parametrize("when", [{}, {"every_n_train_steps": 4}, {"save_on_train_epoch_end": True}])
def test_lightnings_own_checkpoints_resume_where_they_were_written(
    scenes: FashionScenes, tmp_path: Path, when: dict[str, Any]
) -> None:
    straight = run(scenes)
    keeper = pl.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}-{step}", **when)
    run(scenes, callbacks=[keeper], enable_checkpointing=True)
    paths = sorted(tmp_path.glob("*.ckpt"))
    assert len(paths) == 3
    for path in paths:
        steps = torch.load(path, weights_only=True)["global_step"]
        resumed = run(scenes, resume=path)
        assert resumed.seen == straight.seen[steps:], path.name
        for ours, theirs in zip(resumed.parameters(), straight.parameters(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("steps", [2, 4, 7])
def test_a_checkpoint_written_by_a_validation_within_the_epoch_resumes_there(
    scenes: FashionScenes, tmp_path: Path, steps: int
) -> None:
    every_two: dict[str, Any] = {"val_check_interval": 2, "num_sanity_val_steps": 0}
    straight = run(scenes, **every_two)
    keeper = pl.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", save_on_train_epoch_end=False)
    run(scenes, callbacks=[keeper], enable_checkpointing=True, **every_two)
    resumed = run(scenes, resume=tmp_path / f"step={steps}.ckpt", **every_two)
    assert resumed.seen == straight.seen[steps:]


def test_a_run_whose_images_are_decoded_by_workers_is_the_run_in_memory(scenes: FashionScenes, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(len(scenes))]
    for file, image in zip(files, scenes.images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)
    streamed = ImageSet(DecodedImages(files, scenes.images.shape[2]).as_tensor(), scenes.labels, scenes.classes)
    held = run(scenes)
    straight = run(streamed)
    assert straight.seen == held.seen
    assert torch.equal(straight.layer.weight, held.layer.weight)
    path, after = tmp_path / "stop.ckpt", STEPS + 2
    run(streamed, callbacks=[Stop(after, path)])
    resumed = run(streamed, resume=path)
    assert resumed.seen == held.seen[after:]
    assert torch.equal(resumed.layer.weight, held.layer.weight)


def test_workers_end_with_the_stage(scenes: FashionScenes, tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    Image.new("RGB", (32, 32)).save(file)
    images = DecodedImages([file] * len(scenes), 32).as_tensor()
    before = {child.pid for child in active_children()}
    run(ImageSet(images, scenes.labels, scenes.classes), max_epochs=1)
    assert {child.pid for child in active_children()} <= before


def test_epochs_have_orders_and_views_of_their_own_and_evaluation_sees_each_image_once(scenes: FashionScenes) -> None:
    module = run(scenes, num_sanity_val_steps=0)
    epochs = [[seen for seen in module.seen if seen[0] == epoch] for epoch in range(3)]
    assert [len(epoch) for epoch in epochs] == [STEPS] * 3
    assert len({epoch[0][1] for epoch in epochs}) == 3
    for number, epoch in enumerate(epochs):
        views = Views().draw(44, seed=4, epoch=number)
        shown = [i for _, index, _ in epoch for i in index]
        assert len(set(shown)) == STEPS * 8
        assert views[shown].tolist() == [v for _, _, view in epoch for v in view]
    assert module.validated == list(range(10)) * 3
