"""What Lightning does not restore of a run that goes on."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class ExactResume(Callback):
    """Save the random state with every checkpoint; go on with it, and with the batch that was next.

    Lightning made the loader to count its batches for the schedule, before it knew of the checkpoint.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random state."""
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep it until training goes on."""
        loop = checkpoint["loops"]["fit_loop"]["state_dict"]
        self._resumed = {"random": checkpoint["random_state"], "loaders": loop.get("combined_loader", [])}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on."""
        if self._resumed is None:
            return
        loader: Any = trainer.train_dataloader
        for state in self._resumed["loaders"]:
            loader.load_state_dict(state)
        torch.set_rng_state(self._resumed["random"]["cpu"])
        for device, state in enumerate(self._resumed["random"]["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
        self._resumed = None
