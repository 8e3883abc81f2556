"""Train the general filament model, on simulated micrographs of invented filaments only.

    python -m scripts.general_model.train_filaments OUT [--updates 3000] [--seed 1] [--width 32]
        [--start WEIGHTS] [--rate 0.003] [--minutes M] [--fresh 2]

Filaments and micrographs are those of `heliodor.simulation.training_world.filaments`, drawn during
training; none of the filaments of `heliodor simulate` is among them. Of each batch, --fresh fields
are new and the others are chosen from the last --pool, so that each is used about --batch times
over --fresh, turned and mirrored at random. --start takes the weights of another training, or a
model file. Every --check updates the running mean of the weights is evaluated on fields in no
training, and written to OUT/weights.safetensors; OUT/curve.tsv has the
figures. `ship_filaments.py` makes the model file.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn.functional import pad

from heliodor.models.filament_network import MIRRORED_PX
from heliodor.models.filament_unet import (
    ANGLE,
    AXIS,
    CONTAMINANT,
    LATTICE_FIRST_PX,
    LATTICE_STEP_PX,
    OFFSET,
    FilamentNetwork,
)
from heliodor.simulation.training_world.filaments.generator import FilamentGenerator
from heliodor.simulation.training_world.random_particles import draw_particle
from heliodor.training.filaments.loss import field_loss
from heliodor.training.filaments.targets import FilamentTargets
from heliodor.utils.compute import set_threads
from heliodor.utils.files import atomic_write

#: Numbers of the particles that are in no training, and seeds of evaluation.
HELD_OUT = 1_000_000
#: Evaluation counts points this near to an axis as found, and farther than the other as wrong.
HIT_PX, MISS_PX = 2.0, 4.0


def mirrored(images: Tensor) -> Tensor:
    """Return images with mirrored edges, as micrographs are scored, shape (n, 1, h, w)."""
    edges = pad(images[:, None], (MIRRORED_PX,) * 4, mode="reflect")
    return edges.to(memory_format=torch.channels_last)


def outputs_of(network: FilamentNetwork, images: Tensor) -> Tensor:
    """Return the network's outputs at the points of the fields, without those of the mirror."""
    with torch.autocast("cpu", torch.bfloat16):
        out = network(mirrored(images))
    cut = MIRRORED_PX // LATTICE_STEP_PX
    return out.float()[:, :, cut:-cut, cut:-cut]


def draw(world: FilamentGenerator, number: int) -> tuple[Tensor, FilamentTargets]:
    """Simulate fields and their truth."""
    batch = world.draw(number)
    count = batch.images.shape[-1] // LATTICE_STEP_PX
    return batch.images, batch.targets(LATTICE_FIRST_PX, LATTICE_STEP_PX, count)


def turned(
    image: Tensor, truth: FilamentTargets, quarters: int, mirror: bool
) -> tuple[Tensor, FilamentTargets]:
    """Turn and mirror fields, shape (n, h, w)."""
    image = torch.rot90(image, quarters, (-2, -1))
    return (image.flip(-1) if mirror else image), truth.turn(quarters, mirror)


def join(parts: list[tuple[Tensor, FilamentTargets]]) -> tuple[Tensor, FilamentTargets]:
    """Concatenate fields."""
    names = vars(parts[0][1])
    truth = {name: torch.cat([getattr(own, name) for _, own in parts]) for name in names}
    return torch.cat([image for image, _ in parts]), FilamentTargets(**truth)


