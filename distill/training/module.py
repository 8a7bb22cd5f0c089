"""The Lightning module: the training step, the maps of a step, and the epoch means that are logged."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from distill.errors import InputError
from distill.explain import PairExplainer
from distill.losses import (
    Losses,
    Objective,
    TermSchedule,
    needs_of,
)
from distill.models import StagedNetwork, describe
from distill.teachers.cache import MapKey, TeacherCache, TeacherOutputs
from distill.teachers.frozen import FrozenTeacher
from distill.teachers.frozen_maps import FrozenMaps
from distill.training.epoch_means import EpochMeans
from distill.training.optim import Optimisation
from distill.types import Batch, MapPair, StagedOutput, as_batch

#: Explainers of student and teacher, by name of the term and then by layer of the student.
Explainers = Mapping[str, Mapping[str, PairExplainer]]


def explained_layers(explainers: Explainers, role: Literal["student", "teacher"]) -> tuple[str, ...]:
    """Return the layers of the student or of the teacher that the explainers read, each once."""
    pairs = [pair for by_layer in explainers.values() for pair in by_layer.values()]
    return tuple(dict.fromkeys(getattr(pair, role).layer for pair in pairs))


def make_maps(
    explainers: Explainers,
    student: StagedOutput,
    teacher: StagedOutput | None,
    batch: Batch,
    *,
    frozen: Mapping[str, FrozenMaps] | None = None,
    cached: Mapping[MapKey, Tensor] | None = None,
) -> dict[str, dict[str, MapPair]]:
    """Return the raw maps of each term, by name of the term and then by layer of the student.

    Convention:
        - The student's maps are differentiable if gradients are enabled; the teacher's never are.
        - Where the label is explained, the explained score of a mixed image is the sum of the logits of both of its
          classes, weighted by their shares.

    Args:
        explainers: Explainers by name of the term, then by layer of the student.
        student: Forward pass of the student.
        teacher: Forward pass of the teacher; may be None if all terms have frozen maps.
        batch: The images and labels of both passes.
        frozen: Precomputed maps of the teacher, by name of the term.
        cached: Maps of the teacher for this batch from the teacher cache.

    Raises:
        ValueError: if a term needs the teacher's output and ``teacher`` is None.
    """
    frozen, cached = frozen or {}, cached or {}
    create_graph = torch.is_grad_enabled()
    mix = batch.mix
    labels = batch.labels if mix is None else mix.weights(batch.labels, student.logits.shape[1])

    def map_pair(term: str, layer: str, pair: PairExplainer) -> MapPair:
        if term in frozen:
            target = frozen[term].target(layer, batch.labels, batch.index)
            teacher_maps = frozen[term].of(layer, batch.index, batch.view)
        elif teacher is None:
            raise ValueError(f"term {term!r} compares maps with those of a teacher, but `teacher` is None.")
        elif MapKey.of(pair) in cached:
            target = pair.choose(student, teacher, labels)
            teacher_maps = cached[MapKey.of(pair)]
        else:
            return pair.from_outputs(student, teacher, labels, create_graph=create_graph)
        return MapPair(pair.student.from_output(student, target, create_graph=create_graph), teacher_maps)

    return {
        term: {layer: map_pair(term, layer, pair) for layer, pair in by_layer.items()}
        for term, by_layer in explainers.items()
    }


def zero_map_rate(maps: list[Tensor]) -> Tensor:
    """Return the share of maps that are zero everywhere, averaged over layers; such maps have zero gradient."""
    return torch.stack([(each.detach().flatten(1) == 0).all(1).float().mean() for each in maps]).mean()


_NEVER = -1
CACHE_HITS, LEARNING_RATE, GRADIENT_NORM = "train/teacher_cache_hits", "train/learning_rate", "train/gradient_norm"


class DistillationModule(pl.LightningModule):
    """Train a student with an objective; without a teacher this is plain supervised training.

    Args:
        student: The network that is trained; the only network in the module's state.
        objective: Named, weighted terms.
        optimisation: Optimiser and learning-rate schedule.
        teacher: The network that the student learns from.
        explainers: By name of the term that needs maps, then by layer of the student. Terms that are not in the
            objective are not explained.
        frozen: By name of the term, the teacher's maps that are computed once before training.
        schedules: Schedule of each term's weight, by name; a term without a schedule has its full weight in every step.
        cache: Teacher cache for the views of the training images.
        validation_cache: Teacher cache for the validation images.
        compile: Whether to compile the student's forward pass in training with torch.compile.
        monitor: Metric that a schedule reads, such as ``ReduceLROnPlateau``.
        agreement: Whether to log how often student and teacher predict the same class; False if their classes differ.
        skip_mixed: Names of the terms that are not computed on mixed images.
    """

    first_non_finite_step: Tensor

    def __init__(
        self,
        student: StagedNetwork,
        objective: Objective,
        optimisation: Optimisation,
        *,
        teacher: FrozenTeacher | None = None,
        explainers: Explainers | None = None,
        frozen: Mapping[str, FrozenMaps] | None = None,
        schedules: Mapping[str, TermSchedule] | None = None,
        cache: TeacherCache | None = None,
        validation_cache: TeacherCache | None = None,
        compile: bool = False,
        monitor: str | None = None,
        agreement: bool = True,
        skip_mixed: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.optimisation = optimisation
        self.teacher = teacher
        self.explainers = {k: v for k, v in (explainers or {}).items() if k in objective.names}
        self.frozen = dict(frozen or {})
        self.schedules = dict(schedules or {})
        self.cache, self.validation_cache = cache, validation_cache
        self._student_forward: Callable[..., StagedOutput] = torch.compile(student.run) if compile else student.run
        self.validation_accuracy = MulticlassAccuracy(student.spec.num_classes, average="micro")
        self.validation_cross_entropy = MeanMetric()
        self.logs_agreement = teacher is not None and agreement
        self.validation_agreement = MulticlassAccuracy(student.spec.num_classes, average="micro")
        steps = torch.full((len(objective.names),), _NEVER)
        self.register_buffer("first_non_finite_step", steps, persistent=False)
        self.train_means = EpochMeans([name.removeprefix("train/") for name in self._train_names])
        self.gradient_norm = EpochMeans([GRADIENT_NORM])
        self.learning_rate, self.steps_per_epoch, self.monitor = 0.0, 1, monitor
        self.skip_mixed = tuple(name for name in skip_mixed if name in objective.names)
        # The means and the record of each process are its own; data parallelism would replace them by those of rank 0.
        own = [name for name, _ in self.named_buffers() if not name.startswith(("student.", "objective."))]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, own)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of all metrics that are logged."""
        names = ["accuracy", "cross_entropy", *(["agreement"] if self.logs_agreement else [])]
        cached = [CACHE_HITS] if self.cache else []
        recipe = [LEARNING_RATE, GRADIENT_NORM]
        return (*self._train_names, *recipe, *cached, *(f"validation/{name}" for name in names))

    @property
    def _train_names(self) -> tuple[str, ...]:
        terms = [kind for name in self.objective.names for kind in (name, f"{name}_weighted")]
        zeros = [f"{name}_zero_maps_{role}" for name in self.explainers for role in ("student", "teacher")]
        return tuple(f"train/{name}" for name in ("loss", *terms, *zeros))

    def on_train_start(self) -> None:
        """Keep the statistics of frozen modules: batch normalisation without trained parameters stays in evaluation."""
        self.first_non_finite_step.fill_(_NEVER)
        for module in self.student.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the objective of one batch; does not read any value on the host."""
        batch = as_batch(batch)
        factors = self.term_factors(batch_idx)
        if batch.mix is not None:
            factors |= dict.fromkeys(self.skip_mixed, 0.0)
        active = [name for name, factor in factors.items() if factor > 0]
        explainers = {name: by_layer for name, by_layer in self.explainers.items() if name in active}
        student = self.run_student(batch.images, explainers, active)
        teacher = self.run_teacher(batch, explainers, active)
        maps = make_maps(explainers, student, teacher.output, batch, frozen=self.frozen, cached=teacher.maps)
        losses = self.objective(student, teacher.output, maps, batch.labels, factors, batch.mix)
        self._log_step(losses, maps, samples=batch.labels.shape[0])
        return losses.total

    def term_factors(self, batch_idx: int) -> dict[str, float]:
        """Return the factor on the weight of each term in this step, by name; a term of factor 0 is not computed."""
        trainer = self._trainer
        batches = float(trainer.num_training_batches) if trainer else 1.0
        epoch = self.current_epoch + batch_idx / batches
        schedules = {name: self.schedules.get(name, TermSchedule()) for name in self.objective.names}
        return {name: s.factor(epoch=epoch, step=self.global_step) for name, s in schedules.items()}

    def run_student(self, images: Tensor, explainers: Explainers, terms: Sequence[str]) -> StagedOutput:
        """Run the student's forward pass and keep the activations that the explainers and the terms need."""
        return self._student_forward(images, self.layers_to_read("student", explainers, terms))

    def run_teacher(self, batch: Batch, explainers: Explainers, terms: Sequence[str]) -> TeacherOutputs:
        """Return the teacher's outputs for a batch, cached or live; empty if none of the terms uses them."""
        if self.teacher is None or not any(name in terms for name in self._teacher_terms):
            return TeacherOutputs(None, {})
        live = {name: by_layer for name, by_layer in explainers.items() if name not in self.frozen}
        return _teacher_outputs(self.teacher, self.cache, batch, self.layers_to_read("teacher", live, terms))

    def layers_to_read(
        self, role: Literal["student", "teacher"], explainers: Explainers, terms: Sequence[str]
    ) -> tuple[str, ...]:
        """Return the layers of the student or of the teacher that the explainers and the terms need, each once."""
        explained = explained_layers(explainers, role)
        return tuple(dict.fromkeys([*explained, *self.objective.layers_to_read(role, terms)]))

    @property
    def _teacher_terms(self) -> tuple[str, ...]:
        """Names of the terms that use the teacher's outputs in a training step."""
        terms = self.objective.terms.items()
        return tuple(name for name, term in terms if needs_of(term).teacher and name not in self.frozen)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Look up a batch in the teacher cache while its indices are still on the CPU.

        Raises:
            InputError: if a plain DataLoader is combined with a cache or frozen maps, which need the images' numbers.
        """
        cache = self.cache if self.trainer.training else self.validation_cache
        if not isinstance(batch, Batch) and (cache is not None or self.frozen):
            raise InputError("a teacher cache and frozen maps need batches of distill's data module, got a plain pair.")
        batch = as_batch(batch)
        return batch if cache is None else batch._replace(cached=cache.lookup(batch.index, batch.view))

    def _log_step(self, losses: Losses, maps: Mapping[str, Mapping[str, MapPair]], *, samples: int) -> None:
        """Add the losses and the rates of empty maps to the epoch means, and record the first non-finite step."""
        non_finite = {name: ~value.detach().isfinite() for name, value in losses.raw.items()}
        false = torch.zeros((), dtype=torch.bool, device=losses.total.device)
        now = torch.stack([non_finite.get(name, false) for name in self.objective.names])
        first = now & (self.first_non_finite_step == _NEVER)
        self.first_non_finite_step = torch.where(first, self.global_step, self.first_non_finite_step)
        values = {"loss": losses.total, **losses.raw}
        values |= {f"{name}_weighted": value for name, value in losses.weighted.items()}
        for name, by_layer in maps.items():
            for role in ("student", "teacher"):
                values[f"{name}_zero_maps_{role}"] = zero_map_rate([getattr(p, role) for p in by_layer.values()])
        self.train_means.update(values, samples=samples)

    def on_train_epoch_end(self) -> None:
        """Log the epoch means, the learning rate of the last step, and the mean norm of the gradients."""
        self.log_dict({f"train/{name}": mean for name, mean in self.train_means.pop().items()}, sync_dist=True)
        self.log_dict({LEARNING_RATE: self.learning_rate, **self.gradient_norm.pop()}, sync_dist=True)
        if self.cache:
            self.cache.flush()
            if (rate := self.cache.hit_rate()) is not None:
                self.log(CACHE_HITS, rate, sync_dist=True)

    def validation_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Update the validation metrics of the student."""
        logits = self.student(batch.images).float()
        self.validation_accuracy.update(logits, batch.labels)
        self.validation_cross_entropy.update(torch.nn.functional.cross_entropy(logits, batch.labels), len(logits))
        metrics = {
            "validation/accuracy": self.validation_accuracy,
            "validation/cross_entropy": self.validation_cross_entropy,
        }
        if self.teacher and self.logs_agreement:
            teacher = _teacher_outputs(self.teacher, self.validation_cache, batch, layers=()).output
            assert teacher is not None
            self.validation_agreement.update(logits, teacher.logits.argmax(1))
            metrics["validation/agreement"] = self.validation_agreement
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(logits))

    def on_validation_epoch_end(self) -> None:
        """Store the teacher's outputs for the last batch in the cache."""
        if self.validation_cache:
            self.validation_cache.flush()

    def configure_optimizers(self) -> Any:
        """Return the optimiser and the learning-rate schedule for the number of steps of this run."""
        total = int(self.trainer.estimated_stepping_batches)
        steps = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        self.steps_per_epoch = steps
        optimizer, schedule = self.optimisation.make(self, steps_per_epoch=steps, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {**schedule._asdict(), "monitor": self.monitor}}

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Update the weights; during the warm-up with a smaller learning rate."""
        step = self.trainer.global_step
        with self.optimisation.warm_up(optimizer, step=step, steps_per_epoch=self.steps_per_epoch):
            self.learning_rate = max(float(group["lr"]) for group in optimizer.param_groups)
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Add the norm of all gradients, before clipping, to its mean over the epoch."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.gradient_norm.update({GRADIENT_NORM: torch.nn.utils.get_total_norm(gradients)}, samples=1)

    def non_finite_terms(self) -> dict[str, int]:
        """Return the first step at which each term was not finite, by name; reads the device."""
        steps = self.first_non_finite_step.tolist()
        return {name: step for name, step in zip(self.objective.names, steps, strict=True) if step != _NEVER}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description from which the student can be rebuilt."""
        checkpoint["student_spec"] = describe(self.student)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Accept checkpoints that were written before the norm of the gradients was logged."""
        for key, value in self.gradient_norm.state_dict(prefix="gradient_norm.").items():
            checkpoint["state_dict"].setdefault(key, value)

    def on_fit_start(self) -> None:
        """Compute the frozen maps of the teacher."""
        for maps in self.frozen.values():
            if self.teacher:
                maps.make(self.teacher, self.device)


def _teacher_outputs(
    teacher: FrozenTeacher, cache: TeacherCache | None, batch: Batch, layers: Sequence[str]
) -> TeacherOutputs:
    """Return the teacher's outputs for a batch: from the cache if it was looked up there, else from a forward pass."""
    if cache is not None and batch.cached is not None:
        return cache.complete(teacher, batch.cached, batch.images, batch.labels)
    return TeacherOutputs(teacher(batch.images, layers), {})
