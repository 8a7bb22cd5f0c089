"""The trial step: one training step on two images before any file is written. It leaves the run unchanged."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.build.objective import try_terms
from distill.build.teacher_classes import ADVICE
from distill.errors import InputError, RunError, without_addresses
from distill.explain import warn_if_signed
from distill.losses.failure import TermError
from distill.models import StagedNetwork
from distill.training import DistillationModule
from distill.training.module import make_maps
from distill.types import Batch, StagedOutput


def check_step(module: DistillationModule, batch: Batch, classes: int) -> None:
    """Run a step on two images, and raise an error before training if the parts do not fit.

    The step runs in evaluation mode, where a message can say which part is wrong, then in training mode with a backward
    pass. The second one uses copies of the student and the objective, and the random state is restored.

    Args:
        module: The module of the run.
        batch: Two training images in a view, in [0, 1].
        classes: Number of classes.

    Raises:
        InputError: if a network fails or returns no logits, or a term cannot be computed or differentiated.
    """
    if module.skip_mixed:
        batch = batch._replace(mix=None)
    mode = module.student.training
    with _unchanged_random_state():
        try:
            module.student.eval()
            with torch.no_grad():
                student, teacher = _run(module, batch, classes)
                maps = make_maps(_live(module), student, teacher, batch)
                for pair in (pair for by_layer in _live(module).values() for pair in by_layer.values()):
                    warn_if_signed(pair.student, student)
                try_terms(module.objective, student, teacher, maps, batch.labels, batch.mix)
            _train_copy(module, batch, classes)
        except (InputError, RunError):
            raise
        except Exception as error:
            raise InputError(
                "student, teacher and objective do not fit together on images of shape "
                f"{tuple(batch.images.shape[1:])}: {_describe(error)}"
            ) from error
        finally:
            module.student.train(mode)


def _live(module: DistillationModule) -> Any:
    return {} if module.teacher is None else module.explainers


def _run(module: DistillationModule, batch: Batch, classes: int) -> tuple[StagedOutput, StagedOutput | None]:
    """Run student and teacher, and check that they return logits."""
    terms = module.objective.names
    student = module.run_student(batch.images, module.explainers, terms)
    _check_logits(student.logits, "student", (len(batch.images), classes))
    if module.teacher is None:
        return student, None
    teacher = module.teacher(batch.images, module.layers_to_read("teacher", module.explainers, terms))
    _check_logits(teacher.logits, "teacher", (len(batch.images), module.teacher.network.spec.num_classes))
    _check_finite(module.teacher.network, teacher.logits)
    return student, teacher


def _check_logits(logits: Any, role: str, expected: tuple[int, int]) -> None:
    if isinstance(logits, Tensor) and tuple(logits.shape) == expected:
        return
    got, advice = _describe_output(logits)
    if role == "teacher" and isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == expected[0]:
        advice = f". {ADVICE}"
    raise InputError(f"the {role} must return logits (samples, classes) = {expected}, got {got}{advice}.")


def _check_finite(teacher: StagedNetwork, logits: Tensor) -> None:
    if bool(logits.isfinite().all()):
        return
    values = [*teacher.named_parameters(), *teacher.named_buffers()]
    wrong = next((name for name, value in values if not bool(value.isfinite().all())), None)
    cause = f"its weights {wrong} are not finite" if wrong else "its weights are finite, so check its normalisation"
    raise InputError(
        f"the teacher's outputs are not finite (NaN or infinity) on two images of the training data: {cause}. Use "
        "another checkpoint for `teacher.checkpoint`."
    )


def _describe_output(output: Any) -> tuple[str, str]:
    """Return what a network returned in place of logits, and what to do."""
    if isinstance(output, Tensor):
        return str(tuple(output.shape)), ""
    parts = list(output) if isinstance(output, Mapping) else list(getattr(output, "_fields", ()))
    got = type(output).__name__ + (f" with {', '.join(map(str, parts))}" if parts else "")
    if any("aux" in str(part) for part in parts):
        return got, ". Auxiliary outputs are not supported: turn them off with `aux_logits: false`"
    return got, ". Wrap the network in a module that returns the logits alone"


def _train_copy(module: DistillationModule, batch: Batch, classes: int) -> None:
    """Run the step in training mode on copies of the student and the objective, with a backward pass."""
    try:
        copies = copy.deepcopy(module.student), copy.deepcopy(module.objective)
    except Exception:  # a network that cannot be copied, as with the hook of the old `weight_norm`, is not tried
        return
    trial = DistillationModule(
        *copies,
        module.optimisation,
        teacher=module.teacher,
        explainers=module.explainers,
    )
    trial.train()
    step = "the student's forward pass in training mode"
    try:
        student, teacher = _run(trial, batch, classes)
        step = "the maps of a training step"
        maps = make_maps(_live(trial), student, teacher, batch)
        step = "the objective in training mode"
        losses = trial.objective(student, teacher, maps, batch.labels, mix=batch.mix)
        step = "the backward pass of the objective"
        losses.total.backward()
    except TermError as error:
        raise InputError(f"{step}: {error}") from error
    except (InputError, RunError):
        raise
    except Exception as error:
        advice = ""
        if "derivative for" in str(error):
            advice = (
                ". An operation after the explained layer has no second derivative: explain a later layer, or replace "
                "the operation"
            )
        raise InputError(f"{step} fails on two images: {_describe(error)}{advice}") from error


def _describe(error: Exception) -> str:
    """Return the message of an error; if code of the user raised it, with its type, file and line."""
    text = without_addresses(" ".join(str(error).split()))
    place, trace = None, error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((*map(str, _LIBRARIES), "<")):
            place = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    if place is None and isinstance(error, ValueError | RuntimeError):
        return text
    return f"{type(error).__name__}: {text}{place or ''}"


#: Folders of code that is not the user's.
_LIBRARIES = (Path(__file__).parents[1], Path(torch.__file__).parent.parent, Path(random.__file__).parent)


@contextmanager
def _unchanged_random_state() -> Iterator[None]:
    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
