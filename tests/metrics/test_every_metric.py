"""Properties of all metrics: order and size of batches, precision, merging, excluded images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from distill.metrics import METRICS
from distill.metrics.names import METRIC_INFO as FIGURES
from tests.metrics.cases import IMAGES, NAMES, arguments, as_floats, make, measured, rows

#: Metrics that have a score for every map.
RATES = ("zero_maps", "nan_maps", "constant_maps")

#: Metrics for the test with two processes; all kinds of state are among them.
APART = ("map_spearman", "energy_in_object", "deletion_auc", "calibration_error", "adcc")


def test_every_figure_has_a_metric_and_its_words() -> None:
    assert list(METRICS) == [name for name in FIGURES if name in METRICS]
    assert set(FIGURES) - set(METRICS) == {"accuracy"}
    assert all(about == FIGURES[name].about for name, (_, about) in METRICS.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_direction_is_that_of_the_figure(name: str) -> None:
    direction = FIGURES[name].better
    if direction != "neither":
        assert make(name).higher_is_better == (direction == "higher")


@pytest.mark.parametrize("name", NAMES)
def test_every_image_is_either_scored_or_counted_as_left_out(name: str) -> None:
    value, n, excluded = measured(name, [arguments(name)])
    assert n + excluded == IMAGES
    assert (excluded == 0) == (name in RATES)
    assert 0 <= value <= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    given = arguments(name)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    assert measured(name, [rows(given, order)]) == pytest.approx(measured(name, [given]), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_an_uneven_cut_and_a_merge_equal_one_update(name: str) -> None:
    given = arguments(name)
    expected = measured(name, [given])
    left, right = rows(given, torch.arange(5)), rows(given, torch.arange(5, IMAGES))
    assert measured(name, [left, right]) == pytest.approx(expected, abs=1e-12)
    one, other = make(name), make(name)
    one.update(*left)
    other.update(*right)
    one.merge_state(other)
    assert as_floats(one) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_forgets(name: str) -> None:
    given = arguments(name)
    metric = make(name)
    metric.update(*rows(given, torch.tensor([0, 5])))
    metric.reset()
    metric.update(*given)
    assert as_floats(metric) == pytest.approx(measured(name, [given]), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_other_precisions_are_measured_in_full(name: str, dtype: torch.dtype) -> None:
    """The only error is that of rounding the input: the computation is in float32 or float64."""
    rounded = [part.to(dtype) if part.is_floating_point() else part for part in arguments(name)]
    widened = [part.double() if part.is_floating_point() else part for part in rounded]
    assert measured(name, [rounded]) == pytest.approx(measured(name, [widened]), abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_read_on_the_host(name: str) -> None:
    metric = make(name).to("meta")
    metric.update(*(part.to("meta") for part in arguments(name)))
    assert metric.update_count == 1


def one_rank(rank: int, folder: str) -> None:
    """Measure a part of the images (the parts differ in size), and save the result over all processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    parts = [torch.arange(5), torch.arange(5, IMAGES)]
    found = {name: measured(name, [rows(arguments(name), parts[rank])]) for name in APART}
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_uneven_parts_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    processes: Any = mp
    processes.spawn(one_rank, args=(str(tmp_path),), nprocs=2, join=True)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name in APART:
            assert found[name] == pytest.approx(measured(name, [arguments(name)]), abs=1e-12)
