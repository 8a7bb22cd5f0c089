"""Training: the Lightning module, the training loop and the run directory."""

from distill.training.environment import is_first_process
from distill.training.fit import fit
from distill.training.module import DistillationModule
from distill.training.optim import Optimisation
from distill.training.run_directory import RunDirectory
from distill.training.stopping import InterruptError
from distill.training.trainer import check_trainer, make_trainer_for_inference

__all__ = [
    "DistillationModule",
    "InterruptError",
    "Optimisation",
    "RunDirectory",
    "check_trainer",
    "fit",
    "is_first_process",
    "make_trainer_for_inference",
]
