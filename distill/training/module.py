"""The training step, as the equation reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from distill.explain import PairExplainer
from distill.losses import Losses, Objective
from distill.models import StagedNetwork, describe
from distill.training.optim import Optimisation
from distill.training.teacher import FrozenTeacher
from distill.types import Batch, MapPair, StagedOutput

_NEVER = -1


class DistillationModule(pl.LightningModule):
    """Train a student with an objective; without a teacher this is plain supervised training.

    Args:
        student: What is trained; the only network in the module's state.
        objective: Named, weighted terms.
        optimisation: Optimiser and schedule.
        teacher: What is learnt from.
        explainers: By name of the term that wants maps; a term that is not in the objective is never explained.
    """

    first_bad_step: Tensor
    train_sums: Tensor
    train_samples: Tensor

    def __init__(
        self,
        student: StagedNetwork,
        objective: Objective,
        optimisation: Optimisation,
        *,
        teacher: FrozenTeacher | None = None,
        explainers: Mapping[str, PairExplainer] | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.optimisation = optimisation
        self.teacher = teacher
        self.explainers = {k: v for k, v in (explainers or {}).items() if k in objective.names}
        self.student_layers = _unique(e.student.layer for e in self.explainers.values())
        self.teacher_layers = _unique(e.teacher.layer for e in self.explainers.values())
        self.validation_accuracy = MulticlassAccuracy(student.spec.num_classes, average="micro")
        self.validation_cross_entropy = MeanMetric()
        self.validation_agreement = MulticlassAccuracy(student.spec.num_classes, average="micro")
        self.register_buffer("first_bad_step", torch.full((len(objective.names),), _NEVER), persistent=False)
        # Sums of this epoch so far: part of the state, so that a run stopped within an epoch logs the means of all of it.
        self.register_buffer("train_sums", torch.zeros(1 + 2 * len(objective.names)))
        self.register_buffer("train_samples", torch.zeros(()))
        self._resumed: dict[str, Any] | None = None

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Compute the objective of one batch; no value is read on the host."""
        student = self.student.run(batch.images, self.student_layers)
        teacher = self.teacher(batch.images, self.teacher_layers) if self.teacher else None
        maps = self.explain(student, teacher, batch.labels)
        losses = self.objective(student, teacher, maps, batch.labels)
        self._note(losses, samples=batch.labels.shape[0])
        return losses.total

    def explain(self, student: StagedOutput, teacher: StagedOutput | None, labels: Tensor) -> dict[str, MapPair]:
        """Give the raw maps that each term asked for."""
        if teacher is None:
            return {}
        return {
            name: explainer.from_outputs(student, teacher, labels, create_graph=True)
            for name, explainer in self.explainers.items()
        }

    def _note(self, losses: Losses, *, samples: int) -> None:
        raw = torch.stack([value.detach() for value in losses.raw.values()])
        fresh = ~raw.isfinite() & (self.first_bad_step == _NEVER)
        self.first_bad_step = torch.where(fresh, self.global_step, self.first_bad_step)
        values = torch.stack([losses.total, *losses.raw.values(), *losses.weighted.values()]).detach()
        self.train_sums = self.train_sums + values * samples
        self.train_samples = self.train_samples + samples

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch: the total, and every term as it is and weighted."""
        names = ["loss", *self.objective.names, *(f"{name}_weighted" for name in self.objective.names)]
        means = self.train_sums / self.train_samples
        self.log_dict({f"train/{name}": mean for name, mean in zip(names, means, strict=True)}, sync_dist=True)
        self.train_sums, self.train_samples = torch.zeros_like(self.train_sums), torch.zeros_like(self.train_samples)

    def validation_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Measure the student on the validation split."""
        logits = self.student(batch.images).float()
        self.validation_accuracy.update(logits, batch.labels)
        self.validation_cross_entropy.update(torch.nn.functional.cross_entropy(logits, batch.labels), len(logits))
        measured = {
            "validation/accuracy": self.validation_accuracy,
            "validation/cross_entropy": self.validation_cross_entropy,
        }
        if self.teacher:
            self.validation_agreement.update(logits, self.teacher(batch.images, ()).logits.argmax(1))
            measured["validation/agreement"] = self.validation_agreement
        self.log_dict(measured, on_step=False, on_epoch=True, batch_size=len(logits))

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule for the length of this run."""
        total = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs or 1
        optimizer, scheduler = self.optimisation.make(self, steps_per_epoch=max(1, total // epochs), total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def bad_terms(self) -> dict[str, int]:
        """Name the terms that were not a number, with the first step of each; reads the device."""
        steps = self.first_bad_step.tolist()
        return {name: step for name, step in zip(self.objective.names, steps, strict=True) if step != _NEVER}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how the student is built, and the random state."""
        checkpoint["student_spec"] = describe(self.student)
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what Lightning does not restore until training goes on."""
        loop = checkpoint["loops"]["fit_loop"]["state_dict"]
        self._resumed = {"random": checkpoint["random_state"], "loaders": loop.get("combined_loader", [])}

    def on_train_start(self) -> None:
        """Go on with the checkpoint's random state, and with the batch that was next.

        Lightning made the loader to count its batches for the schedule, before it knew of the checkpoint.
        """
        if self._resumed is None:
            return
        for state in self._resumed["loaders"]:
            self.trainer.train_dataloader.load_state_dict(state)
        torch.set_rng_state(self._resumed["random"]["cpu"])
        torch.cuda.set_rng_state_all(self._resumed["random"]["cuda"])
        self._resumed = None


def _unique(names: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
