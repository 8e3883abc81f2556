from __future__ import annotations

from typing import Any

import pytest

from heliodor.errors import BadInput
from heliodor.training.choice import SHARED, TrainingChoice
from heliodor.training.filaments.settings import FilamentTraining
from heliodor.training.settings import TrainSettings
from heliodor.utils.settings import options_of


def given_by_the_command_line(**values: Any) -> dict[str, Any]:
    """Return the values that the command line gives if only these are typed."""
    typed = {}
    for name, each in options_of(TrainingChoice).items():
        value = None if each.option.auto else each.default
        typed[name] = not value if each.option.inverted else value
    return typed | values


def test_training_on_particles_is_as_without_filaments() -> None:
    for values in ({}, {"width": 8, "start": "scratch"}, {"seed": 3, "effort": "quick"}):
        own = given_by_the_command_line(diameter=100.0, **values)
        choice = TrainingChoice.from_options(**own)
        assert choice.filaments is None
        assert choice.particles == TrainSettings.from_options(diameter=100.0, **values)


def test_training_on_filaments_has_its_own_settings() -> None:
    own = given_by_the_command_line(
        filaments=True, width=70.0, start_end=True, seed=4, pixel_size=1.2, start="a"
    )
    choice = TrainingChoice.from_options(**own)
    assert choice.particles is None
    assert choice.filaments == FilamentTraining(70.0, True, "a", 1.2, 4)


@pytest.mark.parametrize("name", [*options_of(TrainSettings)])
def test_options_of_particles_are_refused_with_filaments(name: str) -> None:
    each = options_of(TrainSettings)[name]
    value: Any = 7 if each.option.metavar != "NAME" else "quick"
    if each.option.inverted:
        value = True
    own = given_by_the_command_line(filaments=True, **{name: value})
    if name in SHARED:
        if name == "width":
            own["width"] = 70.0
        assert TrainingChoice.from_options(**own).filaments is not None
        return
    with pytest.raises(BadInput, match="leave it out with --filaments") as caught:
        TrainingChoice.from_options(**own)
    assert caught.value.parameter == name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "diameter of the particle is missing"),
        ({"diameter": 100.0, "start_end": True}, "give --filaments too"),
        ({"diameter": 100.0, "width": 70.5}, "whole number of channels"),
        ({"filaments": True, "width": 5.0}, "not plausible"),
    ],
)
def test_impossible_choices_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        TrainingChoice.from_options(**given_by_the_command_line(**values))
