"""The console of the commands: names are printed as they are, without markup, emoji and control characters."""

from __future__ import annotations

import io
import warnings

import pytest
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from distill.cli.listing import run
from distill.console import PlainColumn, PlainConsole, print_table
from distill.training.callbacks import RunProgress
from distill.untrusted import escape_warnings, printable

NAMES = ["a[/b]", "[red]a", ":x:", "\x1b]0;t\x07", "\x9b31m", "a\rb", "[link=https://x]y[/link]"]


def console(**settings: object) -> tuple[PlainConsole, io.StringIO]:
    file = io.StringIO()
    return PlainConsole(file=file, width=100, **settings), file


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is(name: str) -> None:
    shown, file = console()
    shown.print(name)
    table = Table(name, title=name)
    table.add_row(name)
    shown.print(table)
    text = file.getvalue()
    assert text.count(printable(name)) == 4
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\r"}


@pytest.mark.parametrize("name", NAMES)
def test_a_styled_text_does_not_steer_the_terminal(name: str) -> None:
    shown, file = console()
    shown.print(Text.assemble(("distill:", "bold red"), " ", name))
    assert not set(file.getvalue()) & {"\x1b", "\x07", "\x9b"}


@pytest.mark.parametrize("name", NAMES)
def test_a_progress_bar_shows_a_name_as_it_is(name: str) -> None:
    shown, file = console(force_terminal=True, color_system=None)
    with Progress(PlainColumn("{task.description}", style="bold"), console=shown) as bar:
        bar.add_task(name, total=1)
    text = Text.from_ansi(file.getvalue()).plain
    assert printable(name) in text
    assert "\x1b]" not in file.getvalue()
    assert "\x07" not in file.getvalue()


def test_styles_of_the_program_stay() -> None:
    shown, file = console(force_terminal=True, color_system="standard")
    shown.print(Text("bold", style="bold"))
    assert file.getvalue() == "\x1b[1mbold\x1b[0m\n"


def test_the_progress_of_training_uses_the_plain_console() -> None:
    assert isinstance(RunProgress("[red]a").console, PlainConsole)


def test_a_warning_does_not_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    escape_warnings()
    escape_warnings()
    text = warnings.formatwarning("class \x1b]0;t\x07", UserWarning, "file.py", 1, "")
    assert "class \\x1b]0;t\\x07" in text
    assert "\x1b" not in text


def listing() -> Table:
    table = Table("name", "description", box=None, pad_edge=False)
    table.add_row("grad_cam_pp_of_a_long_name", "words " * 30)
    return table


@pytest.mark.parametrize("width", [40, 80])
def test_a_name_is_not_shortened_in_a_narrow_terminal(width: int) -> None:
    file = io.StringIO()
    print_table(PlainConsole(file=file, width=width, force_terminal=True, color_system=None), listing())
    text = file.getvalue()
    assert "grad_cam_pp_of_a_long_name" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert text.count("words") == 30
    assert max(map(len, text.splitlines())) <= width


def test_a_name_that_is_wider_than_the_terminal_goes_on_in_the_next_line() -> None:
    file = io.StringIO()
    table = Table("name", box=None, pad_edge=False)
    table.add_row("grad_cam_pp_of_a_long_name")
    print_table(PlainConsole(file=file, width=10, force_terminal=True, color_system=None), table)
    assert "".join(file.getvalue().split()) == "namegrad_cam_pp_of_a_long_name"


def test_a_table_in_a_file_has_one_line_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    file = io.StringIO()
    print_table(PlainConsole(file=file), listing())
    assert len(file.getvalue().splitlines()) == 2
    assert "words words" in file.getvalue()


@pytest.mark.parametrize("kind", ["methods", "terms"])
def test_lists_show_whole_names_on_80_columns(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run(kind)
    shown = capsys.readouterr().out
    assert {"methods": "activation_attention", "terms": "package.module:Class"}[kind] in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
