"""Calibrate the scores of the general model, and put it into the package.

    python -m scripts.general_model.calibrate_and_ship TRAINED
        [--out src/heliodor/models/weights/general.safetensors] [--scenes 96] [--seed 11]

TRAINED is a model of `train.py`. On scenes of held-out particles its picks are matched to the
truth, as a user's would be, and its classifier is rescaled so that the log-odds of a pick are
those of its being correct (Platt scaling, with a slope and an offset). Prints these, the score
with the highest F1 over all scenes, and the remaining share of picks on empty scenes. By how much
the centers of its picks are shifted is written into its card, and corrected in picking.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scripts.general_model.train import (
    HELD_OUT,
    RADIUS_PX,
    particles_of,
)
from sklearn.linear_model import LogisticRegression

from heliodor.evaluation.matching import MATCH_FRACTION, match_picks
from heliodor.models.model_file import (
    Model,
    load_model,
    save_model,
)
from heliodor.models.networks import Network
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.nms import suppress
from heliodor.picking.scoring import lattice_step, score_with_contaminants
from heliodor.simulation.training_world.generator import MicrographGenerator
from heliodor.simulation.training_world.imaging_conditions import NOMINAL_PX
from heliodor.utils.compute import set_threads

#: Candidates below are of no interest; those above show by how much centers are shifted.
FLOOR, SURE = -8.0, 0.0


def picks_of(network: Network, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (x, y) and log-odds of the candidates outside bad areas of a normalized image."""
    maps = score_with_contaminants(network, image, lattice_step(network, RADIUS_PX))
    places, scores = suppress(maps.particle, NOMINAL_PX / 2, FLOOR)
    xy = places[:, ::-1].astype(float)
    if maps.contaminant is not None:
        bad = ContaminationMask.from_log_odds(maps.contaminant, float(network.stride), NOMINAL_PX)
        kept = ~bad.contains(xy)
        xy, scores = xy[kept], scores[kept]
    return xy, scores


def main() -> None:
    """Calibrate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path, help="model file of train.py")
    parser.add_argument(
        "--out", type=Path, default=Path("src/heliodor/models/weights/general.safetensors")
    )
    parser.add_argument("--scenes", type=int, default=96, help="held-out scenes [96]")
    parser.add_argument("--seed", type=int, default=11, help="of the scenes [11]")
    given = parser.parse_args()
    set_threads()
    model = load_model(given.trained)
    network = model.network
    world = MicrographGenerator(particles_of(HELD_OUT + 1000, 150), given.seed, 384)
    scores, right, found, there = [], [], 0, 0
    empty, area, shifts = [], 0.0, []
    for _ in range(given.scenes // 8):
        scenes = world.draw(8)
        side = scenes.images.shape[-1]
        for number, image in enumerate(scenes.images.numpy()):
            xy, own = picks_of(network, image)
            truth = scenes.xy_px[scenes.image_index == number].numpy()
            truth = truth[((truth >= 0) & (truth <= side - 1)).all(axis=1)]
            if not len(truth):
                empty.append(own)
                angstrom = float(scenes.conditions.pixel_angstrom[number])
                area += (side * angstrom / 1e4) ** 2
            pairs = match_picks(xy, truth, MATCH_FRACTION * NOMINAL_PX)
            hit = pairs.is_true_positive
            sure = hit & (own >= SURE)
            shifts.append(xy[sure] - truth[pairs.truth_index[sure]])
            scores.append(own)
            right.append(hit)
            found, there = found + int(hit.sum()), there + len(truth)
    score, hit = np.concatenate(scores), np.concatenate(right)
    fit = LogisticRegression(C=1e6).fit(score[:, None], hit)
    slope, shift = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    order = np.argsort(-score)
    tp = np.cumsum(hit[order])
    f1 = 2 * tp / (np.arange(1, len(tp) + 1) + there)
    best = int(np.argmax(f1))
    threshold = slope * float(score[order][best]) + shift
    print(f"{there} particles, {found} found by {len(score)} candidates")
    print(
        f"log-odds of a pick = {slope:.3f} s + {shift:.3f}; F1 {f1[best]:.3f} from {threshold:.2f}"
    )
    if empty:
        left = slope * np.concatenate(empty) + shift
        for limit in (threshold, 0.0, 1.0, 2.0, 3.0):
            print(f"empty: {(left >= limit).sum() / area:.2f} picks a square um from {limit:.2f}")
    shift_px = np.median(np.concatenate(shifts), axis=0)
    print(f"centers are shifted by ({shift_px[0]:.2f}, {shift_px[1]:.2f}) working pixels")
    with torch.no_grad():
        network.classifier.weight.mul_(slope)
        network.classifier.bias.mul_(slope).add_(shift)
    card = replace(
        model.card,
        any_diameter=True,
        finer=True,
        center_correction_px=[round(-float(own), 3) for own in shift_px],
        threshold=0.0,  # more likely right than not, where there is too little to go by
        extra=model.card.extra | {"slope": slope, "shift": shift},
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_model(given.out, Model(network, card))
    print(f"wrote {given.out}, {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
