"""The errors that a user is meant to read."""

from __future__ import annotations

import re

#: Exit codes beside 0: something given cannot be used; some micrographs failed.
BAD_INPUT, SOME_FAILED = 2, 3


class HeliodorError(ValueError):
    """Any error that this package raises on purpose."""


class BadInput(HeliodorError):
    """Something the user gave cannot be used.

    The message is one sentence that says what is wrong, in which file, and what to do.
    The command line prints it and exits with code 2; no traceback is shown.

    Parameters
    ----------
    sentence
        The message.
    parameter
        The parameter of the settings or the function that is at fault, if it is one. The command
        line adds the name of its option.
    """

    def __init__(self, sentence: str, parameter: str | None = None) -> None:
        super().__init__(_printable(sentence))
        self.parameter = parameter


#: A longer sentence, as where a file's one line is quoted, loses its middle.
_LONGEST = 1000
#: What would break the line, control a terminal, or is not text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def _printable(sentence: str) -> str:
    """Return a sentence of one line that any terminal can show: files are quoted in it."""
    sentence = _UNPRINTABLE.sub(
        lambda found: " " if found[0].isspace() else ascii(found[0])[1:-1], sentence
    )
    if len(sentence) > _LONGEST:
        half = _LONGEST // 2
        sentence = f"{sentence[:half]} ... {sentence[-half:]}"
    return sentence
