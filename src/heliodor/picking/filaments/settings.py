"""How to trace filaments.

Light to import: the command line is made from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from heliodor.errors import BadInput
from heliodor.picking.settings import PickSettings
from heliodor.utils.settings import option, parse_segments

if TYPE_CHECKING:
    from heliodor.picking.filaments.tracer import Geometry

_FILAMENTS = "Filaments"
#: Defaults, in widths of the filament.
GAP_WIDTHS, LEAST_WIDTHS, RADIUS_WIDTHS = 2.0, 3.0, 4.0
#: Fields of `PickSettings` that mean the same for filaments.
OF_FILAMENTS: Final = frozenset({"threshold", "bad_areas", "bad_area_masks", "mask"})
#: Why other options are refused, where there is more to say than that they are about particles.
_INSTEAD: Final = {
    "diameter": "give the width of the filament, --width",
}


@dataclass(frozen=True)
class FilamentSettings:
    """How to trace filaments; lengths in angstrom, None takes what follows from the width."""

    filaments: bool = option(
        False,
        help="Trace filaments (amyloid, microtubules, actin, tubes) instead of picking particles;"
        " needs --width, or a model that was trained with one.",
        group=_FILAMENTS,
    )
    width_angstrom: float | None = option(
        None,
        help="Width of the filament, for the general filament model.",
        group=_FILAMENTS,
        metavar="ANGSTROM",
    )
    gap_angstrom: float | None = option(
        None,
        help="Join two parts of a filament over a gap up to this length.",
        group=_FILAMENTS,
        metavar="ANGSTROM",
        default=f"{GAP_WIDTHS:g} widths",
    )
    min_length_angstrom: float | None = option(
        None,
        help="Leave out shorter filaments.",
        group=_FILAMENTS,
        metavar="ANGSTROM",
        default=f"{LEAST_WIDTHS:g} widths",
    )
    min_radius_angstrom: float | None = option(
        None,
        help="Smallest radius of the bends of a filament: the larger, the straighter.",
        group=_FILAMENTS,
        metavar="ANGSTROM",
        default=f"{RADIUS_WIDTHS:g} widths",
    )
    segments_angstrom: float | None = option(
        None,
        help="Also write OUT/segments.star: helical segments at this distance, or at the rise"
        " times a number of asymmetric units, as in 4.75x10.",
        group=_FILAMENTS,
        metavar="ANGSTROM",
        default="no segments",
        parse=parse_segments,
    )
    #: One or more; see `heliodor.data.filaments.writers.FORMATS`.
    to: list[str] | None = option(
        None,
        help="Also write the filaments in another format: start-end (RELION), box, helix (EMAN2),"
        " cbox (crYOLO) or cs (cryoSPARC), into OUT/FORMAT.",
        group=_FILAMENTS,
        metavar="FORMAT",
        default="none",
    )

    def __post_init__(self) -> None:
        if not self.filaments:
            for each in fields(self):
                if getattr(self, each.name) not in (None, False):
                    raise BadInput(
                        "this is an option of --filaments, which is not given",
                        parameter=each.name.removesuffix("_angstrom"),
                    )
            return
        for name, least in (("gap", 0.0), ("min_length", 0.0), ("min_radius", 1.0)):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not least <= value < 1e6:
                raise BadInput(f"this must be {least:g} Å or more, not {value:g}", parameter=name)
        if self.segments_angstrom is not None and not 0.1 <= self.segments_angstrom <= 1e5:
            raise BadInput(
                f"a distance of {self.segments_angstrom:g} Å between segments is not plausible",
                parameter="segments",
            )
        self._check_formats()

    def _check_formats(self) -> None:
        if not self.to:
            return
        from heliodor.data.filaments.writers import FORMATS

        for name in self.to:
            if name not in FORMATS or name == "filaments":
                known = ", ".join(one for one in FORMATS if one != "filaments")
                raise BadInput(f"this must be one of {known}, not {name!r}", parameter="to")

    def geometry_px(self, width_angstrom: float, pixel_size_angstrom: float) -> Geometry:
        """Return what a filament is, in pixels of a micrograph."""
        from heliodor.picking.filaments.tracer import Geometry

        def length_px(given: float | None, widths: float) -> float:
            return (widths * width_angstrom if given is None else given) / pixel_size_angstrom

        return Geometry(
            width_angstrom / pixel_size_angstrom,
            length_px(self.gap_angstrom, GAP_WIDTHS),
            length_px(self.min_radius_angstrom, RADIUS_WIDTHS),
            length_px(self.min_length_angstrom, LEAST_WIDTHS),
        )


def refuse_particle_options(settings: PickSettings, others: Mapping[str, Any]) -> None:
    """Refuse what has no meaning for filaments.

    Parameters
    ----------
    settings
        The settings of picking; those in `OF_FILAMENTS` may be given.
    others
        The values of other options, by their names; None and False: not given.

    Raises
    ------
    BadInput
        If there is such an option.
    """
    given = [
        each.name.removesuffix("_angstrom")
        for each in fields(settings)
        if each.name not in OF_FILAMENTS and getattr(settings, each.name) != each.default
    ]
    given += [name for name, value in others.items() if value not in (None, False)]
    if given:
        name = given[0]
        why = _INSTEAD.get(name)
        more = "leave it out" if why is None else f"leave it out: {why}"
        raise BadInput(f"this is an option for particles, not for --filaments; {more}",
                       parameter=name)  # fmt: skip
