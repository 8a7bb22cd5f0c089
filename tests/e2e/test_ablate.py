"""`distill ablate`: results, resuming after any interruption, failures and messages."""

from __future__ import annotations

import itertools
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
from tests.e2e.processes import CommandProcess

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "configs" / "ablation" / "tiny.yaml")
DISTILL = [sys.executable, "-c", "from distill.cli import main; main()"]
#: Numbers of the commands, for the names of the files with their error output.
COUNTER = itertools.count()
#: Runs of eight epochs, so that a run can be interrupted before its end.
PAIRS = ["rows.CE={}", "overrides.trainer.max_epochs=8", "executor.threads=1", "exclude=[{row: CE + KD + Grad-CAM++}]"]
#: Keys of the record that are compared; times are left out.
COMPARED = ("rows", "seeds", "metrics", "baseline", "trials")


def start(output: Path, *pairs: str, sigint: signal.Handlers = signal.SIG_DFL) -> CommandProcess:
    """Start an ablation with SIGINT at its default or ignored, as it is in a background job of a shell."""
    arguments = ["ablate", TINY, *PAIRS, f"output_dir={output}", *pairs]
    return CommandProcess(arguments, output.with_name(f"{output.name}.{next(COUNTER)}.err"), sigint=sigint)


def finish(output: Path, *pairs: str) -> str:
    process = start(output, *pairs)
    assert process.wait(300) == 0, process.err
    return process.err


def results(output: Path, name: str = "tiny") -> dict[str, Any]:
    record: AblationRecord = load_ablation(output / name / "ablation.json")
    content: dict[str, Any] = json.loads(json.dumps({key: record[key] for key in COMPARED}))  # type: ignore[literal-required]
    for trial in content["trials"]:
        del trial["seconds"]
    return content


def files(folder: Path, pattern: str) -> dict[str, tuple[int, bytes]]:
    """Return content and modification time of files."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob(pattern) if path.is_file()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ablation that ran as users run it: from the command line, with processes that are started anew."""
    folder = tmp_path_factory.mktemp("straight")
    command = [*DISTILL, "ablate", TINY, *PAIRS, f"output_dir={folder}"]
    subprocess.run(command, check=True, capture_output=True, env={**environment(), "PYTHONPATH": str(ROOT)})
    return folder


