"""`scripts/soak`: memory, open files and threads stay the same from round to round, and a leak is found."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import soak


@pytest.mark.slow
def test_nothing_grows_while_all_commands_are_repeated() -> None:
    lines: list[str] = []
    problems = soak.too_much(soak.soak(0, show=lines.append)[soak.WARM_UP :])
    if problems:  # a single jump among few rounds can look like growth; a leak goes on
        problems = soak.too_much(soak.soak(0, show=lines.append)[soak.WARM_UP :])
    assert problems == [], "\n".join(lines)


KEPT: list[Any] = []


def keep_memory(folder: Path) -> None:
    pages = mmap.mmap(-1, 2 << 20)  # never memory that an earlier test has freed
    pages.write(b"x" * len(pages))
    KEPT.append(pages)


def keep_a_file_open(folder: Path) -> None:
    KEPT.append((folder / "run.yaml").open())


def keep_a_thread(folder: Path) -> None:
    end = threading.Event()
    for _ in range(5):  # threads of earlier tests may end meanwhile
        threading.Thread(target=end.wait, daemon=True).start()
    KEPT.append(end)


@pytest.mark.parametrize(
    ("work", "quantity"), [(keep_memory, "memory"), (keep_a_file_open, "files"), (keep_a_thread, "threads")]
)
def test_a_leak_is_found(work: Callable[[Path], None], quantity: str) -> None:
    try:
        samples = soak.soak(0, work, show=lambda line: None)
        problems = soak.too_much(samples[soak.WARM_UP :])
        assert [problem.split()[0] for problem in problems] == [quantity]
    finally:
        for kept in KEPT:
            if isinstance(kept, threading.Event):
                kept.set()
            else:
                kept.close()
        KEPT.clear()


def test_a_single_jump_is_no_growth() -> None:
    before, after = soak.Sample(1e5, 20.0, 3.0), soak.Sample(2e5, 25.0, 4.0)
    assert soak.too_much([before, before, after, after, after, after, after]) == []
