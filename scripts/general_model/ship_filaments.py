"""Calibrate the scores of the general filament model, and put it into the package.

    python -m scripts.general_model.ship_filaments WEIGHTS
        [--out src/heliodor/models/weights/filaments.safetensors] [--scenes 96] [--seed 11]

WEIGHTS is a file of `train_filaments.py`. Log-odds are rescaled so that on fields in no training
they are those of an axis passing within half a step of the point (Platt scaling).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scripts.general_model.train_filaments import HELD_OUT
from sklearn.linear_model import LogisticRegression

from heliodor import __version__
from heliodor.data.micrographs.normalization import FLATTEN_FRACTION, Normalizer
from heliodor.models.filament_model_file import (
    FilamentCard,
    FilamentModel,
    round_weights,
    save_filament_model,
)
from heliodor.models.filament_network import apply_network, count_points
from heliodor.models.filament_unet import (
    AXIS,
    LATTICE_FIRST_PX,
    LATTICE_STEP_PX,
    WORKING_WIDTH_PX,
    FilamentNetwork,
)
from heliodor.models.model_file import GENERAL_KEY
from heliodor.simulation.training_world.filaments.generator import FilamentGenerator
from heliodor.simulation.training_world.imaging_conditions import NOMINAL_PX
from heliodor.simulation.training_world.random_particles import draw_particle
from heliodor.utils.compute import set_threads

#: The version of the training world: any change of what it draws gets a new one.
GENERATOR = 2


def main() -> None:
    """Calibrate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="weights of train_filaments.py")
    parser.add_argument(
        "--out", type=Path, default=Path("src/heliodor/models/weights/filaments.safetensors")
    )
    parser.add_argument("--scenes", type=int, default=96, help="held-out fields [96]")
    parser.add_argument("--seed", type=int, default=11, help="of the fields [11]")
    parser.add_argument("--updates", type=int, default=0, help="of the training, for the card")
    given = parser.parse_args()
    set_threads()
    weights = load_file(given.weights)
    network = FilamentNetwork(weights["head.weight"].shape[1])
    network.load_state_dict(weights)
    round_weights(network.eval())
    world = FilamentGenerator(
        [draw_particle(HELD_OUT + 100 + n) for n in range(40)], HELD_OUT + given.seed
    )
    hits, scores = [], []
    for _ in range(given.scenes // 8):
        batch = world.draw(8)
        count = count_points(batch.images.shape[-1])
        distance = batch.targets(LATTICE_FIRST_PX, LATTICE_STEP_PX, count).distance_px.numpy()
        outs = np.stack([apply_network(network, image)[AXIS] for image in batch.images.numpy()])
        hits.append(distance.ravel() <= 0.5 * LATTICE_STEP_PX)
        scores.append(outs.ravel())
    hit, score = np.concatenate(hits), np.concatenate(scores)
    fit = LogisticRegression(C=1e6).fit(score[:, None], hit)
    slope, shift = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    print(f"{hit.sum()} points on axes; log-odds = {slope:.3f} s + {shift:.3f}")
    card = FilamentCard(
        network=network.name,
        channels=network.width,
        width_angstrom=None,
        working_width_px=WORKING_WIDTH_PX,
        normalization=Normalizer("micrograph", flatten_px=NOMINAL_PX * FLATTEN_FRACTION).as_dict(),
        slope=slope,
        shift=shift,
        seed=given.seed,
        version=__version__,
        updates=given.updates,
        extra={GENERAL_KEY: {"generator": GENERATOR, "torch": torch.__version__}},
    )
    save_filament_model(given.out, FilamentModel(network, card))
    print(f"wrote {given.out}, {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
