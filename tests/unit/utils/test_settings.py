"""Settings classes: every option is documented once and can be built from its name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from heliodor.errors import BadInput
from heliodor.picking.settings import PickSettings
from heliodor.simulation.settings import SimulationSettings
from heliodor.training.settings import DataSettings, TrainingSettings, TrainSettings
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.settings import build, option, options_of
from heliodor.workflows.settings import CheckSettings, ConversionSettings

CLASSES = (
    DataSettings, TrainingSettings, TrainSettings, PickSettings, ComputeSettings,
    ConversionSettings, CheckSettings, SimulationSettings,
)  # fmt: skip


@dataclass(frozen=True)
class Oven:
    heat_angstrom: float = option(help="How hot.", group="Other")
    light: bool = option(True, help="In the dark.", group="Other", name="dark", inverted=True)
    #: No option.
    hidden: int = 3


def test_options_are_fields_by_their_names_without_units() -> None:
    assert [*options_of(Oven)] == ["heat", "dark"]
    assert build(Oven, {"heat": 2.0}) == Oven(2.0)
    assert build(Oven, {"heat": 2.0, "dark": True}) == Oven(2.0, light=False)


def test_an_unknown_option_is_named_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="no option 'heats'; the options are dark, heat") as error:
        build(Oven, {"heats": 1.0})
    assert error.value.parameter == "heats"
    with pytest.raises(BadInput, match="no option 'tresh'"):
        TrainSettings.from_options(diameter=100.0, tresh=1)
    with pytest.raises(BadInput, match=r"the options are .*diameter.*recipe.*width"):
        build(TrainSettings, {"diameter": 100.0, "tresh": 1})


def test_a_class_that_is_made_of_others_has_their_options() -> None:
    own = options_of(TrainSettings)
    assert {*own} == {*options_of(DataSettings), *options_of(TrainingSettings), "recipe", "start"}
    # What is not typed is the recipe's.
    assert own["width"].default is None
    assert own["width"].type == "int | None"
    assert build(TrainSettings, {"diameter": 100.0}) == TrainSettings.from_options(diameter=100.0)
    assert options_of(str) == {}


@pytest.mark.parametrize("settings", CLASSES)
def test_every_option_is_a_sentence_under_a_heading(settings: type) -> None:
    from heliodor.cli.options import GROUPS

    for name, each in options_of(settings).items():
        declared = each.option
        assert declared.help.endswith("."), name
        assert declared.group in GROUPS, name


def test_a_training_takes_its_recipe_and_what_is_chosen_in_it() -> None:
    plain = TrainSettings.from_options(diameter=100.0)
    assert plain.data.diameter_angstrom == 100.0
    assert plain.training.start == "general"
    paper = TrainSettings.from_options(diameter=100.0, recipe="paper", seed=4, epochs=None)
    assert (paper.training.network, paper.training.start) == ("conv31", "scratch")
    assert (paper.data.flatten_angstrom, paper.training.seed) == (0.0, 4)
    own_scale = TrainSettings.from_options(diameter=100.0, working_pixel_size=5.0)
    assert own_scale.training.start == "scratch"


def test_every_error_of_a_setting_names_its_parameter() -> None:
    for settings, values, parameter in (
        (PickSettings, {"max_fdr": 2.0}, "max_fdr"),
        (PickSettings, {"bad_areas": "x"}, "bad_areas"),
        (PickSettings, {"edge_margin": -1.0}, "edge_margin"),
        (ComputeSettings, {"memory": 0.1}, "memory"),
        (DataSettings, {"diameter": 100.0, "flatten": -1.0}, "flatten"),
        (TrainingSettings, {"learning_rate": 0.0}, "learning_rate"),
    ):
        with pytest.raises(BadInput) as error:
            build(settings, values)
        assert error.value.parameter == parameter
