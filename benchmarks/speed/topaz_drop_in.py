"""Whole-process times of heliodor-topaz and of Topaz 0.3.20 on the same command lines.

    python -m benchmarks.speed.topaz_drop_in TOPAZ_FOLDER [DATA]

Regression check. TOPAZ_FOLDER is where `topaz_peer.py` installs Topaz. Each line is run by both
programs in turn, several times; medians are printed. Both score with Topaz's resnet8_u32.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common.topaz_peer import install

REPEATS = 3
#: RELION's second call and all after it, which find a worker; the other lines do without one.
LATER = "the same, later calls of a job"


def lines(data: Path, work: Path) -> dict[str, str]:
    """Return the command lines; {out} is a folder, {model} a model of the program's own."""
    picture = data / "betagal/micrographs/Falcon_2012_06_12-14_33_35_0.mrc"
    small = sorted((data / "t20s/micrographs").glob("*.mrc"))
    # Both pick on what the line before has made, as Topaz cannot read signed bytes.
    made = [str(work / "heliodor-topaz" / path.name) for path in small]
    picks = work / "picks.txt"
    rows = (f"mic{i % 50:03d}\t{i % 2000}\t{i * 7 % 2000}\t{i % 9 - 4.5}" for i in range(20000))
    picks.write_text("image_name\tx_coord\ty_coord\tscore\n" + "\n".join(rows) + "\n")
    return {
        "--version": "--version",
        "convert 20,000 picks to STAR": f"convert {picks} -o {{out}}/p.star",
        "preprocess -s 4, one 2048 x 2048": f"preprocess -s 4 -o {{out}}/ {picture}",
        "preprocess, twenty-one 512 x 512": "preprocess -o {out}/ " + " ".join(map(str, small)),
        "extract, one 512 x 512 (as RELION)": f"extract -t -6 -r 8 -d -1 -x 1 -m {{model}}"
        f" -o {{out}}/rank0.txt {made[0]}",
        LATER: f"extract -t -6 -r 8 -d -1 -x 1 -m {{model}} -o {{out}}/rank0.txt {made[0]}",
        "extract, six 512 x 512": "extract -t -6 -r 8 -d -1 -m {model} -o {out}/all.txt "
        + " ".join(made[:6]),
    }


def seconds(command: list[str], worker: bool) -> float:
    """Run a command on one thread and return how long it took."""
    own = {"OMP_NUM_THREADS": "1", "HELIODOR_WORKER": str(int(worker))}
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | own)
    return time.perf_counter() - started


def main(folder: Path, data: Path) -> None:
    theirs = install(folder)
    ours = Path(sys.executable).with_name("heliodor-topaz")
    (weights,) = folder.glob("lib/python*/site-packages/topaz/pretrained/detector/resnet8_u32.sav")
    # Topaz takes its own weights by name only.
    model = {theirs: "resnet8_u32", ours: str(weights)}
    print("| command line | Topaz 0.3.20, s | heliodor-topaz, s | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        for name, line in lines(data, Path(work)).items():
            took: dict[Path, list[float]] = {theirs: [], ours: []}
            for _ in range(REPEATS + (name == LATER)):
                for program, times in took.items():
                    out = Path(work) / program.name
                    out.mkdir(exist_ok=True)
                    words = line.format(out=out, model=model[program]).split()
                    times.append(seconds([str(program), *words], name == LATER))
            # The first of the calls that share a worker starts it.
            own, other = (statistics.median(took[p][-REPEATS:]) for p in (ours, theirs))
            print(f"| {name} | {other:.2f} | {own:.2f} | {other / own:.1f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "../shared/data"))
