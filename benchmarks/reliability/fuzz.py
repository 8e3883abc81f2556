"""Damaged files by the thousand: every reader must read or refuse each of them.

    python -m benchmarks.reliability.fuzz --count 20000 --seed 1

Regression check. Files of each kind are damaged at random (tests/helpers/fuzz.py), the same for
the same seed. They are read in separate processes, so that one that crashes, hangs or fills the
memory is detected. Prints a table, and fails on any unexplained outcome.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import resource
import select
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from helpers import fuzz, fuzz_inputs

#: A file may take so many seconds, and so much memory: a fixed sum and some times its own size.
MOST_SECONDS, BASE_BYTES, TIMES_ITS_SIZE = 5.0, 64 * 2**20, 4
#: Seconds without a word after which a process is taken to hang.
PATIENCE = 15.0
#: Beyond this a process is refused any memory, and whatever asked for it is seen.
MOST_ADDRESSES = 2 * 2**30
#: Compressed images may unpack to this.
BASES = {"mrc.gz": 2 * BASE_BYTES, "mrc.bz2": 2 * BASE_BYTES}


@dataclass
class Row:
    """What came of the files of one kind."""

    files: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    largest: int = 0
    unexplained: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="files over all readers")
    parser.add_argument("--seed", type=int, default=1, help="of the damage [1]")
    parser.add_argument("--only", nargs="*", help="kinds of files")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        kind, seed, first, count = args.worker
        work(kind, int(seed), int(first), int(count))
        return 0
    kinds = args.only or list(fuzz_inputs.KINDS)
    each = -(-args.count // len(kinds))
    rows = {}
    titles = ("reader", "files", "read", "refused", "unexplained", "slowest s", "most MB")
    print(_WIDTHS.format(*titles))
    for kind in kinds:
        rows[kind] = row = run(kind, args.seed, each)
        print(_spelt(kind, row), flush=True)
        for line in row.unexplained[:20]:
            print(f"    {line}", flush=True)
    wrong = sum(len(row.unexplained) for row in rows.values())
    print(f"{sum(row.files for row in rows.values())} files, {wrong} unexplained")
    return 1 if wrong else 0


_WIDTHS = "{:<18} {:>7} {:>7} {:>8} {:>12} {:>10} {:>8}"


def _spelt(kind: str, row: Row) -> str:
    times, sizes = f"{row.slowest:.2f}", f"{row.largest / 2**20:.1f}"
    wrong = len(row.unexplained)
    return _WIDTHS.format(kind, row.files, row.read, row.refused, wrong, times, sizes)


def run(kind: str, seed: int, count: int) -> Row:
    """Read the files of one kind, in as many processes as it takes."""
    row = Row()
    first = 0
    while first < count:
        first = _one_process(kind, seed, first, count, row)
    return row


def _one_process(kind: str, seed: int, first: int, count: int, row: Row) -> int:
    """Read files until the process ends, and return the first that was not read."""
    words = [sys.executable, __file__, "--worker", kind, str(seed), str(first), str(count)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        lines = _lines(process.stdout.fileno())
        for line in lines:
            number, said, seconds, used, size = json.loads(line)
            first = number + 1
            _note(row, kind, number, said, seconds, used, size)
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        if process.returncode is None:
            process.kill()
            how = f"hung for more than {PATIENCE:g} s"
        else:
            how = f"ended the process ({process.returncode})"
    if first < count:
        row.files += 1
        row.unexplained.append(f"file {first}: {how}")
        return first + 1
    return first


def _lines(descriptor: int):
    """Yield lines as they come, until there are no more or none comes in time."""
    rest = b""
    # The first file comes after the libraries.
    while select.select([descriptor], [], [], PATIENCE * 4 if not rest else PATIENCE)[0]:
        block = os.read(descriptor, 65536)
        if not block:
            return
        *whole, rest = (rest + block).split(b"\n")
        yield from whole


def _note(
    row: Row, kind: str, number: int, said: str, seconds: float, used: int, size: int
) -> None:
    row.files += 1
    row.slowest, row.largest = max(row.slowest, seconds), max(row.largest, used)
    if seconds > MOST_SECONDS:
        said = f"{said}, after {seconds:.1f} s"
    if used > BASES.get(kind, BASE_BYTES) + TIMES_ITS_SIZE * size:
        said = f"{said}, with {used / 2**20:.0f} MB for {size} bytes"
    row.read += said == fuzz.READ
    row.refused += said == fuzz.REFUSED
    if said not in (fuzz.READ, fuzz.REFUSED):
        row.unexplained.append(f"file {number}: {said}")


def work(kind: str, seed: int, first: int, count: int) -> None:
    """Read files in this process, and say of each what came of it."""
    own = fuzz_inputs.KINDS[kind]
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        here = Path(folder, "work")  # readers look for what is written around it
        here.mkdir()
        os.chdir(here)
        fuzz.prepare(here)
        for name, raw in own.good().items():  # what is imported late is not a file's memory
            fuzz.put(here / name, raw)
            fuzz.outcome(own, here / name)
        addresses = _status("VmSize") + MOST_ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
        for number, (name, raw) in enumerate(fuzz.mutants(own, seed, count, first), first):
            if own.needs_others:
                fuzz.prepare(here)
            fuzz.put(here / name, raw)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
            before = _status("VmRSS")
            came = fuzz.outcome(own, here / name)
            used = max(0, _status("VmHWM") - before)
            line = json.dumps([number, came.said, came.seconds, used, len(raw)])
            print(line, flush=True)
        os.chdir("/")


def _status(name: str) -> int:
    """Return one of the sizes that Linux tells of this process, in bytes."""
    text = Path("/proc/self/status").read_text()
    return next(1024 * int(one.split()[1]) for one in text.splitlines() if one.startswith(name))


if __name__ == "__main__":
    sys.exit(main())
