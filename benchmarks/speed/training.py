"""The time of a training update of heliodor and of Topaz 0.3.20, on minibatches of the same size.

    python -m benchmarks.speed.training TOPAZ_FOLDER [--threads 1] [--networks conv31 resnet8]

Regression check. TOPAZ_FOLDER is where `topaz_peer.py` installs Topaz. Both train the same network
of width 32 from scratch with GE-binomial on 256 single regions, 16 of them labeled, drawn from the
same micrographs. Topaz runs in its own interpreter with the functions of its own command:
`topaz train` with its defaults makes the network, the loader and the optimizer, and its own loop
runs some updates on request. The programs take turns, in processes on the same CPUs and threads;
medians are printed, and for heliodor also the share of the rate at which this machine multiplies
matrices. On a busy machine, `--clock process_time` counts CPU seconds of all threads; use one
thread then.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mrcfile
import numpy as np
import torch
from benchmarks.common.topaz_peer import install
from torch.utils.flop_counter import FlopCounterMode

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.training.history import Epoch
from heliodor.training.learner import Learner
from heliodor.training.loop import train_network
from heliodor.training.recipes import PAPER
from heliodor.training.settings import TrainingSettings
from heliodor.utils.compute import ComputeSettings

RADIUS, PRIOR = 3, 0.02
MICROGRAPHS, SIDE_PX, LABELS = 8, 1024, 20

#: Trains as `topaz train` does, but an epoch a line of the input, and tells what each took.
TOPAZ = """
import os, sys, time
clock = getattr(time, sys.argv.pop(1))
from topaz import training
from topaz.commands import train

def by_turns(classifier, criteria, method, loader, *others, **more):
    spent = {}
    def timed(kind, call):
        def wrapped(*arguments):
            began = clock()
            try:
                return call(*arguments)
            finally:
                spent[kind] = spent.get(kind, 0.0) + clock() - began
        return wrapped
    class Loader:
        def __iter__(self):
            draw = timed("data", iter(loader).__next__)
            while True:
                try:
                    yield draw()
                except StopIteration:
                    return
    method.step = timed("step", method.step)
    classifier.train()
    for line in sys.stdin:
        spent.clear()
        training.fit_epoch(method, Loader(), output=open(os.devnull, "w"))
        print(spent["data"], spent["step"], flush=True)

