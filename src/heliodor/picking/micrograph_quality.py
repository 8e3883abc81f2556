"""The quality of each micrograph's picks, and which micrographs are outliers.

Nobody inspects thousands of micrographs. One that differs from the rest in the number of its
picks, their scores or its appearance is the one to inspect first.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import PROBABILITY, Picks
from heliodor.errors import BadInput
from heliodor.utils.console import count_of
from heliodor.utils.files import atomic_write

#: The name of the table, beside ``picks.tsv``.
NAME = "micrographs.tsv"
COLUMNS = (
    "micrograph",
    "picks",
    "candidates",
    "expected_particles",
    "score_lower_quartile",
    "score_median",
    "score_upper_quartile",
    "levelled_by",
    "unlike_training",
    "bad_area",
    "score_histogram",
    "outlier",
)
#: Log-odds between the bins of the histogram of a micrograph's candidates, the same for all.
EDGES = (-3.0, -1.5, 0.0, 1.5, 3.0, 4.5, 6.0)
#: Fewer micrographs than this do not show what is usual.
FEWEST = 8
#: This many standard deviations from the median is unusual (Iglewicz & Hoaglin, 1993): by chance
#: one micrograph in two thousand.
LIMIT = 3.5
#: A median absolute deviation is this share of a standard deviation.
MAD_SHARE = 0.6745
#: Smallest standard deviations: of the square root of a count, which varies by one half at random,
#: of log-odds, and of the share that is unlike training; for few micrographs the last is a guess.
LEAST_ROOT, LEAST_SCORE, LEAST_UNLIKE, GUESSED_UNLIKE = 0.5, 0.15, 0.01, 0.05
#: Up to this share of a micrograph may be unlike training.
ALLOWED_UNLIKE = 0.15
#: Fewer picks than this have no useful median.
FEWEST_SCORES = 5
#: If this share of the median micrograph is unlike training, the model does not fit the data.
OTHERS = 0.5


class MicrographMeasurements(NamedTuple):
    """What was measured on a micrograph during picking; None for what is not known."""

    #: Share of its area that looks unlike the training micrographs, 0 to 1.
    unlike_training: float | None = None
    #: What was added to its log-odds to bring its background to that of training.
    levelled_by: float | None = None
    #: Contaminated share of it without dead borders.
    contaminated_fraction: float | None = None


@dataclass(frozen=True)
class MicrographQuality:
    """The quality of one micrograph.

    Attributes
    ----------
    name
        The micrograph.
    picks, candidates
        Their number; picks are the candidates at or above the threshold.
    quartiles
        Lower quartile, median and upper quartile of the picks' scores; None without picks.
    histogram
        Number of candidates in each of the eight bins between `EDGES`.
    measured
        On its image and its score map.
    particles
        Expected number of particles among its candidates; None where scores are not calibrated.
    flags
        Short reasons why it is an outlier; none for most.
    """

    name: str
    picks: int
    candidates: int
    quartiles: tuple[float, float, float] | None
    histogram: tuple[int, ...]
    measured: MicrographMeasurements
    particles: float | None = None
    flags: tuple[str, ...] = ()
    #: Whether it has no picks because too much of it is contamination.
    refused: bool = False


def assess_micrographs(
    tables: Iterable[tuple[str, Picks]],
    threshold: float,
    measured: Mapping[str, MicrographMeasurements],
    refused: Container[str] = (),
    offsets: Mapping[str, float] = MappingProxyType({}),
) -> tuple[MicrographQuality, ...]:
    """Return the quality of each micrograph, in their order.

    Parameters
    ----------
    tables
        Name and candidates of each, with log-odds, and probabilities where they are known.
    threshold
        Log-odds at or above which a candidate is a pick.
    measured
        By name of the micrograph; may lack some.
    refused
        Those that have no picks because too much of them is contamination. They are flagged, and
        not compared with the others.
    offsets
        By how much the thresholds of some are higher, by name. Their scores are lowered by as
        much; scores of different micrographs are compared as they were before.
    """
    rows = []
    bins = (-math.inf, *EDGES, math.inf)
    for name, own in tables:
        picked = own.score[own.score >= threshold]
        quartiles = np.quantile(picked, (0.25, 0.5, 0.75)).tolist() if len(picked) else None
        counts = tuple(int(np.sum((own.score >= a) & (own.score < b))) for a, b in pairwise(bins))
        rows.append(
            MicrographQuality(
                name,
                len(picked),
                len(own),
                None if quartiles is None else (quartiles[0], quartiles[1], quartiles[2]),
                counts,
                measured.get(name, MicrographMeasurements()),
                float(np.sum(own.extra[PROBABILITY])) if PROBABILITY in own.extra else None,
                refused=name in refused,
            )
        )
    flags = iter(_flags([row for row in rows if not row.refused], offsets))
    return tuple(
        replace(row, flags=(_refusal(row),) if row.refused else tuple(next(flags))) for row in rows
    )


def _refusal(row: MicrographQuality) -> str:
    return f"no picks: {row.measured.contaminated_fraction or 0.0:.0%} of it is contamination"


def find_outliers(rows: Sequence[MicrographQuality]) -> list[MicrographQuality]:
    """Return the outliers, those with the most reasons first."""
    return sorted((row for row in rows if row.flags), key=lambda row: -len(row.flags))


def describe_outliers(rows: Sequence[MicrographQuality]) -> str | None:
    """Return a sentence with the number of outliers; None if there are none."""
    found = len(find_outliers(rows))
    if not found:
        return None
    are = "is an outlier" if found == 1 else "are outliers"
    return f"{found} of {len(rows)} micrographs {are}; see {NAME}"


def describe_mismatch(rows: Sequence[MicrographQuality]) -> str | None:
    """Return a warning if the micrographs look unlike those of training, otherwise None."""
    shares = [r.measured.unlike_training for r in rows if r.measured.unlike_training is not None]
    usual = float(np.median(shares)) if shares else 0.0
    if usual <= OTHERS:
        return None
    return (
        f"{usual:.0%} of the median micrograph looks unlike those that the model was trained on;"
        " inspect the picks of some micrographs, or train on these"
    )


def write_micrographs(path: Path, rows: Sequence[MicrographQuality]) -> None:
    """Write ``micrographs.tsv``: a line per micrograph, with empty cells for unknown values."""
    with atomic_write(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            quartiles = row.quartiles or (None, None, None)
            own = row.measured
            numbers = (*quartiles, own.levelled_by, own.unlike_training, own.contaminated_fraction)
            spelt = ("" if value is None else f"{round(value, 3) + 0.0:.3f}" for value in numbers)
            there = "" if row.particles is None else f"{row.particles:.1f}"
            histogram, flags = ",".join(map(str, row.histogram)), "; ".join(row.flags)
            writer.writerow((row.name, row.picks, row.candidates, there, *spelt, histogram, flags))


def read_levels(path: Path) -> dict[str, float]:
    """Read what was added to the log-odds of each micrograph from ``micrographs.tsv``.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        return {row["micrograph"]: float(row["levelled_by"] or 0.0) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise BadInput(
            f"{path} is not a table of micrographs that heliodor has written"
        ) from error


def _flags(rows: Sequence[MicrographQuality], offsets: Mapping[str, float]) -> list[list[str]]:
    """Return for each micrograph the reasons why it is an outlier."""
    flags: list[list[str]] = [[] for _ in rows]
    counts = np.array([row.picks for row in rows], dtype=np.float64)
    if len(rows) >= FEWEST:
        usual = float(np.median(counts))
        for i in np.flatnonzero(_unusual(np.sqrt(counts), LEAST_ROOT)).tolist():
            flags[i].append(f"{count_of(rows[i].picks, 'pick')} (median {usual:.0f})")

    shares = _column([row.measured.unlike_training for row in rows])
    known = np.isfinite(shares)
    if known.any():
        usual, spread = float(np.median(shares[known])), GUESSED_UNLIKE
        if known.sum() >= FEWEST:
            spread = max(_deviation(shares[known]), LEAST_UNLIKE)
        limit = max(ALLOWED_UNLIKE, usual + LIMIT * spread)
        for i in np.flatnonzero(known & (shares > limit)).tolist():
            flags[i].append(f"{shares[i]:.0%} of it looks unlike the training micrographs")

    middle = _column([r.quartiles[1] if r.quartiles is not None else None for r in rows])
    middle += [offsets.get(row.name, 0.0) for row in rows]
    middle[counts < FEWEST_SCORES] = np.nan
    # A median of few picks is itself uncertain.
    widths = _column([r.quartiles[2] - r.quartiles[0] if r.quartiles else None for r in rows])
    unsure = 1.25 * (widths / (2 * MAD_SHARE)) / np.sqrt(np.maximum(counts, 1))
    usual = float(np.median(middle[np.isfinite(middle)])) if np.isfinite(middle).any() else 0.0
    # Higher ones are fine: at more defocus, for example, particles are easier to see.
    for i in np.flatnonzero(_unusual(middle, LEAST_SCORE, unsure) & (middle < usual)).tolist():
        flags[i].append(f"median score of its picks {middle[i]:.1f} (usually {usual:.1f})")

    moved = _column([row.measured.levelled_by for row in rows])
    usual = float(np.median(moved[np.isfinite(moved)])) if np.isfinite(moved).any() else 0.0
    for i in np.flatnonzero(_unusual(moved, LEAST_SCORE)).tolist():
        flags[i].append(f"its scores were leveled by {moved[i]:+.1f} (usually {usual:+.1f})")
    return flags


def _unusual(
    values: FloatArray, least: float, unsure: FloatArray | None = None
) -> NDArray[np.bool_]:
    """Return which values lie far from the others, none if there are too few; nan does not."""
    known = np.isfinite(values)
    if known.sum() < FEWEST:
        return np.zeros(len(values), dtype=bool)
    spread = max(_deviation(values[known]), least)
    allowed = LIMIT * (
        np.full(len(values), spread) if unsure is None else np.hypot(spread, unsure)
    )
    away = np.abs(values - np.median(values[known]))
    return np.asarray(known & (away > np.where(known, allowed, np.inf)))


def _deviation(values: FloatArray) -> float:
    """Return a standard deviation on which a few outliers have no influence."""
    return float(np.median(np.abs(values - np.median(values)))) / MAD_SHARE


def _column(values: Sequence[float | None]) -> FloatArray:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
