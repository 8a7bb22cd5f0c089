"""The step in which a run stopped being finite: its state and batch are kept in a file, from which it is repeated."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from distill.errors import InputError
from distill.training.module import DistillationModule
from distill.training.step_report import StepReport, examine_step
from distill.types import Batch, CacheLookup, Mix

#: Key of the batches and the figures of the failed step in its file, which otherwise is a checkpoint.
FAILED_STEP = "failed_step"
#: Seconds between two copies of the state of a run in memory.
PERIOD = 30.0
#: Fields of a batch that are records themselves; the file holds them as plain mappings.
_RECORDS: Mapping[str, type[CacheLookup] | type[Mix]] = {"cached": CacheLookup, "mix": Mix}
#: Largest size of the batches of a step that are stored. Larger ones are read from the data set again.
MAX_BATCH_BYTES = 512 << 20

State = dict[str, Any]


class FiniteState(Callback):
    """Keep a copy of the last state whose losses and weights were checked and found finite.

    Convention:
        - The copy is a checkpoint in host memory, made at the start and then every ``period`` seconds. It therefore
          costs almost no time, and at most about ``period`` seconds of training are repeated to find the failed step.
        - Runs of several processes, whose clocks differ, make one copy at the start; they have their last checkpoint.

    Args:
        period: Seconds between two copies.
    """

    def __init__(self, period: float = PERIOD) -> None:
        self.period = period
        self.state: State | None = None
        self._next, self._step = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the first state."""
        self._keep(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Keep the state after a step if it is time; that at the end of an epoch is in the last checkpoint."""
        completed = trainer.global_step != self._step and not trainer.is_last_batch
        if completed and trainer.world_size == 1 and time.monotonic() >= self._next:
            self._keep(trainer)

    def _keep(self, trainer: pl.Trainer) -> None:
        self.state = copy_state(trainer)
        self._next, self._step = time.monotonic() + self.period, trainer.global_step


class _StepFound(Exception):  # noqa: N818
    """Ends the repetition of steps."""


class StepWatch(Callback):
    """Find the first step in which a loss, a gradient or a weight is not finite, and examine it.

    Args:
        until: Number of the last step that is repeated.
        stored: Batches of the first step, in place of those of the data set.

    Attributes:
        report: The figures of the failed step; None if all steps were finite.
        state: The state before the failed step.
        batches: The batches of the failed step up to the one that failed.
    """

    def __init__(self, *, until: int, stored: list[Batch] | None = None) -> None:
        self.until = until
        self.report: StepReport | None = None
        self.state: State = {}
        self.batches: list[Batch] = []
        self._stored = list(stored or [])
        self._random: Tensor = torch.get_rng_state()
        self._cuda: list[Tensor] = []
        self._step = 0
        self._repeat: Callable[[], Tensor]

    @contextmanager
    def watch(self, module: DistillationModule) -> Iterator[None]:
        """Look at the training steps of a module within the block; a failed step ends the block."""
        training_step, term_factors = module.training_step, module.term_factors

        def watched(batch: Batch, batch_idx: int = 0) -> Tensor:
            if self._stored:
                batch = to_device(self._stored.pop(0), module.device)
            self._random, self._cuda = torch.get_rng_state(), torch.cuda.get_rng_state_all()
            self.batches.append(batch)
            factors = term_factors(batch_idx)
            module.term_factors = lambda batch_idx: factors  # type: ignore[method-assign]
            self._repeat = lambda: training_step(batch, batch_idx)
            return training_step(batch, batch_idx)

        module.training_step = watched  # type: ignore[method-assign]
        try:
            with contextlib.suppress(_StepFound):
                yield
        finally:
            module.training_step = training_step  # type: ignore[method-assign]
            module.term_factors = term_factors  # type: ignore[method-assign]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the first state, after the random state was restored."""
        self._keep(trainer)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Check the terms and their sum."""
        assert isinstance(pl_module, DistillationModule)
        if pl_module.non_finite_terms() or not loss.isfinite():
            self._examine(trainer, pl_module)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Check the gradients; with the scaled loss of float16, those that are not finite are normal."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if trainer.precision != "16-mixed" and not all_finite(gradients):
            self._examine(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Check the weights after a step, and keep its state."""
        if trainer.global_step == self._step:  # gradients were only accumulated
            return
        weights = dict(pl_module.student.state_dict())  # type: ignore[union-attr]
        wrong = [name.removeprefix("network.") for name, value in weights.items() if not value.isfinite().all()]
        if wrong:
            self._examine(trainer, pl_module, weights=(wrong, len(weights)))
        if trainer.global_step > self.until:
            raise _StepFound
        if not trainer.is_last_batch:
            self._keep(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the state after the last step of an epoch."""
        self._keep(trainer)

    def _keep(self, trainer: pl.Trainer) -> None:
        self.state, self.batches, self._step = copy_state(trainer), [], trainer.global_step

    def _examine(
        self, trainer: pl.Trainer, module: pl.LightningModule, *, weights: tuple[list[str], int] | None = None
    ) -> None:
        """Repeat the last batch with the weights and random numbers before the step, and end the repetition."""
        assert isinstance(module, DistillationModule)
        module.load_state_dict(self.state["state_dict"])
        torch.set_rng_state(self._random)
        for device, state in enumerate(self._cuda):
            torch.cuda.set_rng_state(state, device)
        with torch.enable_grad(), trainer.precision_plugin.train_step_context():
            self.report = examine_step(module, self._repeat, self.batches[-1], number=self._step, weights=weights)
        raise _StepFound


def copy_state(trainer: pl.Trainer) -> State:
    """Return the checkpoint of a run as a copy in host memory."""
    state = trainer._checkpoint_connector.dump_checkpoint()
    return tree_map_only(Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), state)


def all_finite(tensors: list[Tensor]) -> bool:
    """Return whether all values are finite; reads the device once."""
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all()) if tensors else True


def failed_step_content(watch: StepWatch) -> State:
    """Return the content of the file of a failed step: a checkpoint, the batches of the step, and its figures."""
    assert watch.report is not None
    size = sum(tensor.nbytes for tensor in tree_leaves(watch.batches) if isinstance(tensor, Tensor))
    batches = [to_device(batch, torch.device("cpu")) for batch in watch.batches] if size <= MAX_BATCH_BYTES else []
    plain = [{k: v for k, v in batch._asdict().items() if v is not None} for batch in batches]
    for batch in plain:
        batch.update({key: dict(batch[key]._asdict()) for key in _RECORDS if key in batch})
    about = {"until": watch.report.step, "batches": plain, "report": watch.report.to_plain()}
    return {**watch.state, FAILED_STEP: about}


def stored_batches(content: Mapping[str, Any]) -> list[Batch]:
    """Return the batches in the content of the file of a failed step."""
    batches = []
    for plain in content[FAILED_STEP]["batches"]:
        records = {key: record(**plain[key]) for key, record in _RECORDS.items() if key in plain}
        batches.append(Batch(**{**plain, **records}))
    return batches


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device."""
    move: Callable[[Tensor], Tensor] = lambda tensor: tensor.detach().to(device)  # noqa: E731
    return tree_map_only(Tensor, move, batch)


def check_failed_step(content: Mapping[str, Any], path: Any) -> None:
    """Check that a checkpoint is the file of a failed step.

    Raises:
        InputError: If it is another checkpoint.
    """
    if FAILED_STEP not in content:
        raise InputError(
            f"{path} is not the file of a failed step. A run whose loss is not finite writes failed_step.ckpt in its "
            "directory; give the path of that file."
        )
