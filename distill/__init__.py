"""Knowledge distillation with explanations: a small network gives a large network's answers for the same reasons.

Each command of the command line is also a function here. The functions are imported at first use, so
``import distill`` takes milliseconds and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from distill.moved import install

if TYPE_CHECKING:
    from distill.ablation.run import ablate
    from distill.explain import Explainer
    from distill.models import create_model, load_model
    from distill.workflows.evaluate import evaluate
    from distill.workflows.explain import explain_images
    from distill.workflows.export import export_model
    from distill.workflows.train import train

__version__ = "0.1.0"

install()

_MODULES = {
    "Explainer": "distill.explain",
    "ablate": "distill.ablation.run",
    "create_model": "distill.models",
    "evaluate": "distill.workflows.evaluate",
    "explain_images": "distill.workflows.explain",
    "export_model": "distill.workflows.export",
    "load_model": "distill.models",
    "train": "distill.workflows.train",
}

__all__ = [
    "Explainer",
    "ablate",
    "create_model",
    "evaluate",
    "explain_images",
    "export_model",
    "load_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
