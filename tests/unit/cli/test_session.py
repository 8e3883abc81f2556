"""What all commands do around their work."""

from __future__ import annotations

import sys

import pytest
import typer

from heliodor.cli.session import (
    command_line,
    end,
    should_resume,
)
from heliodor.errors import SOME_FAILED, BadInput


def test_failures_are_the_exit_code_of_a_command_that_is_done() -> None:
    end([])
    with pytest.raises(typer.Exit) as exit_:
        end(["a.mrc"])
    assert exit_.value.exit_code == SOME_FAILED


def test_resuming_is_auto_or_never() -> None:
    assert should_resume("auto")
    assert not should_resume("never")
    with pytest.raises(BadInput, match="--resume must be auto or never, not 'always'"):
        should_resume("always")


def test_the_command_line_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/heliodor", "pick", "my file.mrc"])
    assert command_line() == "heliodor pick 'my file.mrc'"
