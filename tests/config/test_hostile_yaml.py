"""YAML files that are no text, nest too deeply or stand for billions of values are refused before they are built."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from distill.config import load
from distill.errors import InputError

#: Ten aliases of ten aliases: 10^9 values in 400 bytes.
BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.encode(), "it has more than 100,000 values, with its aliases expanded"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"- " * 100_000, "is nested too deeply"),
        (b"a: " + b"[" * 500 + b"]" * 500, "is nested too deeply"),
        (b"a: &a [*a]", "is nested too deeply"),
        (b"seed: 1\xff", "is not a text file: byte 7 is not UTF-8"),
        (b"seed: " + b"9" * 10_000, "is not valid YAML"),
        (b"a: !!python/object/apply:os.system [ls]", "is not valid YAML"),
        (b"[1, 2]", "must hold keys and values"),
    ],
)
def test_a_hostile_file_is_refused_at_once(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(InputError, match=rf"^{path}.*({message})"):
        load([path])
    assert time.monotonic() - start < 10


def test_aliases_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("optimizer: &o {lr: 0.5}\nseed: 3\nschedule: {<<: {}}\n")
    assert load([path]).optimizer.lr == 0.5


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(InputError, match=r"no configuration file|is a pipe"):
        load([tmp_path / "a.yaml"])
