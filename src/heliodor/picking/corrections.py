"""Corrections of picks: particles that a user labeled, and positions that are not particles."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import Source, read_lines
from heliodor.errors import BadInput
from heliodor.picking.contamination import DISTANCE
from heliodor.picking.journal import MicrographResult
from heliodor.utils.console import count_of

log = logging.getLogger(__name__)

#: A candidate and an annotation at most this many diameters apart are the same particle.
SAME_DIAMETERS = 0.4
#: A label and a negative this close are the same position, in pixels of the micrograph.
SAME_POSITION_PX = 1.0


def near(xy_px: FloatArray, others: FloatArray, distance: float) -> NDArray[np.bool_]:
    """Return which positions lie within a distance of any of the others.

    Parameters
    ----------
    xy_px, others
        (x, y), shapes (n, 2) and (m, 2).
    distance
        In the same unit, inclusive.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    if not len(xy_px) or not len(others):
        return np.zeros(len(xy_px), dtype=bool)
    from scipy.spatial import cKDTree  # slow to import

    # The tree excludes positions exactly at the bound, so search slightly farther and compare.
    away, _ = cKDTree(others).query(xy_px, distance_upper_bound=distance * (1 + 1e-9))
    return np.asarray(away <= distance)


def correct_candidates(
    xy_px: FloatArray,
    score: FloatArray,
    particles: FloatArray,
    negatives: FloatArray,
    threshold: float,
    reach_px: float,
) -> tuple[NDArray[np.intp], FloatArray, float]:
    """Return which candidates of a micrograph remain, and which particles become picks.

    Candidates near a negative are dropped. Labeled particles without a pick nearby are added with
    the highest score on the micrograph, or the threshold if that is higher.

    Parameters
    ----------
    xy_px, score
        Candidates in descending order of log-odds, shapes (n, 2) and (n,).
    particles, negatives
        Positions that the user labeled, shapes (p, 2) and (q, 2).
    threshold
        Log-odds from which candidates are picks.
    reach_px
        A candidate and a label at most this far apart are the same.

    Returns
    -------
    ndarray of int, ndarray, float
        The candidates that remain; the particles to add, shape (m, 2); and their score.
    """
    rest = np.flatnonzero(~near(xy_px, negatives, reach_px))
    picks = xy_px[rest[score[rest] >= threshold]]
    missed = particles[~near(particles, picks, reach_px)]
    best = max(threshold, float(score[0])) if len(score) else threshold
    return rest, missed, best


