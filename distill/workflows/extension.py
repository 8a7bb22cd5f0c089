"""Continue a run for more epochs than it was started with."""

from __future__ import annotations

from distill.build import load_config, run_identity
from distill.config import Config
from distill.errors import InputError
from distill.training import RunDirectory

#: Schedules whose learning rate at a step depends on the number of epochs.
_DEPENDENT = ("cosine", "one_cycle")


def epochs_of_same_run(directory: RunDirectory, config: Config) -> int | None:
    """Return the number of epochs of the run in a directory, if it is the same run apart from ``trainer.max_epochs``.

    Returns:
        The number of epochs; None if there is no run, another run, or the same run with the same number of epochs.
    """
    if not directory.has_started or not directory.environment.exists() or not directory.config.exists():
        return None
    try:
        recorded = directory.identity()
        stored = load_config([directory.config]).trainer.get("max_epochs")
    except InputError:  # RunDirectory.state reports it
        return None
    trainer = {key: value for key, value in config.trainer.items() if key != "max_epochs"}
    same = config.model_copy(update={"trainer": trainer if stored is None else {**trainer, "max_epochs": stored}})
    if same.max_epochs == config.max_epochs or run_identity(same) != recorded:
        return None
    return same.max_epochs


def check_extension(directory: RunDirectory, config: Config, *, epochs: int, extend: bool) -> None:
    """Check that a run may be continued; nothing is written.

    Args:
        directory: The run.
        config: Its configuration with another number of epochs.
        epochs: The number of epochs that the run has.
        extend: Whether the user wants to continue it.

    Raises:
        InputError: if the user does not, the run has more epochs already, or there is no checkpoint to continue from.
    """
    other = "Choose another `name=` or replace it with --overwrite."
    if config.max_epochs < epochs:
        raise InputError(f"{directory.path} contains the same run with {epochs} epochs, which is more. {other}")
    if not extend:
        raise InputError(
            f"{directory.path} contains the same run with {epochs} epochs. Continue it up to {config.max_epochs} "
            f"epochs with --extend (in Python: `extend=True`). {other}"
        )
    if directory.weights.exists() and not any(path.exists() for path in directory.checkpoints):
        raise InputError(f"{directory.path} has no checkpoint to continue from. {other}")


def describe_extension(config: Config, epochs: int) -> str:
    """Return a message that says what happens to the schedule.

    Example:
        >>> from distill.config import load
        >>> describe_extension(load([], ["trainer.max_epochs=9", "schedule.name=constant"]), 6)
        'run: extended from 6 to 9 epochs; the schedule `constant` does not depend on the number of epochs.'
    """
    name = config.schedule.name
    effect = (
        f"the schedule `{name}` is computed for {config.max_epochs} epochs, so that the learning rate goes on as it "
        "is at this step of a run of that length."
        if name in _DEPENDENT
        else f"the schedule `{name}` does not depend on the number of epochs."
    )
    return f"{config.name}: extended from {epochs} to {config.max_epochs} epochs; {effect}"
