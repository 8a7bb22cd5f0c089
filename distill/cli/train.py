"""`distill train`."""

from __future__ import annotations

from pytorch_lightning.utilities import rank_zero_only

from distill.build import load_config
from distill.cli.options import split_files
from distill.config import to_yaml
from distill.console import PlainConsole
from distill.errors import RunError
from distill.untrusted import printable
from distill.workflows.replay import replay
from distill.workflows.train import train_config


def run(arguments: list[str], *, overwrite: bool, extend: bool, dry_run: bool, trust: bool) -> None:
    """Load the configuration, train, and print the path of the student."""
    config = load_config(*split_files(arguments), import_terms=True)
    if dry_run:
        print(to_yaml(config), end="")
        return
    run = train_config(config, overwrite=overwrite, extend=extend, trust=trust, notify=_notify)
    if not run.finished:  # the message was printed
        return
    state = {"new": "trained", "resume": "resumed and trained", "done": "already done"}[run.action]
    _notify(f"{config.name}: {state}; the student is in {run.directory}")


def repeat_failed_step(path: str, *, trust: bool) -> None:
    """Repeat a failed step, and print its figures.

    Raises:
        RunError: if the step cannot be repeated.
    """
    repeated, recorded = replay(path, trust=trust)
    if repeated is None:
        raise RunError(
            f"{path}: the step is finite when it is repeated. It depends on what is not in the file: the data, the "
            "code, the device or its number of processes."
        )
    print(printable(repeated.text))
    if recorded is not None:
        same = repeated.equals(recorded)
        print("All figures are equal to those of the run." if same else f"The run had other figures:\n{recorded.text}")


@rank_zero_only
def _notify(text: str) -> None:
    """Print a message; with several processes, only the process of rank 0 prints."""
    PlainConsole(stderr=True).print(text, soft_wrap=True)
