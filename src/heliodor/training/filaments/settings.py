"""What is chosen about a training with labeled filaments.

Light to import: the command line is made from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FilamentTraining:
    """What a user chooses about a training with labeled filaments."""

    #: Width of the filaments; None takes that in the file of labels.
    width_angstrom: float | None = None
    #: Whether the rows of the labels are pairs of starts and ends.
    start_end: bool = False
    #: The model of filaments to start from; None for the general filament model.
    start: str | None = None
    #: Pixel size of the micrographs; None takes that of the STAR file or the headers.
    pixel_size_angstrom: float | None = None
    #: The same seed gives the same model.
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width_angstrom is not None:
            from heliodor.models.filament_model_file import check_filament_width

            check_filament_width(self.width_angstrom)


@dataclass(frozen=True)
class FilamentRecipe:
    """Constants of the training, chosen on simulated sets; no options."""

    #: Minibatches, fields in each, and the side of a field in working pixels with its edges.
    updates: int = 160
    batch: int = 4
    side_px: int = 320
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    #: Share of the fields that show a label.
    labeled: float = 0.75
    #: Share of those that show a rejected axis instead, if there are some.
    rejected: float = 0.35
    #: Weight of all labeled points together over that of all others that count.
    label_weight: float = 0.06
    #: The same of the points on rejected axes, if there are some; labels then weigh as much.
    rejected_weight: float = 0.2
    #: Times that what the network says of unlabeled filaments is renewed by what it has learned.
    rounds: int = 2
    seed: int = 0
