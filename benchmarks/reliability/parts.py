"""Picking in parts: memory and time of merging, operations on files, CPU time.

    python -m benchmarks.reliability.parts merge [--count 10000] [--folder FOLDER]
    python -m benchmarks.reliability.parts operations [--folder FOLDER]
    python -m benchmarks.reliability.parts time [--count 60] [--folder FOLDER]
    python -m benchmarks.reliability.parts processes [--count 100] [--repeats 3] [--folder FOLDER]

`merge`: eight processes write journals of 10,000 micrographs with 300 candidates each, without
scoring; then `heliodor merge` must take at most 500 MB and 60 s, and write the same tables as one
process with the same candidates. Exits with 1 otherwise. `operations`: system calls on files per
micrograph, counted by strace: those of 140 micrographs less those of 40, over 100. `time`: CPU
time of one process and of four parts on simulated micrographs, with the same results. `processes`:
one process with two threads and `--cluster local --jobs 2`, alternately, on micrographs of 4096 x
4096 pixels, with the same results; the simulated ones are magnified four times.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import mrcfile
import numpy as np

HELIODOR = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
MOST_MB, MOST_SECONDS = 500, 60
SIDE, PIXEL, DIAMETER = 256, 4.0, 180
#: Starts a process for each part, or for all micrographs, with a scorer that makes candidates up.
STUB = """
import os, sys, zlib
import numpy as np
from heliodor.cli.main import main
from heliodor.data.coordinates.picks import Picks
from heliodor.picking import batch, resuming
from heliodor.picking.contamination import ContaminationMask, add_distances
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.utils.hashing import read_unchanged
from heliodor.workflows import parts

def score(model, sources, images, settings, device, store, search, settle, *more, **others):
    for count, source in enumerate(sources, 1):
        random = np.random.default_rng(zlib.crc32(source.name.encode()))
        _, version = read_unchanged(source.path, lambda: None)
        scores = np.sort(np.concatenate(
            [random.normal(4, 1.5, 60), random.exponential(1, 240) - 6]))[::-1]
        own = Picks.on(source.name, random.uniform(0, 256, (300, 2)).round(3), scores)
        mask = ContaminationMask(np.zeros((16, 16), bool), 64.0, 0.0)
        own = add_distances(own, np.full(300, np.inf))
        decoys = random.exponential(1, 240) - 6 if source.name in search.micrographs else None
        store.mark_started(source.name, False)
        store.add(source, MicrographResult(
            own, 4.0, decoys, 1048576.0, MicrographMeasurements(0.01, None, 0.0), mask), version)
        settle(count, source, None)

resuming.score_micrographs = batch.score_micrographs = score
parts._merge_once = lambda *arguments: None
for part in sys.argv.pop(1).split(","):
    if not os.fork():
        sys.argv += ["--part", part] if part != "all" else []
        main()
        os._exit(0)
failed = 0
while True:
    try:
        failed |= os.wait()[1]
    except ChildProcessError:
        break
