"""Train the general model, on simulated micrographs of invented particles only.

    python -m scripts.general_model.train OUT [--updates 12000] [--device cuda] [--seed 1]
        [--width 32] [--small 16] [--shapes 4000]

Particles are numbers 0 to --shapes of `heliodor.simulation.training_world.random_particles`,
micrographs those of `heliodor.simulation.training_world.generator`, drawn during training, so that
none is used more than twice. Three networks are trained side by side on the same micrographs: the
general model (`general`), one of --small channels (`small`), and one without a contaminant output
(`without`), for comparison. Every --check updates they are evaluated on particles numbered from a
million, which are in no training. Writes to OUT each network as a model file, and `curve.tsv`.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from heliodor import __version__
from heliodor.conventions import TRAINING_RADIUS_FRACTION
from heliodor.data.micrographs.normalization import FLATTEN_FRACTION, Normalizer
from heliodor.models.model_file import (
    GENERAL_KEY,
    Model,
    ModelCard,
    fingerprint_model,
    load_model,
    save_model,
)
from heliodor.models.networks import Network, build_network
from heliodor.simulation.builtin_particles import Particle
from heliodor.simulation.training_world.contaminants import grow_blocked
from heliodor.simulation.training_world.generator import MicrographGenerator, SimulatedBatch
from heliodor.simulation.training_world.imaging_conditions import NOMINAL_PX
from heliodor.simulation.training_world.random_particles import draw_particle
from heliodor.utils.compute import set_threads
from heliodor.utils.files import atomic_write

#: The version of the training world: any change of what it draws gets a new one.
GENERATOR = 5
#: Numbers of the particles that are in no training.
HELD_OUT = 1_000_000
#: Regions nearer to a center than this share of the diameter, but not positive, count less.
NEAR, NEAR_WEIGHT = 0.3, 0.3
#: Images over which the statistics of batch normalization are measured in the end.
SETTLING = 1024
#: Weight of positive regions: they are few.
POSITIVE_WEIGHT = 4.0
#: Weight of the contaminant's loss; its regions nearer than this to an edge of one do not count.
BAD_WEIGHT, BAD_EDGE_PX = 0.1, 7
RADIUS_PX = TRAINING_RADIUS_FRACTION * NOMINAL_PX


@dataclass
class Pupil:
    """A network in training."""

    name: str
    network: Network
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    #: Fingerprint of the model that it continues, if any.
    start: str | None = None


@dataclass(frozen=True)
class Targets:
    """What each output of a network should say, shape (n, count, count)."""

    particle: Tensor
    weight: Tensor
    bad: Tensor
    bad_weight: Tensor


def particles_of(first: int, number: int) -> list[Particle]:
    """Return particles with their blobs made."""
    return [draw_particle(first + own) for own in range(number)]


def blobs_made(span: tuple[int, int]) -> list[tuple[float, object]]:
    """Make blobs in a process of its own; particles themselves cannot travel."""
    return [(own.diameter_angstrom, own.blobs) for own in particles_of(*span)]


class Made:
    """A particle whose blobs came from another process."""

    def __init__(self, diameter: float, blobs: object) -> None:
        self.diameter_angstrom, self.blobs = diameter, blobs


def library(first: int, number: int, workers: int) -> list[Particle]:
    """Make many particles, some processes at a time."""
    if workers < 2:
        return particles_of(first, number)
    spans = [(first + at, min(50, number - at)) for at in range(0, number, 50)]
    with ProcessPoolExecutor(workers) as pool:
        return [Made(*own) for part in pool.map(blobs_made, spans) for own in part]  # type: ignore[misc]


def targets_of(scenes: SimulatedBatch, network: Network) -> Targets:
    """Return what a network should say where its strided form has outputs.

    On mirrored images, as micrographs are scored: what an edge cuts must be told from particles.
    """
    stride, side = network.stride, scenes.images.shape[-1]
    count = (side - 1) // stride + 1
    distance = scenes.distances_px(0, stride, count)
    particle = (distance <= RADIUS_PX).float()
    near = (distance > RADIUS_PX) & (distance < NEAR * NOMINAL_PX)
    weight = torch.ones_like(distance).masked_fill_(near, NEAR_WEIGHT)
    weight += (POSITIVE_WEIGHT - 1) * particle
    own = slice(0, stride * (count - 1) + 1, stride)
    blocked = scenes.blocked
    grown, grown_rest = (grow_blocked(mask, BAD_EDGE_PX) for mask in (blocked, ~blocked))
    sure = (grown != grown_rest)[:, own, own].float()
    return Targets(particle, weight, blocked[:, own, own].float(), sure)


def outputs_of(network: Network, images: Tensor, bfloat16: bool) -> tuple[Tensor, ...]:
    """Return the particle's and, where there is one, the contaminant's log-odds."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        edge = network.receptive_field // 2
        mirrored = nn.functional.pad(images[:, None], (edge,) * 4, mode="reflect")
        mirrored = mirrored.to(memory_format=torch.channels_last)
        log_odds = network.classify_features(network.features(mirrored))
    return log_odds.float().unbind(1)


