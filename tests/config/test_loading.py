"""Files and pairs become one typed record, or one message with every mistake in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from distill.config import (
    CrossEntropyTerm,
    ExplanationTerm,
    SoftTargetsTerm,
    load,
    merge,
    to_yaml,
)
from distill.errors import InputError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def told(*pairs: str) -> str:
    with pytest.raises(InputError) as caught:
        load([], pairs)
    return str(caught.value)


def test_every_mistake_is_told_at_once_with_what_may_have_been_meant() -> None:
    message = told(
        "studnet.name=wrn_10_1",
        "optimizer.lr=-1",
        "optimizer.momentun=0.5",
        "objective.cross_entropyy.weight=1",
        "objective.explanation.metod=cam",
        "objective.explanation.method=grad_cam_p",
        "data.augment.padd=3",
        "teacher.normalisation.mea=[1]",
    )
    assert message == (
        "10 mistakes in the configuration:\n"
        "  data.augment.padd: unknown key; did you mean 'pad'?\n"
        "  objective.cross_entropyy: unknown term 'cross_entropyy'; did you mean 'cross_entropy'? "
        "(known: cross_entropy, soft_targets, explanation, attention_transfer; "
        "or set `term:` to one of these or to package.module:Class)\n"
        "  objective.explanation.method: input should be 'auto', 'cam', 'grad_cam', 'positive_grad_cam', "
        "'grad_cam_pp', 'grad_cam_pp_signed', 'grad_cam_pp_softmax', 'xgrad_cam', 'hires_cam', 'layer_cam' or "
        "'activation_attention', got 'grad_cam_p'; did you mean 'grad_cam_pp'?\n"
        "  objective.explanation.metod: unknown key; did you mean 'method'?\n"
        "  optimizer.lr: input should be greater than 0, got -1\n"
        "  optimizer.momentun: unknown key; did you mean 'momentum'?\n"
        "  studnet: unknown key; did you mean 'student'?\n"
        "  teacher.normalisation.mea: unknown key; did you mean 'mean'?\n"
        "  teacher.normalisation.mean: field required\n"
        "  teacher.normalisation.std: field required"
    )


@pytest.mark.parametrize(
    ("pairs", "line"),
    [
        (["zzz=1"], "zzz: unknown key"),
        (["data.batch_size=0"], "data.batch_size: input should be greater than or equal to 1, got 0"),
        (["optimizer.momentum=1"], "optimizer.momentum: input should be less than 1, got 1"),
        (["seed=1.5"], "seed: input should be a valid integer, got a number with a fractional part, got 1.5"),
        (["objective=3"], "objective: should be a mapping of keys to values, got 3"),
        (["data.mixup=-1"], "data.mixup: should be a mapping of keys to values, got -1"),
        (
            ["objective.a.weight=1"],
            "objective.a: unknown term 'a' (known: cross_entropy, soft_targets, explanation, attention_transfer; ",
        ),
        (["objective.a={term: cross_entropy, weght: 1}"], "objective.a.weght: unknown key; did you mean 'weight'?"),
        (["objective.cross_entropy.weight=0"], "objective needs at least one term with a weight above 0"),
        (
            ["objective.soft_targets.weight=1"],
            "objective.soft_targets needs a teacher: add teacher.checkpoint, or set its weight to 0",
        ),
        (["schedule.name=multi_step"], "schedule: milestones belong to name=multi_step, which needs at least one"),
        (["schedule.milestones=[3]"], "schedule: milestones belong to name=multi_step, which needs at least one"),
        (["trainer.max_epochs=many"], "trainer: max_epochs should be a whole number of at least 1, for the schedule, "),
        (
            ["trainer.max_epochs=-1"],
            "trainer: max_epochs should be a whole number of at least 1, for the schedule, got",
        ),
        (["trainer.max_epochs=null"], "trainer: max_epochs should be a whole number of at least 1, for the schedule, "),
        (["optimizer={momentum: 0, nesterov: true}"], "optimizer: nesterov needs a momentum above 0"),
    ],
)
def test_a_single_mistake(pairs: list[str], line: str) -> None:
    assert told(*pairs).startswith("a mistake in the configuration:\n  " + line)


def test_more_checks_join_the_others() -> None:
    def check(merged: Mapping[str, Any]) -> list[str]:
        return [f"trainer.{key}: no such key" for key in merged["trainer"]]

    with pytest.raises(InputError, match=r"^2 mistakes .*\n  optimizer.lr: .*\n  trainer.max_epoch: no such key$"):
        load([], ["trainer.max_epoch=3", "optimizer.lr=0"], check=check)


def test_files_merge_left_to_right_and_pairs_come_last(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "seed: 1\noptimizer: {lr: 0.1, momentum: 0.5}\nname: first\n")
    second = write(tmp_path / "b.yaml", "seed: 2\noptimizer: {lr: 0.2}\n")
    config = load([first, second], ["optimizer.lr=0.3"])
    assert (config.seed, config.name, config.optimizer.lr, config.optimizer.momentum) == (2, "first", 0.3, 0.5)
    assert load([second, first]).optimizer.lr == 0.1


def test_a_file_extends_others_which_come_before_it(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "seed: 1\nname: base\noptimizer: {lr: 0.1, momentum: 0.5}\n")
    write(tmp_path / "more" / "second.yaml", "extends: ../base.yaml\nseed: 2\n")
    last = write(tmp_path / "last.yaml", "extends: [base.yaml, more/second.yaml]\noptimizer: {lr: 0.7}\n")
    config = load([last])
    assert (config.seed, config.name, config.optimizer.lr, config.optimizer.momentum) == (2, "base", 0.7, 0.5)
    assert "extends" not in merge([last])


def test_a_circle_of_extends_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: a.yaml\n")
    with pytest.raises(InputError, match=r"a\.yaml extends itself\.$"):
        load([tmp_path / "a.yaml"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^no configuration file .*none\.yaml\.$"):
        load([tmp_path / "none.yaml"])
    with pytest.raises(InputError, match=r"^no configuration file .*gone\.yaml\.$"):
        load([write(tmp_path / "a.yaml", "extends: gone.yaml\n")])
    with pytest.raises(InputError, match=r"broken\.yaml is not valid YAML: "):
        load([write(tmp_path / "broken.yaml", "a: [1\n")])
    with pytest.raises(InputError, match=r"list\.yaml must hold keys and values at its top level\.$"):
        load([write(tmp_path / "list.yaml", "- 1\n")])


@pytest.mark.parametrize("pair", ["name", "=3"])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    assert told(pair) == f"expected key=value, got {pair!r}; a configuration file must end in .yaml or .yml."


def test_null_takes_a_term_away_and_a_section_back(tmp_path: Path) -> None:
    path = write(
        tmp_path / "kd.yaml",
        "teacher: {checkpoint: t}\nobjective: {cross_entropy: {weight: 0.1}, soft_targets: {weight: 0.9}}\n",
    )
    config = load([path], ["objective.soft_targets=null", "teacher=null"])
    assert config.objective == {"cross_entropy": CrossEntropyTerm(term="cross_entropy", weight=0.1)}
    assert config.teacher is None


def test_a_term_may_have_another_name() -> None:
    config = load(
        [],
        [
            "teacher.checkpoint=t",
            "objective.warm={term: soft_targets, temperature: 2}",
            "objective.inner={term: explanation, layer: group2, weight: 3}",
            "objective.soft_targets.weight=0",
        ],
    )
    assert config.objective == {
        "warm": SoftTargetsTerm(term="soft_targets", temperature=2.0),
        "inner": ExplanationTerm(term="explanation", layers={"group2": 1.0}, weight=3.0),
        "soft_targets": SoftTargetsTerm(term="soft_targets", weight=0.0),
        "cross_entropy": CrossEntropyTerm(term="cross_entropy", weight=1.0),
    }


def test_cross_entropy_is_there_unless_it_is_put_out() -> None:
    pairs = ["teacher.checkpoint=t", "objective.soft_targets.weight=0.5"]
    assert set(load([], pairs).objective) == {"cross_entropy", "soft_targets"}
    assert set(load([], [*pairs, "objective.cross_entropy=null"]).objective) == {"soft_targets"}


def test_what_a_section_does_not_know_is_handed_on_where_it_may() -> None:
    pairs = ["data={count: 64, objects: null}", "student.dropout=0.3", "trainer.max_epochs=7", "name=a"]
    config = load([], [*pairs, "output_dir=out"])
    assert (config.data.options, config.student.options) == ({"count": 64}, {"dropout": 0.3})
    assert (config.max_epochs, config.directory) == (7, Path("out/a"))


@pytest.mark.parametrize("cross_entropy", ["{}", "{weight: 0}", "null"])
def test_the_resolved_configuration_loads_to_itself(tmp_path: Path, cross_entropy: str) -> None:
    config = load(
        [],
        [
            "teacher={checkpoint: t, name: wrn_16_2}",
            "objective.x={term: explanation, weight: 5}",
            "data.count=64",
            f"objective.cross_entropy={cross_entropy}",
        ],
    )
    path = write(tmp_path / "config.yaml", to_yaml(config))
    assert load([path]) == config


def test_a_value_of_several_types_has_one_message_without_the_types() -> None:
    with pytest.raises(InputError) as caught:
        load([], ["data.class_weights={cat: -2}"])
    assert str(caught.value).splitlines()[1:] == ["  data.class_weights.cat: input should be greater than 0, got -2"]
