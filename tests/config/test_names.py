"""What the configuration takes is what the code accepts, and what is shipped loads."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from distill.build import load_config
from distill.build.objective import EXPLAINER_KEYS, SCHEDULE_KEYS
from distill.config import AnyTerm, AugmentSection, ExplanationTerm
from distill.config.terms import Term
from distill.data import Padding
from distill.explain.explainer import ClassPolicy, Statistics
from distill.explain.gradients import Gradients
from distill.explain.methods import METHODS
from distill.losses import TERMS
from distill.losses.explanation import DISTANCES
from distill.maps import Normalization

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS: tuple[type[Term], ...] = get_args(get_args(AnyTerm)[0])


def names(section: type[BaseModel], key: str) -> tuple[Any, ...]:
    return get_args(section.model_fields[key].annotation)


@pytest.mark.parametrize(
    ("section", "key", "accepted"),
    [
        (ExplanationTerm, "method", METHODS),
        (ExplanationTerm, "target", get_args(ClassPolicy)),
        (ExplanationTerm, "normalize", get_args(Normalization)),
        (ExplanationTerm, "distance", DISTANCES),
        (ExplanationTerm, "gradients", get_args(Gradients)),
        (ExplanationTerm, "statistics", get_args(Statistics)),
        (AugmentSection, "padding", get_args(Padding)),
    ],
)
def test_names_are_those_that_the_code_accepts(section: type[BaseModel], key: str, accepted: Any) -> None:
    assert sorted(names(section, key)) == sorted(accepted)


def test_terms_are_those_that_can_be_built() -> None:
    assert sorted(names(kind, "term")[0] for kind in KINDS) == sorted(TERMS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_terms_keys_are_its_losss_settings(kind: type[Term]) -> None:
    keys = set(kind.model_fields) - {"term", "weight", *EXPLAINER_KEYS, *SCHEDULE_KEYS}
    settings = inspect.signature(TERMS[names(kind, "term")[0]]).parameters
    assert keys == set(settings)
    keys -= {"layers"}  # a configuration names the layer that is explained, the loss takes what it gets
    defaults = {key: kind.model_fields[key].default for key in keys}
    assert defaults == {key: settings[key].default for key in keys}


#: All but the grids, which tests/ablation loads run by run.
RUNS = sorted(path for path in CONFIGS.rglob("*.y*ml") if path.parent.name != "ablation")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_shipped_file_loads(path: Path) -> None:
    config = load_config([path])
    assert config.objective
    assert (config.teacher is None) == all(term.term == "cross_entropy" for term in config.objective.values())


def test_there_are_files_to_load() -> None:
    assert {"tiny.yaml", "ce.yaml", "kd.yaml", "kd_grad_cam_pp.yaml"} <= {path.name for path in CONFIGS.rglob("*.yaml")}


def test_the_configuration_knows_no_torch() -> None:
    code = "import sys, distill.config; print(sorted({'torch', 'pytorch_lightning', 'torchvision'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
