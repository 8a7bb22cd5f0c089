"""A run with a teacher cache equals the run without, for an empty, a partly filled and a full cache."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.build import build, load_config
from distill.config import Config
from distill.data import Views
from distill.errors import InputError
from distill.models import load_model
from distill.training import RunDirectory, fit
from distill.workflows.cache import fill_cache
from tests.training.helpers import CrashError, checkpoint, crash_at, rows, save_teacher, small, train

OBJECTIVE = (
    "objective={cross_entropy: {weight: 0.1}, soft_targets: {weight: 0.9}, "
    "explanation: {weight: 5, layers: {final: 1.0, group2: 0.5}, target: %s}}"
)
HITS = "train/teacher_cache_hits"
DISK, MEMORY, OFF = "teacher.cache=disk", "teacher.cache=memory", "teacher.cache=off"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def run_of(folder: Path, teacher: Path, name: str, *pairs: str, target: str = "label") -> Config:
    return small(folder, OBJECTIVE % target, f"teacher.checkpoint={teacher}", f"name={name}", "seed=4", *pairs)


def losses(config: Config, *, crash: int | None = None) -> list[dict[str, float]]:
    train(config, before_step=None if crash is None else crash_at(crash))
    return [{k: float(v) for k, v in row.items() if v} for row in rows(config)]


def assert_equal(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        shared = {k for k in theirs if k != HITS}
        assert shared == {k for k in mine if k != HITS}
        for name in shared:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("target", ["label", "teacher"])
def test_losses_are_those_without_a_cache(tmp_path: Path, teacher: Path, target: str) -> None:
    plain = losses(run_of(tmp_path, teacher, "plain", OFF, target=target))
    assert float(plain[-1]["train/explanation"]) > 1e-3
    cold = losses(run_of(tmp_path, teacher, "cold", DISK, target=target))
    warm = losses(run_of(tmp_path, teacher, "warm", DISK, target=target))
    kept = losses(run_of(tmp_path, teacher, "memory", MEMORY, target=target))
    for found in (cold, warm, kept):
        assert_equal(found, plain)
    hits = [[row[HITS] for row in run if HITS in row] for run in (cold, warm, kept)]
    assert hits[1] == [1.0] * 3
    assert hits[0] == hits[2]
    assert hits[0][0] == 0
    assert max(hits[0]) < 0.2  # few views occur twice in three epochs


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("length", ["trainer.max_epochs=1", "trainer.max_epochs=3"])
def test_another_seed_has_only_hits_and_never_runs_the_teacher(
    tmp_path: Path, teacher: Path, length: str, ahead: bool
) -> None:
    first = run_of(tmp_path, teacher, "first", DISK, length)
    if ahead:
        fill_cache(first)
    else:
        train(first)
    run = build(run_of(tmp_path, teacher, "second", DISK, "seed=5", length))
    computed: list[int] = []
    assert run.module.teacher is not None
    run.module.teacher._run = lambda images, layers: computed.append(len(images))  # type: ignore[assignment,return-value]
    config = run_of(tmp_path, teacher, "second", DISK, "seed=5", length)
    RunDirectory(config.directory).open(config, run.identity)
    fit(run.module, run.data, config)
    assert computed == []
    assert all(float(row[HITS]) == 1 for row in rows(config) if row[HITS])


def test_hits_and_misses_mix_in_one_batch(tmp_path: Path, teacher: Path) -> None:
    run = build(run_of(tmp_path, teacher, "mixed", MEMORY))
    module, data = run.module, run.data
    assert module.cache is not None
    loader = data.train_dataloader()
    batch = next(iter(loader))
    some = torch.tensor([1, 4, 5, 11])
    computed: list[int] = []
    assert module.teacher is not None
    plain = module.teacher._run

    def counting(images: Tensor, layers: Any) -> Any:
        computed.append(len(images))
        return plain(images, layers)

    module.teacher._run = counting
    part = data.split("train").take(batch.index[some], batch.view[some])
    for each in (part, batch):
        stored = module.cache.lookup(each.index, each.view)
        on = data.on_after_batch_transfer(each._replace(cached=stored), 0)
        outputs = module.cache.complete(module.teacher, stored, on.images, on.labels)
    assert computed == [4, 12]
    output = plain(on.images, ["final", "group2"])
    assert outputs.output is not None
    torch.testing.assert_close(outputs.output.logits, output.logits, rtol=1e-5, atol=1e-5)
    for kind, pair in module.cache.pairs.items():
        expected = pair.teacher.from_output(output, batch.labels)
        torch.testing.assert_close(outputs.maps[kind], expected, rtol=1e-4, atol=1e-6)


def test_an_interrupted_run_resumes_with_its_cache(tmp_path: Path, teacher: Path) -> None:
    straight = losses(run_of(tmp_path, teacher, "straight", OFF))
    config = run_of(tmp_path, teacher, "cut", DISK, "checkpoint.every_n_steps=1")
    with pytest.raises(CrashError):
        losses(config, crash=6)
    assert_equal(losses(config), straight)


def test_rows_of_truncated_files_are_computed_again(tmp_path: Path, teacher: Path) -> None:
    expected = losses(run_of(tmp_path, teacher, "first", DISK))
    for file in (tmp_path / "teacher_cache").glob("*/rows.bin"):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2 + 7])
    with pytest.warns(UserWarning, match="which are not complete rows"):
        found = losses(run_of(tmp_path, teacher, "second", DISK))
    assert_equal(found, expected)
    assert 0 < min(row[HITS] for row in found if HITS in row) < 1


def test_runs_that_ask_for_other_maps_share_the_logits(tmp_path: Path, teacher: Path) -> None:
    train(run_of(tmp_path, teacher, "first", DISK))
    config = run_of(tmp_path, teacher, "logits", DISK, "objective={soft_targets: {weight: 1}}")
    train(config)
    assert all(float(row[HITS]) == 1 for row in rows(config) if row[HITS])


@pytest.mark.parametrize(
    "pair", ["data.augment.pad=2", "data.seed=9", "trainer.precision=bf16-mixed", "data.augment.padding=reflect"]
)
def test_settings_that_change_the_outputs_have_a_separate_cache(tmp_path: Path, teacher: Path, pair: str) -> None:
    build(run_of(tmp_path, teacher, "first", DISK))
    folders = len(list((tmp_path / "teacher_cache").iterdir()))
    build(run_of(tmp_path, teacher, "second", DISK, pair))
    assert len(list((tmp_path / "teacher_cache").iterdir())) == 2 * folders


def test_another_teacher_has_a_separate_cache(tmp_path: Path, teacher: Path) -> None:
    build(run_of(tmp_path, teacher, "first", DISK))
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    build(run_of(tmp_path, other, "second", DISK))
    assert len(list((tmp_path / "teacher_cache").iterdir())) == 4
    state = save_teacher(tmp_path / "third", "wrn_10_2")
    build(run_of(tmp_path, state, "third", DISK))
    assert len(list((tmp_path / "teacher_cache").iterdir())) == 8


def test_another_normalisation_of_the_teacher_has_a_separate_cache(tmp_path: Path, teacher: Path) -> None:
    weights = tmp_path / "teacher.pth"
    torch.save(load_model(teacher).network.state_dict(), weights)
    losses_of = {}
    for mean in (0.5, 0.0):
        scaling = f"teacher.normalisation={{mean: [{mean}, {mean}, {mean}], std: [1, 1, 1]}}"
        for cache in (DISK, OFF):
            pairs = (f"teacher.checkpoint={weights}", "teacher.name=wrn_16_1", scaling, cache, "trainer.max_epochs=1")
            losses_of[mean, cache] = losses(
                small(tmp_path, *pairs, OBJECTIVE % "label", f"name=run-{mean}-{cache[-3:]}")
            )
    assert losses_of[0.5, OFF] != losses_of[0.0, OFF]
    for mean in (0.5, 0.0):
        assert_equal(losses_of[mean, DISK], losses_of[mean, OFF])


def test_maps_of_the_students_prediction_cannot_be_cached(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(
        InputError, match=r"teacher.cache: objective.explanation.target is 'student'\. The student's predicted class"
    ):
        build(run_of(tmp_path, teacher, "student", DISK, target="student"))


def test_a_cache_can_be_filled_ahead(tmp_path: Path, teacher: Path) -> None:
    config = run_of(tmp_path, teacher, "ahead", DISK)
    seen: list[tuple[int, int]] = []
    filled = fill_cache(config, progress=lambda done, total: seen.append((done, total)))
    assert (filled.views, seen[-1]) == (3 * 64 + 37, (3 * 64 + 37, 3 * 64 + 37))
    assert fill_cache(config).cached == filled.views
    train(config)
    assert all(float(row[HITS]) == 1 for row in rows(config) if row[HITS])
    with pytest.raises(InputError, match="only a cache on disk can be filled before training"):
        fill_cache(run_of(tmp_path, teacher, "memory", MEMORY))


def test_few_views_make_a_small_cache(tmp_path: Path, teacher: Path) -> None:
    run = build(run_of(tmp_path, teacher, "few", MEMORY, "data.augment.views=2", "trainer.max_epochs=40"))
    assert run.cache is not None
    assert run.cache.rows == 2 * 64
    whole = build(run_of(tmp_path, teacher, "whole", MEMORY, "trainer.max_epochs=40"))
    assert whole.cache is not None
    assert 1500 < whole.cache.rows < 64 * 40


def test_the_views_of_an_image_are_a_function_of_the_seed_and_the_image() -> None:
    views = Views(limit=3)
    drawn = torch.stack([views.draw(50, seed=7, epoch=epoch) for epoch in range(60)])
    assert {len(column.unique()) for column in drawn.T} == {3}
    assert torch.equal(drawn[:, :20], torch.stack([views.draw(20, seed=7, epoch=epoch) for epoch in range(60)]))
    other = torch.stack([views.draw(50, seed=8, epoch=epoch) for epoch in range(60)])
    assert any(set(a.tolist()) != set(b.tolist()) for a, b in zip(drawn.T, other.T, strict=True))
    assert len(drawn.unique()) > 80
    with pytest.raises(InputError, match="`views` must be from 1 to 162"):
        Views(limit=163)


def test_the_cache_is_not_part_of_the_identity_of_a_run(tmp_path: Path, teacher: Path) -> None:
    one, other = (build(run_of(tmp_path, teacher, "one", pair)).identity for pair in (OFF, MEMORY))
    assert one == other
    assert "cache" not in set(checkpoint_keys(tmp_path, teacher))


def checkpoint_keys(tmp_path: Path, teacher: Path) -> list[str]:
    config = run_of(tmp_path, teacher, "keys", MEMORY, "trainer.max_epochs=1")
    train(config)
    return [*checkpoint(RunDirectory(config.directory).last)["state_dict"]]


def test_defaults_are_off() -> None:
    config = load_config([], ["teacher.checkpoint=x"])
    assert config.teacher is not None
    assert config.teacher.cache == "off"


def test_outputs_for_colour_jitter_cannot_be_cached(tmp_path: Path, teacher: Path) -> None:
    pair = "data.augment.colour_jitter={brightness: 0.2}"
    with pytest.raises(InputError, match=r"teacher.cache: data.augment.colour_jitter changes the colours"):
        build(run_of(tmp_path, teacher, "colours", DISK, pair))
    assert float(losses(run_of(tmp_path, teacher, "plain", OFF, pair))[-1]["train/loss"]) > 0
