"""The benchmark: its arithmetic and its tables; scripts/test runs the quick benchmark itself, by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.benchmarks import networks
from scripts.benchmarks.clock import Epoch
from scripts.benchmarks.figures import key_figures, worst_term
from scripts.benchmarks.page import fill_page
from scripts.benchmarks.pairs import alternate, pair_ratios, spread
from scripts.benchmarks.setting import Setting
from scripts.benchmarks.tables import LAYOUTS, markdown_table, table_rows

ROOT = Path(__file__).parents[1]


def step(precision: str, ratio: float, variant: str = "CE+KD+Grad-CAM++ final") -> dict[str, Any]:
    return {
        "precision": precision,
        "batch": 128,
        "variant": variant,
        "seconds": 0.5,
        "images_per_second": 256.0,
        "ratio": {"median": ratio, "low": ratio - 0.01, "high": ratio + 0.01},
        "to_floor": None,
    }


@pytest.mark.parametrize("n", [1, 2, 3, 7, 15])
def test_spread_is_numpys_quartiles(n: int) -> None:
    values = np.random.default_rng(n).gamma(2.0, size=n)
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    assert spread(values.tolist()) == pytest.approx({"median": median, "low": low, "high": high}, abs=1e-12)


def test_a_ratio_is_of_pairs_not_of_medians() -> None:
    mine, reference = [1.1, 22.0, 3.3], [1.0, 20.0, 2.0]
    assert pair_ratios(mine, reference)["median"] == pytest.approx(1.1)
    assert np.median(mine) / np.median(reference) == pytest.approx(1.65)
    with pytest.raises(ValueError, match="longer"):
        pair_ratios([1.0], [1.0, 2.0])


def test_variants_alternate_and_the_warm_up_is_left_out() -> None:
    made: list[str] = []
    seconds = alternate({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, rounds=2, warm_up=1)
    assert "".join(made) == "abbaab"
    assert {name: len(found) for name, found in seconds.items()} == {"a": 2, "b": 2}


def test_parts_of_an_epoch() -> None:
    epoch = Epoch(start=10.0, end=20.0, validation=3.0, batches=[10.5, 11.5, 13.5, 14.5])
    assert (epoch.seconds, epoch.training, epoch.step) == (10.0, 7.0, 1.0)


def test_a_table_is_written_as_it_is_laid_out() -> None:
    rows = [step("float32", 1.02)]
    assert table_rows("steps", rows) == [
        ["float32", "128", "CE+KD+Grad-CAM++ final", "0.500", "256", "1.020 (1.010-1.030)", ""]
    ]
    lines = markdown_table("steps", rows).splitlines()
    assert lines[1] == "| --- | ---: | --- | ---: | ---: | ---: | ---: |"
    assert {line.count("|") for line in lines} == {len(LAYOUTS["steps"].columns) + 1}


def test_each_precision_has_its_bound() -> None:
    rows = [step("float32", 1.06), step("bf16", 1.06), step("bf16", 1.5, variant="CE+KD+Grad-CAM++ group2")]
    found = key_figures({"steps": rows})
    assert [(row["precision"], row["bound"], row["holds"]) for row in found] == [
        ("float32", "<= 1.05", False),
        ("bf16", "<= 1.1", True),
    ]
    assert worst_term(rows) == 1.06


def test_bounds_of_epochs_memory_and_start() -> None:
    def about(value: float) -> dict[str, float]:
        return {"median": value, "low": value, "high": value}

    common = {"precision": "bf16", "batch": 128}
    live = {"of_bare": about(0.96), "of_bare_validated": about(0.9), "overhead": about(1.04)}
    warm = {"to_ce": about(1.07), "to_ce_validated": about(1.09), "teacher_cache_hits": 0.99}
    name = "CE+KD+Grad-CAM++ final"
    found = key_figures(
        {
            "epochs": [{"variant": name, **common, **live}, {"variant": f"{name}, cache warm", **common, **warm}],
            "memory": [{"variant": name, "what": "step", "ratio": about(1.06), **common}],
            "start": [{"what": "all", "seconds": about(7.9)}, {"what": "import torch", "seconds": about(9.0)}],
        }
    )
    assert [(row["bound"], row["holds"]) for row in found] == [
        (">= 0.95", True),
        ("", None),
        ("<= 1.03", False),
        ("<= 1.08", True),
        ("", None),
        (">= 1", False),
        ("<= 1.05", False),
        ("<= 8", True),
        ("", None),
    ]


def test_bound_of_an_evaluation() -> None:
    row = {"networks": "a beside b", "images": 10_000, "ratio": {"median": 3.1, "low": 3.0, "high": 3.2}}
    (figure,) = key_figures({"evaluation": [row]})
    assert (figure["bound"], figure["holds"]) == ("<= 3", False)
    assert figure["figure"] == "maps and metrics of 10,000 images, a beside b / forward passes"


def test_bounds_of_networks_are_those_of_what_was_compared() -> None:
    def row(what: str, against: str, value: float) -> dict[str, Any]:
        ratio = {"median": value, "low": value, "high": value}
        return {"network": "net", "what": what, "against": against, "ratio": ratio, "batch": 64, "precision": "float32"}

    rows = [
        row("step with the term at final", "CE+KD", 1.06),
        row("step with the term at final, by autograd", "CE+KD", 1.9),
        row("Grad-CAM maps at final", "forward pass", 1.09),
        row("pytorch-grad-cam", "Grad-CAM maps at final", 1.9),
    ]
    found = key_figures({"networks": rows})
    assert [(figure["bound"], figure["holds"]) for figure in found] == [
        ("<= 1.05", False),
        ("<= 2", True),
        ("<= 1.1", True),
        (">= 2", False),
    ]
    assert found[0]["figure"] == "net: step with the term at final / CE+KD"


@pytest.mark.parametrize("installed", [True, False])
def test_maps_of_pytorch_grad_cam_are_compared_if_it_is_installed(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installed:
        pytest.importorskip("pytorch_grad_cam")
    monkeypatch.setattr(networks, "is_installed", lambda package: installed or package == "torchvision")
    smallest = tuple(one for one in networks.NETWORKS if one.label in ("mobilenet_v3_small", "convnext_atto"))
    monkeypatch.setattr(networks, "NETWORKS", smallest if not installed else smallest[:1])
    monkeypatch.setattr(networks, "TRANSFORMERS", ())
    rows = networks.measure_networks(Setting(rounds=1, quick=True))
    kinds = ["step with the term at final", "Grad-CAM maps at final", "pytorch-grad-cam"]
    assert [row["what"] for row in rows] == kinds[: 2 + installed]
    assert {row["network"] for row in rows} == {"mobilenet_v3_small"}


def test_the_page_is_filled_between_its_marks() -> None:
    machine = {
        "threads": 2,
        "cpu_count": 2,
        "cpu": "X",
        "commit": "abc",
        "packages": {"torch": "2.14"},
    }
    section = {
        "rows": [step("bf16", 1.0)],
        "machine": machine,
        "teacher": "t",
        "student": "s",
        "command": "c",
        "load": 0.12,
        "seconds": 3.4,
    }
    page = (ROOT / "docs" / "performance.md").read_text()
    once = fill_page(page, {"sections": {"steps": section}})
    assert "1.000 (0.990-1.010)" in once
    assert "`c`: t to s, 2 threads of 2 cores of X, torch 2.14, commit abc; load before 0.1, 3 s." in once
    assert fill_page(once, {"sections": {"steps": section}}) == once
    assert once.partition("<!-- measured -->")[0] == page.partition("<!-- measured -->")[0]
    with pytest.raises(ValueError, match="once each"):
        fill_page("no marks", {"sections": {}})
