"""How to pick: thresholds and distances, and what becomes of bad areas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from heliodor.errors import BadInput
from heliodor.models.model_file import Model
from heliodor.picking.contamination import ContaminationMask, reject_contamination_option

#: The most thresholds of a series.
MOST_SERIES = 50

#: smooth: of a lattice as fine as the network's training asks for, and a surface through it;
#: dense: of every pixel.
Scores = Literal["smooth", "dense"]
#: leave-out: candidates whose centre lies in a bad area are none; keep: they are like others.
InBadAreas = Literal["leave-out", "keep"]


class Distances(NamedTuple):
    """How far apart picks are, and how far from the edge, in working pixels."""

    exclusion_px: float
    margin_px: int


@dataclass(frozen=True)
class PickSettings:
    """How to pick; lengths in angstrom, None takes what follows from the model's diameter."""

    #: Log-odds from which a candidate is a pick; None chooses it, by what is to be expected of
    #: these micrographs.
    threshold: float | None = None
    #: The largest share of false picks to expect where the threshold is chosen; None chooses the
    #: highest expected F1.
    max_fdr: float | None = None
    #: No two picks are nearer than this; the particle's radius by default.
    exclusion_radius_angstrom: float | None = None
    #: No pick's centre is nearer to an edge than this. RELION extracts a box that crosses an
    #: edge all the same; half a diameter leaves out the particles that are cut off.
    edge_margin_angstrom: float = 0.0
    scores: Scores = "smooth"
    #: So many nested sets of picks are written beside, at falling thresholds; 0: none.
    threshold_series: int = 0
    #: What becomes of candidates in bad areas; of models without a contaminant output none are
    #: known.
    bad_areas: InBadAreas = "leave-out"
    #: No picks on micrographs of which a larger fraction is bad area; None: on all.
    max_contamination: float | None = None
    #: Whether the bad areas of each micrograph are written as an image.
    bad_area_masks: bool = False

    def __post_init__(self) -> None:
        if self.bad_areas not in get_args(InBadAreas):
            raise BadInput(
                f"--bad-areas must be {' or '.join(get_args(InBadAreas))}, not {self.bad_areas!r}"
            )
        if self.max_contamination is not None and not 0 <= self.max_contamination <= 1:
            raise BadInput(
                "the largest fraction of bad area (--max-contamination) must lie between 0 and 1,"
                f" not {self.max_contamination:g}"
            )
        if self.scores not in get_args(Scores):
            raise BadInput(f"the scores {self.scores!r} are none of {', '.join(get_args(Scores))}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise BadInput("the threshold must be a number (log-odds)")
        if self.max_fdr is not None:
            if self.threshold is not None:
                raise BadInput(
                    "a threshold and a largest share of false picks (--max-fdr) were given; the"
                    " second chooses the first, so give one of them"
                )
            if not 0 < self.max_fdr < 1:
                raise BadInput(
                    "the largest share of false picks (--max-fdr) must lie between 0 and 1, not"
                    f" {self.max_fdr:g}"
                )
        if self.threshold_series != 0 and not 2 <= self.threshold_series <= MOST_SERIES:
            raise BadInput(
                f"a series of thresholds has 2 to {MOST_SERIES} of them, not"
                f" {self.threshold_series}"
            )
        for name in ("exclusion_radius", "edge_margin"):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not 0 <= value < 1e5:
                raise BadInput(f"the {name.replace('_', ' ')} must be 0 A or more, not {value:g}")

    def check_for(self, contaminant: bool) -> None:
        """Refuse what is asked of bad areas where a model does not tell `contaminant`s."""
        asked = {
            "--bad-areas keep": self.bad_areas != "leave-out",
            "--max-contamination": self.max_contamination is not None,
            "--bad-area-masks": self.bad_area_masks,
        }
        for option, given in asked.items():
            if given and not contaminant:
                reject_contamination_option(option)

    def refuses(self, bad_areas: ContaminationMask | None) -> bool:
        """Tell whether a micrograph is to have no picks, as too much of it is bad area."""
        most = self.max_contamination
        return most is not None and bad_areas is not None and bad_areas.fraction > most

    def leaves_out(self, bad_areas: ContaminationMask | None) -> ContaminationMask | None:
        """Return the areas in which nothing is a candidate, None for none."""
        return bad_areas if self.bad_areas == "leave-out" else None

    def threshold_for(self, model: Model) -> float:
        """Return the threshold, log-odds: as given, else the model's until one is chosen."""
        return model.card.threshold if self.threshold is None else self.threshold

    def distances_px(self, diameter_angstrom: float, pixel_size_angstrom: float) -> Distances:
        """Return the exclusion radius and the edge margin in pixels of the given size."""
        exclusion = self.exclusion_radius_angstrom
        if exclusion is None:
            exclusion = diameter_angstrom / 2
        margin = math.ceil(self.edge_margin_angstrom / pixel_size_angstrom)
        return Distances(exclusion / pixel_size_angstrom, margin)
