"""The exceptions of this package."""

from __future__ import annotations

import re

#: Exit codes of the command line other than 0: the input cannot be used; some micrographs failed.
BAD_INPUT, SOME_FAILED = 2, 3


class HeliodorError(ValueError):
    """Base class of the errors that this package raises on purpose.

    Its subclass `BadInput` is raised for anything the user gave that cannot be used: files,
    settings and arguments. Both are `ValueError`.
    """


class BadInput(HeliodorError):
    """Something the user gave cannot be used.

    The message states in a sentence or two what is wrong, in which file, and what to do. The
    command line prints it without a traceback and exits with code 2.

    Parameters
    ----------
    sentence
        The message.
    parameter
        The name of the parameter or setting that has the bad value, if there is one. The command
        line adds the name of its option to the message.
    """

    def __init__(self, sentence: str, parameter: str | None = None) -> None:
        super().__init__(_printable(sentence))
        self.parameter = parameter


#: Longer messages (they may quote lines of files) are shortened in the middle.
_LONGEST = 1000
#: What would control a terminal, reorder the line, or is not text; tabs and line breaks too.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def escape_controls(text: str) -> str:
    """Return a text that is safe to print: control characters become escape sequences.

    Tabs and line breaks are kept.
    """
    return _UNPRINTABLE.sub(
        lambda match: "".join(c if c in "\t\n" else ascii(c)[1:-1] for c in match[0]), text
    )


def _printable(sentence: str) -> str:
    """Return a message on one line that is safe to print; it may quote text of files."""
    sentence = _UNPRINTABLE.sub(
        lambda match: " " if match[0].isspace() else ascii(match[0])[1:-1], sentence
    )
    if len(sentence) > _LONGEST:
        half = _LONGEST // 2
        sentence = f"{sentence[:half]} ... {sentence[-half:]}"
    return sentence
