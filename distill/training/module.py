"""The Lightning module: the training step, the maps of a step, and the epoch means it logs."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from distill.explain import PairExplainer
from distill.losses import (
    CrossEntropy,
    Losses,
    Objective,
    TermSchedule,
)
from distill.models import StagedNetwork, describe
from distill.teachers.cache import MapKey, TeacherCache, TeacherOutputs
from distill.teachers.frozen import FrozenTeacher
from distill.teachers.frozen_maps import FrozenMaps
from distill.training.optim import Optimisation
from distill.types import Batch, MapPair, StagedOutput


class EpochMeans(nn.Module):
    """Mean over samples of named values, some of which may be missing in a step.

    Part of the state, so that a run stopped within an epoch goes on to the mean of it all. Reads nothing on the host.

    Args:
        names: Of all values there can be.

    Example:
        >>> means = EpochMeans(["a", "b"])
        >>> means.update({"a": torch.tensor(1.0)}, samples=1)
        >>> means.update({"a": torch.tensor(4.0), "b": torch.tensor(2.0)}, samples=2)
        >>> means.pop()
        {'a': tensor(3.), 'b': tensor(2.)}
    """

    sums: Tensor
    samples: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("sums", torch.zeros(len(self.names)))
        self.register_buffer("samples", torch.zeros(len(self.names)))

    def update(self, values: Mapping[str, Tensor], *, samples: int) -> None:
        """Add the mean of so many samples."""
        nothing = self.sums.new_zeros(())
        given = [values[name].detach().float() * samples if name in values else nothing for name in self.names]
        counts = torch.tensor([samples if name in values else 0 for name in self.names], dtype=torch.float32)
        self.sums = self.sums + torch.stack(given)
        self.samples = self.samples + counts.to(self.samples.device, non_blocking=True)

    def pop(self) -> dict[str, Tensor]:
        """Give the mean of what was there at all, and begin anew; reads the device."""
        found = self.samples.tolist()
        means = {name: self.sums[i] / self.samples[i] for i, name in enumerate(self.names) if found[i]}
        self.sums, self.samples = torch.zeros_like(self.sums), torch.zeros_like(self.samples)
        return means


Explainers = Mapping[str, Mapping[str, PairExplainer]]


def make_maps(
    explainers: Explainers,
    student: StagedOutput,
    teacher: StagedOutput | None,
    batch: Batch,
    frozen: Mapping[str, FrozenMaps] | None = None,
    stored: Mapping[MapKey, Tensor] | None = None,
) -> dict[str, dict[str, MapPair]]:
    """Give the raw maps that each term asked for, by its name and the student's layer.

    Args:
        explainers: By name of the term, then by layer of the student.
        student: Its forward pass; the maps are differentiable where gradients are on.
        teacher: Its forward pass; None where only frozen maps are asked for.
        batch: What both saw.
        frozen: Terms whose teacher's maps were made before.
        stored: The teacher's maps of this batch, where they are known.
    """
    frozen, stored = frozen or {}, stored or {}

    def pair_of(name: str, layer: str, pair: PairExplainer) -> MapPair:
        if name in frozen:
            return _frozen_pair(pair, frozen[name], layer, student, batch)
        output = _require_teacher(teacher, name)
        if MapKey.of(pair) not in stored:
            return pair.from_outputs(student, output, batch.labels, create_graph=torch.is_grad_enabled())
        target = pair.choose(student, output, batch.labels)
        maps = pair.student.from_output(student, target, create_graph=torch.is_grad_enabled())
        return MapPair(maps, stored[MapKey.of(pair)])

    return {
        name: {layer: pair_of(name, layer, pair) for layer, pair in by_layer.items()}
        for name, by_layer in explainers.items()
    }


def zero_map_rate(maps: list[Tensor]) -> Tensor:
    """Give the share of maps that are zero everywhere, on average over layers: they train nothing."""
    return torch.stack([(one.detach().flatten(1) == 0).all(1).float().mean() for one in maps]).mean()


def _frozen_pair(pair: PairExplainer, frozen: FrozenMaps, layer: str, student: StagedOutput, batch: Batch) -> MapPair:
    target = frozen.target(layer, batch.labels, batch.index)
    maps = pair.student.from_output(student, target, create_graph=torch.is_grad_enabled())
    return MapPair(maps, frozen.of(layer, batch.index, batch.view))


def _require_teacher(teacher: StagedOutput | None, term: str) -> StagedOutput:
    if teacher is None:
        raise ValueError(f"term {term!r} explains the teacher, and there is none.")
    return teacher


_NEVER = -1
CACHE_HITS = "train/teacher_cache_hits"


class DistillationModule(pl.LightningModule):
    """Train a student with an objective; without a teacher this is plain supervised training.

    Args:
        student: What is trained; the only network in the module's state.
        objective: Named, weighted terms.
        optimisation: Optimiser and schedule.
        teacher: What is learnt from.
        explainers: By name of the term that wants maps, then by layer of the student; a term that is not in the
            objective is never explained.
        frozen: By name of the term whose teacher's maps are made once, before training.
        schedules: When terms count, by name; always if left out.
        cache: The teacher's answers to the views of training.
        validation_cache: Its answers to the validation images.
        compile: Whether the student's forward pass in training goes through torch.compile.
    """

    first_bad_step: Tensor

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
        self._run_student: Callable[..., StagedOutput] = torch.compile(student.run) if compile else student.run
        self.validation_accuracy = MulticlassAccuracy(student.spec.num_classes, average="micro")
        self.validation_cross_entropy = MeanMetric()
        self.validation_agreement = MulticlassAccuracy(student.spec.num_classes, average="micro")
        self.register_buffer("first_bad_step", torch.full((len(objective.names),), _NEVER), persistent=False)
        self.train_means = EpochMeans([name.removeprefix("train/") for name in self._train_names])

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of all that is logged."""
        names = ["accuracy", "cross_entropy", *(["agreement"] if self.teacher else [])]
        cached = [CACHE_HITS] if self.cache else []
        return (*self._train_names, *cached, *(f"validation/{name}" for name in names))

    @property
    def _train_names(self) -> tuple[str, ...]:
        terms = [kind for name in self.objective.names for kind in (name, f"{name}_weighted")]
        zeros = [f"{name}_zero_maps_{who}" for name in self.explainers for who in ("student", "teacher")]
        return tuple(f"train/{name}" for name in ("loss", *terms, *zeros))

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Compute the objective of one batch; no value is read on the host."""
        factors = self.factors(batch_idx)
        explainers = {name: by_layer for name, by_layer in self.explainers.items() if factors[name] > 0}
        asked = any(factors[name] for name in self._terms_with_teacher)
        cached = self.cache if asked and batch.cached else None
        student, teacher = self.run(batch.images, explainers, with_teacher=asked and not cached, frozen=self.frozen)
        answers = TeacherOutputs(teacher, {}) if cached is None else self._ask(cached, batch)
        maps = make_maps(explainers, student, answers.output, batch, self.frozen, answers.maps)
        losses = self.objective(student, answers.output, maps, batch.labels, factors)
        self._note(losses, maps, samples=batch.labels.shape[0])
        return losses.total

    def factors(self, batch_idx: int) -> dict[str, float]:
        """Give the factor on the weight of each term in this step."""
        trainer = self._trainer
        batches = float(trainer.num_training_batches) if trainer else 1.0
        epoch = self.current_epoch + batch_idx / batches
        schedules = {name: self.schedules.get(name, TermSchedule()) for name in self.objective.names}
        return {name: s.factor(epoch=epoch, step=self.global_step) for name, s in schedules.items()}

    def run(
        self, images: Tensor, explainers: Explainers, *, with_teacher: bool, frozen: Container[str] = ()
    ) -> tuple[StagedOutput, StagedOutput | None]:
        """Run the student, and the teacher if a term looks at it, and read the layers that are explained."""
        pairs = [(name, pair) for name, by_layer in explainers.items() for pair in by_layer.values()]
        student = self._run_student(images, _unique(pair.student.layer for _, pair in pairs))
        if self.teacher is None or not with_teacher:
            return student, None
        return student, self.teacher(images, _unique(p.teacher.layer for name, p in pairs if name not in frozen))

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Look up what the teacher is known to say of a batch, while it is still on the CPU."""
        cache = self.cache if self.trainer.training else self.validation_cache
        return batch if cache is None else batch._replace(cached=cache.lookup(batch.index, batch.view))

    def _ask(self, cache: TeacherCache, batch: Batch) -> TeacherOutputs:
        assert self.teacher is not None
        assert batch.cached is not None
        return cache.complete(self.teacher, batch.cached, batch.images, batch.labels)

    @property
    def _terms_with_teacher(self) -> tuple[str, ...]:
        terms = self.objective.terms.items()
        return tuple(n for n, term in terms if not isinstance(term, CrossEntropy) and n not in self.frozen)

    def _note(self, losses: Losses, maps: Mapping[str, Mapping[str, MapPair]], *, samples: int) -> None:
        bad = {name: ~value.detach().isfinite() for name, value in losses.raw.items()}
        fine = torch.zeros((), dtype=torch.bool, device=losses.total.device)
        fresh = torch.stack([bad.get(name, fine) for name in self.objective.names]) & (self.first_bad_step == _NEVER)
        self.first_bad_step = torch.where(fresh, self.global_step, self.first_bad_step)
        values = {"loss": losses.total, **losses.raw}
        values |= {f"{name}_weighted": value for name, value in losses.weighted.items()}
        for name, by_layer in maps.items():
            for who in ("student", "teacher"):
                values[f"{name}_zero_maps_{who}"] = zero_map_rate([getattr(p, who) for p in by_layer.values()])
        self.train_means.update(values, samples=samples)

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch: the total, every term as it is and weighted, and the share of empty maps."""
        self.log_dict({f"train/{name}": mean for name, mean in self.train_means.pop().items()}, sync_dist=True)
        if self.cache:
            self.cache.flush()
            if (rate := self.cache.hit_rate()) is not None:
                self.log(CACHE_HITS, rate, sync_dist=True)

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
            known = self.validation_cache if batch.cached else None
            theirs = self._ask(known, batch).output if known else self.teacher(batch.images, ())
            assert theirs is not None
            self.validation_agreement.update(logits, theirs.logits.argmax(1))
            measured["validation/agreement"] = self.validation_agreement
        self.log_dict(measured, on_step=False, on_epoch=True, batch_size=len(logits))

    def on_validation_epoch_end(self) -> None:
        """Keep what the teacher said of the last batch."""
        if self.validation_cache:
            self.validation_cache.flush()

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule for the length of this run."""
        total = int(self.trainer.estimated_stepping_batches)
        steps = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        optimizer, scheduler = self.optimisation.make(self, steps_per_epoch=steps, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def bad_terms(self) -> dict[str, int]:
        """Name the terms that were not a number, with the first step of each; reads the device."""
        steps = self.first_bad_step.tolist()
        return {name: step for name, step in zip(self.objective.names, steps, strict=True) if step != _NEVER}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how the student is built."""
        checkpoint["student_spec"] = describe(self.student)

    def on_fit_start(self) -> None:
        """Make the maps that stay as they are."""
        for maps in self.frozen.values():
            if self.teacher:
                maps.make(self.teacher, self.device)


def _unique(names: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