def judge(
    network: FilamentNetwork, checks: list[tuple[Tensor, FilamentTargets]], ratio: np.ndarray
) -> dict[str, float]:
    """Return average precision of axis and contamination, and errors of angle and offset."""
    network.eval()
    with torch.inference_mode():
        outs = torch.cat([outputs_of(network, images) for images, _ in checks])
    network.train()
    _, truth = join(checks)
    distance = truth.distance_px
    known = (distance <= HIT_PX) | (distance > MISS_PX)
    found = {}
    edges = [0.0, 0.15, 0.7, math.inf]
    for low, high in itertools.pairwise(edges):
        own = torch.from_numpy((ratio >= low) & (ratio < high))
        rows = known[own]
        hits, scores = (distance[own] <= HIT_PX)[rows], outs[own, AXIS][rows]
        found[f"axis_ap_{low:g}"] = float(average_precision_score(hits.numpy(), scores.numpy()))
    hit = distance <= HIT_PX
    angle = outs[:, ANGLE].movedim(1, -1)[hit], truth.double_angle.movedim(1, -1)[hit]
    turn = [torch.atan2(own[:, 1], own[:, 0]) for own in angle]
    wrong = torch.remainder(turn[0] - turn[1] + math.pi, 2 * math.pi) - math.pi
    found["angle_deg"] = float(np.degrees(float(wrong.abs().median()) / 2))
    offset = outs[:, OFFSET].movedim(1, -1)[hit] * LATTICE_STEP_PX
    error = (offset - truth.offset_px.movedim(1, -1)[hit]).norm(dim=1)
    found["offset_px"] = float(error.median())
    found["bad_ap"] = float(
        average_precision_score(
            truth.blocked.flatten().numpy(), outs[:, CONTAMINANT].flatten().numpy()
        )
    )
    return found


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the weights")
    parser.add_argument("--updates", type=int, default=3000, help="[3000]")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="end after so long [after --updates]"
    )
    parser.add_argument("--seed", type=int, default=1, help="[1]")
    parser.add_argument("--width", type=int, default=32, help="channels [32]")
    parser.add_argument("--batch", type=int, default=8, help="fields per update [8]")
    parser.add_argument("--fresh", type=int, default=2, help="new fields per update [2]")
    parser.add_argument("--pool", type=int, default=384, help="fields that are reused [384]")
    parser.add_argument("--side", type=int, default=352, help="of a field in pixels [352]")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate [0.003]")
    parser.add_argument("--decay", type=float, default=0.4, help="share of falling rates [0.4]")
    parser.add_argument("--check", type=int, default=100, help="updates between checks [100]")
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument("--particles", type=int, default=300, help="shapes beside filaments [300]")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    set_threads()
    torch.manual_seed(given.seed)
    rng = np.random.default_rng(np.random.SeedSequence(given.seed, spawn_key=(29,)))
    network = FilamentNetwork(given.width).to(memory_format=torch.channels_last)
    with torch.no_grad():
        network.head.bias[AXIS] = -3.0
    if given.start is not None:
        network.load_state_dict(load_file(given.start))
    mean = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=given.rate, weight_decay=1e-2)
    checker = FilamentGenerator(
        [draw_particle(HELD_OUT + n) for n in range(40)], HELD_OUT + 1, given.side
    )
    batches = [checker.draw(8) for _ in range(10)]
    count = batches[0].images.shape[-1] // LATTICE_STEP_PX
    checks = [
        (own.images, own.targets(LATTICE_FIRST_PX, LATTICE_STEP_PX, count)) for own in batches
    ]
    ratio = np.concatenate([own.signal_to_noise.numpy() for own in batches])
    world = FilamentGenerator(
        [draw_particle(n) for n in range(given.particles)], given.seed, given.side
    )
    pool: deque[tuple[Tensor, FilamentTargets]] = deque(maxlen=given.pool)
    fresh = given.fresh
    lines, simulating = [], 0.0
    for update in range(1, given.updates + 1):
        at = time.process_time()
        for _ in range(1 if pool else math.ceil(2 * given.batch / fresh)):
            images, truth = draw(world, fresh)
            pool.extend((images[n : n + 1], truth.select(slice(n, n + 1))) for n in range(fresh))
        simulating += time.process_time() - at
        newest = len(pool) - 1 - np.arange(fresh)
        older = rng.choice(len(pool) - fresh, given.batch - fresh, replace=False)
        parts = [
            turned(*pool[n], int(rng.integers(4)), bool(rng.random() < 0.5))
            for n in (*newest, *older)
        ]
        images, truth = join(parts)
        rate = given.rate * min(1.0, update / 100.0)
        spent = (time.perf_counter() - started) / 60.0 / given.minutes
        done = max(update / given.updates, spent)
        left = (1.0 - done) / given.decay
        rate *= min(1.0, 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, left))) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, parts_of_loss = field_loss(outputs_of(network, images), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        keep = min(0.995, 1.0 - 1.0 / (1.0 + 0.2 * update))
        with torch.no_grad():
            for own, new in zip(
                mean.state_dict().values(), network.state_dict().values(), strict=True
            ):
                if own.dtype.is_floating_point:
                    own.lerp_(new, 1.0 - keep)
                else:
                    own.copy_(new)
        if update % given.check == 0 or done >= 1.0:
            row = {"update": update, "seconds": time.perf_counter() - started}
            row |= {"cpu": time.process_time(), "simulating": simulating}
            row |= {name: float(value) for name, value in parts_of_loss.items()}
            row |= judge(mean, checks, ratio)
            print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
            if not lines:
                lines.append("\t".join(row))
            lines.append("\t".join(f"{value:.5g}" for value in row.values()))
            with atomic_write(given.out / "curve.tsv") as aside:
                aside.write_text("\n".join(lines) + "\n")
            tensors = {key: own.contiguous() for key, own in mean.state_dict().items()}
            with atomic_write(given.out / "weights.safetensors") as aside:
                aside.write_bytes(save(tensors))
        if done >= 1.0:
            break
    told = vars(given) | {"seconds": time.perf_counter() - started, "torch": torch.__version__}
    (given.out / "train.json").write_text(json.dumps(told, default=str, indent=1) + "\n")


if __name__ == "__main__":
    main()
