"""Distributed runs: a process that dies ends the others, and a run resumes with another number of processes."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill.config import Config
from distill.models.damage import add_checksum
from distill.training import DistillationModule, RunDirectory
from distill.types import Batch
from tests.training.helpers import CrashError, checkpoint, crash_at, rows, save_teacher, small, train

DISTILL = str(Path(sys.executable).with_name("distill"))


def saved_by(path: Path, count: int) -> None:
    """Make a checkpoint of one process look like that of several, each with a part of the batch."""
    content = checkpoint(path)
    content["processes"] = {"count": count, "batches": content["processes"]["batches"] // count}
    loop = content["loops"]["fit_loop"]
    current = loop["epoch_loop.batch_progress"]["current"]
    ready = current["ready"]
    loop["epoch_loop.batch_progress"]["current"] = {
        key: ready // count - (ready - value) for key, value in current.items()
    }
    for state in loop["state_dict"]["combined_loader"]:
        state["position"] //= count
    for scheduler in content["lr_schedulers"]:
        for key in ("last_epoch", "T_max", "_step_count"):
            scheduler[key] //= count
    torch.save(add_checksum(content), path)


@pytest.mark.parametrize("steps", [4, 6])
def test_the_epoch_and_the_schedule_go_on_where_several_processes_stopped(tmp_path: Path, steps: int) -> None:
    """Two processes made half as many steps as one process with the same batch; it goes on after the same images."""
    settings = ("trainer.max_epochs=3", "checkpoint.every_n_steps=2")
    visited: dict[str, list[Any]] = {"straight": [], "resumed": []}

    def run(name: str, *, crash: int = -1) -> Config:
        config = small(tmp_path / name, *settings)
        step = DistillationModule.training_step

        def look(module: DistillationModule, batch: Batch, number: int = 0) -> Tensor:
            rate = module.trainer.optimizers[0].param_groups[0]["lr"]
            visited[name].append((batch.index.tolist(), pytest.approx(rate)))
            return step(module, batch, number)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DistillationModule, "training_step", look)
            train(config, before_step=crash_at(crash))
        return config

    run("straight")
    with pytest.raises(CrashError):
        run("resumed", crash=steps)
    saved_by(RunDirectory(small(tmp_path / "resumed").directory).last, 2)
    config = run("resumed")
    assert visited["resumed"] == visited["straight"]
    assert [row["epoch"] for row in rows(config)] == ["0", "0", "1", "1", "2", "2"]


def start(folder: Path, *pairs: str) -> subprocess.Popen[str]:
    settings = (
        "data={name: fashion_scenes, size: 16, count: {train: 512, validation: 32}, batch_size: 8}",
        "student.name=wrn_10_1",
        "trainer={max_epochs: 2, accelerator: cpu, precision: 32-true, devices: 2, strategy: ddp}",
        "loggers.tensorboard=false",
        "checkpoint.every_n_steps=8",
        f"output_dir={folder}",
        "name=run",
    )
    config = folder / "run.yaml"
    config.write_text("{}")
    return subprocess.Popen(
        [DISTILL, "train", config, *settings, *pairs], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def wait_for(path: Path, main: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert main.poll() is None, main.communicate()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path: Path, rank: int) -> None:
    main = start(tmp_path)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    wait_for(last, main)
    (child,) = psutil.Process(main.pid).children()
    target = child if rank else psutil.Process(main.pid)
    before = last.stat().st_mtime_ns
    target.send_signal(signal.SIGUSR1)
    end = time.monotonic() + 60
    while last.stat().st_mtime_ns == before and time.monotonic() < end:
        time.sleep(0.02)
    target.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    _, err = main.communicate(timeout=60)
    assert psutil.wait_procs([child], timeout=60 - (time.monotonic() - sent))[1] == []
    assert main.returncode == 130, err
    step = checkpoint(last)["global_step"]
    assert f"distill: stopped at step {step}; run the same command again to resume." in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "student.safetensors").exists()
    if rank == 0:
        return
    again = start(tmp_path)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "resumed and trained" in " ".join(err.split())


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_others_with_a_message(tmp_path: Path, rank: int) -> None:
    main = start(tmp_path)
    run = tmp_path / "run"
    wait_for(run / "checkpoints" / "last.ckpt", main)
    (child,) = psutil.Process(main.pid).children()
    (child if rank else psutil.Process(main.pid)).send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, err = main.communicate(timeout=60)  # until both have ended: both hold the pipe
    assert psutil.wait_procs([child], timeout=60 - (time.monotonic() - killed))[1] == []
    assert main.returncode == (1 if rank else -signal.SIGKILL)
    message = " ".join(err.split())
    reason = f"rank 1 (number {child.pid}) was killed by SIGKILL, so rank 0" if rank else "rank 0 ended, so rank 1"
    assert f"distill: the process of {reason} stops as well; the last checkpoint is {run}" in message
    assert "Traceback" not in err
    assert not (run / "student.safetensors").exists()
    if rank:
        return
    alone = start(tmp_path, "trainer.devices=1", "trainer.strategy=auto")
    _, err = alone.communicate(timeout=120)
    assert alone.returncode == 0, err
    assert "resumed with 1 process instead of 2" in err
    assert (run / "student.safetensors").exists()


@pytest.mark.slow
def test_two_processes_with_average_accumulation_and_clipping_are_one(tmp_path: Path) -> None:
    """With batch normalisation in evaluation mode: two processes of half the batch make the steps of one process."""
    teacher = save_teacher(tmp_path / "teacher")
    common = (
        "data.count={train: 64, validation: 32}",
        "student.freeze=['*bn*']",  # batch normalisation without trained parameters keeps its statistics
        f"teacher.checkpoint={teacher}",
        "objective={soft_targets: {weight: 0.5}, explanation: {weight: 2, layer: group2}}",
        "optimizer={lr: 0.05, momentum: 0.9, weight_decay: 0.001}",
        "schedule={name: cosine, warmup_epochs: 1}",
        "ema={decay: 0.8}",
        "trainer.accumulate_grad_batches=2",
        "trainer.gradient_clip_val=0.3",
        "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false",
        "monitor.select=last",
    )
    ways = {
        "one": ("trainer.devices=1", "trainer.strategy=auto", "data.batch_size=16"),
        "two": ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=8"),
    }
    for name, way in ways.items():
        process = start(tmp_path, *common, *way, f"name={name}")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    one, two = (checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ways)
    assert one["global_step"] == two["global_step"] == 6  # 4 batches an epoch, 2 of them a step, 3 epochs
    for part in ("state_dict", "ema_state_dict"):
        weights = [name for name in one[part] if name.startswith("student.") and one[part][name].is_floating_point()]
        assert len(weights) > 40
        for name in weights:
            torch.testing.assert_close(two[part][name], one[part][name], rtol=0, atol=1e-6, msg=name)
    moved = max(float((one["state_dict"][n] - one["ema_state_dict"][n]).abs().max()) for n in weights)
    assert moved > 1e-3
    saved = [load_file(tmp_path / name / "student.safetensors") for name in ways]
    for name, value in saved[0].items():
        torch.testing.assert_close(value, one["ema_state_dict"][f"student.network.{name}"])
        torch.testing.assert_close(saved[1][name], value, rtol=0, atol=1e-6)
    logged = [list(csv.DictReader((tmp_path / name / "metrics.csv").open())) for name in ways]
    assert [row["epoch"] for row in logged[0]] == ["0", "0", "1", "1", "2", "2"]
    assert [row["step"] for row in logged[0]] == ["1", "1", "3", "3", "5", "5"]
    for a, b in zip(*logged, strict=True):
        assert {k: float(v) for k, v in a.items() if v} == pytest.approx({k: float(v) for k, v in b.items() if v}, 1e-5)
