"""What a command says while it works: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Say one line to the person watching (standard error, so results stay clean)."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Say something the person should act on."""
    say(f"note: {text}")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with (done, total) while something takes long.

    On a terminal it moves a bar; in a file it writes a line now and then, ten or so in all.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
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
                say(f"{what}: {done} of {total}, {time.monotonic() - started:.0f} s")

        yield line
