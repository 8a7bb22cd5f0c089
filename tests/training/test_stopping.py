"""A run ends on signals and after a time limit as it should, can resume, and leaves no signal handlers behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.config import Config
from distill.config import identity as identity_of
from distill.errors import InputError
from distill.models import load_model
from distill.training import InterruptError, RunDirectory
from distill.workflows.train import train_config
from tests.training.helpers import CrashError, checkpoint, crash_at, small, train

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PAIRS = ("trainer.max_epochs=2", "data.count={train: 32, validation: 16}")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small(tmp_path, *PAIRS)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    run = train_config(small(tmp_path_factory.mktemp("straight"), *PAIRS))
    return (run.directory / "student.safetensors").read_bytes()


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """The handlers of a command that starts in the foreground."""
    defaults: tuple[Any, ...] = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL)
    before = [signal.signal(number, handler) for number, handler in zip(SIGNALS, defaults, strict=True)]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


def send_at(step: int, *numbers: signal.Signals) -> Callable[[int], None]:
    def send(current: int) -> None:
        if current == step:
            for number in numbers:
                os.kill(os.getpid(), number)

    return send


def test_the_signal_handlers_are_restored_after_a_finished_run(config: Config) -> None:
    before = handlers()
    train_config(config)
    assert handlers() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_the_handlers_are_restored(
    config: Config, straight: bytes, number: signal.Signals
) -> None:
    before = handlers()
    with pytest.raises(InterruptError, match=r"^stopped at step 1; run the same command again to resume\.$") as caught:
        train(config, before_step=send_at(0, number))
    assert (handlers(), caught.value.exit_code) == (before, 130)
    assert train_config(config).action == "resume"
    assert (config.directory / "student.safetensors").read_bytes() == straight


def test_the_signal_handlers_are_restored_after_an_error(config: Config) -> None:
    before = handlers()
    with pytest.raises(CrashError):
        train(config, before_step=crash_at(1))
    assert handlers() == before


def test_a_second_signal_stops_at_once(config: Config) -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt):
        train(config, before_step=send_at(2, signal.SIGTERM, signal.SIGTERM))
    assert handlers() == before
    assert checkpoint(RunDirectory(config.directory).last)["global_step"] == 2


def test_a_run_that_gets_sigusr1_saves_and_goes_on(config: Config, straight: bytes) -> None:
    steps = []

    def watch(step: int) -> None:
        last = RunDirectory(config.directory).last
        steps.append(checkpoint(last)["global_step"] if last.exists() else None)
        send_at(0, signal.SIGUSR1)(step)

    train(config, before_step=watch)
    assert steps == [None, 1, 2, 2]
    assert (config.directory / "student.safetensors").read_bytes() == straight


def test_another_handler_of_sigusr1_is_left_alone(config: Config) -> None:
    received: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    train(config, before_step=send_at(0, signal.SIGUSR1))
    assert received == [signal.SIGUSR1]


def test_a_run_in_a_thread_handles_no_signals(config: Config) -> None:
    ends: list[bool] = []
    thread = threading.Thread(target=lambda: ends.append(train_config(config).finished))
    thread.start()
    thread.join()
    assert ends == [True]


def test_a_time_limit_ends_a_run_that_is_not_finished(config: Config, straight: bytes) -> None:
    limited = config.model_copy(update={"trainer": {**config.trainer, "max_time": {"seconds": 0}}})
    messages: list[str] = []
    ends = [train_config(limited, notify=messages.append).finished]
    weights = config.directory / "student.safetensors"
    assert (ends, weights.exists()) == ([False], False)
    expected = "run: not finished: trainer.max_time ended the run at step 1 of 4; run the same command again to go on."
    assert messages == [expected]
    with pytest.raises(InputError, match="a run that has not finished yet"):
        load_model(config.directory)
    while not ends[-1]:
        ends.append(train_config(limited).finished)
    assert ends == [False, False, False, True]
    assert weights.read_bytes() == straight


def test_the_time_limit_is_no_part_of_the_identity(config: Config) -> None:
    limited = config.model_copy(update={"trainer": {**config.trainer, "max_time": "00:01:00:00"}})
    assert identity_of(limited) == identity_of(config)


def test_a_wrong_time_limit_is_reported_before_anything_is_written(config: Config) -> None:
    wrong = config.model_copy(update={"trainer": {**config.trainer, "max_time": "an hour"}})
    with pytest.raises(InputError, match=r"trainer: .*an hour.* DD:HH:MM:SS"):
        train_config(wrong)
    assert not config.directory.exists()
