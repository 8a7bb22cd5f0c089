"""Repeat the step in which a run stopped being finite, from the file that the run has written."""

from __future__ import annotations

from pathlib import Path

from distill.build import build, load_recorded_config, trust_in
from distill.config import Config
from distill.data.own_data import is_callable_path
from distill.errors import InputError
from distill.files import expand_home
from distill.objects import is_object
from distill.training import RunDirectory
from distill.training.replay import Replay, replay_step
from distill.untrusted import Trust


def replay(path: Path | str, *, trust: bool = False) -> Replay:
    """Repeat a failed step; nothing is written.

    Convention:
        - The configuration is that of the run in whose directory the file is. Its data set and its teacher are loaded
          again; the weights, the state of the optimiser, the random numbers and the batch are those of the file.

    Args:
        path: ``failed_step.ckpt`` in the directory of a run, or that directory.
        trust: Whether the configuration of the run may name code to import.

    Returns:
        The figures of the repeated step, and those that the run recorded.

    Raises:
        InputError: if the file cannot be read, is not in the directory of its run, or the run was made of Python
            objects.
    """
    path = Path(expand_home(path))
    directory = RunDirectory(path.parent)
    if path.is_dir():
        directory = RunDirectory(path)
        path = directory.failed_step
    if path.suffix != directory.failed_step.suffix:
        raise InputError(
            f"{path} is not the file of a failed step, which a run writes as {directory.failed_step.name}."
        )
    if not path.is_file():
        raise InputError(f"no file {path}. A run whose loss is not finite writes {directory.failed_step.name}.")
    if not directory.config.exists():
        raise InputError(f"{path.parent} has no {directory.config.name}; the file must be in the directory of its run.")
    directory.check_config()
    config = load_recorded_config(directory.config)
    _check_names(config, directory, trust=trust)
    here = {"output_dir": str(path.parent.parent), "name": path.parent.name}
    config = config.model_copy(update=here)
    run = build(config, trust=Trust(everything=trust), resumed=True)
    return replay_step(run.module, run.data, config, path)


def _check_names(config: Config, directory: RunDirectory, *, trust: bool) -> None:
    """Check that no part of a run was passed as an object, and that no code is imported that is not trusted."""
    callbacks = [entry.get("name") if isinstance(entry, dict) else entry for entry in config.callbacks]
    names = {*trust_in(config).names, config.optimizer.name, *callbacks}
    for name in sorted(name for name in names if isinstance(name, str)):
        if is_object(name):
            raise InputError(
                f"{directory.path}: a part of this run was passed as a Python object, so the step cannot be repeated "
                "from its files."
            )
        if is_callable_path(name) and not name.startswith(("torchvision:", "timm:")):
            Trust(everything=trust).check(name, directory.config, "`--trust`")