training.fit_epochs = by_turns
train.main(train.add_arguments().parse_args(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Times:
    """Medians of the seconds of an update."""

    data: float
    step: float
    own: float
    own_data: float


class Topaz:
    """A training of Topaz that does a number of updates when it is told to."""

    def __init__(
        self, python: Path, work: Path, network: str, threads: int, updates: int, clock: str
    ) -> None:
        self._updates, self._log = updates, work / f"{network}.log"
        words = ["-m", network, "--units", "32", "--no-pretrained", "-d", "-1", "-r", str(RADIUS)]
        words += ["--pi", str(PRIOR), "-j", str(threads), "--epoch-size", str(updates)]
        words += ["--train-images", str(work / "images.txt")]
        words += ["--train-targets", str(work / "targets.txt")]
        self._process = subprocess.Popen(
            [str(python), "-c", TOPAZ, clock, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
        )

    def updates(self) -> tuple[float, float]:
        """Do the updates and return the seconds of one: for its data, and for its step."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline().split()
        if len(told) != 2:
            raise RuntimeError(f"Topaz stopped:\n{self._log.read_text()}")
        data, step = (float(word) / self._updates for word in told)
        return data, step

    def close(self) -> None:
        """End the training."""
        self._process.communicate()


def data(work: Path) -> list[LabeledImage]:
    """Make micrographs of noise with labels at random, for both programs."""
    random = np.random.default_rng(0)
    images, rows, targets = [], ["image_name\tpath"], ["image_name\tx_coord\ty_coord"]
    for number in range(MICROGRAPHS):
        image = random.standard_normal((SIDE_PX, SIDE_PX), dtype=np.float32)
        xy = random.integers(0, SIDE_PX, (LABELS, 2))
        path = work / f"m{number}.mrc"
        mrcfile.write(path, image)
        rows.append(f"{path.stem}\t{path}")
        targets += [f"{path.stem}\t{x}\t{y}" for x, y in xy]
        images.append(LabeledImage(image, xy.astype(float)))
    (work / "images.txt").write_text("\n".join(rows) + "\n")
    (work / "targets.txt").write_text("\n".join(targets) + "\n")
    return images


def settings_for(network: str, updates: int, repeats: int) -> TrainingSettings:
    own = replace(PAPER, network=network, autoencoder=0.0, epoch_updates=updates)
    # One more than is counted: the first of each program warms it up.
    return replace(own, epochs=repeats + 1)


def by_turns(
    images: list[LabeledImage],
    settings: TrainingSettings,
    peer: Topaz,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Train, and let Topaz train as much after each epoch."""
    theirs: list[tuple[float, float]] = []
    own: list[float] = []
    began = clock()

    def turn(_: Epoch) -> None:
        nonlocal began
        own.append((clock() - began) / settings.epoch_updates)
        theirs.append(peer.updates())
        began = clock()

    train_network(images, [], RADIUS, PRIOR, settings, progress=turn)
    parts = (statistics.median(column) for column in zip(*theirs[1:], strict=True))
    return Times(*parts, statistics.median(own[1:]), drawing(images, settings, clock))


def drawing(
    images: list[LabeledImage], settings: TrainingSettings, clock: Callable[[], float]
) -> float:
    """Return the seconds that drawing a minibatch takes, which the update's contain."""
    sampler, took = Learner(images, RADIUS, PRIOR, settings, "cpu").sampler, []
    for _ in range(settings.epoch_updates):
        began = clock()
        sampler.draw(settings.positives, settings.batch - settings.positives)
        took.append(clock() - began)
    return statistics.median(took)


def operations(images: list[LabeledImage], settings: TrainingSettings) -> int:
    """Count the multiplications and additions of an update's convolutions, there and back."""
    learner = Learner(images, RADIUS, PRIOR, settings, "cpu")
    with FlopCounterMode(display=False) as counter:
        learner.compute_cost().total.backward()
    return counter.get_total_flops()


def matmul_rate(clock: Callable[[], float], size: int = 1536) -> float:
    """Return the operations a second of a multiplication of two float32 matrices."""
    matrix, took = torch.rand(size, size), []
    for _ in range(7):
        began = clock()
        matrix @ matrix
        took.append(clock() - began)
    return 2 * size**3 / statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topaz", type=Path, help="environment of Topaz, installed if missing")
    parser.add_argument("--networks", nargs="+", default=["conv31", "resnet8"], help="[both]")
    parser.add_argument("--threads", type=int, default=1, help="[1]")
    parser.add_argument("--updates", type=int, default=10, help="per repeat [10]")
    parser.add_argument("--repeats", type=int, default=5, help="[5]")
    parser.add_argument(
        "--precision", choices=["float32", "bf16"], default="float32", help="[float32]"
    )
    clocks = {"perf_counter": time.perf_counter, "process_time": time.process_time}
    parser.add_argument(
        "--clock", choices=[*clocks], default="perf_counter", help="[perf_counter]"
    )
    options = parser.parse_args()
    clock = clocks[options.clock]
    python = install(options.topaz).with_name("python")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    ComputeSettings("cpu", options.threads).start()
    print(
        "| network | Topaz, s an update (data + step) | heliodor, s (of it data) | ratio |"
        " GFLOPS | of a matrix product's |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        images = data(work)
        for network in options.networks:
            settings = settings_for(network, options.updates, options.repeats)
            settings = replace(settings, precision=options.precision)
            peer = Topaz(python, work, network, options.threads, options.updates, options.clock)
            try:
                took = by_turns(images, settings, peer, clock)
            finally:
                peer.close()
            rate = operations(images, settings) / took.own
            whole = took.data + took.step
            print(
                f"| {network} | {whole:.3f} ({took.data:.3f} + {took.step:.3f}) |"
                f" {took.own:.4f} ({took.own_data:.4f}) | {whole / took.own:.2f} |"
                f" {rate / 1e9:.1f} | {rate / matmul_rate(clock):.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
