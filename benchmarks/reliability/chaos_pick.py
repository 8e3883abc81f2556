"""Kill picking at random moments, resume it until it ends, and compare the results.

    python -m benchmarks.reliability.chaos_pick [--kills 30] [--seed 1] [--folder FOLDER]

Regression check. Simulated micrographs, one of them damaged, and a small model. `heliodor pick`
runs once without interruption. Then it is killed (SIGKILL) at random moments and started again
with the same command until it ends, in one folder after another until the number of kills is
reached. Every file must be byte-identical, except for the times in run.json, and there must be no
other file. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELIODOR = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
MICROGRAPHS, SIZE = 40, "384x384"
#: One folder sees no more kills than this.
MOST_KILLS = 4
#: Exit code where a micrograph failed, as the broken one does.
SOME_FAILED = 3
#: The journal's lines come in the order of the work; all that is made of it is compared.
NOT_COMPARED = {".picking.jsonl", ".heliodor.lock"}


def prepare(folder: Path) -> list[str]:
    """Simulate, train, break a micrograph, and return the command to be killed."""
    data, model = folder / "data", folder / "model"
    small = ["--count", str(MICROGRAPHS), "--size-px", SIZE, "--labels", "60", "--seed", "3"]
    call("simulate", str(data), "--particle", "ribosome", *small)
    learn = ["--labels", str(data / "labels.star"), "--diameter", "260", "--network", "conv31"]
    learn += ["--width", "4", "--epochs", "1", "--epoch-updates", "40", "--threads", "1"]
    call("train", "--micrographs", str(data / "micrographs.star"), *learn, "-o", str(model))
    broken = sorted((data / "micrographs").glob("*.mrc"))[MICROGRAPHS // 2]
    broken.write_bytes(broken.read_bytes()[:5000])
    pick = ["pick", "--model", str(model / "model.safetensors"), "--threshold-series", "3"]
    return [*pick, "--micrographs", str(data / "micrographs.star"), "-o"]


def call(*words: str, code: int = 0) -> None:
    result = subprocess.run([*HELIODOR, *words], capture_output=True, text=True)
    if result.returncode != code:
        sys.exit(f"heliodor {words[0]} ended with {result.returncode}:\n{result.stderr}")


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files, without what differs from any run to the next."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    found = {n: p.read_bytes() for n, p in files.items() if p.name not in NOT_COMPARED}
    record = json.loads(found["run.json"])
    for key in ("seconds", "started", "command_line"):
        del record[key]
    del record["arguments"]["threads"], record["threads"]
    found["run.json"] = json.dumps(record).encode()
    # Coordinate files are named in lists by where they lie.
    return {n: b.replace(str(folder).encode(), b"OUT") for n, b in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="number of kills [30]")
    parser.add_argument("--seed", type=int, default=1, help="of the moments [1]")
    parser.add_argument("--folder", type=Path, help="keeps the files [a temporary one]")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        base = options.folder or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        command = prepare(base)
        began = time.monotonic()
        call(*command, str(base / "whole"), code=SOME_FAILED)
        whole, usual = contents(base / "whole"), time.monotonic() - began
        kills = folders = wrong = 0
        starts: list[int] = []
        while kills < options.kills:
            out, started = base / f"killed_{folders}", 0
            shutil.rmtree(out, ignore_errors=True)
            while True:
                process = subprocess.Popen(
                    [*HELIODOR, *command, str(out), "--threads", str(chance.choice([1, 2]))],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
                started += 1
                # On a busy machine none might ever come to its end.
                patience = chance.uniform(0.2, 0.9) * usual if started <= MOST_KILLS else None
                try:
                    _, said = process.communicate(timeout=patience)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    kills += 1
                    continue
                break
            if process.returncode != SOME_FAILED:
                sys.exit(f"it ended with {process.returncode}:\n{said.decode()}")
            found = contents(out)
            differ = sorted(n for n in found.keys() | whole.keys() if found.get(n) != whole.get(n))
            if differ:
                wrong += 1
                print(f"folder {folders}: {', '.join(differ[:5])} differ", flush=True)
            starts.append(started)
            folders += 1
            print(f"folder {folders}: {started - 1} kills", flush=True)
    print(
        f"{kills} kills over {folders} pickings of {usual:.1f} s each ({max(starts)} starts at"
        f" most); {folders - wrong} of {folders} left {len(whole)} files, all of them the same to"
        " the last byte"
    )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
