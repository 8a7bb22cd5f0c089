"""Which experiment a configuration describes, wherever it lies."""

from __future__ import annotations

import re

import pytest

from distill.config import identity, load

BASE = ["teacher={checkpoint: here}", "objective.soft_targets.weight=0.9", "data={root: here, count: 64}"]


def of(*pairs: str, teacher_hash: str = "abc") -> str:
    return identity(load([], [*BASE, *pairs]), teacher_hash=teacher_hash)


def test_it_is_a_short_hash_that_stays() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", of())
    assert of() == of()


@pytest.mark.parametrize(
    "pair",
    [
        "name=other",
        "output_dir=elsewhere",
        "loggers.tensorboard=false",
        "checkpoint.every_n_steps=5",
        "data.root=there",
        "data.download=true",
        "teacher.checkpoint=there",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.num_nodes=2",
        "trainer.strategy=ddp",
        "trainer.enable_progress_bar=false",
        "trainer.log_every_n_steps=1",
    ],
)
def test_name_paths_loggers_and_devices_do_not_count(pair: str) -> None:
    assert of(pair) == of()


def test_other_data_under_the_same_words_are_another_run() -> None:
    config = load([], BASE)
    assert len({identity(config, data_hash=data) for data in (None, "a", "b")}) == 3


@pytest.mark.parametrize(
    "pair",
    [
        "seed=1",
        "data.name=cifar10",
        "data.seed=1",
        "data.batch_size=32",
        "data.count=65",
        "data.augment.flip=false",
        "data.augment={transforms: [RandAugment], views: 3}",
        "data.mixup.alpha=0.2",
        "data.cutmix={alpha: 0.2, probability: 0.5}",
        "student.name=wrn_10_1",
        "student.dropout=0.1",
        "student.normalisation={mean: [0.5], std: [0.5]}",
        "teacher.name=wrn_40_2",
        "teacher.weights_key=ema",
        "teacher.normalisation={mean: [0.5], std: [0.5]}",
        "objective.soft_targets.weight=0.8",
        "objective.soft_targets.temperature=2",
        "objective.explanation.weight=1",
        "optimizer.lr=0.2",
        "optimizer.weight_decay=0",
        "schedule.name=one_cycle",
        "monitor.select=last",
        "trainer.max_epochs=3",
        "trainer.precision=32-true",
        "trainer.gradient_clip_val=1",
    ],
)
def test_anything_else_does(pair: str) -> None:
    assert of(pair) != of()


def test_the_teachers_weights_count_and_not_their_place() -> None:
    assert of(teacher_hash="abd") != of(teacher_hash="abc")


def test_a_default_that_is_written_out_is_the_same() -> None:
    assert of("optimizer.lr=0.1", "seed=0", "data.augment.pad=4") == of()


def test_a_key_that_is_not_set_leaves_the_identity_of_older_runs() -> None:
    assert of() == of("teacher.weights_key=null") == of("data.mixup=null") == "516a692331b046b3"


def test_keys_of_terms_that_were_added_later_count_if_they_differ() -> None:
    explained = "objective.explanation={weight: 1, method: grad_cam_pp}"
    assert of(explained, "objective.explanation.mixed=both") == of(explained) == "c8feda109954199a"
    assert of(explained, "objective.explanation.mixed=skip") != of(explained)


@pytest.mark.parametrize(
    "form", ["[RandAugment]", "{transforms: [RandAugment]}", "{transforms: [{RandAugment: null}]}"]
)
def test_forms_of_a_list_of_transforms_are_the_same_run(form: str) -> None:
    assert of(f"data.augment={form}") == of("data.augment=[{RandAugment: {}}]") != of()
