"""How to pick: thresholds and distances, and what becomes of contamination.

Light to import: the command line is made from these classes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from heliodor.errors import BadInput
from heliodor.utils.settings import option

if TYPE_CHECKING:
    from heliodor.models.model_file import Model
    from heliodor.picking.contamination import ContaminationMask

#: The most thresholds of a series.
MOST_SERIES = 50

#: smooth: of a lattice as fine as the network's training asks for, and a surface through it;
#: dense: of every pixel.
Scores = Literal["smooth", "dense"]
#: leave-out: candidates whose center lies in contamination have their log-odds lowered, those in
#: certain contamination are dropped; keep: they are kept as they are.
InBadAreas = Literal["leave-out", "keep"]

_PICKING, _OUTPUT = "Picking", "Output"
_ADVANCED = "Advanced picking"


class Distances(NamedTuple):
    """How far apart picks are, and how far from the edge, in working pixels."""

    exclusion_px: float
    margin_px: int


@dataclass(frozen=True)
class PickSettings:
    """How to pick; lengths in angstrom, None takes what follows from the model's diameter."""

    #: None chooses it from what is expected on these micrographs.
    threshold: float | None = option(
        None,
        help="Candidates with this score (log-odds) or more are picks; auto: the score with the"
        " highest expected F1 on these micrographs.",
        group=_PICKING,
        metavar="LOGODDS",
        default="auto",
        auto=True,
    )
    max_fdr: float | None = option(
        None,
        help="Choose the threshold so that at most this share of the picks is expected to be"
        " false, instead of by F1.",
        group=_PICKING,
        metavar="SHARE",
    )
    exclusion_radius_angstrom: float | None = option(
        None,
        help="Minimum distance between two picks.",
        group=_PICKING,
        metavar="ANGSTROM",
        default="diameter / 2",
    )
    #: RELION extracts boxes that cross an edge too; half a diameter drops particles that are cut.
    edge_margin_angstrom: float | None = option(
        None,
        help="Minimum distance between a pick's center and the edge of the micrograph.",
        group=_PICKING,
        metavar="ANGSTROM",
        default="that of the labels, if they keep away from the edges; otherwise 0",
    )
    box_px: int | None = option(
        None,
        help="Leave out picks for which a box of this side, in pixels of the micrographs, would"
        " be cut off by an edge: RELION repeats edge pixels there, without a message.",
        group=_PICKING,
        metavar="N",
        default="none are left out",
    )
    scores: Scores = option(
        "smooth",
        help="smooth: score every few pixels and interpolate; dense: score every pixel, several"
        " times slower.",
        group=_ADVANCED,
        metavar="KIND",
    )
    threshold_series: int = option(
        0,
        help="Also write N nested sets of picks at falling thresholds: OUT/series/1 ... and"
        " OUT/series.tsv.",
        group=_OUTPUT,
        metavar="N",
        default="none",
    )
    bad_areas: InBadAreas = option(
        "leave-out",
        help="leave-out: only confident picks in contamination (carbon, ice crystals, aggregates)"
        " that the model detects, none in that of --mask; keep: pick there as elsewhere.",
        group=_PICKING,
        metavar="HOW",
    )
    #: One per micrograph; see `heliodor.picking.user_masks`.
    mask: str | list[str] | None = option(
        None,
        help="Your own masks of contamination, in place of what the model detects: a folder or"
        " files (PNG or MRC), named as the micrographs; not 0 is contamination.",
        group=_PICKING,
        metavar="FILES...",
        default="none",
    )
    max_contamination: float | None = option(
        None,
        help="No picks on micrographs with a larger contaminated share (for models that detect"
        " contamination, or --mask).",
        group=_PICKING,
        metavar="SHARE",
        default="pick on all",
    )
    bad_area_masks: bool = option(
        False,
        help="Write the contamination of each micrograph as an image,"
        " OUT/bad_areas/MICROGRAPH.png (for models that detect contamination, or --mask).",
        group=_OUTPUT,
    )

    def __post_init__(self) -> None:
        for name, choices in (("bad_areas", InBadAreas), ("scores", Scores)):
            if (value := getattr(self, name)) not in get_args(choices):
                raise BadInput(
                    f"{name} must be one of {', '.join(get_args(choices))}, not {value!r}",
                    parameter=name,
                )
        if self.max_contamination is not None and not 0 <= self.max_contamination <= 1:
            raise BadInput(
                "the largest contaminated share must be from 0 to 1, not"
                f" {self.max_contamination:g}",
                parameter="max_contamination",
            )
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise BadInput("the threshold must be a number (log-odds)", parameter="threshold")
        if self.max_fdr is not None:
            if self.threshold is not None:
                raise BadInput(
                    "give either a threshold or a largest share of false picks, which chooses the"
                    " threshold, but not both",
                    parameter="max_fdr",
                )
            if not 0 < self.max_fdr < 1:
                raise BadInput(
                    "the largest share of false picks must be more than 0 and less than 1, not"
                    f" {self.max_fdr:g}",
                    parameter="max_fdr",
                )
        if self.threshold_series != 0 and not 2 <= self.threshold_series <= MOST_SERIES:
            raise BadInput(
                f"a series of thresholds must have 2 to {MOST_SERIES} of them, not"
                f" {self.threshold_series}",
                parameter="threshold_series",
            )
        if self.box_px is not None and not 0 < self.box_px < 100_000:
            raise BadInput(f"a box of {self.box_px} pixels is not plausible", parameter="box_px")
        for name in ("exclusion_radius", "edge_margin"):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not 0 <= value < 1e5:
                raise BadInput(
                    f"the {name.replace('_', ' ')} must be from 0 to 100000 Å, not {value:g}",
                    parameter=name,
                )

    def check_for(self, contaminant: bool) -> None:
        """Refuse settings of contamination that have no effect.

        Parameters
        ----------
        contaminant
            Whether the model detects contaminants. If not, there are those of the user's masks.
        """
        chosen = {
            "bad_areas": self.bad_areas != "leave-out",
            "max_contamination": self.max_contamination is not None,
            "bad_area_masks": self.bad_area_masks,
        }
        for name, is_chosen in chosen.items():
            if is_chosen and not contaminant and not self.mask:
                refuse_without_contaminants(name)

    def refuses(self, bad_areas: ContaminationMask | None) -> bool:
        """Return whether a micrograph gets no picks, because too much of it is contaminated."""
        most = self.max_contamination
        return most is not None and bad_areas is not None and bad_areas.fraction > most

    def leaves_out(self, bad_areas: ContaminationMask | None) -> ContaminationMask | None:
        """Return the areas in which candidates are lowered or dropped, or None."""
        return bad_areas if self.bad_areas == "leave-out" else None

    def threshold_for(self, model: Model) -> float:
        """Return the threshold, log-odds: the one given, otherwise the model's."""
        return model.card.threshold if self.threshold is None else self.threshold

    def distances_px(
        self,
        diameter_angstrom: float,
        pixel_size_angstrom: float,
        label_margin_angstrom: float = 0.0,
    ) -> Distances:
        """Return the exclusion radius and the edge margin in pixels of the given size.

        Parameters
        ----------
        label_margin_angstrom
            How far from the edges labels are, the default of the edge margin.
        """
        exclusion, margin = self.exclusion_radius_angstrom, self.edge_margin_angstrom
        if exclusion is None:
            exclusion = diameter_angstrom / 2
        if margin is None:
            margin = label_margin_angstrom
        # Rounded first, so that whole pixels remain what they are.
        margin_px = math.ceil(round(margin / pixel_size_angstrom, 6))
        return Distances(exclusion / pixel_size_angstrom, margin_px)

    def distances_for(self, model: Model, pixel_size_angstrom: float) -> Distances:
        """Return the distances for a model's diameter and labels; see `distances_px`."""
        card = model.card
        return self.distances_px(
            card.diameter_angstrom, pixel_size_angstrom, card.edge_margin_angstrom
        )


def refuse_without_contaminants(name: str) -> None:
    """Refuse a setting of contamination because the model does not detect any."""
    raise BadInput(
        f"{name} is about contamination, which this model does not detect; remove that setting,"
        " use a model with a contaminant output, or give masks (--mask)",
        parameter=name,
    )


#: Fields that choose among the candidates of a micrograph, or what is written of them. The masks
#: count by their content; see `heliodor.picking.run_key.journal_key`.
_AFTER_CANDIDATES: Final = frozenset(
    {"threshold", "max_fdr", "threshold_series", "bad_area_masks", "mask"}
)


def settings_that_change_picks(settings: PickSettings) -> dict[str, Any]:
    """Return the settings that the candidates of a micrograph and their scores depend on."""
    return {k: v for k, v in asdict(settings).items() if k not in _AFTER_CANDIDATES}
