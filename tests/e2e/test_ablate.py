"""`distill ablate`: a grid under seeds, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from distill.report.ablation.record import AblationRecord, load_ablation
from tests.e2e.helpers import Command, environment

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "configs" / "ablation" / "tiny.yaml")
DISTILL = [sys.executable, "-c", "from distill.cli import main; main()", "ablate", TINY]
#: Runs of eight epochs, so that one can be met half done.
PAIRS = ["rows.CE={}", "overrides.trainer.max_epochs=8", "executor.threads=1", "exclude=[{row: CE + KD + Grad-CAM++}]"]
#: What an ablation says, without the time that it took.
FOUND = ("rows", "seeds", "metrics", "baseline", "trials")


def start(output: Path, *pairs: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*DISTILL, *PAIRS, f"output_dir={output}", *pairs],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def finish(output: Path, *pairs: str) -> str:
    process = start(output, *pairs)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


def found(output: Path, name: str = "tiny") -> dict[str, Any]:
    record: AblationRecord = load_ablation(output / name / "ablation.json")
    content: dict[str, Any] = json.loads(json.dumps({key: record[key] for key in FOUND}))  # type: ignore[literal-required]
    for trial in content["trials"]:
        del trial["seconds"]
    return content


def files(folder: Path, pattern: str) -> dict[str, tuple[int, bytes]]:
    """What lies there, and when it was written."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob(pattern) if path.is_file()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    finish(folder)
    return folder


@pytest.mark.slow
def test_what_it_finds(straight: Path) -> None:
    content = found(straight)
    assert content["rows"] == ["CE", "CE + KD"]
    assert [(t["row"], t["seed"], t["state"]) for t in content["trials"]] == [
        (row, seed, "done") for row in ("CE", "CE + KD") for seed in (0, 1)
    ]
    for trial in content["trials"]:
        assert {"unbiased/accuracy", "unbiased/agreement", "unbiased/map_cosine", "validation/accuracy"} <= set(
            trial["figures"]
        )
        assert all(value is not None for value in trial["figures"].values())
    assert len({json.dumps(t["figures"]) for t in content["trials"]}) > 1  # seeds and rows differ
    assert len(list((straight / "teachers").glob("*/student.safetensors"))) == 1
    assert sorted(p.name for p in (straight / "tiny" / "runs").iterdir() if p.is_dir()) == [
        "ce-kd-seed0",
        "ce-kd-seed1",
        "ce-seed0",
        "ce-seed1",
    ]


