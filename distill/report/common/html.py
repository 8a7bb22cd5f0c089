"""Shared by all pages: the template environment and hashes for the Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from jinja2 import Environment


#: Content of the footer, by heading: names with values, or a text such as a configuration.
Facts: TypeAlias = Mapping[str, Mapping[str, object] | str]


def template_environment() -> Environment:
    """Return the environment of the templates; every printed value is escaped, and a missing value is an error.

    Convention:
        - The filter ``share`` clips a value to [0, 1] and prints it in per cent, for lengths in SVG.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("distill.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["share"] = lambda value: f"{100 * min(max(value, 0.0), 1.0):.1f}"
    return environment


def csp_hash(text: str) -> str:
    """Return the hash that allows one inline style or script in a Content-Security-Policy.

    Example:
        >>> csp_hash("")
        'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
