"""Names of runs, ablations and rows: they stay in their folder, and have no control characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.ablation.grid import folder_names
from distill.ablation.plan import plan_ablation
from distill.config import load, load_recorded, to_yaml
from distill.errors import InputError

ABLATION = Path(__file__).parents[2] / "configs" / "ablation" / "tiny.yaml"
WRONG = [
    ("../x", r"stays in its folder, without `\.\.`"),
    ("a/../../x", r"stays in its folder, without `\.\.`"),
    ("/tmp/x", "not an absolute path; output_dir sets the folder"),
    ("a\x1b]0;t\x07", "without control characters and line breaks"),
    ("a\nb", "without control characters and line breaks"),
    ("a\u202eb", "without control characters and line breaks"),
    ("a" * 101, "at most 100 characters; this one has 101"),
]


@pytest.mark.parametrize(("name", "reason"), WRONG)
def test_a_run_name_that_is_refused(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=r"^a mistake in the configuration:\n  name: expected a name.*" + reason):
        load([], [f"name={name!r}".replace("'", '"')])


@pytest.mark.parametrize(
    "name", ["run", "group/run", "CE + KD, lr=0.1", "a[/b]", "[red]a", ":x:", "größe", "a..b", "a" * 100]
)
def test_a_run_name_that_is_accepted(name: str) -> None:
    assert load([], [f'name="{name}"']).name == name


@pytest.mark.parametrize(("name", "reason"), WRONG)
def test_a_row_name_that_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    row = name.replace("\x1b", "\\e").replace("\x07", "\\a").replace("\n", "\\n").replace("\u202e", "\\u202e")
    path = tmp_path / "ablation.yaml"
    common = f"name: a\nbase: {ABLATION.parent / 'runs' / 'student.yaml'}\nseeds: [0]\nmetrics: [test/accuracy]\n"
    path.write_text(f'{common}baseline: b\nrows: {{b: {{}}, "{row}": {{optimizer.lr: 0.2}}}}\n')
    with pytest.raises(InputError, match=r"rows: expected a name.*" + reason) as caught:
        plan_ablation(path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/x", "..", "a\x1b", "a" * 101])
def test_an_ablation_name_that_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="name: expected a "):
        plan_ablation(ABLATION, [f"name={name!r}".replace("'", '"')])


def test_a_control_character_in_the_values_of_an_axis_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ablation.yaml"
    common = f"name: a\nbase: {ABLATION.parent / 'runs' / 'student.yaml'}\nseeds: [0]\nmetrics: [test/accuracy]\n"
    path.write_text(f'{common}baseline: b\naxes: {{optimizer.name: ["a\\e", sgd]}}\n')
    with pytest.raises(InputError, match=r"rows, axes, test_sets: 'name=a\\x1b' contains a control character"):
        plan_ablation(path)


def test_a_recorded_name_may_be_longer(tmp_path: Path) -> None:
    config = load([], ["name=run"]).model_copy(update={"name": "a" * 150})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_recorded(tmp_path / "config.yaml").name == "a" * 150
    (tmp_path / "config.yaml").write_text("name: ../../x\n")
    with pytest.raises(InputError, match="stays in its folder"):
        load_recorded(tmp_path / "config.yaml")


def test_the_folder_of_a_row_with_a_very_long_name_fits_the_file_system(tmp_path: Path) -> None:
    names = ["x" * 400, "x" * 401, "x" * 235]
    folders = folder_names(names)
    assert folders["x" * 235] == "x" * 235
    assert len(set(folders.values())) == 3
    for folder in folders.values():
        (tmp_path / f"{folder}-seed0.log").touch()
