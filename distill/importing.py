"""Import modules that the user names, and say how to install packages that are missing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from distill.errors import InputError, unknown_name

#: Libraries whose networks are named ``torchvision:NAME`` and ``timm:NAME``.
LIBRARIES = ("torchvision", "timm")

_search_working_directory = False


def search_working_directory() -> None:
    """Let :func:`import_named` find modules in the working directory, as with `python -m`.

    The directory is not added to ``sys.path`` before a name is imported. Otherwise, a file in a downloaded folder could
    take the place of a package that is not installed.
    """
    global _search_working_directory
    _search_working_directory = True


def is_library_name(name: str | None) -> bool:
    """Return whether a name is that of a network in a library's own list, which is found there and not imported.

    Example:
        >>> [is_library_name(one) for one in ("timm:convnext_atto", "torchvision.models:resnet18", "wrn_16_2")]
        [True, False, False]
    """
    return name is not None and name.partition(":")[0] in LIBRARIES and ":" in name


def import_named(name: str) -> ModuleType:
    """Import a module that the user named.

    Raises:
        ImportError: If there is no such module.

    Example:
        >>> import_named("json").__name__
        'json'
    """
    here = str(Path.cwd())
    if _search_working_directory and here not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)


def import_attribute(name: str, *, kind: str, suits: Callable[[Any], bool], where: str = "") -> Any:
    """Import ``package.module:attribute`` that the user named.

    Args:
        name: The name; the attribute may be nested, as in ``package.module:Outer.Inner``.
        kind: What is expected, such as "class", for the message.
        suits: Whether a value of the module is of this kind; those that are can be suggested.
        where: The key of the configuration, for the message.

    Raises:
        InputError: If the module cannot be imported or has no such attribute.

    Example:
        >>> import_attribute("json:JSONDecoder", kind="class", suits=lambda value: isinstance(value, type)).__name__
        'JSONDecoder'
    """
    prefix = f"{where}: " if where else ""
    module_name, _, attribute = name.partition(":")
    try:
        value: Any = import_named(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{prefix}module {module_name} cannot be imported: {type(error).__name__}: {error}. It must be installed "
            "or lie in the current folder."
        ) from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = [
                key for key, one in getattr(value, "__dict__", {}).items() if not key.startswith("_") and suits(one)
            ]
            raise InputError(f"{prefix}module {module_name}: " + unknown_name(kind, part, names))
        value = getattr(value, part)
    return value


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra: of the clone that is in use, or of the package.

    Args:
        extra: A name of ``[project.optional-dependencies]`` in pyproject.toml.

    Example:
        >>> install_command("export")
        'pip install -e ".[export]"'
    """
    in_clone = (Path(__file__).parents[1] / "pyproject.toml").is_file()
    return f'pip install -e ".[{extra}]"' if in_clone else f'pip install "distill-explain[{extra}]"'
