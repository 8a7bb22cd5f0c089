"""What is looked at before a run begins, so that nothing is written or lost for a mistake."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from distill.data import ImageSet
from distill.errors import InputError, unknown
from distill.explain import warn_if_signed
from distill.training import DistillationModule
from distill.training.explaining import explain
from distill.types import Batch

#: What the Trainer takes and a run decides by itself.
_OURS = ("logger", "callbacks", "use_distributed_sampler", "self", "enable_checkpointing")


def check_monitor(module: DistillationModule, metric: str) -> None:
    """See that what is monitored is measured."""
    if metric not in module.metric_names:
        raise InputError("monitor.metric: " + unknown("metric", metric, module.metric_names))


def try_step(module: DistillationModule, train: ImageSet) -> None:
    """Send two images through the whole step, so that what does not fit is told before training starts."""
    images = train.images[:2].float() / 255
    mode = module.student.training
    module.student.eval()
    try:
        with torch.no_grad():
            student, teacher = module.run(images, module.explainers, taught=True)
            batch = Batch(images, train.labels[:2], torch.arange(2), torch.zeros(2, dtype=torch.int64))
            live = {} if module.teacher is None else module.explainers
            maps = explain(live, student, teacher, batch)
            for pair in (pair for by_layer in live.values() for pair in by_layer.values()):
                warn_if_signed(pair.student, student)
            module.objective(student, teacher, maps, train.labels[:2])
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the parts do not fit together on images of {tuple(images.shape[1:])}: {error}") from error
    finally:
        module.student.train(mode)


def check_trainer_keys(merged: Mapping[str, Any]) -> Iterable[str]:
    """Name the keys of the ``trainer`` section that Lightning does not know, or that are not the user's."""
    section = merged.get("trainer")
    known = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name not in _OURS]
    for key in section if isinstance(section, Mapping) else ():
        if key in _OURS:
            yield f"trainer.{key}: a run decides this by itself"
        elif key not in known:
            yield f"trainer.{key}: " + unknown("key", str(key), known).partition(" (known")[0]
