"""Prepare the process of a program: its streams, its encoding and its current folder.

Light to import, as every program begins with it.
"""

from __future__ import annotations

import errno
import os
import sys

from heliodor.utils.import_path import exclude_current_folder, python_command

#: Why a standard stream cannot be written: its disk is full, or its terminal is gone.
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def prepare_process(code: str) -> None:
    """Prepare the process of a program; call it before anything else is imported or opened.

    Parameters
    ----------
    code
        Python code that starts the program. Where the locale has another encoding than UTF-8, the
        process is replaced by one that uses UTF-8 for the names of files, as tables do.
    """
    exclude_current_folder()
    _open_missing_streams()
    if os.name == "posix" and sys.getfilesystemencoding().lower().replace("-", "") != "utf8":
        _restart_with_utf8(code)


def find_current_folder_fault() -> str | None:
    """Return why the current folder cannot be used, as a sentence, or None if it can."""
    try:
        os.getcwd()
    except OSError as error:
        return f"the current folder cannot be used ({error.strerror}); change to another folder"
    return None


def flush_output() -> str | None:
    """Write what is left for standard output; return why that failed, or None."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python would try once more as it ends, and report that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return f"the output cannot be written ({error.strerror})"
    return None


def _open_missing_streams() -> None:
    """Replace standard streams that are closed: the next file would be opened in their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


def _restart_with_utf8(code: str) -> None:
    """Replace this process by one in Python's UTF-8 mode; its messages keep their encoding."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    environment.setdefault("PYTHONIOENCODING", sys.stderr.encoding)
    words = [*python_command("-X", "utf8", "-c", code), *sys.argv[1:]]
    sys.stdout.flush()
    # The bytes that this process was given, which it read in the other encoding.
    os.execve(sys.executable, [*map(os.fsencode, words)], environment)
