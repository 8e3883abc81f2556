"""The command `precision_recall_curve`."""

from __future__ import annotations

import argparse

import numpy as np

from heliodor.errors import BadInput
from heliodor.hosts.topaz.reading import read
from heliodor.hosts.topaz.writing import emit
from heliodor.matching import match
from heliodor.picks import Picks
from heliodor.ranking import precision_recall


def precision_recall_curve(args: argparse.Namespace) -> int:
    """Write the precision, recall and F1 of scored picks at each of their scores.

    The first line says the average precision and the mean distance of the matched pairs.
    """
    if args.predicted is None or args.targets is None:
        raise BadInput("both --predicted, the picks, and --targets, the particles, are needed")
    predicted, targets = read(args.predicted), read(args.targets)
    if np.isnan(predicted.score).any():
        raise BadInput(f"{args.predicted} has picks without a score; a curve needs them")
    theirs, ours = dict(targets.by_micrograph()), dict(predicted.by_micrograph())
    names = {
        "target": list(theirs),
        "predicted": list(ours),
        "union": list(dict.fromkeys([*theirs, *ours])),
    }[args.images]
    if not theirs.keys() & ours.keys():
        raise BadInput(
            f"{args.predicted} and {args.targets} have no micrograph in common (one has"
            f" {_first(predicted)}, the other {_first(targets)}); give names that agree"
        )
    hits, scores, distances, particles = [], [], [], 0
    for name in names:
        truth = theirs.get(name, Picks.empty())
        own = ours.get(name, Picks.empty())
        order = np.argsort(-own.score, kind="stable")
        matching = match(own.xy_px[order], truth.xy_px, args.assignment_radius)
        hits.append(matching.is_true_positive)
        scores.append(own.score[order])
        distances.append(matching.distance[matching.is_true_positive])
        particles += len(truth)
    curve = precision_recall(np.concatenate(hits), np.concatenate(scores), particles)
    matched = np.concatenate(distances)
    distance = float(matched.mean()) if matched.size else float("nan")
    lines = [f"# auprc={curve.average_precision!r}, mae={distance!r}"]
    lines.append("threshold\tprecision\trecall\tf1")
    columns = (curve.threshold, curve.precision, curve.recall, np.nan_to_num(curve.f1))
    lines += ["\t".join(repr(float(value)) for value in row) for row in zip(*columns, strict=True)]
    emit("\n".join(lines) + "\n", None)
    return 0


def _first(picks: Picks) -> str:
    return picks.micrographs[0] if picks.micrographs else "none"
