"""`BestCheckpoint`: save the weights that the monitored metric was measured with, also after the run was moved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Save the best checkpoint by the monitored metric, right after the measurement.

    Convention:
        - After a validation within an epoch (``trainer.val_check_interval``), the weights of that step are compared and
          saved. After a validation at the end of an epoch, this is done at the end of the epoch, when the metrics of
          the training are known as well; no step lies between.
        - At the end of an epoch without a validation, a metric of the validation is not compared again.

    Args:
        settings: Keyword arguments of :class:`pytorch_lightning.callbacks.ModelCheckpoint`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, save_on_train_epoch_end=True)
        self._validated_at = -1

    @property
    def state_key(self) -> str:
        """Key of the callback's state in a checkpoint: that of the base class, which wrote older checkpoints."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation within an epoch."""
        if self._should_skip_saving_checkpoint(trainer):
            return
        self._validated_at = trainer.global_step
        if self._uses_validation and not trainer.is_last_batch:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the end of an epoch, if the monitored metric belongs to its last step."""
        if not self._uses_validation or self._validated_at == trainer.global_step:
            super().on_train_epoch_end(trainer, pl_module)

    @property
    def _uses_validation(self) -> bool:
        return (self.monitor or "").startswith("validation/")


def follow_moved_folder(callback: ModelCheckpoint, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a checkpoint callback with the paths of the folder to which the run was moved or copied.

    Lightning forgets the best value if the folder differs, so that a worse epoch would replace the best one. Files that
    are not in the new folder are left to Lightning.

    Args:
        callback: The callback, with the new folder.
        state: Its state in the checkpoint, with the old folder.
    """
    new, old = callback.dirpath, state.get("dirpath")
    if new is None or not isinstance(old, str) or Path(old) == Path(new):
        return dict(state)

    def moved(path: Any) -> Any:
        return str(Path(new) / Path(path).name) if path and Path(path).parent == Path(old) else path

    best = state.get("best_k_models") or {}
    if not all(Path(moved(path)).exists() for path in [*best, *filter(None, [state.get("best_model_path")])]):
        return dict(state)
    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    paths = {name: moved(state[name]) for name in names if name in state}
    return {**state, **paths, "dirpath": new, "best_k_models": {moved(path): value for path, value in best.items()}}
