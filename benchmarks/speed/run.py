"""The speed of whole programs: heliodor, Topaz 0.3.20, RELION's LoG, and the machine's limits.

    python -m benchmarks.speed.run TOPAZ_FOLDER [--quick] [--threads N] [--only STAGE ...]

Regression check. TOPAZ_FOLDER is where `common/topaz_peer.py` installs Topaz. All programs run on
the same N CPUs with as many threads, in turn, one at a time. Medians of --repeats are printed as
Markdown tables, each row with its targets. The limits of the machine, printed first, are measured
in the same run: files come from the page cache wherever they fit there. --quick takes three
minutes on two cores; everything takes an hour. Large files go to a temporary folder, or to --work,
where they are kept and used again. Real micrographs are taken from ../shared/data or
$HELIODOR_DATA where they exist. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import data
from benchmarks.common.setup import Setup, describe
from benchmarks.common.topaz_peer import install
from benchmarks.speed import relion_log, scoring, stages


def training(setup: Setup) -> str:
    """Measure updates of training, by a script of their own."""
    script = [sys.executable, "-m", "benchmarks.speed.training", setup.topaz.parents[1]]
    script += ["--threads", setup.threads, "--repeats", setup.repeats]
    script += ["--updates", 3 if setup.quick else 10]
    done = subprocess.run([*map(str, script)], check=True, stdout=subprocess.PIPE, text=True)
    return f"Updates of training\n\n{done.stdout.strip()}"


STAGES: dict[str, Callable[[Setup], str]] = {
    "start": stages.start,
    "preprocess": stages.preprocess,
    "bulk": stages.bulk,
    "scores": scoring.scores,
    "suppression": scoring.suppression,
    "pick": stages.pick,
    "calls": stages.calls,
    "huge": stages.huge,
    "blobs": relion_log.blobs,
    "training": training,
}


def pin(threads: int | None) -> int:
    """Keep this process and those it starts on some CPUs, with as many threads."""
    usable = sorted(os.sched_getaffinity(0))
    number = len(usable) if threads is None else threads
    if not 1 <= number <= len(usable):
        raise SystemExit(f"--threads must lie between 1 and {len(usable)}, the CPUs there are")
    os.sched_setaffinity(0, usable[-number:])
    os.environ["OMP_NUM_THREADS"] = str(number)
    return number


def floors(work: Path, threads: int, quick: bool) -> dict[str, float]:
    """Measure the machine's rates in a process of their own."""
    file = data.large(work, quick)[0]
    command = [sys.executable, "-m", "benchmarks.speed.machine_limits", "rates", threads, file]
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("topaz", type=Path, help="environment of Topaz, installed if missing")
    parser.add_argument(
        "--quick", action="store_true", help="three repeats (picking: one) and smaller sets"
    )
    parser.add_argument("--threads", type=int, help="CPUs and threads [all]")
    parser.add_argument(
        "--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE", help="[all]"
    )
    parser.add_argument("--repeats", type=int, help="of each measurement [5; quick: 3]")
    parser.add_argument("--work", type=Path, help="keeps the files [a temporary one]")
    return parser.parse_args(words)


def measure(options: argparse.Namespace, work: Path) -> None:
    """Run the stages and print their tables as they come."""
    threads = pin(options.threads)
    repeats = options.repeats or (3 if options.quick else 5)
    topaz = install(options.topaz.absolute())
    setup = Setup(
        topaz, work, threads, repeats, options.quick, floors(work, threads, options.quick)
    )
    print(f"{describe(setup)}\n", flush=True)
    for name in options.only:
        began = time.perf_counter()
        print(f"{STAGES[name](setup)}\n", flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    options = parse()
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
        measure(options, options.work.absolute())
        return
    with tempfile.TemporaryDirectory(prefix="heliodor_speed_") as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
