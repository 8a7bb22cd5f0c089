"""Read one YAML file: the user's, or one that came with a run. Sizes are checked before memory is taken."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distill.errors import InputError
from distill.untrusted import read_text

#: Largest size of a configuration in bytes, number of values after aliases are expanded, and depth.
MAX_BYTES, MAX_VALUES, MAX_DEPTH = 4 << 20, 100_000, 50
#: What parsing a value can raise. PyYAML lets errors of Python's constructors through: ``!!int x``, ``!!bool x``.
PARSE_ERRORS = (
    yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError, TypeError, KeyError, AttributeError
)  # fmt: skip
#: Messages of the parser that go on with text of the file; all others quote single characters at most.
_QUOTING = re.compile(
    r"(?s)^(found (?:undefined alias|undefined tag handle|duplicate anchor|duplicate key)|could not determine a "
    r"constructor for the tag|failed to \w+ base64 data).*"
)


def read_yaml(path: Path) -> DictConfig:
    """Read a YAML file with keys and values; interpolations are not resolved yet.

    Convention:
        - A message about a file that cannot be parsed names the line and the column, but prints none of its content.

    Raises:
        InputError: If the file does not exist, is not a YAML mapping in UTF-8, is nested too deeply, or is too large
            once its aliases are expanded.
    """
    if not path.exists() and not path.is_symlink():
        raise InputError(f"no configuration file {path}.")
    text = read_text(path, limit=MAX_BYTES)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values, depth = (0, 0) if node is None else _measure(node, {})
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {_describe(error)}") from error
    except RecursionError:
        values, depth = 0, MAX_DEPTH + 1
    if values > MAX_VALUES:
        raise InputError(f"{path} is too large: it has more than {MAX_VALUES:,} values, with its aliases expanded.")
    if depth > MAX_DEPTH:
        raise InputError(f"{path} is nested too deeply: at most {MAX_DEPTH} levels are read.")
    if isinstance(node, yaml.ScalarNode) and node.value not in ("", "null", "~"):
        raise InputError(f"{path} must hold keys and values at its top level.")  # OmegaConf reads a text as a key
    try:
        content = OmegaConf.load(io.StringIO(text))
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: the value of {error.full_key} cannot be read. Correct it.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {_describe(error)}") from error
    except PARSE_ERRORS as error:
        raise InputError(f"{path} is not valid YAML: a value does not have the type that its tag names.") from error
    if not isinstance(content, DictConfig):
        raise InputError(f"{path} must hold keys and values at its top level.")
    return content


def read_recorded(path: Path) -> dict[str, Any]:
    """Read the configuration that came with a run, as plain values.

    Convention:
        - Nothing is resolved: an interpolation could read the environment, and ``extends`` other files.

    Raises:
        InputError: As :func:`read_yaml` does; or if the file has an interpolation or the key ``extends``.
    """
    content = OmegaConf.to_container(read_yaml(path), resolve=False)
    assert isinstance(content, dict)
    if "extends" in content:
        raise InputError(f"{path}: the configuration of a run cannot extend other files. Remove the key extends.")
    for key, value in _texts(content, ""):
        if "${" in value:
            raise InputError(
                f"{path}: {key} has an interpolation (${{...}}), which is not resolved in the configuration of a run. "
                "Replace it by its value."
            )
    return {str(key): value for key, value in content.items()}


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the number of values in a node and its depth; a node that an alias repeats counts each time."""
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        sizes = [_measure(part, known) for part in parts]
        known[id(node)] = 1 + sum(count for count, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
    return known[id(node)]


def _describe(error: yaml.YAMLError) -> str:
    """Return line, column and problem, without text of the file."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return "it has a character that YAML does not allow."
    problem = _QUOTING.sub(r"\1", str(getattr(error, "problem", None) or "it cannot be parsed"))
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}."


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of every key and value that is a text."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            name = f"{where}.{key}" if where else str(key)
            yield name, str(key)
            yield from _texts(part, name)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _texts(part, f"{where}[{i}]")
    elif isinstance(value, str):
        yield where, value
