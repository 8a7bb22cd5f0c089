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
from distill.build.map_methods import NEVER_NEGATIVE
from distill.build.objective import EXPLAINER_KEYS, SCHEDULE_KEYS
from distill.config import BUILT_IN_TERMS, AugmentSection, ExplanationTerm, LayeredTerm, Term, load
from distill.data import Padding
from distill.explain.explainer import ClassPolicy, Statistics
from distill.explain.gradients import Gradients
from distill.explain.methods import METHODS
from distill.losses import needs_of, registered_terms
from distill.losses.explanation import DISTANCES
from distill.maps import Normalization
from distill.models.layouts import Layout

CONFIGS = Path(__file__).parents[2] / "configs"


def names(section: type[BaseModel], key: str) -> tuple[Any, ...]:
    return get_args(section.model_fields[key].annotation)


@pytest.mark.parametrize(
    ("section", "key", "accepted"),
    [
        (ExplanationTerm, "method", ["auto", *METHODS]),
        (ExplanationTerm, "target", get_args(ClassPolicy)),
        (ExplanationTerm, "normalize", get_args(Normalization)),
        (ExplanationTerm, "distance", DISTANCES),
        (ExplanationTerm, "gradients", get_args(Gradients)),
        (ExplanationTerm, "statistics", get_args(Statistics)),
        (ExplanationTerm, "layout", get_args(Layout)),
        (ExplanationTerm, "teacher_layout", get_args(Layout)),
        (AugmentSection, "padding", get_args(Padding)),
    ],
)
def test_names_are_those_that_the_code_accepts(section: type[BaseModel], key: str, accepted: Any) -> None:
    assert sorted(names(section, key)) == sorted(accepted)


def test_terms_are_those_that_can_be_built() -> None:
    assert list(BUILT_IN_TERMS) == list(registered_terms())[: len(BUILT_IN_TERMS)]
    assert [names(record, "term") for record in BUILT_IN_TERMS.values()] == [(name,) for name in BUILT_IN_TERMS]


@pytest.mark.parametrize("name", BUILT_IN_TERMS)
def test_a_terms_keys_are_its_losss_settings(name: str) -> None:
    kind: type[Term] = BUILT_IN_TERMS[name]
    keys = set(kind.model_fields) - {"term", "weight", *EXPLAINER_KEYS, *SCHEDULE_KEYS}
    settings = inspect.signature(registered_terms()[name]).parameters
    assert keys == set(settings)
    keys -= {"layers"}  # a configuration names the layer that is explained, the loss takes what it gets
    defaults = {key: kind.model_fields[key].default for key in keys}
    assert defaults == {key: settings[key].default for key in keys}


@pytest.mark.parametrize("name", BUILT_IN_TERMS)
def test_a_record_and_its_loss_need_the_same(name: str) -> None:
    term, record = registered_terms()[name], BUILT_IN_TERMS[name]
    built = load([], ["teacher.checkpoint=t", f"objective.{name}.weight=1"]).objective[name]
    assert built.needs_teacher is needs_of(term).teacher is (name != "cross_entropy")
    assert issubclass(record, LayeredTerm) is (needs_of(term).maps is not None)
    method = record.model_fields.get("method")
    assert method is None or (method.default, needs_of(term).maps) == ("auto", NEVER_NEGATIVE)


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
