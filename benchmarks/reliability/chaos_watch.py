"""Let micrographs arrive in pieces, kill `watch` at random moments, and compare with `pick`.

    python -m benchmarks.reliability.chaos_watch [--micrographs 200] [--kills 10] [--seed 1]
        [--gap 0.5] [--memory 0] [--folder FOLDER]

Regression check. Another process writes small simulated micrographs: some of them in pieces, some
renamed into place; five are never completed and three are damaged. `heliodor watch` is killed
(SIGKILL) at random moments and started again, until nothing has arrived for a while. Then
`heliodor pick` picks the same folder into another one. All files of picks must be the same to the
last byte. Prints how long after its completion each micrograph was picked, for those that were not
delayed by a kill.

--memory N    instead, let copies of the micrographs arrive up to N, and print the memory of the
              process after a tenth of them and after all
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
from datetime import datetime
from pathlib import Path

HELIODOR = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
SIZE, DIAMETER = "256x256", "120"
CUT, DAMAGED = 5, 3
#: Ends the watching, in minutes; longer than a damaged micrograph is waited for.
UNTIL = 1.2
ALIKE = ("autopick.star", "picks.tsv", "micrographs.tsv")

_FEED = """
import json, os, random, sys, time
from pathlib import Path
source, target, gap, seed, cut, damaged, total, done = sys.argv[1:]
chance, target = random.Random(int(seed)), Path(target)
contents = [path.read_bytes() for path in sorted(Path(source).glob("*.mrc"))]
odd = chance.sample(range(int(total)), int(cut) + int(damaged))
never, broken, times = set(odd[: int(cut)]), set(odd[int(cut) :]), {}
for number in range(int(total)):
    content, path = contents[number % len(contents)], target / f"mic_{number:05}.mrc"
    if number in never:
        content = content[: chance.randrange(1, len(content))]
    if number in broken:
        content = b"x" * len(content)
    if chance.random() < 0.3:
        hidden = target / f".{path.name}"
        hidden.write_bytes(content)
        hidden.rename(path)
    else:
        with path.open("wb") as stream:
            pieces = chance.randint(1, 4)
            for piece in range(pieces):
                first, last = (len(content) * (piece + k) // pieces for k in (0, 1))
                stream.write(content[first:last])
                stream.flush()
                time.sleep(chance.uniform(0, 0.5 * float(gap)))
    if number not in never | broken:
        times[path.name] = time.time()
    time.sleep(chance.uniform(0, float(gap)))
Path(done).write_text(json.dumps(times))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--micrographs", type=int, default=200, help="that arrive [200]")
    parser.add_argument("--kills", type=int, default=10, help="number of kills [10]")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random [1]")
    parser.add_argument("--gap", type=float, default=0.5, help="most seconds between two [0.5]")
    parser.add_argument("--memory", type=int, default=0, help="micrographs; see above")
    parser.add_argument("--folder", type=Path, help="keeps the files [a temporary one]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = (options.folder or Path(temporary)).absolute()
        base.mkdir(parents=True, exist_ok=True)
        for name in ("data", "in", "live", "once", "events.jsonl"):
            path = base / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        make = ["simulate", str(base / "data"), "--particle", "shell", "--count", "20"]
        subprocess.run([*HELIODOR, *make, "--size-px", SIZE], check=True, capture_output=True)
        (base / "in").mkdir()
        code = measure_memory(base, options) if options.memory else follow(base, options)
    sys.exit(code)


def feed(base: Path, options: argparse.Namespace, total: int, gap: float) -> subprocess.Popen[str]:
    """Start the process that writes micrographs."""
    words = [base / "data" / "micrographs", base / "in", gap, options.seed, CUT, DAMAGED, total]
    return subprocess.Popen(
        [sys.executable, "-c", _FEED, *map(str, words), str(base / "times.json")], text=True
    )


def start(base: Path, until: float) -> subprocess.Popen[bytes]:
    """Start watching."""
    command = ["watch", "in", "--diameter", DIAMETER, "-o", "live", "--until", str(until)]
    return subprocess.Popen(
        [*HELIODOR, *command, "--events", "events.jsonl", "--threads", "1"],
        cwd=base, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def follow(base: Path, options: argparse.Namespace) -> int:
    """Watch with kills, pick once, and compare."""
    chance = random.Random(options.seed)
    writer = feed(base, options, options.micrographs, options.gap)
    expected = options.micrographs * options.gap
    kills: list[float] = []
    while len(kills) < options.kills:
        process = start(base, UNTIL)
        try:
            process.communicate(timeout=chance.uniform(0.5, 2 * expected / options.kills))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills.append(time.time())
            continue
        break
    process = start(base, UNTIL)
    _, said = process.communicate()
    if process.returncode != 3:
        print(f"watch ended with {process.returncode}:\n{said.decode()}")
        return 1
    writer.wait()
    once = ["pick", "in", "--diameter", DIAMETER, "-o", "once", "--threads", "1"]
    subprocess.run([*HELIODOR, *once], cwd=base, capture_output=True)
    names = [*ALIKE, *sorted(path.name for path in (base / "once").glob("*_autopick.star"))]
    texts = {
        out: [(base / out / n).read_text().replace(f"{out}/", "") for n in names]
        for out in ("live", "once")
    }
    differ = [n for n, a, b in zip(names, texts["live"], texts["once"], strict=True) if a != b]
    print(
        f"{options.micrographs} micrographs, {len(kills)} kills: {len(names)} files,"
        f" {len(differ)} differ from those of pick"
    )
    if delays := measure_delays(base, kills):
        shares = (delays[int(share * (len(delays) - 1))] for share in (0.5, 0.95, 1.0))
        median, most, all_of_them = shares
        print(
            f"{len(delays)} micrographs without a kill nearby: picked after {median:.1f} s"
            f" (median), {most:.1f} s (95%), {all_of_them:.1f} s (all)"
        )
    return int(bool(differ))


def measure_delays(base: Path, kills: list[float]) -> list[float]:
    """Return how long after its completion each micrograph was picked, sorted.

    Without those that were completed in the ten seconds before a kill or the ten after it.
    """
    times = json.loads((base / "times.json").read_text())
    delays = []
    for line in (base / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] != "picked":
            continue
        completed = times[Path(event["micrograph"]).name]
        if all(abs(completed - kill) > 10 for kill in kills):
            delays.append(datetime.fromisoformat(event["at"]).timestamp() - completed)
    return sorted(delays)


def measure_memory(base: Path, options: argparse.Namespace) -> int:
    """Print the memory of the watching process after a tenth of the micrographs and after all."""
    process = start(base, UNTIL)
    sizes = []
    for total in (options.memory // 10, options.memory):
        content = [p.read_bytes() for p in sorted((base / "data" / "micrographs").glob("*.mrc"))]
        for number in range(total):
            path = base / "in" / f"mic_{number:05}.mrc"
            if not path.exists():
                path.write_bytes(content[number % len(content)])
        events = base / "events.jsonl"
        while process.poll() is None:
            time.sleep(1)
            if events.exists() and events.read_text().count('"event": "picked"') >= total:
                break
        time.sleep(5)
        status = Path(f"/proc/{process.pid}/status").read_text()
        sizes.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        print(f"after {total} micrographs: {sizes[-1]:.0f} MB", flush=True)
    process.kill()
    print(f"{sizes[1] / sizes[0] - 1:+.1%}")
    return 0


if __name__ == "__main__":
    main()
