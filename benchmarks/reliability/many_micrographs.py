"""Picking on many micrographs, some of them damaged: the results, and the memory.

    python -m benchmarks.reliability.many_micrographs bad [--count 1000] [--folder FOLDER]
    python -m benchmarks.reliability.many_micrographs memory [--count 2000] [--folder FOLDER]

Regression check. `bad`: 1,000 small micrographs, 50 of them damaged in ten ways. The coordinates
of the 950 others must be byte-identical to those of a picking without the damaged ones, failed.tsv
must name the 50, and the exit code must be 3. `memory`: the peak resident memory of picking 2,000
and 100 of them with the same model and threads. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np

HELIODOR = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
SIDE, BAD = 256, 50
#: Exit code where some micrographs failed.
SOME_FAILED = 3


def changed(change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path], None]:
    """Return what rewrites a file's bytes."""
    return lambda path: path.write_bytes(change(bytearray(path.read_bytes()))) and None


def header(place: int, value: int) -> Callable[[bytearray], bytearray]:
    """Return what writes a 32-bit number into a header."""

    def change(data: bytearray) -> bytearray:
        data[place : place + 4] = int(value).to_bytes(4, "little", signed=True)
        return data

    return change


def pixels(image: np.ndarray) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(image)
            mrc.voxel_size = 4.0

    return write


#: Ten ways to be bad.
WAYS: dict[str, Callable[[Path], None]] = {
    "empty": changed(lambda data: b""),
    "cut in the header": changed(lambda data: data[:500]),
    "cut in the data": changed(lambda data: data[: len(data) // 2]),
    "text": changed(lambda data: b"not a micrograph\n" * 99),
    "nan": pixels(np.full((SIDE, SIDE), np.nan, np.float32)),
    "constant": pixels(np.full((SIDE, SIDE), 7, np.float32)),
    "a movie": pixels(np.zeros((9, SIDE, SIDE), np.float32)),
    "too small": pixels(np.ones((8, 8), np.float32)),
    "a size that lies": changed(header(0, 10**9)),
    "packed": changed(lambda data: gzip.compress(bytes(data))[:-20]),
}


def make(folder: Path, count: int) -> list[str]:
    """Write micrographs and a model, and return the command that picks but for its files."""
    data, model = folder / "data", folder / "model"
    if not (model / "model.safetensors").exists():
        call(
            "simulate", data, "--particle", "ribosome", "--count", 12, "--labels", 60, "--seed", 3
        )
        learn = ("--labels", data / "labels.star", "--diameter", 260, "--network", "conv31")
        learn += ("--width", 4, "--epochs", 1, "--epoch-updates", 40)
        call("train", "--micrographs", data / "micrographs.star", *learn, "-o", model)
    mics = folder / "mics"
    mics.mkdir(exist_ok=True)
    images = []
    for path in sorted((data / "micrographs").glob("*.mrc")):
        with mrcfile.open(path) as mrc:
            images.append(np.array(mrc.data))
    random = np.random.default_rng(1)
    for number in range(count):
        top, left = random.integers(0, np.array(images[0].shape) - SIDE, 2)
        image = images[number % len(images)][top : top + SIDE, left : left + SIDE]
        pixels(np.ascontiguousarray(image))(mics / f"m{number:05d}.mrc")
    return ["pick", "--model", str(model / "model.safetensors"), "--threads", "2"]


def call(*words: object, code: int = 0) -> str:
    result = subprocess.run([*HELIODOR, *map(str, words)], capture_output=True, text=True)
    if result.returncode != code:
        sys.exit(f"heliodor {words[0]} ended with {result.returncode}:\n{result.stderr[-2000:]}")
    return result.stderr


def bad(folder: Path, count: int) -> bool:
    command = make(folder, count)
    names = [f"m{number:05d}" for number in range(count)]
    # Evenly among the others, each way in turn.
    broken = names[7 :: count // BAD][:BAD]
    good = [name for name in names if name not in set(broken)]
    listed = folder / "good.txt"
    listed.write_text("".join(f"{folder}/mics/{name}.mrc\n" for name in good))
    call(*command, "--micrographs", f"@{listed}", "-o", folder / "clean")
    for number, name in enumerate(broken):
        way = list(WAYS.values())[number % len(WAYS)]
        way(folder / "mics" / f"{name}.mrc")
    every = ("--micrographs", f"{folder}/mics/*.mrc")
    call(*command, *every, "-o", folder / "all", code=SOME_FAILED)
    with (folder / "all" / "failed.tsv").open() as stream:
        failed = {Path(row["micrograph"]).stem for row in csv.DictReader(stream, delimiter="\t")}
    same = 0
    for name in good:
        (one,), (other,) = (
            list((folder / d).rglob(f"{name}_autopick.star")) for d in ("all", "clean")
        )
        same += one.read_bytes() == other.read_bytes()
    tables = [(folder / d / "picks.tsv").read_bytes() for d in ("all", "clean")]
    print(
        f"{count} micrographs, {len(broken)} bad in {len(WAYS)} ways: {len(failed)} rows in"
        f" failed.tsv, {len(failed & set(broken))} of them right; {same} of {len(good)} coordinate"
        f" files and picks.tsv {'' if tables[0] == tables[1] else 'NOT '}the same; exit code"
        f" {SOME_FAILED}"
    )
    return failed == set(broken) and same == len(good) and tables[0] == tables[1]


def memory(folder: Path, count: int) -> bool:
    command = make(folder, count)
    peaks = []
    for number in (100, count):
        listed = folder / f"first_{number}.txt"
        listed.write_text("".join(f"{folder}/mics/m{n:05d}.mrc\n" for n in range(number)))
        words = [
            *HELIODOR,
            *command,
            "--micrographs",
            f"@{listed}",
            "-o",
            str(folder / f"{number}"),
        ]
        process = subprocess.Popen(words, stderr=subprocess.PIPE)
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status):
            sys.exit(said.decode()[-2000:])
        peaks.append(usage.ru_maxrss / 1024)
        print(f"{number} micrographs: peak {peaks[-1]:.0f} MB", flush=True)
    print(f"{count} take {peaks[1] / peaks[0]:.3f} of the memory of 100")
    return peaks[1] <= 1.05 * peaks[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["bad", "memory"], help="which check")
    parser.add_argument("--count", type=int, help="micrographs [1000; memory: 2000]")
    parser.add_argument("--folder", type=Path, help="keeps the files [a temporary one]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        usual = {"bad": 1000, "memory": 2000}[options.what]
        kept = {"bad": bad, "memory": memory}[options.what](folder, options.count or usual)
    sys.exit(not kept)


if __name__ == "__main__":
    main()
