"""Load YAML files and `key=value` pairs into one typed record, and report all mistakes at once.

Files are merged from left to right, then the pairs. A file may list files under ``extends`` that are merged before it.
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
from distill.config.schema import DEFAULT_TERMS, Config
from distill.errors import InputError


def load(
    paths: Sequence[Path | str],
    overrides: Sequence[str] = (),
    *,
    check: Callable[[Mapping[str, Any]], Iterable[str]] | None = None,
) -> Config:
    """Read, merge and validate a configuration.

    Args:
        paths: YAML files, merged left to right.
        overrides: ``key.path=value`` pairs, merged last.
        check: Further checks of the merged mapping, called before the validation; returns messages.

    Raises:
        InputError: if there are mistakes; one line for each.

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
    """Validate merged values; return the configuration, or None and the list of mistakes.

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
        return None, [describe_mistake(item, values=merged) for item in error.errors()] + mistakes
    return (None, mistakes) if mistakes else (config, [])


def to_yaml(config: Config) -> str:
    """Write a configuration as YAML that :func:`load` reads back unchanged.

    A run without cross-entropy contains ``cross_entropy: null``, because ``load`` adds the term if its key is missing.

    Example:
        >>> print(to_yaml(load([], ["seed=3"])).splitlines()[2])
        seed: 3
    """
    plain = config.model_dump(mode="json")
    plain["objective"] = {
        **{name: None for name in DEFAULT_TERMS if name not in plain["objective"]},
        **plain["objective"],
    }
    return OmegaConf.to_yaml(plain)


def format_mistakes(mistakes: Sequence[str], where: str) -> str:
    """Join mistakes to one message."""
    count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return f"{count} in {where}:\n  " + "\n  ".join(sorted(mistakes))


def merge(paths: Sequence[Path | str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Merge YAML files and pairs into a plain mapping."""
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
        content = OmegaConf.load(path)
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, DictConfig):
        raise InputError(f"{path} must hold keys and values at its top level.")
    bases = content.pop("extends", [])
    bases = [bases] if isinstance(bases, str) else bases
    return [
        *(layer for base in bases for layer in _read(path.parent / str(base), (*seen, path.resolve()))),
        content,
    ]
