"""What `heliodor train` is asked for: a model of particles, or one of filaments.

Light to import: the command line is made from this class.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, replace
from typing import Any

from heliodor.errors import BadInput
from heliodor.training.filaments.settings import FilamentTraining
from heliodor.training.settings import TrainSettings
from heliodor.utils.settings import ComposedSettings, OptionField, option, options_of

#: Options of training on particles that are also of training on filaments.
SHARED = ("width", "start", "pixel_size", "seed")


@dataclass(frozen=True)
class _Filaments:
    """The options of filaments only."""

    filaments: bool = option(
        False,
        help="The labels are filaments: train a model that traces filaments.",
        group="Filaments",
    )
    start_end: bool = option(
        False,
        help="The rows of the labels are pairs of starts and ends of filaments, as RELION's manual"
        " picking writes them.",
        group="Filaments",
    )


@dataclass(frozen=True)
class TrainingChoice(ComposedSettings):
    """The settings of one of the two kinds of training; the other is None."""

    particles: TrainSettings | None
    filaments: FilamentTraining | None

    @classmethod
    def options(cls) -> dict[str, OptionField]:
        """Return the options of both kinds by name."""
        both = TrainSettings.options()
        # Only needed for particles, which `from_options` checks.
        both["diameter"] = replace(
            both["diameter"], type=f"{both['diameter'].type} | None", default=None
        )
        width = both["width"]
        both["width"] = replace(
            width,
            type="float | None",
            option=replace(
                width.option,
                help="With --filaments: width of the filaments in angstrom; otherwise channels of"
                " the first layer.",
                default="that in the file of labels; " + str(width.option.default),
            ),
        )
        return both | options_of(_Filaments)

    @classmethod
    def from_options(cls, **values: Any) -> TrainingChoice:
        """Return settings from the values of options.

        Raises
        ------
        BadInput
            If a value is not possible, or an option is of the other kind of training.
        """
        filaments, start_end = values.pop("filaments", False), values.pop("start_end", False)
        if filaments:
            _refuse_particle_options(values)
            given = FilamentTraining(
                values.get("width"),
                start_end,
                values.get("start"),
                values.get("pixel_size"),
                0 if values.get("seed") is None else values["seed"],
            )
            return cls(None, given)
        if start_end:
            raise BadInput(
                "this is an option for filaments; give --filaments too", parameter="start_end"
            )
        if values.get("diameter") is None:
            raise BadInput(
                "the longest diameter of the particle is missing; give it in angstrom",
                parameter="diameter",
            )
        width = values.get("width")
        if width is not None:
            if width != int(width):
                raise BadInput(
                    f"the width of the network must be a whole number of channels, not {width:g};"
                    " the width of filaments needs --filaments",
                    parameter="width",
                )
            values["width"] = int(width)
        return cls(TrainSettings.from_options(**values), None)


def _refuse_particle_options(values: dict[str, Any]) -> None:
    """Refuse options that mean nothing for filaments."""
    declared = TrainingChoice.options()
    for name, value in values.items():
        default = declared[name].default
        if declared[name].option.inverted:
            default = not default
        unchanged = value is None or (default is not MISSING and value == default)
        if name not in SHARED and not unchanged:
            raise BadInput(
                "this is an option for training on particles; leave it out with --filaments",
                parameter="from" if name == "start" else name,
            )
