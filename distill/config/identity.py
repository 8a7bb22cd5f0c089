"""Identity of a run: a hash of the configuration without names, paths, loggers and devices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from distill.config.schema import Config

#: Keys that do not change the result of a run: names, paths, caches, loggers.
NOT_IDENTITY = (
    "name",
    "output_dir",
    "loggers",
    "checkpoint",
    "data.root",
    "data.download",
    "data.workers",
    "data.in_memory",
    "teacher.checkpoint",
    "teacher.cache",
    "teacher.cache_dir",
    "teacher.compile",
    "student.compile",
)
#: Keys that were added later, with their defaults. They count if they differ, so that older runs keep their identity.
#: ``*`` is any name of a term.
NOT_IDENTITY_AS_DEFAULT: Mapping[str, Any] = {
    "callbacks": [],
    "data.class_weights": None,
    "data.cutmix": None,
    "data.mixup": None,
    "data.sampler": None,
    "early_stopping": None,
    "ema": None,
    "objective.*.layout": "auto",
    "objective.*.mixed": "both",
    "objective.*.teacher_layout": "auto",
    "optimizer.layer_decay": None,
    "optimizer.lr_factors": {},
    "schedule.interval": "epoch",
    "schedule.warmup_epochs": 0.0,
    "schedule.warmup_start": 0.0,
    "student.freeze": [],
    "student.head": "keep",
    "student.weights": None,
    "student.weights_key": None,
    "teacher.classes": None,
    "teacher.weights": None,
    "teacher.weights_key": None,
}
NOT_IDENTITY_TRAINER = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "enable_progress_bar",
    "enable_model_summary",
    "log_every_n_steps",
    "profiler",
    "num_sanity_val_steps",
    "plugins",
    "default_root_dir",
    "max_time",
)


def identity(
    config: Config,
    *,
    teacher_hash: str | None = None,
    data_hash: str | None = None,
    weights_hash: str | None = None,
) -> str:
    """Return a hash that is equal for equal experiments, regardless of the run directory and the device.

    Args:
        config: Configuration of the run.
        teacher_hash: Hash of the teacher's weights.
        data_hash: Hash of the data, if the configuration only contains their path.
        weights_hash: Hash of the student's starting weights, if the configuration only contains their path.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> from distill.config import load
        >>> identity(load([], ["name=a"])) == identity(load([], ["name=b"]))
        True
    """
    plain = config.model_dump(mode="json")
    for key in (*NOT_IDENTITY, *NOT_IDENTITY_AS_DEFAULT):
        *parents, last = key.split(".")
        sections: list[Any] = [plain]
        for parent in parents:
            sections = [part for one in sections for part in (one.values() if parent == "*" else [one.get(parent)])]
        for section in filter(None, sections):
            if key in NOT_IDENTITY or section.get(last) == NOT_IDENTITY_AS_DEFAULT[key]:
                section.pop(last, None)
    plain["trainer"] = {k: v for k, v in plain["trainer"].items() if k not in NOT_IDENTITY_TRAINER}
    plain["teacher_hash"] = teacher_hash
    if data_hash is not None:
        plain["data_hash"] = data_hash
    if weights_hash is not None:
        plain["student"]["weights"] = weights_hash
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