sys.exit(failed != 0)
"""
#: System calls on names, which ask the server of metadata, and those on open files.
ON_NAMES = {
    *("open", "openat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat"),
    *("faccessat2", "readlink", "readlinkat", "rename", "renameat", "renameat2", "link", "linkat"),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmodat", "utimensat"),
    *("getdents64", "truncate", "creat"),
}


def write_micrographs(folder: Path, count: int) -> Path:
    """Write micrographs of noise, most of them further names of a few, and return their folder."""
    mics = folder / "mics"
    if mics.is_dir():
        shutil.rmtree(mics)
    mics.mkdir(parents=True)
    random = np.random.default_rng(1)
    for number in range(count):
        path = mics / f"m{number:05d}.mrc"
        if number < 20:
            with mrcfile.new(path) as mrc:
                mrc.set_data(random.normal(0, 1, (SIDE, SIDE)).astype(np.float32))
                mrc.voxel_size = PIXEL
        else:
            os.link(mics / f"m{number % 20:05d}.mrc", path)
    return mics


def run(*words: object, code: int = 0) -> tuple[float, float, float, str]:
    """Run a command; return its seconds, CPU seconds, peak memory in MB and messages."""
    began = time.monotonic()
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != code:
        sys.exit(said[-2000:])
    cpu = usage.ru_utime + usage.ru_stime
    return time.monotonic() - began, cpu, usage.ru_maxrss / 1024, said


def merge(folder: Path, count: int) -> bool:
    """Measure merging, and compare it with one process."""
    pick = ["pick", write_micrographs(folder, count), "--diameter", DIAMETER, "--threads", 1, "-o"]
    for out in ("parts", "one"):
        shutil.rmtree(folder / out, ignore_errors=True)
    parts = ",".join(f"{number}/8" for number in range(1, 9))
    run(sys.executable, "-c", STUB, parts, *pick, folder / "parts")
    run(sys.executable, "-c", STUB, "all", *pick, folder / "one")
    journals = [*(folder / "parts" / ".picking").glob("*.jsonl")]
    size = sum(path.stat().st_size for path in journals) / 1e6
    seconds, cpu, peak, _ = run(*HELIODOR, "merge", folder / "parts", "--threads", 1)
    names = ("picks.tsv", "micrographs.tsv")
    same = [
        (folder / "parts" / n).read_bytes() == (folder / "one" / n).read_bytes() for n in names
    ]
    print(
        f"{count} micrographs in {len(journals)} journals of {size:.0f} MB in all: merged in"
        f" {seconds:.1f} s ({cpu:.1f} s of CPU time) with a peak of {peak:.0f} MB;"
        f" tables {'' if all(same) else 'NOT '}the same as those of one process"
    )
    return all(same) and peak <= MOST_MB and seconds <= MOST_SECONDS


def count_calls(folder: Path, *words: object) -> Counter[str]:
    """Return how often a command and its threads called the system for files in a folder."""
    log = folder / "strace.log"
    run("strace", "-f", "-y", "-o", log, "-e", "trace=%file,%desc", *words)
    found = Counter[str]()
    here = str(folder)
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"(?:\d+ +)?(\w+)\((.*)", line)
        if match and here in match[2]:
            # Of an open file, Python asks with an empty name.
            is_open = match[1] == "newfstatat" and ', "", ' in match[2]
            found["fstat" if is_open else match[1]] += 1
    log.unlink()
    return found


def operations(folder: Path) -> bool:
    """Count operations on files."""
    few, many = 40, 140
    per: dict[str, Counter[str]] = {}
    for how in ("one process", "--part 1/1", "--part claim"):
        counts = []
        for number in (few, many):
            mics = write_micrographs(folder, number)
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            part = how.split() if how.startswith("--") else []
            pick = ["pick", mics, "--diameter", DIAMETER, "--threads", 1, "-o", out, *part]
            counts.append(count_calls(folder, *HELIODOR, *pick))
        less, more = counts
        per[how] = Counter({name: more[name] - less[name] for name in more})
    for how, calls in per.items():
        on_names = sum(n for name, n in calls.items() if name in ON_NAMES) / (many - few)
        others = sum(n for name, n in calls.items() if name not in ON_NAMES) / (many - few)
        frequent = ", ".join(
            f"{name} {number / (many - few):.1f}" for name, number in calls.most_common(12)
        )
        print(
            f"{how}: {on_names:.1f} calls on names and {others:.1f} on open files per micrograph"
        )
        print(f"    {frequent}")
    return True


def cpu_time(folder: Path, count: int) -> bool:
    """Compare the CPU time of one process with that of four parts."""
    data = folder / "data"
    if not data.is_dir():
        size = ("--count", count, "--size-px", 1024, "--seed", 3)
        run(*HELIODOR, "simulate", data, "--particle", "ribosome", *size)
    pick = ["pick", data / "micrographs.star", "--diameter", 260, "--threads", 1, "-o"]
    cpu: dict[str, list[float]] = {}
    for _ in range(3):
        for how, names in {
            "one process": [None],
            "4 parts": ["1/4", "2/4", "3/4", "4/4"],
            "claim": ["claim"],
        }.items():
            out = folder / how.replace(" ", "_")
            shutil.rmtree(out, ignore_errors=True)
            total = 0.0
            for name in names:
                total += run(*HELIODOR, *pick, out, *(["--part", name] if name else []))[1]
            cpu.setdefault(how, []).append(total)
    tables = {(folder / how.replace(" ", "_") / "picks.tsv").read_bytes() for how in cpu}
    for how, seconds in cpu.items():
        print(f"{how}: {min(seconds):.2f} s of CPU time on {count} micrographs, best of 3")
    print(f"picks.tsv is {'' if len(tables) == 1 else 'NOT '}the same")
    return len(tables) == 1


def processes(folder: Path, count: int, repeats: int) -> bool:
    """Compare one process with two threads with two processes with one each."""
    data = folder / "magnified"
    if not data.is_dir():
        size = ("--count", min(count, 12), "--size-px", 1024, "--pixel-size", 4.2, "--seed", 3)
        run(*HELIODOR, "simulate", data, "--particle", "barrel", *size)
        made = sorted((data / "micrographs").glob("*.mrc"))
        for path in made:
            with mrcfile.open(path) as mrc:
                image, pixel_size = np.array(mrc.data), float(mrc.voxel_size.x)
            with mrcfile.new(path, overwrite=True) as mrc:
                mrc.set_data(np.kron(image, np.ones((4, 4), np.float32)))
                mrc.voxel_size = pixel_size / 4
        for number in range(len(made), count):
            os.link(made[number % len(made)], data / "micrographs" / f"more_{number:04d}.mrc")
    pick = ["pick", data / "micrographs", "--diameter", 150, "-o"]
    ways = {
        "one process": ("--threads", 2),
        "two processes": ("--cluster", "local", "--jobs", 2, "--threads", 1),
    }
    taken: dict[str, list[tuple[float, float]]] = {how: [] for how in ways}
    for _ in range(repeats):
        for how, options in ways.items():
            out = folder / how.replace(" ", "_")
            shutil.rmtree(out, ignore_errors=True)
            seconds, cpu, _, _ = run(*HELIODOR, *pick, out, *options)
            taken[how].append((seconds, cpu))
            print(f"{how}: {seconds:.1f} s, {cpu:.1f} s of CPU time", flush=True)
    tables = {(folder / how.replace(" ", "_") / "picks.tsv").read_bytes() for how in ways}
    best = {how: min(seconds for seconds, _ in times) for how, times in taken.items()}
    for how, times in taken.items():
        cpu = min(own for _, own in times)
        print(f"{how}: {best[how]:.1f} s, {cpu:.1f} s of CPU time on {count} micrographs (best)")
    print(f"picks.tsv is {'' if len(tables) == 1 else 'NOT '}the same")
    return len(tables) == 1 and best["two processes"] <= best["one process"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["merge", "operations", "time", "processes"], help="which")
    parser.add_argument("--count", type=int, help="micrographs [10000; time: 60; processes: 100]")
    parser.add_argument("--repeats", type=int, default=3, help="of processes [3]")
    parser.add_argument("--folder", type=Path, help="keeps the files [a temporary one]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if options.what == "operations":
            kept = operations(folder)
        elif options.what == "merge":
            kept = merge(folder, options.count or 10_000)
        elif options.what == "processes":
            kept = processes(folder, options.count or 100, options.repeats)
        else:
            kept = cpu_time(folder, options.count or 60)
    sys.exit(not kept)


if __name__ == "__main__":
    main()
