"""What a caller gets: lines on standard error that begin with a hash, and tables, kept clean."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from heliodor.utils.files import write_text

log = logging.getLogger(__name__)

#: The table in a folder.
IN_FOLDER = "extracted_particles.txt"


def report(text: str) -> None:
    """Say one line to whoever reads the log."""
    log.info(f"# {text}")


def write_output(text: str, path: str | Path | None) -> None:
    """Write a text to a file, whole or not at all, or to standard output."""
    if path is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_text(path, text)


def table_file(output: str | None) -> Path | None:
    """Return where the one table of `extract` goes: a file, or None for standard output."""
    if output is None:
        return None
    return Path(output, IN_FOLDER) if os.path.isdir(output) else Path(output)
