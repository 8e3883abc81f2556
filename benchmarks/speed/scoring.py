"""Dense scores and suppression, each program in its own interpreter: time, memory, equality."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common import data, tables
from benchmarks.common.processes import (
    Run,
    Worker,
    in_turn,
)
from benchmarks.common.setup import Setup
from benchmarks.common.tables import (
    Bar,
    Row,
    at_least,
    at_most,
)
from benchmarks.speed.in_process import SCORES, result_of
from benchmarks.speed.machine_limits import multiply_adds

from heliodor.models.importers.topaz import read_topaz_model
from heliodor.picking.nms import suppress

INSIDE = "benchmarks.speed.in_process"
#: Picks are compared from these scores on, and are no nearer than this, by the image's side.
THRESHOLDS = (0.0, -6.0)
RADIUS_PX = {512: 8, 1024: 14}
#: How many times faster than Topaz each way to score is to be; of an unknown one, as the first.
FASTER = {"exact": 3.0, "lattice": 10.0}
SAME_SCORES, SAME_PICKS, NEAR_PX = 1e-3, 0.995, 1.0
SUPPRESSION_FASTER = 20.0


@dataclass(frozen=True)
class Sameness:
    """How much the scores of a mode and what is picked from them are Topaz's."""

    difference: float
    #: The lesser share of picks that have one of the other near to them, by threshold.
    shared: dict[float, float]
    picks: dict[float, int]


def scores(setup: Setup) -> str:
    """Measure dense scores of resnet8 with 32 units, the same weights in both programs."""
    images = data.scored_images(setup.work, 1 if setup.quick else 3)
    network = read_topaz_model(setup.weights).network
    rate = setup.rates["convolution_float32"]
    rows, same = [], []
    if setup.quick:
        del images[1024]
    for side, files in images.items():
        took = timed(setup, files)
        floor = multiply_adds(network, (side, side)) / rate
        for mode in SCORES:
            if mode == "topaz":
                continue
            row = Row(f"{side} x {side}, {mode}", took[mode], took["topaz"], floor)
            found = sameness(files, mode, RADIUS_PX[side])
            rows.append(Row(row.what, row.ours, row.theirs, floor, bars(mode, row.ratio, found)))
            same.append(line(f"{side} x {side}, {mode}", len(files), found))
    head = ["what", "images", "largest difference"]
    head += [f"same picks from {t:g} on (Topaz's)" for t in THRESHOLDS]
    return (
        "Dense scores, resnet8_u32, in process; in brackets, memory above what the process had"
        f"\n\n{tables.table(rows)}\n\n{tables.markdown(head, same)}"
    )


def timed(setup: Setup, files: Sequence[Path]) -> dict[str, Run]:
    """Take turns on the first image, and leave the scores of all beside them."""
    with ExitStack() as stack:
        workers = {
            mode: stack.enter_context(Worker(command(setup, "scores", mode, files)))
            for mode in SCORES
        }
        for worker in workers.values():
            for number in range(len(files)):  # the first turn of all is not counted
                worker.turn(number)
        return in_turn({mode: worker.turn for mode, worker in workers.items()}, setup.repeats)


def command(setup: Setup, what: str, mode: str, words: Sequence[str | Path]) -> list[str | Path]:
    """Return the command of a worker, of the program that the mode belongs to."""
    python = setup.topaz.with_name("python") if mode == "topaz" else sys.executable
    start: list[str | Path] = [python, "-m", INSIDE, what, mode]
    if what == "scores":
        start.append("resnet8_u32" if mode == "topaz" else setup.weights)
    return [*start, *words]


def sameness(files: Sequence[Path], mode: str, radius_px: float) -> Sameness:
    """Compare a mode's scores and picks with Topaz's: the worst of all images."""
    difference = 0.0
    shared, picks = dict.fromkeys(THRESHOLDS, 1.0), dict.fromkeys(THRESHOLDS, 0)
    for file in files:
        theirs, ours = (np.load(result_of(file, name)) for name in ("topaz", mode))
        difference = max(difference, float(np.abs(theirs - ours).max()))
        for threshold in THRESHOLDS:
            one, other = (suppress(m, radius_px, threshold)[0] for m in (theirs, ours))
            shared[threshold] = min(shared[threshold], share(one, other))
            picks[threshold] += len(one)
    return Sameness(difference, shared, picks)


def share(one: Any, other: Any) -> float:
    """Return the share of the picks that have one of the other within a pixel, the lesser way."""
    from scipy.spatial import cKDTree

    if not len(one) or not len(other):
        return float(len(one) == len(other))
    ways = (cKDTree(b).query(a)[0] <= NEAR_PX for a, b in ((one, other), (other, one)))
    return min(float(near.mean()) for near in ways)


def bars(mode: str, ratio: float, found: Sameness) -> list[Bar]:
    """Ask for what a mode promises."""
    asked = [at_least(ratio, FASTER.get(mode, FASTER["exact"]), "ratio")]
    if mode == "exact":
        asked.append(at_most(found.difference, SAME_SCORES, "difference"))
    asked.append(at_least(min(found.shared.values()), SAME_PICKS, "same picks"))
    return asked


def line(what: str, number: int, found: Sameness) -> list[str]:
    """Return the comparison as cells."""
    shares = [f"{found.shared[t]:.4f} ({found.picks[t]})" for t in THRESHOLDS]
    return [what, str(number), f"{found.difference:.2g}", *shares]


def suppression(setup: Setup) -> str:
    """Measure suppression on the scores that Topaz gives an image of 1024 x 1024."""
    file = data.scored_images(setup.work, 1 if setup.quick else 3)[1024][0]
    radius = RADIUS_PX[1024]
    with Worker(command(setup, "scores", "topaz", [file])) as worker:
        worker.turn()
    whole = result_of(file, "topaz")
    # Topaz lets a pick at the right edge suppress what lies at the left one, so the picks are
    # compared on a map without candidates there.
    inner, scored = whole.with_name("inner.npy"), np.load(whole)
    scored[:, :radius] = scored[:, -radius:] = -np.inf
    np.save(inner, scored)
    rows = []
    for threshold in THRESHOLDS:
        with ExitStack() as stack:
            workers = {
                mode: stack.enter_context(
                    Worker(
                        command(
                            setup, "suppression", mode, [str(radius), str(threshold), whole, inner]
                        )
                    )
                )
                for mode in ("topaz", "exact")
            }
            for worker in workers.values():
                worker.turn(0)
                worker.turn(1)
            took = in_turn({mode: one.turn for mode, one in workers.items()}, setup.repeats)
        theirs, ours = (np.load(result_of(inner, mode)) for mode in ("topaz", "exact"))
        ratio = took["topaz"].seconds / took["exact"].seconds
        same = Bar(f"the same {len(theirs)} picks", np.array_equal(theirs, ours))
        asked = [at_least(ratio, SUPPRESSION_FASTER, "ratio"), same]
        what = f"1024 x 1024, radius {radius}, from {threshold:g} on"
        rows.append(Row(what, took["exact"], took["topaz"], None, asked))
    return f"Non-maximum suppression, in process\n\n{tables.table(rows)}"
