"""Every figure of accuracy on all real data with known particles, in one table.

    python -m benchmarks.accuracy.real_data [--quick] [--split test|train] [--sets NAME ...]
        [--labels 0 30 200] [--draws 3] [--adapt] [--efforts normal ...] [--out FOLDER]
        [--topaz ENVIRONMENT] [--independence]

For 0, 30 and 200 labels, drawn at random from the truth on the micrographs to train on: training
and picking with all defaults (without labels, the general model), on the micrographs to pick on.
The table has medians of the draws: AP of all candidates down to a log-odds of -14, matched within
0.4 of the diameter; the best F1 of all thresholds, and the log-odds there; F1 at the automatic
threshold, and its ratio to the best (median and worst); precision and recall, as the program
states them with their intervals and as they are; AP and F1 without contamination masks
(`bad_areas` keep); the centers of matched picks, in diameters: median shift in x and y, median
error, and the error that 90% do not exceed; CPU seconds of training on one thread. The summary
says which bars are met.
Where the truth is incomplete (all but apoferritin), precision is a lower bound; so are AP and F1.

--split train    choose constants with this one: labels on half of the training micrographs, picks
                 on the other half
--independence   instead, the number of picks on a micrograph alone, among 3, among 10, and among
                 10 and 3 unreadable files, with the general model

Each case is kept as JSON in FOLDER under a fingerprint of the program's files and of the truth, so
the script can be stopped and resumed, and computes again what a change of the program may change.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

# Sets the number of threads before NumPy and PyTorch are imported.
from benchmarks.common.workers import carry_out_all  # isort: skip

from benchmarks.accuracy import real_data_independence as independence
from benchmarks.accuracy import real_data_tables as tables
from benchmarks.accuracy.general_model.data import ROOT
from benchmarks.accuracy.real_data_cases import (
    Case,
    attempt,
    attempt_topaz,
    fingerprint_program,
    wanted_cases,
)
from benchmarks.common.real_sets import REAL_SETS, SPLITS, RealSet, Split, write_task
from benchmarks.common.topaz_peer import install

from heliodor.errors import BadInput
from heliodor.utils.files import write_json

LABELS, DRAWS, UPDATES = [0, 30, 200], 3, 1000
#: With --quick: draws, and the most micrographs to pick on; fewer are calibrated in another way.
QUICK_DRAWS, QUICK_MICROGRAPHS = 1, 3


def find_sets(names: Sequence[str]) -> list[str]:
    """Return the sets that are there, and say which are not."""
    there = [name for name in names if REAL_SETS[name].folder.is_dir()]
    for name in names:
        if name not in there:
            print(f"no {REAL_SETS[name].folder}: skipped (set HELIODOR_DATA)")
    return there


def write_tasks(cases: Sequence[Case], out: Path) -> list[Case]:
    """Write the data of each case, and return those with enough particles for their labels."""
    possible = []
    for case in cases:
        try:
            write_task(case.real, case.split, out, case.draw, case.labels, case.most)
        except BadInput as error:
            print(f"{case.words} is skipped: {error}")
        else:
            possible.append(case)
    return possible


def measure(options: argparse.Namespace, out: Path) -> int:
    """Carry out the cases that are not there yet, and print the table of all."""
    most = QUICK_MICROGRAPHS if options.quick else None
    cases = wanted_cases(
        options.sets, options.split, options.labels, options.draws, most, options.adapt,
        options.efforts,
    )  # fmt: skip
    cases = write_tasks(cases, out)
    jobs: list[Callable[[], str]] = [
        partial(attempt, case, out, case.file(out))
        for case in cases
        if not case.file(out).exists()
    ]
    print(f"{len(cases)} cases, {len(jobs)} to do", flush=True)
    peers: dict[Case, Path] = {}
    if options.topaz is not None:
        topaz = install(options.topaz.absolute())
        peers = {
            c: c.topaz_file(out, options.updates)
            for c in cases
            if c.draw == 0 and not c.adapt and c.effort == options.efforts[0]
        }
        for name in options.sets:
            missing = [c for c, path in peers.items() if c.name == name and not path.exists()]
            if missing:
                jobs.append(partial(attempt_topaz, missing, out, topaz, options.updates))
    code = carry_out(jobs, options.workers)
    done = [(case, read(case.file(out))) for case in cases if case.file(out).exists()]
    if done:
        its = {case: read(path) for case, path in peers.items() if path.exists()}
        incomplete = [n for n in options.sets if not REAL_SETS[n].complete]
        print(f"\nmicrographs: split {options.split}; program {fingerprint_program()[:12]}")
        if incomplete:
            print(f"AP, F1 and precision of {', '.join(incomplete)} are lower bounds")
        print("\n" + tables.table(done, its) + "\n")
        print("\n".join(f"- {line}" for line in tables.summary(done)))
    return code


def measure_independence(options: argparse.Namespace, out: Path) -> int:
    """Pick micrographs alone and among others, and print the table of the sets."""
    most = independence.FEW if options.quick else independence.MANY
    files = {
        name: out
        / "independence"
        / f"{name}_{options.split}_{most}_{fingerprint_program()[:12]}.json"
        for name in options.sets
    }
    jobs = [
        partial(attempt_independence, REAL_SETS[name], options.split, most, path)
        for name, path in files.items()
        if not path.exists()
    ]
    code = carry_out(jobs, options.workers)
    done = [read(path) for path in files.values() if path.exists()]
    print("\n" + independence.table(done))
    return code


def attempt_independence(real: RealSet, split: Split, most: int, path: Path) -> str:
    """Measure one set and keep the result; return a line about it."""
    began = time.process_time()
    try:
        result = independence.measure(real, split, most)
        write_json(path, result)
    except (Exception, SystemExit) as error:  # whatever it is, the other sets go on
        return f"FAILED {real.name}: {type(error).__name__}: {error}"
    return f"{real.name}: {time.process_time() - began:.0f} CPU s"


def carry_out(jobs: Sequence[Callable[[], str]], workers: int) -> int:
    """Carry out jobs, print their lines, and return the exit status."""
    number = failed = 0

    def tell(lines: str) -> None:
        nonlocal number, failed
        number, failed = number + 1, failed + lines.count("FAILED ")
        print(f"[{number}/{len(jobs)}] {lines}", flush=True)

    try:
        carry_out_all(jobs, workers, tell)
    except KeyboardInterrupt:
        print("stopped; call again to resume")
        return 130
    except BrokenProcessPool:
        print("a process was killed, perhaps for lack of memory; call again to resume")
        return 1
    if failed:
        print(f"{failed} failed")
    return 1 if failed else 0


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are not smaller."""

    def whole_number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, not {value}")
        return value

    return whole_number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", nargs="+", choices=[*REAL_SETS], default=[*REAL_SETS], help="[all]"
    )
    parser.add_argument(
        "--labels", nargs="+", type=at_least(0), metavar="N",
        help="numbers of labels; 0: the general model [0 30 200]",
    )  # fmt: skip
    parser.add_argument("--draws", type=at_least(1), help="draws of labels [3; with --quick 1]")
    parser.add_argument("--split", choices=SPLITS, default="test", help="[test]")
    parser.add_argument(
        "--quick", action="store_true",
        help="one draw, and at most 3 micrographs to pick on: 10 minutes on two cores",
    )  # fmt: skip
    parser.add_argument("--workers", type=at_least(1), default=2, help="of one thread each [2]")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "out" / "real_data",
        help="folder of the results [benchmarks/out/real_data]",
    )  # fmt: skip
    parser.add_argument(
        "--topaz", type=Path, metavar="ENVIRONMENT",
        help="also measure Topaz 0.3.20 of this environment, installed if missing: the same labels"
        " (first draw), F1 at its default threshold of -6",
    )  # fmt: skip
    parser.add_argument(
        "--updates", type=at_least(1), help=f"of the training of Topaz [{UPDATES}]"
    )
    parser.add_argument(
        "--adapt", action="store_true",
        help="without labels, also adapt the general model to the micrographs to pick on",
    )  # fmt: skip
    parser.add_argument(
        "--efforts", nargs="+", choices=tables.EFFORTS, default=["normal"],
        help="of training, where there are labels [normal]",
    )  # fmt: skip
    parser.add_argument("--independence", action="store_true", help="see above")
    options = parser.parse_args(arguments)
    if options.independence:
        for name in ("labels", "draws", "topaz"):
            if getattr(options, name) is not None:
                parser.error(f"--independence does not use --{name}; leave out one of them")
    if options.adapt and (options.independence or 0 not in (options.labels or LABELS)):
        parser.error("--adapt is for cases without labels; leave it out or add --labels 0")
    if options.updates is not None and options.topaz is None:
        parser.error("--updates is for --topaz; leave it out or add --topaz")
    options.labels = options.labels or LABELS
    options.draws = options.draws or (QUICK_DRAWS if options.quick else DRAWS)
    options.updates = options.updates or UPDATES
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    options.sets = find_sets(options.sets)
    if not options.sets:
        return 0
    fingerprint_program()  # of the files as they are now, when they are imported
    out = options.out.absolute()
    return (measure_independence if options.independence else measure)(options, out)


if __name__ == "__main__":
    sys.exit(main())
