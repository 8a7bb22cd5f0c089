"""A network, a data set, a callback and a logger, as users pass them from Python."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.utils.data import Dataset

QUIET: dict[str, Any] = {
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu", "precision": "32-true"},
    "loggers": {"tensorboard": False},
}
SCALING = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


class Net(nn.Module):
    """Two convolutions, global average pooling and one linear layer."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 8, 3, padding=1), nn.ReLU()
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pool(self.features(images)).flatten(1))


class Stripes(Dataset[tuple[Tensor, int]]):
    """Images that are bright on the left or on the right."""

    classes = ("left", "right")

    def __init__(self, count: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.rand(count, 3, 8, 8, generator=generator) / 2
        self.labels = [i % 2 for i in range(count)]
        for image, label in zip(self.images, self.labels, strict=True):
            image[:, :, 4 * label : 4 * label + 4] += 0.5

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


class Counter(Callback):
    """Counts training steps."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.steps += 1


class Kept(DummyLogger):
    """Keeps the names of logged metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.names |= metrics.keys()
