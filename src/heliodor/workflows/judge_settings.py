"""How to judge picks by reconstruction.

Light to import: the command line is made from this class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from heliodor.errors import BadInput
from heliodor.utils.settings import option

_PARTICLE, _PICKING, _RECONSTRUCTION = "Particle", "Picking", "Reconstruction"
#: The sides of particle images after they are scaled down, pixels.
SMALLEST_IMAGE, LARGEST_IMAGE = 24, 256
#: The usual side, if the box has more pixels.
IMAGE_PX = 56
#: The usual numbers of sets of which maps are made, and of splits.
SETS, SPLITS = 4, 3


def _parse_thresholds(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(
            f"--thresholds must be numbers with commas between them, as in 2,0.5,-1, not {text!r}"
        ) from error
    if not all(map(math.isfinite, values)) or len({*values}) < len(values):
        raise BadInput(f"--thresholds must be different finite numbers, not {text!r}")
    return tuple(sorted(values, reverse=True))


@dataclass(frozen=True)
class JudgeSettings:
    """How to judge picks; lengths in angstrom, unless a name ends in ``_px``."""

    diameter_angstrom: float | None = option(
        None,
        help="Longest diameter of the particle.",
        group=_PARTICLE,
        metavar="ANGSTROM",
        default="that of the model, for picks of heliodor",
    )
    symmetry: str | None = option(
        None,
        help="Point group of the particle: C1, D7, T, O, I.",
        group=_PARTICLE,
        metavar="GROUP",
        default="C1",
    )
    thresholds: tuple[float, ...] = option(
        (),
        help="Scores (log-odds) at which the sets of picks begin.",
        group=_PICKING,
        metavar="A,B,...",
        default="those of the series, otherwise six sets that differ by equal numbers of picks",
        parse=_parse_thresholds,
    )
    quick: bool = option(
        False,
        help="Only 2D classification, no maps; where there is no RELION, heliodor's own quick"
        " groups of crops that look alike.",
        group=_RECONSTRUCTION,
    )
    reference: str | None = option(
        None,
        help="A map of the particle, from which refinement starts after it is filtered to low"
        " resolution.",
        group=_RECONSTRUCTION,
        metavar="MAP",
        default="an initial model of the surest picks",
    )
    sets: int | None = option(
        None,
        help="Most sets of which maps are made.",
        group=_RECONSTRUCTION,
        metavar="N",
        default=f"{SETS}",
    )
    splits: int | None = option(
        None,
        help="How often each set is split into halves, which shows the scatter.",
        group=_RECONSTRUCTION,
        metavar="N",
        default=f"{SPLITS}",
    )
    box_px: int | None = option(
        None,
        help="Side of the boxes around particles; picks whose boxes are cut off by an edge are"
        " left out.",
        group=_RECONSTRUCTION,
        metavar="N",
        default="1.5 diameters",
    )
    image_px: int | None = option(
        None,
        help="Side of the particle images after they are scaled down.",
        group=_RECONSTRUCTION,
        metavar="N",
        default=f"{IMAGE_PX}, or the box if that is smaller",
    )
    reversed_picks: str | None = option(
        None,
        help="What the same picker found on the micrographs with reversed contrast, with scores:"
        " false picks to compare with.",
        group=_RECONSTRUCTION,
        metavar="FILE",
        default="picks of heliodor: found with its model; otherwise none",
    )
    relion: str | None = option(
        None,
        help="Folder of RELION's programs, 3.1 to 5.",
        group=_RECONSTRUCTION,
        metavar="FOLDER",
        default="those on the PATH",
    )

    def __post_init__(self) -> None:
        if self.quick:
            for name in ("reference", "symmetry", "sets", "splits"):
                if getattr(self, name) is not None:
                    raise BadInput(
                        f"--quick makes no maps; leave out --{name} or --quick", parameter="quick"
                    )
        if self.sets is not None and not 1 <= self.sets <= 20:
            raise BadInput(f"--sets must be 1 to 20, not {self.sets}", parameter="sets")
        if self.splits is not None and not 2 <= self.splits <= 20:
            raise BadInput(
                f"--splits must be 2 to 20, not {self.splits}: one split has no scatter",
                parameter="splits",
            )
        if self.image_px is not None and (
            self.image_px % 2 or not SMALLEST_IMAGE <= self.image_px <= LARGEST_IMAGE
        ):
            raise BadInput(
                f"--image-px must be an even number from {SMALLEST_IMAGE} to {LARGEST_IMAGE}, not"
                f" {self.image_px}",
                parameter="image_px",
            )
        if self.box_px is not None and (self.box_px % 2 or self.box_px < SMALLEST_IMAGE):
            raise BadInput(
                f"--box-px must be an even number from {SMALLEST_IMAGE} on, not {self.box_px}",
                parameter="box_px",
            )
        if self.box_px is not None and self.image_px is not None and self.image_px > self.box_px:
            raise BadInput(
                f"--image-px {self.image_px} is larger than the box of {self.box_px} pixels",
                parameter="image_px",
            )
        if self.diameter_angstrom is not None and not 10 <= self.diameter_angstrom <= 5000:
            raise BadInput(
                f"a diameter of {self.diameter_angstrom:g} Å is not plausible",
                parameter="diameter",
            )
