"""`distill train`."""

from __future__ import annotations

from omegaconf import OmegaConf
from rich.console import Console

from distill.build import load_config
from distill.runs import train


def run(arguments: list[str], *, overwrite: bool, dry_run: bool) -> None:
    """Split files from pairs, train, and say where the student lies."""
    files = [a for a in arguments if a.endswith((".yaml", ".yml")) and "=" not in a]
    config = load_config(files, [a for a in arguments if a not in files])
    console = Console(stderr=True)
    if dry_run:
        print(OmegaConf.to_yaml(config.model_dump(mode="json")), end="")
        return
    outcome = train(config, overwrite=overwrite)
    said = {"new": "trained", "resume": "resumed and trained", "done": "already done"}[outcome.action]
    console.print(f"{config.name}: {said}; the student is in {outcome.directory}", highlight=False)
