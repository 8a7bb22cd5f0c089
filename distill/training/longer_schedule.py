"""`LongerSchedule`: the schedule of a run that is continued for more epochs."""

from __future__ import annotations

import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.optim.lr_scheduler import LRScheduler

#: Attributes of a scheduler that hold its number of steps.
_LENGTHS = ("T_max", "total_steps")


class LongerSchedule(Callback):
    """Compute the schedule for the new number of steps, if the checkpoint holds that of a shorter run.

    Convention:
        - From the step at which the run continues, the learning rate is bit for bit that of a run that had the new
          number of steps from the start.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the state of the scheduler, after it was restored from the checkpoint."""
        for config in trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            made: Any = pl_module.configure_optimizers()
            fresh = made["lr_scheduler"]["scheduler"]
            if _length(fresh) == _length(scheduler):
                continue
            with warnings.catch_warnings():  # about a scheduler that is stepped before its optimiser
                warnings.simplefilter("ignore")
                for _ in range(scheduler.last_epoch):
                    fresh.step()
            scheduler.load_state_dict(fresh.state_dict())
            for group, new in zip(scheduler.optimizer.param_groups, fresh.optimizer.param_groups, strict=True):
                group["lr"] = new["lr"]


def _length(scheduler: LRScheduler) -> list[Any]:
    return [getattr(scheduler, name, None) for name in _LENGTHS]
