"""The share of the training time in which a run waits for data."""

from __future__ import annotations

import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from torch import Tensor

from distill.data.loader import BatchLoader
from distill.training import DistillationModule, RunDirectory
from distill.training.callbacks import DataWait, RunProgress
from distill.types import Batch
from tests.training.helpers import small, train

PAUSE = 0.1


@pytest.mark.parametrize(("slow_data", "expected"), [(True, 0.3), (False, 0.2)])
def test_the_share_is_recorded_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_data: bool, expected: float
) -> None:
    fetch, step = BatchLoader._fetch, DistillationModule.training_step
    lines = StringIO()

    def slow_fetch(self: BatchLoader, index: Tensor, view: Tensor) -> Batch:
        time.sleep(PAUSE if slow_data else 0)
        return fetch(self, index, view)

    def slow_step(self: DistillationModule, batch: Batch, batch_idx: int = 0) -> Tensor:
        time.sleep(0 if slow_data else PAUSE)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(BatchLoader, "_fetch", slow_fetch)
    monkeypatch.setattr(DistillationModule, "training_step", slow_step)
    start = RunProgress.__init__

    def to_text(self: RunProgress, name: str, console: Console | None = None, wait: DataWait | None = None) -> None:
        start(self, name, Console(file=lines, width=200), wait)

    monkeypatch.setattr(RunProgress, "__init__", to_text)
    config = small(tmp_path, "trainer.enable_progress_bar=true", "trainer.max_epochs=2")
    train(config)
    share = RunDirectory(config.directory).read_environment()["data_wait"]
    assert (share > expected) if slow_data else (0 <= share < expected)
    assert lines.getvalue().count("waiting for data ") == 2


def test_a_loader_of_another_kind_is_not_measured() -> None:
    wait = DataWait()
    assert wait.share is None
    assert wait.share_of_epoch is None
