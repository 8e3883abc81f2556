"""The command line that is made from the settings classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from heliodor.cli.main import app
from heliodor.cli.options import GROUPS, sentence_of
from heliodor.errors import BadInput
from heliodor.picking.settings import PickSettings
from heliodor.simulation.settings import SimulationSettings
from heliodor.training.settings import TrainSettings
from heliodor.utils.settings import options_of
from heliodor.workflows.settings import ConversionSettings
from helpers.cli import call, done

ROOT = typer.main.get_command(app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """All commands with the words that call them."""
    out = []
    for name, command in group.commands.items():
        below = getattr(command, "commands", None)
        out += commands(command, (*path, name)) if below else [((*path, name), command)]
    return out


COMMANDS = commands()


def names_of(command: Any) -> set[str]:
    return {param.name for param in command.params}


def test_an_option_of_the_settings_is_on_every_command_that_uses_them() -> None:
    training = {*options_of(TrainSettings)}
    picking = {*options_of(PickSettings)}
    by_words = dict(COMMANDS)
    assert names_of(by_words["run",]) >= training | picking
    assert names_of(by_words["train",]) >= training
    assert names_of(by_words["relion", "train"]) >= training
    assert names_of(by_words["pick",]) >= picking
    assert names_of(by_words["relion", "pick"]) >= picking - {"bad_area_masks"}


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(w) for w, _ in COMMANDS])
def test_help_has_headings_sentences_and_one_notation_for_defaults(
    words: tuple[str, ...], command: Any
) -> None:
    text = done(*words, "--help").out
    headings = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    known = ["Arguments", *GROUPS]
    assert [h for h in headings if h in known] == sorted(headings, key=known.index)
    assert "[default: (" not in text
    assert not re.search(r"\[default: [^]]*\]\s*\[default", text)
    for param in command.params:
        if getattr(param, "hidden", False) or param.name == "help":
            continue
        sentence = str(param.help).split(" [default")[0]
        assert sentence.endswith("."), (param.name, sentence)
        assert param.rich_help_panel in {None, *GROUPS}


def test_every_command_but_those_that_print_has_a_default_output() -> None:
    needing = {
        words
        for words, command in COMMANDS
        for param in command.params
        if param.name in ("out", "OUT") and param.required
    }
    assert needing == set()


def test_micrographs_are_typed_with_or_without_their_option(tmp_path: Path) -> None:
    image = str(tmp_path / "absent.mrc")
    for words in (("pick", image), ("pick", "--micrographs", image)):
        result = call(*words, "--diameter", 100)
        assert result.code == 2
        assert "absent.mrc" in result.err
    both = call("pick", image, "--micrographs", image, "--diameter", 100)
    assert both.code == 2
    assert "one way" in both.sentence
    none = call("pick", "--diameter", 100)
    assert none.code == 2
    assert "no micrographs were given" in none.sentence


@pytest.mark.parametrize(
    ("option", "value", "parameter"),
    [("--max-fdr", 3, "--max-fdr"), ("--edge-margin", -4, "--edge-margin")],
)
def test_an_error_of_a_setting_names_the_option(option: str, value: int, parameter: str) -> None:
    result = call("pick", "a.mrc", "--diameter", 100, option, value)
    assert result.code == 2
    assert f"({parameter})" in result.sentence


@pytest.mark.parametrize(
    ("sentence", "parameter", "said"),
    [
        ("a scale of 0", "scale", "a scale of 0 (--scale)"),
        ("A size of 0.", "size_px", "A size of 0 (--size-px)."),
        ("give --fit or not", "fit", "give --fit or not"),
        ("no one is\n to blame", None, "no one is to blame"),
    ],
)
def test_the_option_stands_once_within_the_sentence(
    sentence: str, parameter: str | None, said: str
) -> None:
    assert sentence_of(BadInput(sentence, parameter)) == said


def test_what_stands_for_a_default_in_the_help_is_read_as_the_default() -> None:
    for settings in (ConversionSettings, SimulationSettings):
        for name, each in options_of(settings).items():
            if each.option.parse is not None and each.option.default is not None:
                assert each.option.parse(each.option.default) == each.default, name


def test_auto_or_a_number() -> None:
    for option in ("--threshold", "--expected-particles", "--epochs", "--autoencoder"):
        words = ("run", "a.mrc", "--labels", "l.star", "--diameter", 100)
        assert "must be" in call(*words, option, "many").err
        assert "does not exist" in call(*words, option, "auto").err
