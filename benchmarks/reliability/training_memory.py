"""The memory of training with all images in memory and with most of them in files.

    python -m benchmarks.reliability.training_memory [--images 200] [--gb 1]

Regression check. Simulated micrographs of 1024 pixels. Prints the peak resident memory and the
seconds of each training, and whether both made the same model; exits with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from heliodor.simulation import SimulationSettings, simulate

#: So many are simulated; the others are the same files under other names.
SIMULATED, LABELS = 8, 4
RECIPE = (
    "--network conv31 --width 4 --working-pixel-size 4 --epochs 2 --epoch-updates 25 --threads 1"
).split()
#: Runs a command and prints the memory of its process, kilobytes.
WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def prepare(folder: Path, images: int) -> None:
    """Write micrographs and labels on all of them."""
    settings = SimulationSettings(count=SIMULATED, shape=(1024, 1024), particles_per_micrograph=60)
    made = folder / "made"
    simulate(made, settings)
    truth: dict[str, list[str]] = {}
    for line in (made / "truth.star").read_text().splitlines():
        words = line.split()
        name = next((word for word in words if word.endswith(".mrc")), None)
        if name is not None:
            numbers = [word for word in words if word != name]
            truth.setdefault(Path(name).name, []).append("\t".join(numbers[:2]))
    files = sorted((made / "micrographs").iterdir())
    rows = ["image_name\tx_coord\ty_coord"]
    (folder / "m").mkdir()
    for number in range(images):
        file = files[number % len(files)]
        os.link(file, folder / "m" / f"m{number:04d}.mrc")
        rows += [f"m{number:04d}\t{xy}" for xy in truth[file.name][:LABELS]]
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n")


def train(folder: Path, out: Path, words: list[str]) -> bytes:
    """Train, print what it took, and return the model."""
    call = [sys.executable, "-c", "from heliodor.cli.main import main; main()", "train"]
    files = ["--micrographs", str(folder / "m"), "--labels", str(folder / "labels.tsv")]
    command = [*call, *files, "--diameter", "150", "-o", str(out), *RECIPE, *words]
    watch = [sys.executable, "-c", WATCH, *command]
    done = subprocess.run(watch, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = int(done.stdout) * unit / 1e9
    seconds = json.loads((out / "run.json").read_text())["seconds"]
    print(f"{' '.join(words) or 'no limit'}: {peak:.2f} GB at most; {seconds}", flush=True)
    return (out / "model.safetensors").read_bytes()


def main(images: int, gb: float, folder: Path) -> int:
    prepare(folder, images)
    print(f"{images} images of 1024 x 1024 pixels, {images * 4 * 1024**2 / 1e9:.2f} GB")
    whole = train(folder, folder / "whole", [])
    same = train(folder, folder / "limited", ["--memory", f"{gb:g}"]) == whole
    print("the models are the same" if same else "the models DIFFER")
    return 0 if same else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200, help="number of micrographs [200]")
    parser.add_argument(
        "--gb", type=float, default=1.0, help="--memory of the second training [1]"
    )
    own = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(own.images, own.gb, Path(temporary)))
