"""The one exception a user is meant to read."""

from __future__ import annotations

#: Exit codes beside 0: something given cannot be used; some micrographs failed.
BAD_INPUT, SOME_FAILED = 2, 3


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that says what is wrong, in which file, and what to do.
    The command line prints it and exits with code 2; no traceback is shown.
    """