@dataclass(frozen=True)
class Corrections:
    """Labeled particles and negatives, by the names of micrographs."""

    particles: Mapping[str, FloatArray] = field(default_factory=dict)
    negatives: Mapping[str, FloatArray] = field(default_factory=dict)
    #: By how much the threshold of a micrograph is higher than that of the others, in log-odds.
    offsets: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.particles or self.negatives or self.offsets)

    @classmethod
    def read(
        cls,
        labels: str | Path | None,
        negatives: str | Path | None,
        sources: Sequence[Source],
        offsets: str | Path | None = None,
    ) -> Corrections:
        """Read the files that a user gives; None: none.

        Raises
        ------
        BadInput
            If a file cannot be read, its names match the micrographs in two ways, or a position is
            that of a particle and of a negative.
        """
        found = cls(
            _read_positions(labels, sources),
            _read_positions(negatives, sources),
            {} if offsets is None else _read_offsets(Path(offsets), sources),
        )
        none = np.zeros((0, 2))
        for name, xy in found.particles.items():
            both = near(xy, found.negatives.get(name, none), SAME_POSITION_PX)
            if both.any():
                x, y = xy[both][0]
                raise BadInput(
                    f"{labels} and {negatives} have the same positions (such as {x:g}, {y:g} on"
                    f" {name}): a particle cannot be a negative; remove them from one of the files"
                )
        return found

    def without_cut_boxes(self, sources: Sequence[Source], box_px: int) -> Corrections:
        """Return the corrections without particles whose boxes an edge would cut off.

        Parameters
        ----------
        sources
            The micrographs.
        box_px
            Side of the box in pixels of the micrographs.
        """
        particles, cut = dict(self.particles), 0
        for source in sources:
            own = particles.get(source.name)
            if own is None:
                continue
            try:
                shape = read_header(source.path).shape
            except BadInput:
                continue  # picking reports it
            whole = mask_whole_boxes(np.round(own, 3), shape, box_px)
            cut += int(np.count_nonzero(~whole))
            particles[source.name] = own[whole]
        if cut:
            log.info(f"{count_of(cut, 'labeled particle')} left out: an edge cuts off the box")
        return replace(self, particles=particles)

    @classmethod
    def from_lists(cls, value: Any) -> Corrections:
        """Return the corrections that `as_lists` described.

        Raises
        ------
        ValueError, LookupError, TypeError
            If the description is damaged.
        """
        offsets = {str(name): float(own) for name, own in value["offsets"].items()}
        if not all(map(math.isfinite, offsets.values())):
            raise ValueError("impossible offsets")
        return cls(_read_lists(value["particles"]), _read_lists(value["negatives"]), offsets)

    def as_lists(self) -> dict[str, Any]:
        """Return all positions and offsets, ready for JSON, which keeps them exactly."""
        positions = {"particles": self.particles, "negatives": self.negatives}
        lists: dict[str, Any] = {
            kind: {str(name): own.tolist() for name, own in each.items()}
            for kind, each in positions.items()
        }
        return lists | {"offsets": dict(self.offsets)}

    def apply(
        self, name: str, result: MicrographResult, threshold: float, diameter_angstrom: float
    ) -> MicrographResult:
        """Return the result of a micrograph with its candidates corrected.

        Where its threshold is higher than the others', its scores are lowered by as much, so that
        one threshold holds for all.
        """
        offset = self.offsets.get(name, 0.0)
        if offset:
            own = result.candidates
            result = result._replace(candidates=replace(own, score=own.score - offset))
        none = np.zeros((0, 2))
        particles = self.particles.get(name, none)
        negatives = self.negatives.get(name, none)
        if not len(particles) and not len(negatives):
            return result
        own, size = result.candidates, result.pixel_size_angstrom
        rest, missed, best = correct_candidates(
            own.xy_px, own.score, particles, negatives, threshold,
            SAME_DIAMETERS * diameter_angstrom / size,
        )  # fmt: skip
        added = Picks.on(name, missed, np.full(len(missed), best))
        if result.contamination is not None:
            distance = result.contamination.distance_angstrom(missed * size)
            added = replace(added, extra={DISTANCE: distance})
        joined = Picks.concatenate([own.select(rest), added])
        order = np.argsort(-joined.score, kind="stable")
        return result._replace(candidates=joined.select(order))


NO_CORRECTIONS = Corrections()


def _read_lists(value: Any) -> dict[str, FloatArray]:
    positions = {}
    for name, rows in value.items():
        own = np.array(rows, dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(own).all():
            raise ValueError("impossible positions")
        positions[str(name)] = own
    return positions


def render_offsets(offsets: Mapping[str, float]) -> str:
    """Return the text of a file with a threshold offset per line, each before its micrograph."""
    return "".join(f"{offset!r}\t{name}\n" for name, offset in offsets.items())


def _read_offsets(path: Path, sources: Sequence[Source]) -> dict[str, float]:
    """Read the threshold offsets in a file; see `render_offsets`.

    Raises
    ------
    BadInput
        If a line is not a number and a name.
    """
    names = {source.name for source in sources}
    found: dict[str, float] = {}
    for number, line in enumerate(read_lines(path), 1):
        if line.lstrip().startswith("#"):
            continue
        value, _, name = line.strip().partition("\t" if "\t" in line.strip() else " ")
        try:
            offset = float(value)
        except ValueError:
            offset = math.nan
        if not math.isfinite(offset) or not name.strip():
            raise BadInput(
                f"line {number} of {path} is not an offset and the name of a micrograph: {line!r}",
                parameter="threshold_offsets",
            )
        if found.get(name.strip(), offset) != offset:
            raise BadInput(
                f"{path} has two offsets of {name.strip()}; remove one",
                parameter="threshold_offsets",
            )
        found[name.strip()] = offset
    if unknown := found.keys() - names:
        log.warning(f"{len(unknown)} offsets in {path} are of other micrographs and are not used")
    return {name: offset for name, offset in found.items() if name in names}


def _read_positions(path: str | Path | None, sources: Sequence[Source]) -> dict[str, FloatArray]:
    """Read the positions in a file, by the names of the given micrographs."""
    if path is None:
        return {}
    table = read_picks(path)
    found = match_names(table.micrographs, sources, table.file_stems)
    positions: dict[str, FloatArray] = {}
    unknown = 0
    for name, own in table.split_by_micrograph():
        if name in found:
            positions[found[name].name] = own.xy_px
        else:
            unknown += len(own)
    if unknown:
        log.warning(f"{unknown} positions in {path} are on other micrographs and are not used")
    return positions
