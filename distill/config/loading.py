"""Load YAML files and `key=value` pairs into one typed record, and report all mistakes at once.

Files are merged from left to right, then the pairs. A file may list files under ``extends`` that are merged before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from distill.config.augmentation import replace_augment
from distill.config.messages import describe_mistake, most_specific
from distill.config.reading import PARSE_ERRORS, read_recorded, read_yaml
from distill.config.schema import DEFAULT_TERMS, Config
from distill.errors import InputError
from distill.files import expand_home

YAML_SUFFIXES = (".yaml", ".yml")


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


def load_recorded(path: Path | str, *, check: Callable[[Mapping[str, Any]], Iterable[str]] | None = None) -> Config:
    """Read and validate the configuration that came with a run: plain values, which resolve and extend nothing.

    Args:
        path: The ``config.yaml`` of a run directory.
        check: Further checks of the values; returns messages.

    Raises:
        InputError: if the file cannot be read, contains an interpolation or ``extends``, or has mistakes.
    """
    config, mistakes = validate(read_recorded(Path(path)), check=check, recorded=True)
    if config is None:
        raise InputError(format_mistakes(mistakes, str(path)))
    return config


def validate(
    merged: Mapping[str, Any],
    *,
    check: Callable[[Mapping[str, Any]], Iterable[str]] | None = None,
    recorded: bool = False,
) -> tuple[Config | None, list[str]]:
    """Validate merged values; return the configuration, or None and the list of mistakes.

    Args:
        merged: The values.
        check: Further checks of the values; returns messages.
        recorded: Whether the values came with a run. The names of an ablation's runs may be longer than those that a
            user may write.

    Example:
        >>> validate({"seed": 1})[0].seed
        1
        >>> validate({"optimizer": {"lr": -1}})
        (None, ['optimizer.lr: input should be greater than 0, got -1'])
    """
    mistakes = list(check(merged)) if check else []
    try:
        config = Config.model_validate(merged, context={"recorded": recorded})
    except ValidationError as error:
        return None, [describe_mistake(item, values=merged) for item in most_specific(error.errors())] + mistakes
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


def parse_yaml(text: str) -> Any:
    """Return the values of YAML text, as :func:`merge` reads them from a file.

    Example:
        >>> parse_yaml("optimizer: {lr: 1e-3}")
        {'optimizer': {'lr': 0.001}}
    """
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)


def format_mistakes(mistakes: Sequence[str], where: str) -> str:
    """Join mistakes to one message."""
    count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return f"{count} in {where}:\n  " + "\n  ".join(sorted(mistakes))


def merge(paths: Sequence[Path | str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Merge YAML files and pairs into a plain mapping."""
    try:
        layers = [layer for path in paths for layer in _read(Path(expand_home(path)), ())]
        for pair in overrides:
            if "=" not in pair or pair.startswith("="):
                raise InputError(f"expected key=value, got {pair!r}; a configuration file must end in .yaml or .yml.")
            layers.append(OmegaConf.from_dotlist([pair]))
        layers = [OmegaConf.create(replace_augment(OmegaConf.to_container(layer, resolve=False))) for layer in layers]  # type: ignore[arg-type]
        merged = OmegaConf.to_container(OmegaConf.merge(*layers) if layers else OmegaConf.create(), resolve=True)
    except InputError:
        raise
    except PARSE_ERRORS as error:
        raise InputError(f"the configuration cannot be merged: {error}") from error
    return {str(key): value for key, value in merged.items()} if isinstance(merged, dict) else {}


def _read(path: Path, seen: tuple[Path, ...]) -> list[DictConfig]:
    if path.resolve() in seen:
        raise InputError(f"{path} extends itself.")
    content = read_yaml(path)
    extended = content.pop("extends", None) or []
    bases = [extended] if isinstance(extended, str) else extended
    if not isinstance(bases, Sequence) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"{path}: extends: expected the path of a YAML file, or a list of paths.")
    for base in bases:
        if not base.endswith(YAML_SUFFIXES):
            raise InputError(f"{path}: extends: expected a .yaml or .yml file, got {base!r}.")
    return [
        *(layer for base in bases for layer in _read(path.parent / expand_home(base), (*seen, path.resolve()))),
        content,
    ]
