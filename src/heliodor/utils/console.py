"""Messages and progress of a command: a bar on a terminal, plain lines in a log file.

The package reports through `logging`, below the logger ``heliodor``, and is silent unless an
application asks for the messages. A command asks with `show_messages`; a notebook may do the
same, or configure `logging` itself.
"""

from __future__ import annotations

import codecs
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from heliodor.errors import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

#: The parent of the loggers of all modules.
LOGGER = logging.getLogger("heliodor")
log = logging.getLogger(__name__)


#: How much is shown.
Level = Literal["quiet", "usual", "verbose"]
#: How progress is shown; json makes messages lines of JSON as well.
ProgressStyle = Literal["auto", "lines", "none", "json"]
_LEVELS = {"quiet": logging.WARNING, "usual": logging.INFO, "verbose": logging.DEBUG}
_TIME = "%Y-%m-%d %H:%M:%S"


def _word(record: logging.LogRecord) -> str:
    """Return the text of a message on one line or several; warnings begin with `note:`."""
    text = escape_controls(record.getMessage())
    return f"note: {text}" if record.levelno == logging.WARNING else text


class _Lines(logging.Handler):
    """Print messages to standard error, where results do not go."""

    def __init__(self) -> None:
        super().__init__()
        self.style: ProgressStyle = "auto"
        self.verbose = self.timed = False

    def format(self, record: logging.LogRecord) -> str:
        if self.style == "json":
            return _as_json("message", level=record.levelname.lower(), text=record.getMessage())
        if self.verbose:
            return f"{time.strftime(_TIME)} {record.name}: {_word(record)}"
        # Notes and errors stay as they are, for what looks for them.
        if self.timed and record.levelno == logging.INFO and not sys.stderr.isatty():
            return f"{time.strftime(_TIME)} {_word(record)}"
        return _word(record)

    @property
    def moves_bars(self) -> bool:
        """Whether progress is a bar, above which messages are printed."""
        return self.style == "auto" and sys.stderr.isatty()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.moves_bars:
                _terminal().print(
                    self.format(record), markup=False, highlight=False, soft_wrap=True
                )
            else:
                print(self.format(record), file=sys.stderr, flush=True)
        except OSError:
            self.handleError(record)


class _LogFile(logging.FileHandler):
    """Append messages to a file, with the time and the level."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")

    def format(self, record: logging.LogRecord) -> str:
        text = escape_controls(record.getMessage())
        level = record.levelname.lower()
        return f"{time.strftime(_TIME)} {level} {record.name} [{record.process}]: {text}"

    def handleError(self, record: logging.LogRecord) -> None:
        """Go on without the file, as with a full disk, and say so."""
        fault = sys.exc_info()[1]
        LOGGER.removeHandler(self)
        with suppress(OSError):
            self.close()
        show_error(f"note: {self.baseFilename} is not written any more ({fault})")


def _as_json(event: str, **values: object) -> str:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"time": at, "event": event, **values}, ensure_ascii=False)


@cache
def _terminal() -> Console:
    """Return the terminal, which a progress bar and messages share."""
    from rich.console import Console

    return Console(file=_StandardError())  # type: ignore[arg-type]  # what it uses is there


class _StandardError:
    """Standard error for a progress bar, which goes on where the terminal is gone."""

    @property
    def _stream(self) -> TextIO:
        # While it shows a bar, rich has a stream of its own there.
        stream: TextIO = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream

    @property
    def encoding(self) -> str:
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


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


def show_messages(
    level: Level = "usual", style: ProgressStyle = "auto", timed: bool = False
) -> None:
    """Print the messages of the package to standard error, and show progress.

    Parameters
    ----------
    level
        quiet: warnings and errors only; verbose: details too, with the time and the module.
    style
        Of the progress; json makes messages lines of JSON as well.
    timed
        Whether messages and progress begin with the time where they do not go to a terminal.
    """
    lines = _find_lines()
    if lines is None:
        lines = _Lines()
        LOGGER.addHandler(lines)
        LOGGER.propagate = False
    lines.style, lines.timed, lines.verbose = style, timed, level == "verbose"
    lines.setLevel(_LEVELS[level])
    LOGGER.setLevel(min(handler.level or logging.DEBUG for handler in LOGGER.handlers))


def log_to_file(path: Path) -> None:
    """Append all messages of the package, with the time, to a file from now on.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    handler = _LogFile(path)
    for earlier in [own for own in LOGGER.handlers if isinstance(own, _LogFile)]:
        LOGGER.removeHandler(earlier)
        earlier.close()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)


def _find_lines() -> _Lines | None:
    return next((own for own in LOGGER.handlers if isinstance(own, _Lines)), None)


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


def show_address(text: str) -> None:
    """Print text with an address that gives access to standard error, and to no log file.

    It is shown whatever messages are, as nobody gets far without it.
    """
    with suppress(OSError):
        print(escape_controls(text), file=sys.stderr, flush=True)


def show_error(text: str) -> None:
    """Print a line to standard error, where no messages are shown yet or any more."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with (done, total) while something takes long.

    On a terminal it moves a bar; in a file it writes ten lines or so in all, with the time that is
    left. Where nobody asked for messages it does nothing.
    """
    lines = _find_lines()
    # Where `show_messages` was not called, `logging` decides what becomes of the lines.
    style = "lines" if lines is None or lines.level > logging.INFO else lines.style
    if lines is not None and style == "auto" and lines.moves_bars:
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
    elif not log.isEnabledFor(logging.INFO):
        yield lambda done, total: None
    else:
        yield _progress_lines(what, style)


def _progress_lines(what: str, style: ProgressStyle) -> Callable[[int, int], None]:
    """Return a function that writes progress to the log, or as JSON."""
    started = time.monotonic()
    shown = 0.0
    earlier: int | None = None

    def tell(done: int, total: int) -> None:
        nonlocal shown, earlier
        if earlier is None:  # what was done before, if this is resumed
            earlier = done if done > 1 else 0
        share = done / total
        spent = time.monotonic() - started
        left = spent * (total - done) / (done - earlier) if done > earlier else None
        if style == "json":
            numbers = {"done": done, "total": total, "seconds": round(spent, 1)}
            rest = None if left is None else round(left, 1)
            line = _as_json("progress", what=what, **numbers, seconds_left=rest)
            show_error(line)
        if share - shown >= 0.1 or done == total:
            shown = share
            remaining = "" if left is None or done == total else f", about {left:.0f} s left"
            text = f"{what}: {done} of {total}, {spent:.0f} s{remaining}"
            # Progress that standard error has in another form, or not at all, is for the log file.
            log.log(logging.INFO if style in ("auto", "lines") else logging.DEBUG, text)

    return tell
