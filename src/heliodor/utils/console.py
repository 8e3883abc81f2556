"""Messages and progress of a command: a bar on a terminal, plain lines in a log file.

The package reports through `logging`, below the logger ``heliodor``, and is silent unless an
application asks for the messages. A command asks with `show_messages`; a notebook may do the
same, or configure `logging` itself.
"""

from __future__ import annotations

import codecs
import io
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

from heliodor.errors import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

#: The parent of the loggers of all modules.
LOGGER = logging.getLogger("heliodor")
log = logging.getLogger(__name__)


class _Lines(logging.Handler):
    """Print messages to standard error, where results do not go; warnings begin with `note:`."""

    def format(self, record: logging.LogRecord) -> str:
        text = escape_controls(record.getMessage())
        return f"note: {text}" if record.levelno == logging.WARNING else text

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if sys.stderr.isatty():  # above a progress bar, if there is one
                _terminal().print(
                    self.format(record), markup=False, highlight=False, soft_wrap=True
                )
            else:
                print(self.format(record), file=sys.stderr, flush=True)
        except OSError:
            self.handleError(record)


@cache
def _terminal() -> Console:
    """Return the terminal, which a progress bar and messages share."""
    from rich.console import Console

    return Console(stderr=True)


#: What stands for characters that a terminal without UTF-8 cannot show.
_PLAIN = {"Å": "A", "×": "x", "–": "-", "≥": ">=", "≤": "<=", "°": " degrees", "µ": "u"}
_ERRORS = "heliodor_plain"


def _write_plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace a character that an encoding does not have; see `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if character in _PLAIN:
        return _PLAIN[character], error.start + 1
    return codecs.backslashreplace_errors(error)


def allow_any_terminal() -> None:
    """Let both streams print every text: "Å" becomes "A" where the terminal has no such letter."""
    codecs.register_error(_ERRORS, _write_plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def show_messages() -> None:
    """Print the messages of the package to standard error, and show progress."""
    if not any(isinstance(handler, _Lines) for handler in LOGGER.handlers):
        LOGGER.addHandler(_Lines())
        LOGGER.propagate = False
    LOGGER.setLevel(logging.INFO)


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: "1 pick", "2 processes"."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else ending}"


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table as lines, with each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


@contextmanager
def notes_shown_once() -> Iterator[None]:
    """Print a warning that is logged again in the block only the first time.

    A command may read the same file more than once.
    """
    shown: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        again = record.levelno == logging.WARNING and text in shown
        shown.add(text)
        return not again

    handlers = [handler for handler in LOGGER.handlers if isinstance(handler, _Lines)]
    for handler in handlers:
        handler.addFilter(is_new)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_new)


def show_result(text: str) -> None:
    """Print the result of a command to standard output; it may quote text of files."""
    print(escape_controls(text))


def show_error(text: str) -> None:
    """Print a line to standard error, where no messages are shown yet or any more."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with (done, total) while something takes long.

    On a terminal it moves a bar; in a file it writes ten lines or so in all. Where nobody asked
    for messages it does nothing.
    """
    if not log.isEnabledFor(logging.INFO):
        yield lambda done, total: None
    elif sys.stderr.isatty():
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=_terminal()) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        started = time.monotonic()
        shown = 0.0

        def line(done: int, total: int) -> None:
            nonlocal shown
            share = done / total
            if share - shown >= 0.1 or done == total:
                shown = share
                log.info(f"{what}: {done} of {total}, {time.monotonic() - started:.0f} s")

        yield line
