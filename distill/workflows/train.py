"""`train`: a configuration -> a finished run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from distill.build import build, run_identity
from distill.config import Config
from distill.training import RunDirectory, fit


class Outcome(NamedTuple):
    """Where a run lies, and what was done: trained from the start, resumed, or nothing as it was done before."""

    directory: Path
    action: Literal["new", "resume", "done"]


def train(config: Config, *, overwrite: bool = False, say: Callable[[str], None] | None = None) -> Outcome:
    """Train what a configuration says, or go on with it, or find it done.

    Args:
        config: The run.
        overwrite: Whether another run of the same name may be replaced.
        say: Told what a user may want to know before the first step.

    Raises:
        InputError: if something in it does not fit, or its directory holds another run; nothing was touched then.
        RunError: if the run failed; its last good state is kept.
    """
    directory = RunDirectory(config.directory)
    identity = run_identity(config)
    if directory.state(identity, overwrite=overwrite) == "done":
        return Outcome(directory.path, "done")
    run = build(config)
    if run.cache is not None and say is not None:
        say(f"teacher's cache: {run.cache}")
    action = directory.open(config, identity, overwrite=overwrite)
    fit(run.module, run.data, config)
    return Outcome(directory.path, action)
