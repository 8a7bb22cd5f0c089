"""Exponential moving average of the student's weights."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from distill.config import EMASection

#: Key of the averaged weights in a checkpoint; their names are those of ``state_dict``.
EMA_STATE = "ema_state_dict"


class EMA(Callback):
    r"""Average the student's weights, :math:`\bar w \leftarrow d\,\bar w + (1 - d)\,w`, and validate the average.

    Convention:
        - Running means of batch normalisation are averaged too; integers are copied.
        - During the validation the student has the averaged weights. Each checkpoint contains both, so a run resumes
          bit for bit, and the averaged weights of the selected checkpoint become the student.

    Args:
        section: Section ``ema`` of the configuration.

    References:
        Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 1992.
    """

    def __init__(self, section: EMASection) -> None:
        self.section = section
        self.average: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] | None = None
        self._step = 0
        self._update = get_ema_multi_avg_fn(section.decay)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the average from the weights, or move the average of the checkpoint to the device."""
        current = _state(pl_module)
        known = self.average.keys() == current.keys()
        self.average = {
            name: self.average[name].to(value.device) if known else value.clone() for name, value in current.items()
        }
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Update the average after every n-th optimiser step."""
        if trainer.global_step == self._step:  # gradients were only accumulated
            return
        self._step = trainer.global_step
        if self._step % self.section.every_n_steps == 0:
            self.update(_state(pl_module), copy=trainer.current_epoch < self.section.start_epoch)

    def update(self, weights: dict[str, Tensor], *, copy: bool = False) -> None:
        """Add weights to the average, or replace the average with them."""
        floating = [name for name, value in weights.items() if value.is_floating_point() and not copy]
        self._update([self.average[name] for name in floating], [weights[name] for name in floating], 0)
        for name in weights.keys() - set(floating):
            self.average[name].copy_(weights[name])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the student the averaged weights."""
        if self.average and self._weights is None:
            self._weights = {name: value.clone() for name, value in _state(pl_module).items()}
            self.apply(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the student its own weights back."""
        if self._weights is not None:
            _load(pl_module, self._weights)
            self._weights = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the student its own weights back if the validation failed."""
        self.on_validation_end(trainer, pl_module)

    def apply(self, pl_module: pl.LightningModule) -> None:
        """Copy the average into the student."""
        _load(pl_module, self.average)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Add the average to the checkpoint."""
        checkpoint[EMA_STATE] = {f"student.{name}": value for name, value in self.average.items()}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Read the average from the checkpoint."""
        self.average = {name.removeprefix("student."): v for name, v in checkpoint.get(EMA_STATE, {}).items()}


def _state(module: pl.LightningModule) -> dict[str, Tensor]:
    student = module.student
    assert isinstance(student, nn.Module)
    return {name: value.detach() for name, value in student.state_dict().items()}


def _load(module: pl.LightningModule, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in _state(module).items():
            value.copy_(weights[name])