@pytest.mark.slow
def test_nothing_is_run_twice(straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(straight, folder)
    before = files(folder, "**/runs/**/*") | files(folder, "results/*.json") | files(folder, "teachers/*/*")
    finish(folder)
    finish(folder, "name=other", "seeds=1")
    after = files(folder, "**/runs/**/*") | files(folder, "results/*.json") | files(folder, "teachers/*/*")
    assert after == before
    assert found(folder) == found(straight)
    assert found(folder, "other")["trials"] == [t for t in found(straight)["trials"] if t["seed"] == 0]


@pytest.mark.slow
def test_known_results_go_on_elsewhere_without_teacher_or_runs(straight: Path, tmp_path: Path) -> None:
    finish(tmp_path, f"results={straight / 'results'}")
    assert found(tmp_path) == found(straight)
    assert not (tmp_path / "teachers").exists()
    assert not (tmp_path / "tiny" / "runs").exists()


@pytest.mark.slow
def test_one_run_that_fails_is_a_row_with_its_reason(tmp_path: Path) -> None:
    process = start(tmp_path, "seeds=1", "rows.bad.optimizer.lr=1e30")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    states = {t["row"]: (t["state"], t["reason"]) for t in found(tmp_path)["trials"]}
    assert states["CE"] == states["CE + KD"] == ("done", None)
    state, reason = states["bad"]
    assert state == "failed"
    assert "not a finite number" in reason or "not finite numbers" in reason
    said = " ".join(err.split())
    assert (
        f"a run failed; the same command tries again: bad, seed 0: {reason} ({tmp_path}/tiny/runs/bad-seed0.log)"
        in said
    )


def last_state(folder: Path) -> bool:
    return any(folder.glob("teachers/*/checkpoints/last.ckpt"))


def a_cut_run(folder: Path) -> bool:
    runs = folder / "tiny" / "runs"
    return any(not (path.parents[1] / "student.safetensors").exists() for path in runs.glob("*/checkpoints/last.ckpt"))


def a_result(folder: Path) -> bool:
    return any(folder.glob("results/*.json"))


def until(condition: Callable[[Path], bool], folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not condition(folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture
def kill_at(straight: Path, tmp_path: Path) -> Callable[[Callable[[Path], bool]], Path]:
    def kill(moment: Callable[[Path], bool]) -> Path:
        process = start(tmp_path)
        until(moment, tmp_path, process)
        children = family(process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert psutil.wait_procs(children, timeout=20)[1] == []  # none outlives it
        return tmp_path

    return kill


@pytest.mark.slow
@pytest.mark.parametrize("moment", [last_state, a_cut_run, a_result])
def test_killed_at_any_moment_the_same_command_goes_on(
    straight: Path, kill_at: Callable[[Callable[[Path], bool]], Path], moment: Callable[[Path], bool]
) -> None:
    folder = kill_at(moment)
    assert not (folder / "tiny" / "ablation.json").exists()
    finished = files(folder, "results/*.json")
    begun = {path: path.read_bytes() for path in folder.glob("tiny/runs/*/environment.json") if _saved(path.parent)}
    finish(folder)
    assert found(folder) == found(straight)
    assert finished.items() <= files(folder, "results/*.json").items()  # not measured again
    assert begun == {path: path.read_bytes() for path in begun}  # gone on with, not begun anew
    assert {path.name: path.read_bytes() for path in folder.glob("teachers/*/student.safetensors")} == {
        path.name: path.read_bytes() for path in straight.glob("teachers/*/student.safetensors")
    }


def _saved(run: Path) -> bool:
    return (run / "checkpoints" / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_in_order_and_the_same_command_goes_on(
    straight: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path)
    until(a_cut_run, tmp_path, process)
    children = family(process)
    os.killpg(process.pid, number)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped; what is finished is kept, and the same command goes on from there." in " ".join(err.split())
    assert psutil.wait_procs(children, timeout=10)[1] == []
    finish(tmp_path)
    assert found(tmp_path) == found(straight)


def test_a_second_one_of_the_same_name_is_refused(distill: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    with FileLock(tmp_path / "tiny" / ".lock"):
        said = distill("ablate", TINY, f"output_dir={tmp_path}")
    assert said.code == 2
    assert said.err.splitlines()[-1] == (
        f"distill: {tmp_path / 'tiny'} is being run by another process; wait for it, or give this one another `name=`."
    )
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == [".lock"]


def test_ray_that_is_not_there(distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = distill("ablate", TINY, f"output_dir={tmp_path}", "executor.name=ray")
    assert said.code == 2
    assert said.message.endswith(
        'executor.name=ray needs Ray: pip install "distill-explain[ray]", or take executor.name=local.'
    )


def test_more_than_one_file(distill: Command) -> None:
    said = distill("ablate", TINY, TINY)
    assert (said.code, said.message) == (2, "distill: expected one ablation file, got 2; see configs/ablation.")


@pytest.mark.slow
def test_a_dry_run_lists_what_is_left(distill: Command, straight: Path) -> None:
    before = files(straight, "**/*")
    said = distill("ablate", TINY, *PAIRS, f"output_dir={straight}", "seeds=3", "--dry-run")
    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines() if line.strip().startswith("CE")]
    assert [(line[: line.index("done" if "done" in line else "to")]) for line in lines] == [
        [*row, str(seed)] for seed in (0, 1, 2) for row in (["CE"], ["CE", "+", "KD"])
    ]
    assert [("done" if "done" in line else "to do") for line in lines] == ["done"] * 4 + ["to do"] * 2
    assert said.message.startswith("2 runs are left, very roughly 0 minutes: by its first steps 'CE' trains for ")
    assert files(straight, "**/*") == before
    again = distill("ablate", TINY, *PAIRS, f"output_dir={straight}", "--dry-run")
    assert again.message == "nothing is left to run"
