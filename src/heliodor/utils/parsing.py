"""Read values and files written by other programs."""

from __future__ import annotations

import codecs
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from heliodor.errors import BadInput

Read = TypeVar("Read")


def parse_number(value: Any) -> float:
    """Return a number, or the number that a text represents; nan for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def detect_encoding(head: bytes) -> str:
    """Return the encoding of a text file from its first bytes: UTF-8, or UTF-16 if they say so.

    Excel's "Unicode text" and the redirections of PowerShell are in UTF-16.
    """
    marks = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
    return "utf-16" if head.startswith(marks) else "utf-8-sig"


def read_text(path: str | Path) -> str:
    """Read a text file; see `detect_encoding`.

    Raises
    ------
    OSError, UnicodeDecodeError
        If it cannot be read, or is not text.
    """
    raw = Path(path).read_bytes()
    return raw.decode(detect_encoding(raw))


def as_positive(value: Any) -> float | None:
    """Return a positive, finite number, or None."""
    number = parse_number(value)
    return number if np.isfinite(number) and number > 0 else None


def is_finite_number(value: Any) -> bool:
    """Return whether a value from JSON is a number, not a boolean, that NumPy can calculate with.

    It takes no whole numbers of more than 64 bits, whatever a float could hold.
    """
    if type(value) is int:
        return abs(value) < 2**63
    return type(value) is float and math.isfinite(value)


def refuse_damaged(read: Callable[[str | Path], Read]) -> Callable[[str | Path], Read]:
    """Decorate a reader of one file so that it raises only `BadInput`.

    Files come from many programs and may be damaged in unexpected ways. A reader reports the
    problems it knows; this reports any other exception, its own or a library's, as an unreadable
    file.
    """

    @functools.wraps(read)
    def read_checked(path: str | Path) -> Read:
        try:
            with np.errstate(all="ignore"):  # overflow gives inf, which readers refuse
                return read(path)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(
                f"{path} cannot be read ({error or type(error).__name__}); check the file"
            ) from error

    return read_checked
