r"""`PlainConsole`: prints names as they are: text from files neither styles the output nor steers the terminal.

Names of runs, rows, classes and files may contain what rich reads as markup (``[red]``, ``:smile:``) or what a terminal
reads as a command (``\x1b]0;title\x07``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.progress import Task, TextColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from distill.untrusted import printable


class PlainConsole(Console):
    r"""A console without markup, emoji and highlighting; control characters in text are shown as escapes.

    Convention:
        - This holds for everything that is rendered: texts, tables, progress bars. Styles are set with
          ``style=`` or :class:`rich.text.Text`.

    Args:
        settings: Arguments of :class:`rich.console.Console`, such as ``stderr=True``.

    Example:
        >>> PlainConsole().print("[red]a :x: \x1b]0;t\x07")
        [red]a :x: \x1b]0;t\x07
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return a text whose control characters are escaped before its width is measured."""
        return super().render_str(printable(text), **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of an object; those that rich itself uses to move the cursor are left unchanged."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def print_table(console: Console, table: Table, *, names: int = 1) -> None:
    """Print a table whose names are never shortened, since users type them.

    Convention:
        - In a terminal, the columns of names keep their width if they fit, and the other columns are wrapped. Text that
          is longer than its column goes on in the next line.
        - In a file or a pipe, the table is as wide as its content, unless the variable ``COLUMNS`` is set.

    Args:
        console: The console.
        table: The table; its columns are changed.
        names: Number of columns, from the left, that contain names.

    Example:
        >>> table = Table("name", "description", box=None, pad_edge=False)
        >>> table.add_row("activation_attention", "sum of squares")
        >>> print_table(PlainConsole(), table)  # doctest: +NORMALIZE_WHITESPACE
        name                  description
        activation_attention  sum of squares
    """
    if not console.is_terminal and "COLUMNS" not in os.environ:
        width = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
        console.width = max(console.width, width)
    taken = sum(max(cell_len(str(cell)) for cell in (c.header, *c.cells)) + 3 for c in table.columns[:names])
    for i, column in enumerate(table.columns):
        column.overflow = "fold"
        column.no_wrap = i < names and taken < console.width
    console.print(table)


#: Largest width of a table in a file, in characters.
_WIDEST = 10_000


class PlainColumn(TextColumn):
    """A column of a progress bar, such as ``PlainColumn("{task.description}")``, without markup and control characters.

    Args:
        text_format: Text with fields of the task.
        settings: Arguments of :class:`rich.progress.TextColumn`.
    """

    def render(self, task: Task) -> Text:
        """Return the text for a task; it is escaped before its width is measured."""
        text = printable(self.text_format.format(task=task))
        return Text(text, style=self.style, justify=self.justify)
