"""The generated part of docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .figures import key_figures
from .tables import LAYOUTS, markdown_table

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def fill_page(text: str, measured: Mapping[str, Any]) -> str:
    """Write the tables of a measurement between the two markers of a page.

    Raises:
        ValueError: if the page does not have each marker once, in order.

    Example:
        >>> page = fill_page("a\\n<!-- measured -->\\nold\\n<!-- /measured -->\\nb\\n", {"sections": {}})
        >>> "old" in page, page.startswith("a"), page.endswith("b\\n")
        (False, True, True)
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the page must have the markers {BEGIN} and {END}, once each and in this order.")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    return f"{head}{BEGIN}\n\n{tables(measured)}\n{END}{tail}"


def tables(measured: Mapping[str, Any]) -> str:
    """Return the tables of all measured sections, the key figures first."""
    sections = measured["sections"]
    parts = []
    figures = key_figures({name: section["rows"] for name, section in sections.items()})
    if figures:
        parts.append(f"### {LAYOUTS['figures'].title}\n\n{markdown_table('figures', figures)}\n")
    for name in LAYOUTS:
        if name in sections:
            section = sections[name]
            parts.append(f"### {LAYOUTS[name].title}\n\n{markdown_table(name, section['rows'])}\n\n{facts(section)}\n")
    return "\n".join(parts)


def facts(section: Mapping[str, Any]) -> str:
    """Return a sentence with the command, machine and commit of a section."""
    machine, networks = section["machine"], f"{section['teacher']} to {section['student']}"
    torch = machine["packages"]["torch"]
    return (
        f"`{section['command']}`: {networks}, {machine['threads']} threads of {machine['cpu_count']} cores of "
        f"{machine['cpu']}, torch {torch}, commit {machine['commit']}; load before {section['load']:.1f}, "
        f"{section['seconds']:.0f} s."
    )
