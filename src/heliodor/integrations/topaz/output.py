"""Output of the commands: tables on standard output or in files, ``#`` lines on standard error."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from heliodor.utils.files import write_text

log = logging.getLogger(__name__)

#: Name of the table if the output is a folder.
IN_FOLDER = "extracted_particles.txt"


def report(text: str) -> None:
    """Write one ``#`` line to standard error."""
    log.info(f"# {text}")


def write_output(text: str, path: str | Path | None) -> None:
    """Write a text to a file atomically, or to standard output if `path` is None."""
    if path is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_text(path, text)


def table_file(output: str | None) -> Path | None:
    """Return the file for the table of `extract`, or None for standard output."""
    if output is None:
        return None
    return Path(output, IN_FOLDER) if os.path.isdir(output) else Path(output)