def cost(outputs: tuple[Tensor, ...], targets: Targets) -> Tensor:
    """Return the loss of a batch: a number a pupil."""
    total = cross_entropy(outputs[0], targets.particle, targets.weight, reduction="sum")
    total = total / targets.weight.sum()
    if len(outputs) > 1:
        bad = cross_entropy(outputs[1], targets.bad, targets.bad_weight, reduction="sum")
        total = total + BAD_WEIGHT * bad / targets.bad_weight.sum()
    return total


def part_of(images: Tensor, targets: Targets, part: int, batch: int) -> tuple[Tensor, Targets]:
    """Return one batch of those that were drawn together."""
    own = slice(part * batch, (part + 1) * batch)
    return images[own], Targets(*(value[own] for value in vars(targets).values()))


def turned(images: Tensor, targets: Targets, turns: int, flip: bool) -> tuple[Tensor, Targets]:
    """Turn a batch by quarters, and mirror it."""

    def one(x: Tensor) -> Tensor:
        x = torch.rot90(x, turns, (1, 2))
        return (x.flip(2) if flip else x).contiguous()

    return one(images), Targets(*(one(own) for own in vars(targets).values()))


def judge(pupil: Pupil, checks: list[tuple[Tensor, Targets]], bfloat16: bool) -> dict[str, float]:
    """Return average precision over held-out lattices, of particles and of bad areas."""
    pupil.network.eval()
    scores: list[list[np.ndarray]] = [[], []]
    truths: list[list[np.ndarray]] = [[], []]
    with torch.inference_mode():
        for images, targets in checks:
            out = outputs_of(pupil.network, images, bfloat16)
            known = (targets.weight >= 1, targets.bad_weight > 0)
            for i, own in enumerate(out):
                truth = (targets.particle, targets.bad)[i]
                scores[i].append(own[known[i]].cpu().numpy())
                truths[i].append(truth[known[i]].cpu().numpy() > 0)
    pupil.network.train()
    found = {
        name: float(average_precision_score(np.concatenate(truths[i]), np.concatenate(scores[i])))
        for i, name in enumerate(("particle", "bad"))
        if scores[i]
    }
    return found


def measure_statistics(
    network: Network, world: MicrographGenerator, images: int, batch: int, bfloat16: bool
) -> None:
    """Measure the means and variances of batch normalization again, over many images.

    Those of the last minibatches, which training leaves, differ from these by chance: enough to
    change the average precision by some hundredths if minibatches are small.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all that follow
    network.train()
    with torch.no_grad():
        for _ in range(-(-images // (2 * batch))):
            for part in world.draw(2 * batch).images.split(batch):
                outputs_of(network, part, bfloat16)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def card_of(pupil: Pupil, given: argparse.Namespace, updates: int) -> ModelCard:
    """Describe a model whose lengths are in units of a 35th of the particle's diameter."""
    normalizer = Normalizer("micrograph", flatten_px=NOMINAL_PX * FLATTEN_FRACTION)
    made = {"generator": GENERATOR, "shapes": given.shapes, "batch": given.batch}
    made |= {
        "bfloat16": given.bfloat16,
        "side_px": given.side,
        "rate": given.rate,
        "start": pupil.start,
        "torch": torch.__version__,
    }
    return ModelCard(
        network=pupil.network.name,
        width=pupil.network.classifier.in_channels // 4,
        working_pixel_size_angstrom=1.0,
        diameter_angstrom=NOMINAL_PX,
        training_radius_angstrom=RADIUS_PX,
        normalization=normalizer.as_dict(),
        objective="pn",
        class_prior=0.0,
        expected_particles=0.0,
        threshold=0.0,
        seed=given.seed,
        version=__version__,
        training_micrographs=[],
        validation_micrographs=[],
        labelled_particles=0,
        best_epoch=1,
        updates=updates,
        validation_ap=None,
        contaminant=pupil.network.contaminant is not None,
        any_diameter=True,
        finer=True,
        extra={GENERAL_KEY: made},
    )


