"""Evaluate picks against labeled particles: the precision-recall curve, and the best radius."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import micrograph_stem
from heliodor.errors import BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.evaluation.ranking import PrecisionRecall, precision_recall
from heliodor.integrations.topaz.coordinate_reader import read_coordinates
from heliodor.integrations.topaz.image_lists import find_duplicate
from heliodor.integrations.topaz.output import write_output


class _MatchedPicks(NamedTuple):
    """Picks of several micrographs, matched with their particles."""

    curve: PrecisionRecall
    #: Distance of each matched pair in pixels.
    distance: FloatArray
    particles: int


def _match_picks(
    names: Iterable[str],
    picks: Mapping[str, Picks],
    particles: Mapping[str, FloatArray],
    distance_px: float,
) -> _MatchedPicks:
    """Match the picks of some micrographs with their particles."""
    hits, scores, distances, number = [np.zeros(0, bool)], [np.zeros(0)], [np.zeros(0)], 0
    for name in names:
        truth = particles.get(name, np.zeros((0, 2)))
        own = picks.get(name, Picks.empty())
        order = np.argsort(-own.score, kind="stable")
        matching = match_picks(own.xy_px[order], truth, distance_px)
        hits.append(matching.is_true_positive)
        scores.append(own.score[order])
        distances.append(matching.distance[matching.is_true_positive])
        number += len(truth)
    curve = precision_recall(np.concatenate(hits), np.concatenate(scores), number)
    return _MatchedPicks(curve, np.concatenate(distances), number)


def precision_recall_curve(args: argparse.Namespace) -> int:
    """Write the precision, recall and F1 of scored picks at each of their scores.

    The first line has the average precision and the mean distance of the matched pairs.
    """
    if args.predicted is None or args.targets is None:
        raise BadInput("both --predicted (picks) and --targets (particles) are needed")
    predicted, targets = read_coordinates(args.predicted), read_coordinates(args.targets)
    if np.isnan(predicted.score).any():
        raise BadInput(f"{args.predicted} has picks without scores, which the curve requires")
    theirs, ours = dict(targets.split_by_micrograph()), dict(predicted.split_by_micrograph())
    names = {
        "target": list(theirs),
        "predicted": list(ours),
        "union": list(dict.fromkeys([*theirs, *ours])),
    }[args.images]
    if not theirs.keys() & ours.keys():
        raise BadInput(
            f"{args.predicted} and {args.targets} have no micrograph in common (one has"
            f" {_first_name(predicted)}, the other {_first_name(targets)}); use the same names"
        )
    particles = {name: own.xy_px for name, own in theirs.items()}
    curve, matched, _ = _match_picks(names, ours, particles, args.assignment_radius)
    distance = float(matched.mean()) if matched.size else float("nan")
    lines = [f"# auprc={curve.average_precision!r}, mae={distance!r}"]
    lines.append("threshold\tprecision\trecall\tf1")
    columns = (curve.threshold, curve.precision, curve.recall, np.nan_to_num(curve.f1))
    lines += ["\t".join(repr(float(value)) for value in row) for row in zip(*columns, strict=True)]
    write_output("\n".join(lines) + "\n", None)
    return 0


def _first_name(picks: Picks) -> str:
    return picks.micrographs[0] if picks.micrographs else "none"


@dataclass(frozen=True)
class RadiusMetrics:
    """How well the picks of one radius match the targets."""

    radius: int
    average_precision: float
    #: Root mean square distance between matched picks and targets.
    rms_distance: float
    found: int
    targets: int

    @property
    def line(self) -> str:
        """Return the metrics as one line in Topaz's format."""
        return (
            f"# radius={self.radius}, auprc={self.average_precision},"
            f" rmse={self.rms_distance}, recall={self.found}, targets={self.targets}"
        )


def read_targets(path: str, names: Sequence[str]) -> dict[str, FloatArray]:
    """Read the labeled particles of the images with the given names.

    Raises
    ------
    BadInput
        If none of the images has particles, or two images have the same name.
    """
    twice = find_duplicate(names)
    if twice is not None:
        raise BadInput(
            f"two images are called {twice}, so --targets is ambiguous; rename one of them"
        )
    wanted = set(names)
    targets = {
        micrograph_stem(name): own.xy_px
        for name, own in read_coordinates(path).split_by_micrograph()
        if micrograph_stem(name) in wanted
    }
    if not targets:
        raise BadInput(
            f"the targets {path} name none of the images (such as {names[0]}); give the"
            " coordinates of these images"
        )
    return targets


def evaluate_radius(
    radius: int,
    picks: Mapping[str, Picks],
    targets: Mapping[str, FloatArray],
    assignment_radius: int | None,
) -> RadiusMetrics:
    """Evaluate the picks of one radius.

    Parameters
    ----------
    radius
        The radius.
    picks
        Picks of each image, best first; images without targets are ignored.
    targets
        Labeled particles (x, y) of each image.
    assignment_radius
        Maximum distance between a pick and its target; None takes the radius.
    """
    distance_px = radius if assignment_radius is None else assignment_radius
    names = [name for name in targets if name in picks]
    curve, distance, number = _match_picks(names, picks, targets, distance_px)
    known = bool(number and len(curve.threshold))
    return RadiusMetrics(
        radius,
        curve.average_precision if known else 0.0,
        float(np.sqrt(np.mean(distance**2))) if len(distance) else math.nan,
        len(distance),
        number,
    )
