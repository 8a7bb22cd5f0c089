"""`distill train`."""

from __future__ import annotations

from omegaconf import OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from distill.build import load_config
from distill.cli.arguments import split_files
from distill.workflows.train import train_config


def run(arguments: list[str], *, overwrite: bool, dry_run: bool) -> None:
    """Split files from pairs, train, and say where the student lies."""
    config = load_config(*split_files(arguments), import_terms=True)
    if dry_run:
        print(OmegaConf.to_yaml(config.model_dump(mode="json")), end="")
        return
    run = train_config(config, overwrite=overwrite, notify=_say)
    said = {"new": "trained", "resume": "resumed and trained", "done": "already done"}[run.action]
    _say(f"{config.name}: {said}; the student is in {run.directory}")


@rank_zero_only
def _say(text: str) -> None:
    """Of several processes the first one speaks."""
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
