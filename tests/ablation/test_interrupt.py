"""Ctrl-C and SIGTERM stop an ablation, also in a process that was started with SIGINT ignored."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from distill.ablation.run import _interruptible
from distill.training import InterruptError


@pytest.fixture
def sigint_ignored() -> Iterator[None]:
    """Ignore SIGINT, as a shell does for background jobs."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("sigint_ignored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_ablation_and_the_previous_handlers_are_restored(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(InterruptError, match=r"^stopped; finished runs are kept\."), _interruptible():
        signal.raise_signal(number)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
