"""The teacher cache for views that transforms make: bounded by `views`, otherwise for other runs of the same seed."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from distill.build import build
from distill.config import Config
from distill.errors import InputError, InputWarning
from distill.workflows.cache import fill_cache
from tests.teachers.test_cache import DISK, HITS, MEMORY, OFF, assert_equal, losses, run_of
from tests.training.helpers import save_teacher

ENTRIES = "[{RandomResizedCrop: {size: 12}}, RandAugment, {RandomErasing: {p: 0.5}}]"
ONE_EPOCH = "trainer.max_epochs=1"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def of(folder: Path, teacher: Path, name: str, *pairs: str, views: int | None = None) -> Config:
    limit = "" if views is None else f", views: {views}"
    augment = f"data.augment={{transforms: {ENTRIES}, objects: drop{limit}}}"
    return run_of(folder, teacher, name, augment, "data.workers=0", *pairs)


def hits(run: list[dict[str, float]]) -> list[float]:
    return [row[HITS] for row in run if HITS in row]


def test_losses_are_those_without_a_cache_and_other_runs_find_all_views(tmp_path: Path, teacher: Path) -> None:
    plain, kept, cold, warm = (
        losses(of(tmp_path, teacher, name, f"teacher.cache={cache}", "trainer.max_epochs=2", views=2))
        for name, cache in (("plain", "off"), ("kept", "memory"), ("cold", "disk"), ("warm", "disk"))
    )
    assert float(plain[-1]["train/explanation"]) > 1e-3
    for found in (kept, cold, warm):
        assert_equal(found, plain)
    assert hits(kept) == hits(cold)
    assert hits(cold)[0] == 0
    assert 0.3 < hits(cold)[1] < 0.7
    assert hits(warm) == [1.0] * 2
    wider = losses(of(tmp_path, teacher, "wider", DISK, ONE_EPOCH, "seed=5", views=4))
    assert 0.3 < hits(wider)[0] < 0.7  # the same first two views, in the same file
    other = losses(of(tmp_path, teacher, "other", DISK, ONE_EPOCH, "data.seed=1", views=2))
    assert hits(other) == [0.0]


def test_the_rows_that_are_needed_are_known_before(tmp_path: Path, teacher: Path) -> None:
    run = build(of(tmp_path, teacher, "few", DISK, "trainer.max_epochs=40", views=2))
    assert run.cache is not None
    assert run.cache.rows == 2 * 64


def test_without_views_other_runs_of_the_same_seed_find_all_views(tmp_path: Path, teacher: Path) -> None:
    first = of(tmp_path, teacher, "first", DISK)
    with pytest.warns(InputWarning, match=r"a new view of each image in every epoch, 3 in all, .*data\.augment\.views"):
        assert fill_cache(first).views == 3 * 64 + 37
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        found = losses(of(tmp_path, teacher, "second", DISK, ONE_EPOCH, "seed=5"))
    assert hits(found) == [1.0]
    assert_equal(found, losses(of(tmp_path, teacher, "plain", OFF, ONE_EPOCH, "seed=5")))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([MEMORY], "outputs in memory would never be used again. Set data.augment.views"),
        (
            [DISK, "data.sampler=balanced"],
            "with data.sampler=balanced and transforms, the number of views is not bounded",
        ),
    ],
)
def test_a_cache_without_repetition_is_refused(tmp_path: Path, teacher: Path, pairs: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(of(tmp_path, teacher, "run", *pairs))
    build(of(tmp_path, teacher, "run", *pairs, views=2))


def test_frozen_maps_cannot_follow_transforms(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(InputError, match=r"objective.explanation.frozen: maps of whole images cannot follow the trans"):
        build(of(tmp_path, teacher, "run", "objective.explanation.frozen=true"))
