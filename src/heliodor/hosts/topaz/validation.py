"""Validation of picks by labelled particles: the extraction radius that ranks them best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.hosts.topaz.lists import image_name, repeated
from heliodor.hosts.topaz.reading import read
from heliodor.matching import match
from heliodor.picks import Picks
from heliodor.ranking import precision_recall


@dataclass(frozen=True)
class RadiusFigures:
    """How well picks at one radius find the targets; `line` is Topaz's way to say it."""

    radius: int
    average_precision: float
    #: Root mean square distance of the picks from the targets they are paired with.
    rms_distance: float
    found: int
    targets: int

    @property
    def line(self) -> str:
        """The figures in one line."""
        return (
            f"# radius={self.radius}, auprc={self.average_precision},"
            f" rmse={self.rms_distance}, recall={self.found}, targets={self.targets}"
        )


def read_targets(path: str, names: Sequence[str]) -> dict[str, FloatArray]:
    """Read the labelled particles of the images with the given names.

    Raises
    ------
    BadInput
        If there is none on any of them, or two of the images have one name.
    """
    twice = repeated(names)
    if twice is not None:
        raise BadInput(f"two images are called {twice}: --targets cannot tell them apart")
    wanted = set(names)
    targets = {
        image_name(name): own.xy_px
        for name, own in read(path).by_micrograph()
        if image_name(name) in wanted
    }
    if not targets:
        raise BadInput(
            f"the targets {path} name none of the images, which are like {names[0]}; give the"
            " coordinates of these"
        )
    return targets


def judge_radius(
    radius: int,
    picks: Mapping[str, Picks],
    targets: Mapping[str, FloatArray],
    assignment_radius: int | None,
) -> RadiusFigures:
    """Judge the picks of one radius.

    Parameters
    ----------
    radius
        The radius.
    picks
        Of each image, best first; images without targets do not count.
    targets
        Labelled particles (x, y) of each image.
    assignment_radius
        The largest distance of a pick from its target; the radius where None.
    """
    distance = radius if assignment_radius is None else assignment_radius
    hits, scores, squares = [np.zeros(0, bool)], [np.zeros(0)], 0.0
    judged = {name: xy for name, xy in targets.items() if name in picks}
    for name, xy in judged.items():
        matching = match(picks[name].xy_px, xy, distance)
        hits.append(matching.is_true_positive)
        scores.append(picks[name].score)
        squares += float(np.nansum(matching.distance**2))
    hit = np.concatenate(hits)
    found, total = int(hit.sum()), sum(map(len, judged.values()))
    curve = precision_recall(hit, np.concatenate(scores), total)
    average = curve.average_precision if len(hit) and total else 0.0
    return RadiusFigures(
        radius, average, math.sqrt(squares / found) if found else math.nan, found, total
    )
