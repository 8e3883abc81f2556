"""The threshold without labels, on simulated sets.

    python -m benchmarks.accuracy.threshold_without_labels FOLDER [--sets 26] [--seed 500]
        [--ordinary]

Each set has six micrographs of 1024 x 1024 pixels at 3 Å. The sets differ in the particle (mostly
random ones), in the SNR (0.035 to 0.2), in the number of particles (a share of 0.04 to 0.5 of the
area, in squares of a diameter) and in the contaminants (0 to 2 times the usual); with `--ordinary`
they are ten, of five built-in particles at SNR 0.12 and 0.06, with the usual number of particles
and of contaminants. The general model picks all together and each alone, at its own threshold. The
best thresholds are those of all candidates, down to a log-odds of -6.
F1 over the highest of any threshold, precision and recall as stated and as they are, and by how
much the number of picks on a micrograph alone differs from that among six (median of the
micrographs). The highest F1 tells sets apart in which hardly a particle can be picked at any
threshold.
Sets in FOLDER are not simulated again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common.tables import markdown

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.evaluation.metrics import evaluate_picks
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.batch import InMemoryStore, PickingResult, pick_micrographs
from heliodor.picking.recalibration import calibrate_picks, choose_decoy_search
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings
from heliodor.simulation.dataset import simulate
from heliodor.simulation.settings import SimulationSettings

#: Of each set.
MICROGRAPHS, SIZE, PIXEL = 6, (1024, 1024), 3.0
#: Every fourth set has one of these in turn; the others have random particles.
PARTICLES = ("trimer", "barrel", "shell", "stick", "ribosome")
SNR, SHARE, CONTAMINANTS = (0.035, 0.2), (0.04, 0.5), (0.0, 1.0, 1.0, 2.0)
#: Of the ordinary sets.
ORDINARY_SNR = (0.12, 0.06)
#: Sets in which no threshold has an F1 as high are summed up apart.
PICKABLE = 0.5
HEAD = ["set", "SNR", "particles", "threshold", "best threshold", "best F1", "F1 / best"]
HEAD += ["alone", "worst alone"]
HEAD += ["precision, true", "recall, true", "difference alone"]


def draw_settings(number: int, seed: int) -> SimulationSettings:
    """Return the settings of a random set."""
    random = np.random.default_rng([seed, number])
    own = 1000 * seed + number
    name = f"drawn-{own}" if number % 4 else PARTICLES[number // 4 % len(PARTICLES)]
    plain = SimulationSettings(particle=name, shape=SIZE, pixel_size_angstrom=PIXEL)
    squares = np.prod(SIZE) * (PIXEL / plain.resolved_particle.diameter_angstrom) ** 2
    snr, share = (float(np.exp(random.uniform(*np.log(limits)))) for limits in (SNR, SHARE))
    return SimulationSettings(
        particle=name, shape=SIZE, pixel_size_angstrom=PIXEL, count=MICROGRAPHS, seed=own,
        snr=snr, particles_per_micrograph=max(3, round(share * squares)),
        contaminants=float(random.choice(CONTAMINANTS)),
    )  # fmt: skip


def ordinary_settings(number: int, seed: int) -> SimulationSettings:
    """Return the settings of an ordinary set."""
    level, which = divmod(number, len(PARTICLES))
    return SimulationSettings(
        particle=PARTICLES[which], shape=SIZE, pixel_size_angstrom=PIXEL, count=MICROGRAPHS,
        seed=1000 * seed + number, snr=ORDINARY_SNR[level],
    )  # fmt: skip


def measure(folder: Path, settings: SimulationSettings) -> list[Any]:
    """Pick a set together and one by one; return the row of the table, as numbers.

    The set is simulated unless it is there.
    """
    if not (folder / "truth.star").exists():
        simulate(folder, settings)
    diameter = settings.resolved_particle.diameter_angstrom
    sources = find_sources(str(folder / "micrographs"))
    read = read_picks(folder / "truth.star").split_by_micrograph()
    known = {Path(name).stem: own.xy_px for name, own in read}
    truth = {own.path.stem: known.get(own.path.stem, np.zeros((0, 2))) for own in sources}
    model, how, store = load_model_for_picking(None, diameter), PickSettings(), InMemoryStore()
    images = open_working_images(model, PIXEL)

    def pick(chosen: Sequence[Source]) -> PickingResult:
        # What is in the store is not scored again.
        search = choose_decoy_search(model, chosen)
        picked = pick_micrographs(model, chosen, images, how, store=store, search=search)
        return calibrate_picks(model, picked, how)

    together = pick(sources)
    every, picks = together.candidates, together.picks
    ranked, at = (compare(own, truth, diameter) for own in (every, picks))
    names, alone, differences = np.asarray(picks.names()), [], []
    for source in sources:
        own = {source.path.stem: truth[source.path.stem]}
        one = pick([source])
        count = int((names == source.name).sum())
        differences.append(abs(len(one.picks) - count) / max(count, 1))
        best = compare(one.candidates, own, diameter).best_f1
        if best > 0:
            alone.append(compare(one.picks, own, diameter).micro.f1 / best)
    stated = [getattr(together.expected, name, None) for name in ("precision", "recall")]
    words = ["unknown" if own is None else f"{own.value:.2f}" for own in stated]
    return [
        settings.resolved_particle.name, settings.snr, sum(map(len, truth.values())),
        together.threshold, ranked.best_f1_threshold, ranked.best_f1,
        at.micro.f1 / ranked.best_f1,
        statistics.mean(alone), min(alone), f"{words[0]}, {at.micro.precision:.2f}",
        f"{words[1]}, {at.micro.recall:.2f}", statistics.median(differences),
    ]  # fmt: skip


def compare(picks: Picks, truth: dict[str, FloatArray], diameter: float) -> Any:
    """Match picks with the truth, within 0.4 of the diameter."""
    found = {Path(name).stem: (own.xy_px, own.score) for name, own in picks.split_by_micrograph()}
    return evaluate_picks(found, truth, MATCH_FRACTION * diameter / PIXEL)


def summarize(rows: Sequence[list[Any]]) -> str:
    """Return the summary of some rows in a line."""
    ratio, alone, difference = (
        np.array([row[HEAD.index(name)] for row in rows])
        for name in ("F1 / best", "alone", "difference alone")
    )
    return (
        f"F1 / best: lowest {ratio.min():.3f}, mean {ratio.mean():.3f}, median "
        f"{np.median(ratio):.3f}, at least 0.93 in {(ratio >= 0.93).sum()} of {len(ratio)}; "
        f"alone: mean {alone.mean():.3f}; difference alone: median {np.median(difference):.3f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", type=int, default=26, help="number of random sets [26]")
    parser.add_argument("--seed", type=int, default=500)
    parser.add_argument("--ordinary", action="store_true", help="ten ordinary sets, none random")
    options = parser.parse_args()
    draw, name, count = draw_settings, f"{options.seed}", options.sets
    if options.ordinary:
        draw, name = ordinary_settings, f"ordinary_{options.seed}"
        count = len(PARTICLES) * len(ORDINARY_SNR)
    rows = []
    for number in range(count):
        settings = draw(number, options.seed)
        rows.append(measure(options.folder / f"{name}_{number}", settings))
        print(f"{number + 1} of {count}", file=sys.stderr, flush=True)
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    print(markdown(HEAD, cells))
    pickable = [row for row in rows if row[HEAD.index("best F1")] >= PICKABLE]
    for title, own in (("all", rows), (f"best F1 at least {PICKABLE}", pickable)):
        if own:
            print(f"\n{title} ({len(own)}): {summarize(own)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
