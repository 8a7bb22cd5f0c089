"""Import modules that the user names, and say how to install packages that are missing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

_search_working_directory = False


def search_working_directory() -> None:
    """Let :func:`import_named` find modules in the working directory, as with `python -m`.

    The directory is not added to ``sys.path`` before a name is imported. Otherwise, a file in a downloaded folder could
    take the place of a package that is not installed.
    """
    global _search_working_directory
    _search_working_directory = True


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
