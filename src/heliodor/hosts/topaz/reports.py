"""Reports: lines on standard error that begin with a hash, so that tables stay clean."""

from __future__ import annotations

from heliodor import console


def report(text: str) -> None:
    """Say one line to whoever reads the log."""
    console.say(f"# {text}")
