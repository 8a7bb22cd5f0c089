"""The allocator setting: which systems get it, how it is switched off, and that results do not depend on it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import distill.cli
from distill.ablation import executors
from distill.cli import entry
from distill.malloc import (
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    SWITCH,
    THRESHOLD,
    THRESHOLD_OF_OLD_GLIBC,
    keep_freed_memory,
)

Calls = list[tuple[int, int]]

#: Hash of logits, maps and weights after a training step, and the page faults of each of 6 forward passes at batch 256.
WORK = """
import hashlib, json, resource
from distill.malloc import keep_freed_memory
kept = keep_freed_memory()
import torch
from distill.explain import Explainer
from distill.models import create_model
torch.manual_seed(0)
torch.set_num_threads(1)
network = create_model("wrn_10_1", num_classes=10)
images, labels = torch.rand(256, 3, 32, 32), torch.arange(256) % 10
explained = Explainer("grad_cam_pp", "group2")(network, images[:32], labels[:32])
torch.nn.functional.cross_entropy(network(images[:32]), labels[:32]).backward()
torch.optim.SGD(network.parameters(), lr=0.1).step()
network.eval()
with torch.no_grad():
    counts = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
    for _ in range(6):
        logits = network(images)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    faults = [after - before for before, after in zip(counts, counts[1:])]
digest = hashlib.sha256()
for tensor in (explained.maps, explained.logits, logits, *network.state_dict().values()):
    digest.update(tensor.detach().contiguous().numpy().tobytes())
print(json.dumps({"kept": kept, "digest": digest.hexdigest(), "faults": faults}))
"""


def on_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):
        return False


def run_work(**variables: str) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key != SWITCH} | variables
    command = [sys.executable, "-c", WORK]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    answer: dict[str, Any] = json.loads(out)
    return answer


@pytest.fixture
def accept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[int, int], int]], Calls]]:
    """Stand in for glibc's mallopt with a function that accepts or refuses; return the list of its calls."""
    for name in (SWITCH, "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)

    def install(answer: Callable[[int, int], int]) -> Calls:
        calls: Calls = []

        class Library:
            def mallopt(self, parameter: int, value: int) -> int:
                calls.append((parameter, value))
                return answer(parameter, value)

        monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
        return calls

    yield install
    keep_freed_memory.cache_clear()


Accept = Callable[[Callable[[int, int], int]], Calls]
#: The function without its cache, so that every test calls it anew.
set_thresholds = keep_freed_memory.__wrapped__


def test_both_thresholds_are_set(accept: Accept) -> None:
    calls = accept(lambda parameter, value: 1)
    assert set_thresholds() is True
    assert calls == [(M_MMAP_THRESHOLD, THRESHOLD), (M_TRIM_THRESHOLD, THRESHOLD)] == [(-3, 1 << 30), (-1, 1 << 30)]


def test_an_old_glibc_gets_the_largest_threshold_that_it_accepts(accept: Accept) -> None:
    calls = accept(lambda parameter, value: int(parameter == M_TRIM_THRESHOLD or value <= 1 << 25))
    assert set_thresholds() is True
    assert calls[1:] == [(M_MMAP_THRESHOLD, THRESHOLD_OF_OLD_GLIBC), (M_TRIM_THRESHOLD, THRESHOLD)]
    assert THRESHOLD_OF_OLD_GLIBC == 32 * 2**20


def test_the_trim_threshold_is_never_set_alone(accept: Accept) -> None:
    calls = accept(lambda parameter, value: int(parameter == M_TRIM_THRESHOLD))
    assert set_thresholds() is False
    assert {parameter for parameter, _ in calls} == {M_MMAP_THRESHOLD}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (SWITCH, "off"),
        (SWITCH, " OFF "),
        ("MALLOC_MMAP_THRESHOLD_", "1000000"),
        ("MALLOC_TRIM_THRESHOLD_", "1000000"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=128"),
    ],
)
def test_the_environment_switches_it_off(
    accept: Accept, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    calls = accept(lambda parameter, value: 1)
    monkeypatch.setenv(name, value)
    assert set_thresholds() is False
    assert calls == []


@pytest.mark.parametrize("value", ["on", ""])
def test_another_value_leaves_it_on(accept: Accept, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    accept(lambda parameter, value: 1)
    monkeypatch.setenv(SWITCH, value)
    assert set_thresholds() is True


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_another_c_library_is_left_unchanged(
    accept: Accept, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    calls = accept(lambda parameter, value: 1)

    def confstr(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(os, "confstr", confstr, raising=False)
    assert set_thresholds() is False
    monkeypatch.delattr(os, "confstr")
    assert set_thresholds() is False
    assert calls == []


def test_a_library_without_the_function_is_left_unchanged(accept: Accept, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(lambda parameter, value: 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert set_thresholds() is False

    def missing(name: str | None) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert set_thresholds() is False


def test_a_second_call_sets_nothing(accept: Accept) -> None:
    calls = accept(lambda parameter, value: 1)
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is keep_freed_memory() is True
    assert len(calls) == 2


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    calls: list[None] = []
    for module in (entry, executors):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: calls.append(None))
    return calls


def test_every_command_calls_it(counted: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["distill", "--help"])
    with pytest.raises(SystemExit):
        distill.cli.main()
    assert len(counted) == 1


def test_every_trial_of_an_ablation_calls_it(counted: list[None], tmp_path: Any) -> None:
    done = executors.run_packed(executors.pack_task(executors.Task("a", 3, tmp_path / "log"), float))
    assert (done.state, done.value, len(counted)) == ("done", 3.0, 1)


def test_results_do_not_depend_on_it() -> None:
    off, on = run_work(**{SWITCH: "off"}), run_work()
    assert on["digest"] == off["digest"]
    assert off["kept"] is False
    assert on["kept"] is on_glibc()


@pytest.mark.skipif(not on_glibc(), reason="the setting is for glibc")
def test_a_forward_pass_needs_no_new_pages() -> None:
    off, on = run_work(**{SWITCH: "off"})["faults"], run_work()["faults"]
    assert min(on) < 1000  # the heap may grow in the first passes
    # Without the setting the count varies, because the kernel may serve several pages with one fault.
    assert max(off) > 10 * max(min(on), 500)


def test_it_imports_no_torch() -> None:
    code = "import sys, distill.malloc; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
