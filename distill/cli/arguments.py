"""Configuration files and `key=value` pairs on one command line."""

from __future__ import annotations


def split_files(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split arguments into configuration files and `key=value` pairs.

    Example:
        >>> split_files(["a.yaml", "seed=1"])
        (['a.yaml'], ['seed=1'])
    """
    files = [a for a in arguments if a.endswith((".yaml", ".yml")) and "=" not in a]
    return files, [a for a in arguments if a not in files]
