"""The log of a project: what was done in the app and when, for the user."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from heliodor.errors import escape_controls

NAME = "app.log"
#: A longer log is kept under another name, and a new one started.
MAX_BYTES = 4 * 2**20
#: Bytes of the end of the log that the page shows.
_SHOWN_BYTES = 64 * 2**10
_PARENT = logging.getLogger("heliodor")


class ActivityLog(logging.Handler):
    """Writes lines with the time to the log of a project; any thread may call.

    Warnings of the program go into it as well. Other messages do not: they contain addresses
    that give access.

    Parameters
    ----------
    folder
        The project folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.WARNING)
        self._path = folder / NAME
        self._writing = threading.Lock()
        if self._path.is_symlink():  # nothing is written to the file that it leads to
            self._path.unlink()
        with suppress(OSError):
            if self._path.stat().st_size > MAX_BYTES:
                self._path.replace(self._path.with_suffix(".old.log"))
        _PARENT.addHandler(self)

    def write(self, text: str) -> None:
        """Append a line; a full disk must not stop what is logged."""
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        line = f"{now}  {escape_controls(text)}\n"
        with self._writing, suppress(OSError), self._path.open("a", encoding="utf-8") as stream:
            stream.write(line)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a warning of the program."""
        self.write(f"{record.levelname.lower()}: {record.getMessage()}")

    def read_end(self) -> list[str]:
        """Return the last lines, the newest last."""
        try:
            with self._path.open("rb") as stream:
                size = stream.seek(0, 2)
                stream.seek(max(0, size - _SHOWN_BYTES))
                lines = stream.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return lines if size <= _SHOWN_BYTES else lines[1:]

    def close(self) -> None:
        """Take no more warnings."""
        _PARENT.removeHandler(self)
        super().close()
