"""Run seeded cases: damage one file of a finished run, read it, and classify what happens."""

from __future__ import annotations

import contextlib
import random
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

import typer

from distill.errors import InputError, RunError
from tests.fuzz.mutations import OF_BYTES, OF_PLACES, OF_RECORDS, damage, remove
from tests.fuzz.targets import Target

#: An error that names the file; all values are as before; an error that does not name it; other values; the rest.
Outcome = Literal["clear", "unchanged", "unclear", "silent", "traceback", "hang"]
OUTCOMES: tuple[Outcome, ...] = ("clear", "unchanged", "unclear", "silent", "traceback", "hang")
BROKEN = ("unclear", "silent", "traceback", "hang")
#: Seconds after which a case counts as a hang.
PATIENCE = 20


class Case(NamedTuple):
    """A damaged file and what happened when it was read."""

    number: int
    target: str
    kind: str
    outcome: Outcome
    detail: str


class HangError(BaseException):
    """Reading took too long."""


def run_cases(targets: Sequence[Target], folder: Path, *, seed: int, numbers: Sequence[int]) -> Iterator[Case]:
    """Yield the outcome of cases; a case depends on ``seed`` and its number only.

    Args:
        targets: What is damaged; see :func:`tests.fuzz.targets.make_targets`.
        folder: Where the files of the targets are.
        seed: Seed of all cases.
        numbers: Numbers of the cases; case n damages target n modulo the number of targets.
    """
    expected = {target.name: target.read(folder) for target in targets}
    for number in numbers:
        target = targets[number % len(targets)]
        rng = random.Random(f"{seed}-{number}")
        kinds = [*OF_BYTES, *OF_PLACES, *(OF_RECORDS if target.record else ())]
        kind = kinds[(number // len(targets)) % len(kinds)]
        path = folder / target.path
        whole = path.read_bytes()
        damage(path, kind, rng)
        try:
            outcome, detail = _read(target, folder, expected[target.name], kind)
        finally:
            remove(path)
            path.write_bytes(whole)
        yield Case(number, target.name, kind, outcome, detail)


def _read(target: Target, folder: Path, expected: Any, kind: str) -> tuple[Outcome, str]:
    path = folder / target.path
    try:
        with _alarm(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = target.read(folder)
    except (InputError, RunError, typer.BadParameter) as error:
        names = (path.name, path.parent.name, "in the configuration", "the configuration cannot be merged")
        named = any(name in str(error) for name in names)
        return ("clear" if named else "unclear"), str(error)
    except HangError:
        return "hang", ""
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {str(error)[:300]}"
    if target.free or kind == "wrong type, no checksum" or _is_part(value, expected):
        return "unchanged", ""
    return "silent", f"{str(value)[:150]} instead of {str(expected)[:150]}"


def _is_part(value: Any, expected: Any) -> bool:
    """Return whether two values are equal, or one has some of the keys of the other, with equal values."""
    if isinstance(value, dict) and isinstance(expected, dict):
        return all(key in expected and expected[key] == part for key, part in value.items())
    return bool(value == expected)


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def table(cases: Sequence[Case]) -> str:
    """Return the number of cases by target and outcome as a Markdown table."""
    lines = ["| target | cases | " + " | ".join(OUTCOMES) + " |", "|---|---:|" + "---:|" * len(OUTCOMES)]
    names = list(dict.fromkeys(case.target for case in cases))
    for name in [*names, "all"]:
        chosen = [case for case in cases if name in (case.target, "all")]
        counts = [sum(case.outcome == outcome for case in chosen) for outcome in OUTCOMES]
        lines.append(f"| {name} | {len(chosen)} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)
