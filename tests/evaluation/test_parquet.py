"""Every mean of a record can be taken again from the file of scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distill.evaluation import (
    EvaluationResult,
    EvaluationSettings,
    evaluate,
    save_scores,
)
from distill.metrics.names import METRIC_INFO
from tests.evaluation.checks import image_set, network

SETS = {"masks": image_set(12), "plain": image_set(7, masks=False, boxes=False)}
NO_MEAN = ("calibration_error", "adcc")


@pytest.fixture(scope="module")
def done() -> EvaluationResult:
    nets = {"teacher": network(1), "student": network(2)}
    settings = EvaluationSettings(perturbed=5, steps=3, held_out=("hires_cam",), explained=6, sanity=0, resamples=20)
    return evaluate(nets, reference="teacher", sets=SETS, settings=settings)


@pytest.fixture
def rows(done: EvaluationResult, tmp_path: Path) -> list[dict[str, Any]]:
    path = save_scores(done.scores, done.record["classes"], tmp_path / "a" / "per_image.parquet")
    assert [entry.name for entry in path.parent.iterdir()] == ["per_image.parquet"]
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def test_the_means_come_out_of_the_file(done: EvaluationResult, rows: list[dict[str, Any]]) -> None:
    for name, entry in done.record["sets"].items():
        for network_name, scores in entry["networks"].items():
            own = [row for row in rows if (row["set"], row["network"]) == (name, network_name)]
            assert [row["index"] for row in own] == list(range(entry["n"]))
            held_out: dict[str, Any] = {
                f"hires_cam/{figure}": m for figure, m in scores["held_out"]["hires_cam"].items()
            }
            figures: dict[str, Any] = {**scores["figures"], **held_out}
            for figure, measured in figures.items():
                if figure in NO_MEAN:
                    assert figure not in own[0]
                    continue
                looked = [row[figure] for row in own if row.get(figure) is not None]
                known = [score for score in looked if not math.isnan(score)]
                if measured is None:
                    assert looked == []
                    continue
                assert (measured["n"], measured["excluded"]) == (len(known), len(looked) - len(known))
                if known:
                    assert measured["value"] == pytest.approx(math.fsum(known) / len(known), abs=1e-9)
            strata = scores["strata"] or {}
            assert {s: sum(row["stratum"] == s for row in own) for s in strata} == {
                s: found["n"] for s, found in strata.items()
            }


def test_rows_say_what_was_answered(done: EvaluationResult, rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 2 * (12 + 7)
    labels = [SETS["masks"].classes[int(label)] for label in SETS["masks"].labels]
    student = [row for row in rows if (row["set"], row["network"]) == ("masks", "student")]
    assert [row["label"] for row in student] == labels
    assert [row["predicted"] == row["label"] for row in student] == [row["accuracy"] == 1 for row in student]
    assert all(1 / 3 <= row["probability"] <= 1 for row in student)
    teacher = [row for row in rows if (row["set"], row["network"]) == ("masks", "teacher")]
    assert {row["stratum"] for row in teacher} == {None}


def test_calibration_and_adcc_can_be_computed_from_the_file(done: EvaluationResult, rows: list[dict[str, Any]]) -> None:
    own = [row for row in rows if (row["set"], row["network"]) == ("masks", "student")]
    figures = done.record["sets"]["masks"]["networks"]["student"]["figures"]
    gap = 0.0
    for b in range(15):
        inside = [row for row in own if b / 15 < row["probability"] <= (b + 1) / 15]
        gap += abs(sum(row["accuracy"] - row["probability"] for row in inside)) / len(own)
    assert figures["calibration_error"] is not None
    assert figures["calibration_error"]["value"] == pytest.approx(gap, abs=1e-6)
    a, b_, c = (sum(row[f] for row in own) / len(own) for f in ("coherency", "complexity", "average_drop"))
    assert figures["adcc"] is not None
    assert figures["adcc"]["value"] == pytest.approx(3 / (1 / a + 1 / (1 - b_) + 1 / (1 - c)), abs=1e-6)


def test_columns_are_named_as_the_record_names_them(done: EvaluationResult, tmp_path: Path) -> None:
    path = save_scores(done.scores, done.record["classes"], tmp_path / "per_image.parquet")
    schema = pq.read_schema(path)
    fixed = ["set", "network", "index", "label", "predicted", "probability", "stratum"]
    assert schema.names[:7] == fixed
    figures = [name for name in METRIC_INFO if name not in NO_MEAN]
    assert schema.names[7 : 7 + len(figures)] == figures
    assert schema.names[7 + len(figures) :] == [
        "hires_cam/energy_in_object",
        "hires_cam/map_cosine",
        "hires_cam/map_cosine_floor",
        "hires_cam/map_spearman",
    ]
    assert {str(schema.field(name).type) for name in schema.names[7:]} == {"float"}
