"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def escape_markdown(text: str) -> str:
    """Escape text so that it neither breaks a cell of a table nor starts an HTML element.

    Example:
        >>> print(escape_markdown("a|b < c"))
        a\\|b &lt; c
    """
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def markdown_grid(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Write a table; the caller escapes the cells.

    Args:
        header: Cells of the first row.
        rows: Cells of the other rows.
        left: Number of columns that are aligned to the left; the others are aligned to the right.

    Example:
        >>> print(markdown_grid(["Row", "Accuracy"], [["CE", "70.2%"]]))
        | Row | Accuracy |
        | --- | ---: |
        | CE | 70.2% |
    """
    alignment = [*["---"] * left, *["---:"] * (len(header) - left)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, alignment, *rows))