@pytest.mark.slow
def test_results_of_all_trials(straight: Path) -> None:
    content = results(straight)
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
def test_no_run_is_repeated(straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(straight, folder)
    before = files(folder, "**/runs/**/*") | files(folder, "results/*.json") | files(folder, "teachers/*/*")
    finish(folder)
    finish(folder, "name=other", "seeds=1")
    after = files(folder, "**/runs/**/*") | files(folder, "results/*.json") | files(folder, "teachers/*/*")
    assert after == before
    assert results(folder) == results(straight)
    assert results(folder, "other")["trials"] == [t for t in results(straight)["trials"] if t["seed"] == 0]


@pytest.mark.slow
def test_stored_results_are_reused_in_another_folder_without_teacher_or_runs(straight: Path, tmp_path: Path) -> None:
    finish(tmp_path, f"results={straight / 'results'}")
    assert results(tmp_path) == results(straight)
    assert not (tmp_path / "teachers").exists()
    assert not (tmp_path / "tiny" / "runs").exists()


@pytest.mark.slow
def test_a_failed_run_is_recorded_with_its_reason(tmp_path: Path) -> None:
    process = start(tmp_path, "seeds=1", "rows.bad.optimizer.lr=1e30")
    assert process.wait(300) == 1, process.err
    err = process.err
    assert "Traceback" not in err
    states = {t["row"]: (t["state"], t["reason"]) for t in results(tmp_path)["trials"]}
    assert states["CE"] == states["CE + KD"] == ("done", None)
    state, reason = states["bad"]
    assert state == "failed"
    assert "not a finite number" in reason or "not finite numbers" in reason
    message = " ".join(err.split())
    log = tmp_path / "tiny" / "runs" / "bad-seed0.log"
    assert f"1 run failed. Run the same command again to repeat: bad, seed 0: {reason} ({log})" in message


def teacher_checkpoint(folder: Path) -> bool:
    return any(folder.glob("teachers/*/checkpoints/last.ckpt"))


def unfinished_run(folder: Path) -> bool:
    runs = folder / "tiny" / "runs"
    return any(not (path.parents[1] / "student.safetensors").exists() for path in runs.glob("*/checkpoints/last.ckpt"))


def stored_result(folder: Path) -> bool:
    return any(folder.glob("results/*.json"))


def wait_until(condition: Callable[[Path], bool], folder: Path, process: CommandProcess) -> None:
    deadline = time.monotonic() + 200
    while not condition(folder):
        assert process.returncode is None, process.err
        assert time.monotonic() < deadline
        time.sleep(0.01)


def child_processes(process: CommandProcess) -> list[psutil.Process]:
    """Return the processes of the runs; they are children of the server that the command was forked from, as it is."""
    server = psutil.Process(process.pid).parent()
    assert server is not None
    return [child for child in server.children(recursive=True) if child.pid != process.pid]


@pytest.fixture
def kill_at(straight: Path, tmp_path: Path) -> Callable[[Callable[[Path], bool]], Path]:
    def kill(moment: Callable[[Path], bool]) -> Path:
        process = start(tmp_path)
        wait_until(moment, tmp_path, process)
        children = child_processes(process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        assert psutil.wait_procs(children, timeout=20)[1] == []  # all processes have ended
        return tmp_path

    return kill


@pytest.mark.slow
@pytest.mark.parametrize("moment", [teacher_checkpoint, unfinished_run, stored_result])
def test_the_same_command_resumes_after_a_kill_at_any_moment(
    straight: Path, kill_at: Callable[[Callable[[Path], bool]], Path], moment: Callable[[Path], bool]
) -> None:
    folder = kill_at(moment)
    assert not (folder / "tiny" / "ablation.json").exists()
    finished = files(folder, "results/*.json")
    # config.yaml is written when a run starts, and not when it is resumed.
    with_checkpoint = [path.parents[1] for path in folder.glob("tiny/runs/*/checkpoints/last.ckpt")]
    started = {str(run): files(run, "config.yaml") for run in with_checkpoint}
    finish(folder)
    assert results(folder) == results(straight)
    assert finished.items() <= files(folder, "results/*.json").items()  # not evaluated again
    assert started == {run: files(Path(run), "config.yaml") for run in started}  # resumed, not restarted
    assert {path.name: path.read_bytes() for path in folder.glob("teachers/*/student.safetensors")} == {
        path.name: path.read_bytes() for path in straight.glob("teachers/*/student.safetensors")
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "sigint"),
    [(signal.SIGINT, signal.SIG_DFL), (signal.SIGINT, signal.SIG_IGN), (signal.SIGTERM, signal.SIG_DFL)],
)
def test_the_same_command_resumes_after_an_interrupt(
    straight: Path, tmp_path: Path, number: signal.Signals, sigint: signal.Handlers
) -> None:
    process = start(tmp_path, sigint=sigint)
    wait_until(unfinished_run, tmp_path, process)
    children = child_processes(process)
    assert children
    os.killpg(process.pid, number)  # to the process group, as a terminal does
    assert process.wait(60) == 130, process.err
    err = process.err
    assert "Traceback" not in err
    assert "stopped; finished runs are kept. Run the same command again to resume." in " ".join(err.split())
    assert psutil.wait_procs(children, timeout=10)[1] == []
    finish(tmp_path)
    assert results(tmp_path) == results(straight)


def test_a_second_process_with_the_same_name_is_rejected(distill: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    with FileLock(tmp_path / "tiny" / ".lock"):
        result = distill("ablate", TINY, f"output_dir={tmp_path}")
    assert result.code == 2
    assert result.err.splitlines()[-1] == (
        f"distill: {tmp_path / 'tiny'} is in use by another process. Wait until it ends, or stop it."
    )
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == [".lock"]


def test_ray_is_not_installed(distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = distill("ablate", TINY, f"output_dir={tmp_path}", "executor.name=ray")
    assert result.code == 2
    assert result.message.endswith(
        'executor.name: ray is not installed. Run `pip install -e ".[ray]"`, or set executor.name=local.'
    )


def test_more_than_one_file(distill: Command) -> None:
    result = distill("ablate", TINY, TINY)
    assert (result.code, result.message) == (2, "distill: expected one ablation file, got 2; see configs/ablation.")


@pytest.mark.slow
def test_a_dry_run_lists_the_runs_that_are_left(distill: Command, straight: Path) -> None:
    before = files(straight, "**/*")
    result = distill("ablate", TINY, *PAIRS, f"output_dir={straight}", "seeds=3", "--dry-run")
    assert result.code == 0
    lines = [line.split() for line in result.out.splitlines() if line.strip().startswith("CE")]
    assert [line[: line.index("done" if "done" in line else "pending")] for line in lines] == [
        [*row, str(seed)] for seed in (0, 1, 2) for row in (["CE"], ["CE", "+", "KD"])
    ]
    assert ["done" if "done" in line else "pending" for line in lines] == ["done"] * 4 + ["pending"] * 2
    assert result.message.startswith("runs left: 2; estimated training time: 0 min ('CE' takes ")
    assert files(straight, "**/*") == before
    again = distill("ablate", TINY, *PAIRS, f"output_dir={straight}", "--dry-run")
    assert again.message == "no runs left"
