"""Run a command: exit codes, messages, warnings and signals."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from distill.errors import InputError, InputNote, InputWarning, RunError
from distill.files import describe_storage_error, find_storage_error
from distill.importing import search_working_directory
from distill.malloc import keep_freed_memory
from distill.untrusted import escape_warnings, printable


def _show_input_warnings() -> None:
    """Print warnings about the input on one line, each once; other warnings are printed as Python does."""
    show = warnings.showwarning

    def show_line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, InputWarning):
            show(message, category, *where, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            kind = "note" if issubclass(category, InputNote) else "warning"
            print(f"distill: {kind}: {printable(str(message))}", file=sys.stderr)

    shown: set[str] = set()
    warnings.filterwarnings("always", category=InputWarning)
    warnings.showwarning = show_line


def run_app(app: Callable[[], object]) -> None:
    """Run a command. Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted."""
    keep_freed_memory()
    # Lightning causes this warning about torch's internals. Users cannot act on it.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    escape_warnings()
    _show_input_warnings()
    search_working_directory()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except (InputError, RunError) as error:
        _exit(str(error), error.exit_code)
    except Exception as error:
        cause = find_storage_error(error)
        if cause is None:
            raise
        _exit(describe_storage_error(cause, failed="cannot be read or written"), RunError.exit_code)
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


def _exit(message: str, code: int) -> NoReturn:
    from rich.text import Text

    from distill.console import PlainConsole

    text = Text.assemble(("distill:", "bold red"), " ", printable(message))
    PlainConsole(stderr=True, soft_wrap=True).print(text)
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End a command on SIGTERM as on Ctrl-C, with exit code 130; training first saves a checkpoint."""
    raise KeyboardInterrupt
