"""Measure the maps of a model of filaments on simulated sets, point by point.

    python -m scripts.general_model.check_filaments [MODEL] [--seed 100] [--count 3] [--snr SNR]

The sets have the filaments of `heliodor simulate`, which are in no training of the general
filament model: sparse, crossing (--overlap) and bundled (--overlap --bundles 0.6). For each, the
average precision of the points on axes (nearer than half a step, against those farther than
twice that), the share of them found at a precision of 0.9, the median errors of direction and
offset, and the mean log-odds over the true log-odds (slope and shift of a logistic regression).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve

from heliodor.data.filaments.curve import fit_curve
from heliodor.models.filament_maps import FilamentMaps
from heliodor.models.filament_network import predict_filament_maps
from heliodor.models.pretrained import load_filament_model_or_general
from heliodor.simulation.filament_kinds import FILAMENTS
from heliodor.simulation.micrograph import SimulatedMicrograph, simulate_micrograph
from heliodor.simulation.settings import SimulationSettings
from heliodor.training.filaments.targets import measure_targets
from heliodor.utils.compute import set_threads

LAYOUTS: dict[str, dict[str, object]] = {
    "sparse": {},
    "crossing": {"overlap": True},
    "bundled": {"overlap": True, "bundles": 0.6},
}


def truth_of(maps: FilamentMaps, found: SimulatedMicrograph) -> tuple[np.ndarray, ...]:
    """Return distance, double angle and offset of the nearest axis at the points of maps."""
    axes = [fit_curve(axis).resample(0.25 * maps.spacing_px) for axis in found.axes_px]
    # The lattice starts at the same distance from both edges, to rounding.
    return measure_targets(axes, maps.first_px[0], maps.spacing_px, maps.axis.shape)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="[the general filament model]")
    parser.add_argument("--seed", type=int, default=100, help="[100]")
    parser.add_argument("--count", type=int, default=3, help="micrographs per set [3]")
    parser.add_argument("--snr", type=float, help="[that of the kind]")
    parser.add_argument("--kinds", nargs="*", default=list(FILAMENTS))
    given = parser.parse_args()
    set_threads()
    model = load_filament_model_or_general(given.model)
    print("kind         layout    filaments  AP     recall  angle  offset(w)  slope  shift  s")
    for kind in given.kinds:
        for layout, options in LAYOUTS.items():
            settings = SimulationSettings(
                filament=kind, seed=given.seed, snr=given.snr, **options  # type: ignore[arg-type]
            )  # fmt: skip
            width = FILAMENTS[kind].width_angstrom
            hits, scores, angles, offsets, count, seconds = [], [], [], [], 0, 0.0
            for index in range(given.count):
                found = simulate_micrograph(settings, index)
                began = time.process_time()
                pixel = settings.pixel_size_angstrom
                maps = predict_filament_maps(model, found.image, pixel, width)
                seconds += time.process_time() - began
                distance, angle, offset = truth_of(maps, found)
                hit = distance <= 0.5 * maps.spacing_px
                known = hit | (distance > maps.spacing_px)
                hits.append(hit[known])
                scores.append(maps.axis[known])
                cos, sin = maps.double_angle
                turn = np.arctan2(sin, cos)[hit] - np.arctan2(angle[1], angle[0])[hit]
                angles.append(np.abs((turn + np.pi) % (2 * np.pi) - np.pi) / 2)
                offsets.append(np.hypot(*(maps.offset_px - offset)[:, hit]) * pixel / width)
                count += len(found.axes_px)
            hit, score = np.concatenate(hits), np.concatenate(scores)
            ap = average_precision_score(hit, score)
            precision, recall, _ = precision_recall_curve(hit, score)
            best = recall[precision >= 0.9].max()
            fit = LogisticRegression(C=1e6).fit(score[:, None], hit)
            print(
                f"{kind:12} {layout:9} {count:9d}  {ap:.3f}  {best:.3f}"
                f"  {np.degrees(np.median(np.concatenate(angles))):5.2f}"
                f"  {np.median(np.concatenate(offsets)):8.3f}"
                f"  {fit.coef_[0, 0]:6.2f} {fit.intercept_[0]:6.2f} {seconds / given.count:5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
