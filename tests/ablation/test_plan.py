"""Planning an ablation: the trials of a file, and all errors in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from distill.ablation.plan import Ablation, plan_ablation
from distill.ablation.run import plan
from distill.config import load
from distill.errors import InputError
from tests.training.helpers import save_teacher

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "ablation" / "tiny.yaml"
BASE = ROOT / "configs" / "test" / "tiny.yaml"


def write(folder: Path, **keys: Any) -> Path:
    content = {
        **{"name": "mine", "base": str(BASE), "output_dir": str(folder / "out"), "seeds": 1, "baseline": "CE"},
        **{"metrics": ["test/accuracy"], "rows": {"CE": {}}},
        **keys,
    }
    path = folder / "mine.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create({k: v for k, v in content.items() if v is not None})))
    return path


def errors_of(path: Path, *pairs: str) -> list[str]:
    with pytest.raises(InputError) as error:
        plan(path, pairs)
    head, *lines = str(error.value).split("\n  ")
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    assert head == f"{count} in {path}:"
    return lines


def settings(ablation: Ablation) -> list[tuple[str, int, str]]:
    return [(trial.row, trial.seed, trial.config.name) for trial in ablation.trials]


def test_each_row_with_each_seed() -> None:
    ablation = plan(TINY, ["output_dir=out"])
    assert ablation.rows == ("CE", "CE + KD", "CE + KD + Grad-CAM++")
    assert settings(ablation) == [
        (row, seed, f"{folder}-seed{seed}")
        for seed in (0, 1)
        for row, folder in (("CE", "ce"), ("CE + KD", "ce-kd"), ("CE + KD + Grad-CAM++", "ce-kd-grad-cam-pp"))
    ]
    last = ablation.trials[-1].config
    assert last.directory == Path("out/tiny/runs/ce-kd-grad-cam-pp-seed1")
    assert (last.seed, last.data.seed, last.data.options["size"]) == (1, 0, 16)
    assert last.objective["explanation"].weight == 5
    assert len({trial.identity for trial in ablation.trials}) == 6


def test_the_ablations_teacher_is_used_by_all_runs() -> None:
    ablation = plan(TINY, ["output_dir=out"])
    assert ablation.teacher is not None
    assert ablation.teacher.directory.parent == Path("out/teachers")
    for trial in ablation.trials:
        assert trial.config.teacher is not None
        assert trial.config.teacher.checkpoint == str(ablation.teacher.directory)
        assert trial.config.teacher.cache_dir == "out/teacher_cache"


def test_identities_depend_only_on_what_is_computed(tmp_path: Path) -> None:
    def identities(*pairs: str) -> list[str]:
        return [trial.identity for trial in plan(TINY, pairs).trials]

    first = identities()
    assert identities("name=other", f"output_dir={tmp_path}", "executor.processes=1", "baseline=CE") == first
    assert not set(identities("overrides.optimizer.lr=0.01")) & set(first)
    assert not set(identities("teacher.overrides.optimizer.lr=0.01")) & set(first)
    assert set(identities("seeds=[1,2]")) & set(first) == {
        trial.identity for trial in plan(TINY).trials if trial.seed == 1
    }


def test_a_checkpoint_is_identified_by_its_weights(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "wrn_10_1")
    path = write(tmp_path, overrides={"teacher": {"checkpoint": str(teacher)}})
    (first,) = plan(path).trials
    renamed = teacher.rename(tmp_path / "renamed")
    (moved,) = plan(path, [f"overrides.teacher.checkpoint={renamed}"]).trials
    assert moved.identity == first.identity
    other = save_teacher(tmp_path / "other", "wrn_16_1")
    assert plan(path, [f"overrides.teacher.checkpoint={other}"]).trials[0].identity != first.identity


def test_pairs_override_nested_and_dotted_keys(tmp_path: Path) -> None:
    path = write(tmp_path, overrides={"trainer.max_epochs": 7}, rows={"CE": {"optimizer.lr": 0.3}})
    (trial,) = plan(path, ["overrides.trainer.max_epochs=1", "rows.CE.optimizer.lr=0.2", "seeds=[3]"]).trials
    assert (trial.config.max_epochs, trial.config.optimizer.lr, trial.seed) == (1, 0.2, 3)
    grid = plan(path, ["axes.optimizer.momentum=[0,0.5]", "baseline='CE, momentum=0'"])
    assert [trial.settings for trial in grid.trials] == [
        {"optimizer.lr": 0.3, "optimizer.momentum": 0},
        {"optimizer.lr": 0.3, "optimizer.momentum": 0.5},
    ]


def test_each_run_has_a_value_for_each_axis(tmp_path: Path) -> None:
    path = write(
        tmp_path, rows=None, baseline=None, one_factor_at_a_time={"optimizer.lr": [0.5], "optimizer.momentum": [0]}
    )
    assert [trial.settings for trial in plan(path).trials] == [
        {"optimizer.lr": 0.05, "optimizer.momentum": 0.9},
        {"optimizer.lr": 0.5, "optimizer.momentum": 0.9},
        {"optimizer.lr": 0.05, "optimizer.momentum": 0},
    ]


def test_a_factor_at_its_default_value_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, rows=None, baseline=None, one_factor_at_a_time={"optimizer.lr": [0.05, 0.5]})
    assert plan(path).rows == ("default", "lr=0.5")


def test_a_row_without_a_teacher(tmp_path: Path) -> None:
    ablation = plan(TINY, ["rows.alone={teacher: null}"])
    assert [t.config.teacher is None for t in ablation.trials if t.seed == 0] == [False, False, False, True]


def test_all_errors_of_the_file_are_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, seeds="many", metrcs=["a"], metrics=[], executor={"nam": "ray", "processes": 0})
    assert errors_of(path) == [
        "executor.nam: unknown key; did you mean 'name'?",
        "executor.processes: input should be greater than or equal to 1, got 0",
        "metrcs: unknown key; did you mean 'metrics'?",
        "metrics: list should have at least 1 item after validation, not 0, got []",
        "seeds: input should be a valid list, got 'many'",
    ]


def test_all_errors_of_the_runs_are_reported_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        overrides={"optimizer.lrr": 1},
        rows={
            "CE": {},
            "KD": {"objective": {"soft_targets": {}}},
            "slip": {"objective.soft_target.weight": 1, "trainer.max_epoch": 3},
        },
    )
    assert errors_of(path, "baseline=CD", "metrics=[tset/accuracy, accuracy, test/agreement]") == [
        "baseline: unknown row 'CD' (known: CE, KD, slip)",
        "metrics: 'tset/accuracy': unknown test set 'tset'; did you mean 'test'? (known: test)",
        "metrics: expected SET/METRIC, such as test/accuracy, got 'accuracy'",
        "objective.soft_target: unknown term 'soft_target'; did you mean 'soft_targets'? (known: cross_entropy, "
        "soft_targets, explanation, attention_transfer; or set `term:` to one of these or to package.module:Class) "
        "(in 'slip')",
        "optimizer.lrr: unknown key; did you mean 'lr'?",
        "trainer.max_epoch: unknown key 'max_epoch'; did you mean 'max_epochs'? (in 'slip')",
    ]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["metrics=[test/acuracy]"], "metrics: 'test/acuracy': unknown metric 'acuracy'; did you mean 'accuracy'?"),
        (["metrics=[test/agreement]"], "metrics: 'test/agreement' compares with a teacher, but no run has a teacher"),
        (
            ["test_sets.odd={bakground: unbiased}"],
            "test_sets.odd.unknown option of data set fashion_scenes 'bakground'",
        ),
        (["overrides.data.cuont=3"], "data.unknown option of data set fashion_scenes 'cuont'"),
        (["overrides.student.name=wrn_10_z"], "student: unknown model 'wrn_10_z'"),
        (["overrides.student.dropuot=0.1"], "student: model 'wrn_10_1' with options {'dropuot': 0.1}"),
        (["maps.layer=group7"], "maps.layer: unknown layer 'group7'"),
        (["maps.method=gradcam"], "maps.method: unknown method 'gradcam'"),
        (["overrides.seed=3", "rows.B.name=x"], "name: the ablation sets this key; remove it (in 'B')"),
        (["rows.B={}"], "rows: 'CE' and 'B' have the same configuration; remove one"),
        (["axes.optimizer.lr=[0.1,0.1]"], "rows: 'CE, lr=0.1' occurs more than once; give each row its own name"),
        (["exclude=[{row: CE}]"], "exclude: all rows are excluded; remove a rule"),
        (["overrides.teacher.checkpoint=none"], "teacher.checkpoint: no checkpoint at none; give a run directory"),
        (["teacher={base: none.yaml}"], None),
        (
            ["teacher.base=BASE", "teacher.overrides.optimizer.lr=0"],
            "teacher: optimizer.lr: input should be greater than 0",
        ),
    ],
)
def test_one_error(tmp_path: Path, pairs: list[str], message: str | None) -> None:
    path = write(tmp_path)
    pairs = [pair.replace("BASE", str(BASE)) for pair in pairs]
    if message is None:
        with pytest.raises(InputError, match="no configuration file"):
            plan(path, pairs)
    else:
        lines = errors_of(path, *pairs)
        assert [line for line in lines if line.startswith(message)], lines
    assert not (tmp_path / "out").exists()


def test_an_unknown_layer_of_a_term(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "wrn_10_1")
    path = write(tmp_path, overrides={"teacher": {"checkpoint": str(teacher)}})
    axis = "axes.objective.explanation.layer=[final,group9]"
    (line,) = errors_of(path, axis, "baseline='CE, layer=final'")
    assert line.startswith("student: `layer` must be one of group1, group2, final")
    assert line.endswith("(in 'CE, layer=group9')")


def test_too_many_runs_need_yes(tmp_path: Path) -> None:
    path = write(tmp_path, seeds=201)
    with pytest.raises(InputError, match=r"has 201 runs \(1 rows x 201 seeds\), more than max_runs=200\. Remove"):
        plan(path)
    assert len(plan(path, yes=True).trials) == 201
    assert len(plan(path, ["max_runs=201"]).trials) == 201


def test_a_large_number_of_seeds_is_rejected(tmp_path: Path) -> None:
    (line,) = errors_of(write(tmp_path, seeds=20260714))
    assert line.startswith(
        "seeds: a number is the number of seeds, at most 1,000, got 20,260,714; for a single seed, give a list, "
        "[20260714]"
    )
    assert plan(write(tmp_path, seeds=[20260714])).trials[0].seed == 20260714


@pytest.mark.parametrize("yes", [False, True])
def test_a_huge_grid_is_rejected_before_it_is_expanded(
    tmp_path: Path, yes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, axes={f"optimizer.{key}": list(range(1000)) for key in ("lr", "weight_decay", "momentum")})
    monkeypatch.setattr("distill.ablation.plan.grid_rows", lambda file: pytest.fail("the grid was expanded"))
    with pytest.raises(InputError, match=r"has 1,000,000,000 runs \(1,000,000,000 rows x 1 seeds\), more than"):
        plan(path, yes=yes)


@pytest.mark.parametrize(
    "rule", [{"row": "CEE"}, {"optimizer.lr": 7}, {"optimizer": {"lr": 7}}, {"row": "CE", "optimizer.lr": 7}]
)
def test_a_rule_that_matches_nothing_is_reported(tmp_path: Path, rule: dict[str, Any]) -> None:
    path = write(tmp_path, axes={"optimizer.lr": [0.1, 0.2]}, exclude=[rule], baseline="CE, lr=0.1")
    assert errors_of(path) == [f"exclude: {rule} matches no combination; remove or correct it"]


@pytest.mark.parametrize("metric", ["win_rate", "output_kl", "map_ssim"])
def test_a_metric_that_compares_needs_a_teacher(tmp_path: Path, metric: str) -> None:
    (line,) = errors_of(write(tmp_path, metrics=[f"test/{metric}"]))
    assert line == f"metrics: 'test/{metric}' compares with a teacher, but no run has a teacher"


@pytest.mark.parametrize("rule", [{"optimizer.lr": 0.2}, {"optimizer": {"lr": 0.2}}])
def test_a_rule_may_be_nested(tmp_path: Path, rule: dict[str, Any]) -> None:
    path = write(tmp_path, axes={"optimizer.lr": [0.1, 0.2]}, exclude=[rule], baseline="CE, lr=0.1")
    assert plan(path).rows == ("CE, lr=0.1",)


def test_a_missing_results_folder_is_reported(tmp_path: Path) -> None:
    assert errors_of(write(tmp_path, results="nowhere")) == [f"results: no folder {tmp_path / 'nowhere'}"]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "base.yaml").write_text("optimizer: {lr: 0.123}\n")
    ablation = plan_ablation(write(tmp_path, base="base.yaml", results="known"))
    assert ablation.trials[0].config.optimizer.lr == 0.123
    assert ablation.results.folders == [tmp_path / "out" / "results", tmp_path / "known"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "ablation").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_ablation_can_be_planned(path: Path) -> None:
    ablation = plan(path, yes=True)
    assert ablation.trials
    for trial in ablation.trials:
        assert load([], [f"name={trial.config.name}"]).name == trial.config.name


def test_rows_may_have_crops_or_transforms_whatever_the_base_has(tmp_path: Path) -> None:
    rows = {"CE": {}, "crops": {"data": {"augment": {"pad": 2}}}, "few": {"data.augment.views": 3}}
    overrides = {"data.augment": ["RandAugment"]}
    augments = [trial.config.data.augment for trial in plan(write(tmp_path, rows=rows, overrides=overrides)).trials]
    assert [augment.views for augment in augments] == [None, None, 3]
    assert [hasattr(augment, "transforms") for augment in augments] == [True, False, True]
