"""What all commands do around their work."""

from __future__ import annotations

import sys

import pytest
import typer

from heliodor.cli.options import Typed
from heliodor.cli.session import (
    check_bad_areas,
    command_line,
    end,
    load_picking_model,
    should_resume,
)
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.models.model_file import Model
from helpers.networks import model


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


def test_the_option_is_refused_only_if_typed_for_a_model_that_detects_nothing() -> None:
    typed, loaded = Typed(frozenset({"bad_areas"})), list[Model | None]()

    def load(one: Model | None) -> Model | None:
        loaded.append(one)
        return one

    check_bad_areas(Typed(frozenset({"threshold"})), lambda: load(None))
    assert loaded == []
    check_bad_areas(typed, lambda: load_picking_model(None))
    for one in (None, model()):
        with pytest.raises(BadInput, match="contamination") as error:
            check_bad_areas(typed, lambda one=one: load(one))  # type: ignore[misc]
        assert error.value.parameter == "bad_areas"
    assert len(loaded) == 2
