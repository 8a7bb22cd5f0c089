"""What all pages share: templates that escape, hashes for the Content-Security-Policy, and files that appear whole."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from jinja2 import Environment


#: What stands in the footer, by heading: names with values, or a text such as a configuration.
Facts: TypeAlias = Mapping[str, Mapping[str, object] | str]


def template_environment() -> Environment:
    """Give the templates; every value that they print is escaped, and a missing one is an error.

    Convention:
        - ``share`` prints a value between 0 and 1 as the per cent of a length, and cuts off what lies outside.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("distill.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["share"] = lambda value: f"{100 * min(max(value, 0.0), 1.0):.1f}"
    return made


def csp_hash(text: str) -> str:
    """Give the hash by which a policy lets one style or one script of a page in.

    Example:
        >>> csp_hash("")
        'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
