"""The regression benchmark of accuracy: `heliodor run` on real and simulated micrographs.

    python -m benchmarks.accuracy.main_job [--repeats 1] [--network NAME] [--keep FOLDER]

Whole processes with the default settings on beta-galactosidase (EMPIAR-10017; skipped where the
data are missing) and on simulated barrels with a hundred labels, each with several seeds. Prints
seconds, average precision, the best F1 and the F1 at the chosen threshold.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))


def heliodor(*arguments: str) -> float:
    """Run one command as a process of its own and return its seconds."""
    code = "from heliodor.cli.main import main; main()"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def evaluate(out: Path, truth: Path, distance: float) -> dict[str, float]:
    command = [sys.executable, "-c", "from heliodor.cli.main import main; main()", "evaluate"]
    command += ["--picks", str(out / "picks.tsv"), "--truth", str(truth), "--json"]
    command += ["--match-distance", str(distance)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(result.stdout)
    return {
        "AP": figures["micro"]["average_precision"],
        "best F1": figures["best_f1"],
        "F1": figures["micro"]["f1"],
    }


def betagal(out: Path, seed: int, network: list[str]) -> tuple[float, dict[str, float]]:
    folder = DATA / "betagal"
    seconds = heliodor(
        *("run", "--micrographs", str(folder / "train.star"), "--diameter", "180"),
        *("--labels", str(folder / "manual_positive.star"), "--expected-particles", "640"),
        *("--pick", str(folder / "test.star"), "--truth", str(folder / "dense.star")),
        *network,
        *("--seed", str(seed), "-o", str(out)),
    )
    return seconds, evaluate(out, folder / "dense.star", 70)


def barrel(out: Path, seed: int, network: list[str]) -> tuple[float, dict[str, float]]:
    learn, unseen = out / "learn", out / "unseen"
    common = ("--particle", "barrel")
    labelled = ("--count", "10", "--labels", "100", "--seed", str(2 * seed + 1))
    heliodor("simulate", str(learn), *common, *labelled)
    heliodor("simulate", str(unseen), *common, "--count", "6", "--seed", str(2 * seed + 2))
    seconds = heliodor(
        *("run", "--micrographs", str(learn / "micrographs.star"), "--diameter", "150"),
        *("--labels", str(learn / "labels.star"), "--expected-particles", "119"),
        *("--pick", str(unseen / "micrographs.star"), "--truth", str(unseen / "truth.star")),
        *network,
        *("--seed", str(seed), "-o", str(out / "results")),
    )
    return seconds, evaluate(out / "results", unseen / "truth.star", 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="seeds 0, 1, ... of each job [1]")
    parser.add_argument("--network", help="instead of the default network")
    parser.add_argument("--keep", type=Path, help="folder to keep the results in")
    options = parser.parse_args()
    network = ["--network", options.network] if options.network else []
    jobs = {"barrel, simulated": barrel}
    if (DATA / "betagal").is_dir():
        jobs["betagal, real"] = betagal
    else:
        print(f"no {DATA / 'betagal'}: the real data are skipped (set HELIODOR_DATA)")
    print(f"{'data':20} {'seed':>4} {'seconds':>8} {'AP':>7} {'best F1':>8} {'F1':>7}")
    with tempfile.TemporaryDirectory() as temporary:
        base = options.keep or Path(temporary)
        for name, job in jobs.items():
            rows = []
            for seed in range(options.repeats):
                seconds, figures = job(base / f"{job.__name__}_{seed}", seed, network)
                rows.append([seconds, *figures.values()])
                print(f"{name:20} {seed:4d} " + line(rows[-1]), flush=True)
            medians = [statistics.median(column) for column in zip(*rows, strict=True)]
            print(f"{name:20} {'med':>4} " + line(medians), flush=True)


def line(values: list[float]) -> str:
    seconds, ap, best, f1 = values
    return f"{seconds:8.1f} {ap:7.3f} {best:8.3f} {f1:7.3f}"


if __name__ == "__main__":
    main()
