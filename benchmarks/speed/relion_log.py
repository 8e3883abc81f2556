"""The Laplacian-of-Gaussian picker of RELION, which needs no training.

Several diameters, thresholds and contrasts are tried, and the best on the evaluated micrographs
are taken, in its favor. It is timed as the window of RELION calls it, which shrinks micrographs to
what 20 Å needs (`--shrink 0 --lowpass 20`), and without shrinking, with the same other options.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import data as speed_data
from benchmarks.common import tables
from benchmarks.common.data import HELIODOR, Simulated
from benchmarks.common.processes import (
    Run,
    in_turn,
    run,
)
from benchmarks.common.setup import Setup
from benchmarks.common.tables import (
    Row,
    at_least,
    at_most,
)

PROGRAM = "relion_autopick"
#: Least and greatest diameter, in the particle's longest.
RANGES = ((0.75, 1.0), (0.7, 0.85), (0.6, 0.9), (0.5, 0.8), (0.9, 1.1))
RANGES_QUICK = RANGES[:1]
ADJUSTMENTS, ADJUSTMENTS_QUICK = (0.0, -1.0, 0.5), (0.0, -1.0)
WINDOW = ("--shrink", "0", "--lowpass", "20")
NUMBER, NUMBER_QUICK = 20, 6
TIMES, BETTER = 2.0, 0.2

Line = tuple[str, ...]


def blobs(setup: Setup) -> str:
    """Measure seconds a micrograph and average precision on simulated particles."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not there: left out"
    rows = [
        row
        for particle in (("barrel",) if setup.quick else ("barrel", "trimer"))
        for row in judge(setup, particle)
    ]
    return (
        "RELION's LoG picker against the default model, trained from"
        f" {speed_data.LABELS} labels; simulated micrographs of 1024 x 1024, seconds a micrograph"
        f" of whole processes\n\n{tables.table(rows, 'LoG')}"
    )


def judge(setup: Setup, particle: str) -> Iterator[Row]:
    """Measure both on one kind of particle, RELION at its best."""
    number = NUMBER_QUICK if setup.quick else NUMBER
    data = Simulated(particle, setup.work / particle, number).make()
    model, project = data.model(), data.unseen
    own_out = data.folder / "picks"
    own: list[str | Path] = [
        HELIODOR,
        "pick",
        "--model",
        model,
        "--micrographs",
        project / "micrographs.star",
    ]

    def ours() -> Run:
        shutil.rmtree(own_out, ignore_errors=True)
        return run([*own, "-o", own_out, "--device", "cpu"])

    ours()
    own_ap = data.average_precision(own_out / "picks.tsv", data.folder / "judged")
    best_ap, best = max((log_precision(data, line), line) for line in lines(setup, particle))
    plain = best[: -len(WINDOW)]
    plain_ap = log_precision(data, plain)
    took = in_turn(
        {"ours": ours, "window": log(data, best), "plain": log(data, plain)}, setup.repeats
    )
    each = {name: Run(one.seconds / number, one.peak_mb) for name, one in took.items()}
    for name, ap, words in (
        ("window", best_ap, "as its window calls it"),
        ("plain", plain_ap, ""),
    ):
        asked = [
            at_most(each["ours"].seconds / each[name].seconds, TIMES, "times its seconds"),
            at_least(own_ap - ap, BETTER, f"AP {own_ap:.3f}, LoG's {ap:.3f}: difference"),
        ]
        shown = " ".join(plain).replace("--LoG_", "")
        what = f"{particle}, {number} micrographs; LoG {words or 'at full sampling'}: {shown}"
        yield Row(what, each["ours"], each[name], None, asked)


def lines(setup: Setup, particle: str) -> Iterator[Line]:
    """Return the options to try, as RELION's window gives them."""
    diameter = speed_data.diameter(particle)
    for least, most in RANGES_QUICK if setup.quick else RANGES:
        for adjustment in ADJUSTMENTS_QUICK if setup.quick else ADJUSTMENTS:
            line: Line = ("--LoG_diam_min", f"{least * diameter:g}")
            line += ("--LoG_diam_max", f"{most * diameter:g}")
            line += ("--LoG_adjust_threshold", f"{adjustment:g}")
            yield line + WINDOW
            if (least, most, adjustment) == (*RANGES[0], ADJUSTMENTS[0]):
                yield (*line, "--Log_invert", *WINDOW)


def log(data: Simulated, line: Line) -> Callable[[], Run]:
    """Return what picks by LoG on the unseen micrographs, in their folder as RELION wants."""
    out = data.unseen / "LoG"

    def measured() -> Run:
        shutil.rmtree(out, ignore_errors=True)
        command = [PROGRAM, "--i", "micrographs.star", "--odir", "LoG/", "--LoG", *line]
        return run(command, data.unseen)

    return measured


def log_precision(data: Simulated, line: Line) -> float:
    """Pick by LoG and judge it by its figure of merit; 0 where it finds nothing at all."""
    log(data, line)()
    picks = Path(data.unseen / "LoG" / "micrographs")
    if not any(picks.glob("*_autopick.star")):
        return 0.0
    return data.average_precision(picks, data.folder / "judged_log")
