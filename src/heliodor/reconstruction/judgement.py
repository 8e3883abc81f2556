"""What was found about sets of picks at falling thresholds, and the threshold that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.reconstruction.junk import JUNK_CLASS, Share

#: What made the classes and their averages: RELION's 2D classification, or groups of crops that
#: look alike; and how one of them is called.
MadeBy = Literal["RELION", "heliodor"]
CLASS_WORDS: Final[Mapping[MadeBy, str]] = {"RELION": "2D class", "heliodor": "group of crops"}

#: The scatter of the area under the correlation is at least this share of it.
LEAST_SCATTER: Final = 0.005


@dataclass(frozen=True)
class BinJudgement:
    """The picks between two thresholds.

    Attributes
    ----------
    low, high
        Log-odds; nan without scores, `high` is inf for the first bin.
    picks
        Their number.
    junk
        The share of them that is classified as random positions are.
    reversed_picks
        Candidates with reversed contrast in this bin; None if they are not known.
    false_share
        The share of false picks: by the candidates with reversed contrast where they are known,
        otherwise `junk`.
    as_decoys_in_map
        The share of them that agree with the map of the other half as random positions do; None
        where no map was compared.
    """

    low: float
    high: float
    picks: int
    junk: Share
    reversed_picks: float | None
    false_share: float
    as_decoys_in_map: Share | None = None


@dataclass(frozen=True)
class MapJudgement:
    """The maps of a set.

    Attributes
    ----------
    resolution_angstrom, area
        Of each split, shape (s,).
    offset_angstrom
        The median distance by which picks were moved.
    reaches_nyquist
        Whether the resolution of a split is limited by the pixel size of the images.
    """

    resolution_angstrom: FloatArray
    area: FloatArray
    offset_angstrom: float
    reaches_nyquist: bool


@dataclass(frozen=True)
class SetJudgement:
    """The picks at and above one threshold.

    Attributes
    ----------
    threshold
        Log-odds; nan for picks without scores.
    picks
        Their number.
    false_share
        The share of them that is false, from the bins.
    maps
        None where no maps were made of this set.
    """

    threshold: float
    picks: int
    false_share: float
    maps: MapJudgement | None


@dataclass(frozen=True)
class Recommendation:
    """The threshold to pick at.

    Attributes
    ----------
    threshold
        Log-odds.
    reason
        A sentence.
    """

    threshold: float
    reason: str


@dataclass(frozen=True)
class Judgement:
    """What was found about picks.

    Attributes
    ----------
    bins
        The picks between thresholds, highest scores first.
    sets
        The nested sets that they make up, those with maps among them.
    by_classes, by_maps
        The recommended threshold; None where it does not follow: picks without scores, no maps.
    junk_below, worse_below
        Thresholds below which most of the added picks are false, and the map becomes worse.
    left_out
        Picks whose boxes are cut off by an edge.
    reversed_known
        Whether candidates with reversed contrast were compared.
    classes_by
        What made the classes.
    """

    bins: tuple[BinJudgement, ...]
    sets: tuple[SetJudgement, ...]
    by_classes: Recommendation | None
    by_maps: Recommendation | None
    junk_below: float | None
    worse_below: float | None
    left_out: int
    reversed_known: bool
    classes_by: MadeBy = "RELION"

    @property
    def recommendation(self) -> Recommendation | None:
        """By the maps where there are some, otherwise by the classes."""
        return self.by_maps or self.by_classes


@dataclass(frozen=True)
class ClassAverages:
    """The averages of the first portion, for the figure.

    Attributes
    ----------
    averages
        Shape (k, h, w).
    picks, random
        The numbers of images in each class, shape (k,).
    junk
        The share of each class's picks that is junk, shape (k,).
    made_by
        What made the classes.
    """

    averages: FloatArray
    picks: FloatArray
    random: FloatArray
    junk: FloatArray
    made_by: MadeBy


def join_bins(bins: Sequence[BinJudgement]) -> list[SetJudgement]:
    """Return the nested sets of which bins consist, without maps, fewest picks first."""
    sets, picks, false = list[SetJudgement](), 0, 0.0
    for each in bins:
        picks += each.picks
        false += each.picks * each.false_share if each.picks else 0.0
        sets.append(SetJudgement(each.low, picks, false / picks if picks else math.nan, None))
    return sets


def pooled_scatter(sets: Sequence[SetJudgement]) -> float:
    """Return the standard deviation of the area between splits, of all sets together."""
    own = [one.maps.area for one in sets if one.maps is not None]
    squares = sum(float(((area - area.mean()) ** 2).sum()) for area in own)
    freedom = sum(len(area) - 1 for area in own)
    found = math.sqrt(squares / freedom) if freedom else 0.0
    return max(found, LEAST_SCATTER * max(float(area.mean()) for area in own))


def recommend_by_maps(sets: Sequence[SetJudgement]) -> Recommendation:
    """Return the highest threshold whose map is as good as the best, within the scatter.

    Parameters
    ----------
    sets
        At falling thresholds; those without maps do not count.
    """
    judged = [one for one in sets if one.maps is not None]
    scatter = pooled_scatter(judged)
    means = np.array([one.maps.area.mean() for one in judged if one.maps is not None])
    best = int(means.argmax())
    chosen = int(np.flatnonzero(means >= means[best] - scatter)[0])
    reason = (
        f"the map of these {judged[chosen].picks} picks has the largest area under the FSC"
        if chosen == best
        else f"the area under the FSC of these {judged[chosen].picks} picks is that of"
        f" {judged[best].picks} within the scatter between splits"
    )
    return Recommendation(judged[chosen].threshold, reason)


def recommend_by_classes(sets: Sequence[SetJudgement]) -> Recommendation:
    """Return the threshold with the highest F1, as far as the shares of false picks are right.

    Particles that are in none of the sets do not count.
    """
    true = np.array([one.picks * (1 - one.false_share) for one in sets])
    picks = np.array([one.picks for one in sets])
    f1 = 2 * true / (picks + true[-1])
    best = int(f1.argmax())
    return Recommendation(
        sets[best].threshold,
        f"by the false shares, these {sets[best].picks} picks have the highest F1"
        f" ({f1[best]:.2f} of the particles in the largest set)",
    )


def find_junk_below(bins: Sequence[BinJudgement]) -> float | None:
    """Return the threshold below which most of the added picks are false; None if nowhere."""
    limit: float | None = None
    for each in reversed(bins):
        if not each.picks:
            continue
        if not each.false_share > JUNK_CLASS:
            break
        limit = each.high
    return limit


def find_worse_below(sets: Sequence[SetJudgement]) -> float | None:
    """Return the threshold below which added picks make the map worse; None if nowhere."""
    judged = [one for one in sets if one.maps is not None]
    if len(judged) < 2:
        return None
    scatter = pooled_scatter(judged)
    means = [float(one.maps.area.mean()) for one in judged if one.maps is not None]
    best = int(np.argmax(means))
    worse = any(mean < means[best] - scatter for mean in means[best + 1 :])
    return judged[best].threshold if worse else None