def pupils_of(given: argparse.Namespace) -> list[Pupil]:
    """Make the networks."""
    made = []
    for name, width, bad in (
        ("general", given.width, True),
        ("small", given.small, True),
        ("without", given.width, False),
    ):
        if not width or name in given.leave_out:
            continue
        torch.manual_seed(given.seed)
        network = build_network("resnet8", width, contaminant=bad)
        network.set_prior_bias(0.02)
        start = None
        if given.start is not None:
            before = load_model(given.start / f"{name}.safetensors")
            network.load_state_dict(before.network.state_dict())
            start = fingerprint_model(before)
        network = network.to(given.device, memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=given.rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, given.rate, total_steps=given.updates + 1, pct_start=0.1
        )
        made.append(Pupil(name, network, optimizer, schedule, start))
    return made


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the models")
    parser.add_argument("--updates", type=int, default=12000, help="[12000]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=1, help="[1]")
    parser.add_argument("--width", type=int, default=32, help="channels of the general model [32]")
    parser.add_argument("--small", type=int, default=16, help="channels of the small network [16]")
    parser.add_argument("--leave-out", nargs="*", default=[], help="networks not to train")
    parser.add_argument("--shapes", type=int, default=4000, help="number of particles [4000]")
    parser.add_argument("--batch", type=int, default=32, help="fields per update [32]")
    parser.add_argument("--side", type=int, default=448, help="of a field in pixels [448]")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate [0.003]")
    parser.add_argument(
        "--check", type=int, default=1000, help="updates between evaluations [1000]"
    )
    parser.add_argument(
        "--save", type=int, default=0, help="updates between saved models [none are saved]"
    )
    parser.add_argument("--start", type=Path, help="start from the models in this folder")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate [1]")
    parser.add_argument(
        "--bfloat16",
        action=argparse.BooleanOptionalAction,
        help="compute in bfloat16, twice as fast on a CPU with AVX-512 BF16 [on a GPU]",
    )
    given = parser.parse_args()
    if given.bfloat16 is None:
        given.bfloat16 = given.device != "cpu"
    given.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    torch.backends.cudnn.benchmark = True
    if given.device == "cpu":
        set_threads()
    shapes = library(0, given.shapes, given.workers)
    held = library(HELD_OUT, min(300, given.shapes), given.workers)
    pupils = pupils_of(given)
    checker = MicrographGenerator(held, given.seed + 1, given.side, given.device)
    checks = []
    for _ in range(4):
        scenes = checker.draw(given.batch)
        checks.append((scenes.images, targets_of(scenes, pupils[0].network)))
    world = MicrographGenerator(shapes, given.seed, given.side, given.device)
    print(f"{given.shapes} shapes ready after {time.perf_counter() - started:.0f} s", flush=True)
    lines = ["update\tseconds\tmodel\tloss\tparticle_ap\tbad_ap"]
    spent = 0.0
    for update in range(1, given.updates + 1):
        # Two batches are drawn at once, which takes hardly longer, and each is learnt from twice,
        # the second time turned.
        turn = (update - 1) % 4
        if turn == 0:
            at = time.perf_counter()
            scenes = world.draw(2 * given.batch)
            targets = targets_of(scenes, pupils[0].network)
            spent += time.perf_counter() - at
        batch = part_of(scenes.images, targets, turn % 2, given.batch)
        if turn > 1:
            batch = turned(*batch, turns=1 + update // 4 % 3, flip=update % 8 > 3)
        losses = []
        for pupil in pupils:
            loss = cost(outputs_of(pupil.network, batch[0], given.bfloat16), batch[1])
            pupil.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            pupil.optimizer.step()
            pupil.schedule.step()
            losses.append(loss.detach())
        if update == given.updates:
            for pupil in pupils:
                measure_statistics(pupil.network, world, SETTLING, given.batch, given.bfloat16)
        if update % given.check == 0 or update == given.updates:
            for pupil, loss in zip(pupils, losses, strict=True):
                found = judge(pupil, checks, given.bfloat16)
                row = [str(update), f"{time.perf_counter() - started:.1f}", pupil.name]
                row += [f"{float(loss):.4f}", *(f"{own:.4f}" for own in found.values())]
                lines.append("\t".join(row))
                print("  ".join(row), flush=True)
            print(f"{spent:.0f} s of simulation so far", flush=True)
            with atomic_write(given.out / "curve.tsv") as aside:
                aside.write_text("\n".join(lines) + "\n")
        if (given.save and update % given.save == 0) or update == given.updates:
            for pupil in pupils:
                card = card_of(pupil, given, update)
                model = Model(pupil.network, card)
                save_model(given.out / f"{pupil.name}.safetensors", model)
    told = vars(given) | {"seconds": time.perf_counter() - started, "generator": GENERATOR}
    (given.out / "train.json").write_text(json.dumps(told, default=str, indent=1) + "\n")


if __name__ == "__main__":
    main()
