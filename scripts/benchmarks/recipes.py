"""Configurations of the measured runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from distill.build import load_config
from distill.config import Config
from distill.models import create_model, save_model

from .setting import LIGHTNING_PRECISION, TERM_AT_FINAL, VARIANTS

COLD, WARM = f"{TERM_AT_FINAL}, cache cold", f"{TERM_AT_FINAL}, cache warm"


def random_teacher(folder: Path, name: str) -> Path:
    """Save a network with random weights; it takes as long as a trained one."""
    torch.manual_seed(0)
    return save_model(create_model(name, num_classes=10), folder / "teacher")


def configure(
    folder: Path,
    variant: str,
    *,
    name: str,
    student: str,
    precision: str,
    batch: int,
    steps: int,
    epochs: int = 1,
    processes: int = 1,
) -> Config:
    """Return the configuration of a run.

    Args:
        folder: Folder of the run directory and of the teacher.
        variant: One of ``VARIANTS``, ``COLD`` or ``WARM``.
        name: Name of the run.
        student: Network.
        precision: ``float32`` or ``bf16``.
        batch: Images per step and process.
        steps: Steps per epoch; the validation split has a tenth of the training images.
        epochs: Epochs.
        processes: Processes of DDP.
    """
    images = steps * batch * processes
    trainer: dict[str, Any] = {
        "max_epochs": epochs,
        "accelerator": "cpu",
        "devices": processes,
        "precision": LIGHTNING_PRECISION[precision],
        **({"strategy": "ddp"} if processes > 1 else {}),
    }
    cached = variant in (COLD, WARM)
    pairs = list(VARIANTS[TERM_AT_FINAL if cached else variant])
    if pairs:
        pairs.append(f"teacher.checkpoint={folder / 'teacher'}")
    if cached:
        pairs += ["teacher.cache=disk", f"teacher.cache_dir={folder / ('warm' if variant == WARM else f'cold-{name}')}"]
    return load_config(
        [],
        [
            f"name={name}",
            f"output_dir={folder / 'runs'}",
            "data.name=fashion_scenes",
            f"data.count={{train: {images}, validation: {max(images // 10, 10)}}}",
            f"data.batch_size={batch}",
            f"student.name={student}",
            *(f"trainer.{key}={value}" for key, value in trainer.items()),
            *pairs,
        ],
    )
