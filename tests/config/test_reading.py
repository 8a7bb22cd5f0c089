"""Files that somebody else wrote: no interpolation, no content in messages, no exhausting of memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distill.config import load, load_recorded, to_yaml
from distill.config.reading import read_yaml
from distill.errors import InputError
from tests.e2e.helpers import TINY, Command, command


@pytest.fixture
def distill(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "500")
    return command(monkeypatch, capfd)


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        load([path])
    return str(caught.value)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1\nsecret: 1\n", "is not valid YAML: line 2, column 7: expected ',' or ']', but got ':'."),
        ("root:x:0:0:secret\nb: c\n", "is not valid YAML: line 2, column 2: mapping values are not allowed here."),
        ("a: *secret\n", "is not valid YAML: line 1, column 4: found undefined alias."),
        ("secret: 1\nsecret: 2\n", "is not valid YAML: line 2, column 1: found duplicate key."),
        ("a: !secret 1\n", "is not valid YAML: line 1, column 4: could not determine a constructor for the tag."),
        ("a: !!python/object/apply:os.system [secret]\n", "column 4: could not determine a constructor for the tag."),
        ("a: !!int secret\n", "is not valid YAML: a value does not have the type that its tag names."),
        ("a: !!bool secret\n", "is not valid YAML: a value does not have the type that its tag names."),
        ("a: {b: '${secret'}\n", "the value of a.b cannot be read. Correct it."),
        ("a: secret\x00\n", "is not valid YAML: it has a character that YAML does not allow."),
        (b"a: \xff secret\n", "is not a text file: byte 3 is not UTF-8."),
        ("a: " + "[" * 100_000, "is nested too deeply: at most 50 levels are read."),
        ("a: " + "[" * 60 + "]" * 60, "is nested too deeply: at most 50 levels are read."),
        ("a: &a [*a]\n", "is nested too deeply: at most 50 levels are read."),
        (LAUGHS, "is too large: it has more than 100,000 values, with its aliases expanded."),
        (MERGES, "is too large: it has more than 100,000 values, with its aliases expanded."),
        ("a: 1\n#" + "secret" * (1 << 20), "is larger than 4 MiB, the limit for a file of this kind."),
        ("secret\n", "must hold keys and values at its top level."),
        ("extends: 5\n", "extends: expected the path of a YAML file, or a list of paths."),
        ("extends: {a.yaml: 1}\n", "extends: expected the path of a YAML file, or a list of paths."),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message_without_its_content(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    text = refusal(tmp_path / "x.yaml", content)
    assert text.startswith(str(tmp_path / "x.yaml"))
    assert message in text
    assert "secret" not in text


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yaml")
    with pytest.raises(InputError, match="is a pipe, not a regular file"):
        read_yaml(tmp_path / "x.yaml")


def test_only_yaml_files_are_extended(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("secret:x:0\n")
    for path in (tmp_path / "passwords", "passwords"):
        text = refusal(tmp_path / "x.yaml", f"extends: {path}\n")
        assert text == f"{tmp_path}/x.yaml: extends: expected a .yaml or .yml file, got {str(path)!r}."
    (tmp_path / "link.yaml").symlink_to(tmp_path / "passwords")
    assert "secret" not in refusal(tmp_path / "x.yaml", "extends: link.yaml\n")
    (tmp_path / "x.yaml").write_text("extends: null\nseed: 3\n")
    assert load([tmp_path / "x.yaml"]).seed == 3


@pytest.mark.parametrize("pair", ["name=[", "name=" + "[" * 3000, "name=!!int x", "a=!!bool x", "name=${", "name=*x"])
def test_a_pair_that_cannot_be_read_is_one_message(pair: str) -> None:
    with pytest.raises(InputError, match=r"^the configuration cannot be merged: "):
        load([], [pair])


def test_a_file_of_the_user_reads_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE", "of mine")
    (tmp_path / "x.yaml").write_text("name: ${oc.env:PRIVATE}\n")
    assert load([tmp_path / "x.yaml"]).name == "of mine"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("name: ${oc.env:PRIVATE}\n", "name has an interpolation (${...}), which is not resolved"),
        ("data: {name: cifar10, root: 'x/${seed}'}\n", "data.root has an interpolation (${...})"),
        ("trainer: {callbacks: [1, '${seed}']}\n", "trainer.callbacks[1] has an interpolation (${...})"),
        ("data: {'${oc.env:PRIVATE}': 1}\n", "data.${oc.env:PRIVATE} has an interpolation (${...})"),
        ("extends: other.yaml\n", "the configuration of a run cannot extend other files"),
        ("extends: /etc/passwd\n", "the configuration of a run cannot extend other files"),
    ],
)
def test_the_configuration_of_a_run_is_read_as_plain_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, message: str
) -> None:
    monkeypatch.setenv("PRIVATE", "of mine")
    (tmp_path / "other.yaml").write_text("seed: 7\n")
    (tmp_path / "config.yaml").write_text(changed)
    with pytest.raises(InputError) as caught:
        load_recorded(tmp_path / "config.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/config.yaml: ")
    assert message in str(caught.value)
    assert "of mine" not in str(caught.value)


def test_a_recorded_configuration_is_read_as_it_was(tmp_path: Path) -> None:
    pairs = ["optimizer.lr=1e-5", "data.seed=3", "name='1e3'", "objective={cross_entropy: null, soft_targets: {}}"]
    config = load([TINY], [*pairs, "teacher.checkpoint=runs/teacher", "student.dropout=0.3"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_recorded(tmp_path / "config.yaml") == config


def test_commands_do_not_resolve_the_configuration_of_a_run(
    distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVATE", "of mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("data: {name: '${oc.env:PRIVATE}'}\n")
    result = distill("evaluate", tmp_path / "run")
    assert result.code == 2
    assert "data.name has an interpolation" in result.message
    assert "of mine" not in result.message


@pytest.mark.parametrize("on", ["size=[", "size=!!int x", "size=${"])
def test_a_test_set_that_cannot_be_parsed_is_one_message(
    distill: Command, tmp_path: Path, on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill.workflows.compared_sets import load_test_sets

    with pytest.raises(InputError, match=r"^--on: expected key=value"):
        load_test_sets({}, [on], split="test", limit=None)
