"""The one exception a user is meant to read."""

from __future__ import annotations


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that says what is wrong, in which file, and what to do.
    The command line prints it and exits with code 2; no traceback is shown.
    """
