"""YAML files and `key=value` pairs -> one typed record, with every mistake told at once.

Files merge left to right, then the pairs; a file may name others that come before it under ``extends``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from distill.config.messages import describe_mistake
from distill.config.schema import Config
from distill.errors import InputError


def load(
    paths: Sequence[Path | str],
    overrides: Sequence[str] = (),
    *,
    check: Callable[[Mapping[str, Any]], Iterable[str]] | None = None,
) -> Config:
    """Read, merge and check a configuration.

    Args:
        paths: YAML files, merged left to right.
        overrides: ``key.path=value`` pairs, merged last.
        check: More checks of the merged mapping; their messages join the others.

    Raises:
        InputError: with every mistake, a line each.

    Example:
        >>> load([], ["student.name=wrn_10_1", "optimizer.lr=0.05"]).optimizer.lr
        0.05
        >>> load([], ["studnet.name=wrn_10_1", "optimizer.lr=-1"])
        Traceback (most recent call last):
        distill.errors.InputError: 2 mistakes in the configuration:
          optimizer.lr: input should be greater than 0, got -1
          studnet: unknown key; did you mean 'student'?
    """
    config, mistakes = validate(merge(paths, overrides), check=check)
    if config is None:
        raise InputError(format_mistakes(mistakes, "the configuration"))
    return config


def validate(
    merged: Mapping[str, Any], *, check: Callable[[Mapping[str, Any]], Iterable[str]] | None = None
) -> tuple[Config | None, list[str]]:
    """Check merged values: give the configuration, or every mistake in it.

    Example:
        >>> validate({"seed": 1})[0].seed
        1
        >>> validate({"optimizer": {"lr": -1}})
        (None, ['optimizer.lr: input should be greater than 0, got -1'])
    """
    mistakes = list(check(merged)) if check else []
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        return None, [describe_mistake(item) for item in error.errors()] + mistakes
    return (None, mistakes) if mistakes else (config, [])


def format_mistakes(mistakes: Sequence[str], where: str) -> str:
    """Word all mistakes as one message."""
    count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return f"{count} in {where}:\n  " + "\n  ".join(sorted(mistakes))


def merge(paths: Sequence[Path | str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Merge YAML files and pairs into plain values."""
    try:
        layers = [layer for path in paths for layer in _read(Path(path), ())]
        for pair in overrides:
            if "=" not in pair or pair.startswith("="):
                raise InputError(f"expected key=value, got {pair!r}; a configuration file must end in .yaml or .yml.")
            layers.append(OmegaConf.from_dotlist([pair]))
        merged = OmegaConf.to_container(OmegaConf.merge(*layers) if layers else OmegaConf.create(), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"the configuration cannot be merged: {error}") from error
    return {str(key): value for key, value in merged.items()} if isinstance(merged, dict) else {}


def _read(path: Path, seen: tuple[Path, ...]) -> list[DictConfig]:
    if not path.is_file():
        raise InputError(f"no configuration file {path}.")
    if path.resolve() in seen:
        raise InputError(f"{path} extends itself.")
    try:
        own = OmegaConf.load(path)
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(own, DictConfig):
        raise InputError(f"{path} must hold keys and values at its top level.")
    bases = own.pop("extends", [])
    bases = [bases] if isinstance(bases, str) else bases
    return [
        *(layer for base in bases for layer in _read(path.parent / str(base), (*seen, path.resolve()))),
        own,
    ]
