"""The shipped studies can be planned, share one teacher, and match their documented tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.ablation.plan import plan_ablation
from distill.ablation.run import find_results, make_record
from distill.ablation.statistics import summarise
from distill.report.ablation.record import AblationRecord
from distill.report.ablation.text import markdown_table

ROOT = Path(__file__).parents[2]
STUDIES, DOCS = ROOT / "configs" / "ablation", ROOT / "docs" / "studies"
RUNS = {
    "table4": (7, 8),
    "one_factor": (12, 5),
    "few_images": (15, 8),
    "shortcuts": (5, 8),
    "shortcuts_strength": (12, 3),
    "shortcuts_weight": (7, 8),
    "lerma_lucas": (4, 5),
}

FIGURES = ("accuracy", "agreement", "map_cosine", "energy_in_object")


def unfinished(path: Path) -> AblationRecord:
    """Return a record of a study in which all trials failed; it defines the baselines without any run."""
    ablation = plan_ablation(path)
    return {
        "format": 1,
        "name": ablation.file.name,
        "baseline": ablation.file.baseline,
        "rows": list(ablation.rows),
        "seeds": list(ablation.file.seeds),
        "metrics": list(ablation.file.metrics),
        "axes": dict(ablation.file.grid_axes),
        "exploratory": False,
        "trials": [
            {
                "format": 1,
                "row": trial.row,
                "seed": trial.seed,
                "settings": dict(trial.settings),
                "identity": trial.identity,
                "state": "failed",
                "reason": "not run",
                "figures": {},
                "seconds": 0.0,
            }
            for trial in ablation.trials
        ],
    }


def test_stored_results_have_tables() -> None:
    assert {path.parent.name for path in DOCS.glob("*/table.md")} <= RUNS.keys()
    assert list((DOCS / "results").glob("*.json"))


@pytest.mark.parametrize("name", sorted(path.parent.name for path in DOCS.glob("*/table.md")))
def test_documented_tables_match_the_stored_results(name: str, tmp_path: Path) -> None:
    """The tables are written by: distill ablate configs/ablation/NAME.yaml 'results=[../../docs/studies/results]'."""
    ablation = plan_ablation(STUDIES / f"{name}.yaml", [f"results=[{DOCS / 'results'}]", f"output_dir={tmp_path}"])
    results = find_results(ablation)
    assert len(results) == len(ablation.trials)
    summary = summarise(make_record(ablation, results, {}))
    assert (DOCS / name / "table.md").read_text() == markdown_table(summary)


def test_every_study_is_tested() -> None:
    shipped = {path.stem for path in STUDIES.glob("*.yaml") if not path.stem.startswith("tiny")}
    assert shipped == RUNS.keys()


@pytest.mark.parametrize("name", RUNS)
def test_a_study_can_be_planned(name: str) -> None:
    ablation = plan_ablation(STUDIES / f"{name}.yaml")
    assert (len(ablation.rows), len(ablation.file.seeds)) == RUNS[name]
    assert len(ablation.trials) <= ablation.file.max_runs
    assert ablation.file.name == name
    assert {f"{each}/{figure}" for each in ablation.file.test_sets for figure in FIGURES} <= set(ablation.file.metrics)


@pytest.mark.parametrize(
    ("name", "row", "baseline"),
    [
        ("few_images", "CE, train=500", "CE + KD, train=500"),
        ("shortcuts_strength", "CE + KD + attention, background_bias=0.8", "CE + KD, background_bias=0.8"),
        ("lerma_lucas", "positive-gradient Grad-CAM, layer=group2", "Grad-CAM++, layer=group2"),
        ("one_factor", "layer=group1", "default"),
        ("table4", "CE", "CE + KD"),
    ],
)
def test_rows_are_compared_with_the_baseline_at_the_same_grid_point(name: str, row: str, baseline: str) -> None:
    assert summarise(unfinished(STUDIES / f"{name}.yaml"))["baselines"][row] == baseline


@pytest.mark.parametrize("name", RUNS)
def test_all_studies_share_one_teacher(name: str) -> None:
    first, teacher = (plan_ablation(STUDIES / f"{each}.yaml").teacher for each in ("table4", name))
    assert first is not None
    assert teacher is not None
    assert teacher.directory == first.directory
