"""Sort the runs of `run.py` into the cells of its grids, and test them."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import ttest_rel

METRICS = {"region_ap": "Region AP", "particle_ap": "Particle AP"}
CHOSEN = "ge-binomial"
#: In the order of the tables.
OBJECTIVES = ("pn", "nnpu", "ge-kl", "ge-binomial", "ge-binomial-exact")
GAMMAS = ("γ = 0", "γ = 1", "γ = 10/N")

Row = Mapping[str, Any]
#: A figure of merit by draw of labels.
Draws = dict[int, float]
#: Draws by data set, series (an objective, a weight) and place on the axis (N, a factor).
Cells = dict[str, dict[str, dict[float, Draws]]]
#: Runs with the series and the place that they belong to.
Sorted = Iterator[tuple[Row, str, float]]


def by_objective(rows: Sequence[Row]) -> Sorted:
    """Sort into objectives and numbers of labels."""
    for row in rows:
        if row["gamma"] == 0 and row["factor"] == 1:
            yield row, row["objective"], row["labels"]


def by_gamma(rows: Sequence[Row]) -> Sorted:
    """Sort into weights of the autoencoder and numbers of labels."""
    own = [row for row in rows if row["objective"] == CHOSEN and row["factor"] == 1]
    # A data set that was never trained with one has nothing to show here.
    tried = {row["dataset"] for row in own if row["gamma"] != 0}
    for row in own:
        if row["dataset"] in tried:
            # Of ten labels, 10/N is 1: one run is in both series.
            for name, weight in zip(GAMMAS, (0.0, 1.0, 10 / row["labels"]), strict=True):
                if math.isclose(row["gamma"], weight):
                    yield row, name, row["labels"]


def by_factor(rows: Sequence[Row]) -> Sorted:
    """Sort into numbers of labels and factors of the class prior."""
    own = [row for row in rows if row["objective"] == CHOSEN and row["gamma"] == 0]
    tried = {(row["dataset"], row["labels"]) for row in own if row["factor"] != 1}
    for row in own:
        if (row["dataset"], row["labels"]) in tried:
            yield row, f"N = {row['labels']}", row["factor"]


def collect(rows: Sequence[Row], metric: str, sort: Callable[[Sequence[Row]], Sorted]) -> Cells:
    """Sort a figure of merit of the runs into the cells of a grid."""
    cells: Cells = {}
    for row, series, place in sort(rows):
        if row[metric] is not None:
            lines = cells.setdefault(row["dataset"], {})
            lines.setdefault(series, {}).setdefault(place, {})[row["draw"]] = row[metric]
    return cells


@dataclass(frozen=True)
class Paired:
    """Student's paired t-test of one series of draws against another, two-sided."""

    difference: float
    number: int
    #: None where there is nothing to test: fewer than two draws, or all differences equal.
    p: float | None

    @classmethod
    def of(cls, one: Draws, other: Draws) -> Paired | None:
        """Test over the draws that both have; None without any."""
        shared = sorted(one.keys() & other.keys())
        if not shared:
            return None
        differences = [one[draw] - other[draw] for draw in shared]
        p = None
        if len(set(differences)) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of differences that are all but equal
                result = ttest_rel([one[d] for d in shared], [other[d] for d in shared])
            p = float(result.pvalue)
        return cls(statistics.fmean(differences), len(shared), p)

    @property
    def mark(self) -> str:
        """As in the paper's Figure 5: * the first is better, † the other is, at p < 0.05."""
        if self.p is None or not self.p < 0.05:
            return ""
        return "*" if self.difference > 0 else "†"

    def __str__(self) -> str:
        p = "–" if self.p is None else "< 0.001" if self.p < 0.001 else f"{self.p:.3f}"
        return f"{self.difference:+.3f} ({self.number}) {p} {self.mark}".rstrip()


def summary(draws: Draws) -> str:
    """Return mean ± standard deviation and number of draws."""
    if not draws:
        return "–"
    spread = f" ± {statistics.stdev(draws.values()):.3f}" if len(draws) > 1 else ""
    return f"{statistics.fmean(draws.values()):.3f}{spread} ({len(draws)})"


def places_of(lines: Mapping[str, Mapping[float, Draws]]) -> list[float]:
    """Return all places of some series, ascending."""
    return sorted({place for line in lines.values() for place in line})
