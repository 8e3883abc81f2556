"""How well RELION's helical autopicking finds the same filaments.

    python -m benchmarks.accuracy.filaments_relion [--kinds ...] [--layouts ...] [--seed 500]
        [--count 4] [--out FILE]
    python -m benchmarks.accuracy.filaments_relion --tune [--masks ...] [--thresholds ...]
        [--curvatures ...]

Check. Needs RELION 3.1.3. The micrographs are those of `benchmarks.accuracy.filaments`, with the
same seeds. RELION gets references made of the true filament and the true defocus, see
`benchmarks.common.relion_helical_autopick`.

`--tune` tries masks, thresholds and curvatures, and for amyloids also RELION's algorithm for them.
It prints for each kind the settings with the highest mean F1 of its layouts, which are then
written into `CHOSEN` by hand. Without it, each set is picked with `CHOSEN`, and `best` is the
highest F1 over all thresholds, chosen with the truth of that set. `inside` are precision and
recall away from the edges, where RELION does not pick: within half a reference's side of them.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from benchmarks.accuracy.filaments import LAYOUTS
from benchmarks.common.relion_helical_autopick import (
    BEYOND_ANGSTROM,
    AutopickSettings,
    autopick,
    is_installed,
)
from benchmarks.common.tables import markdown

from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.geometry import crop_axis
from heliodor.data.filaments.readers import read_filaments
from heliodor.evaluation.filaments import FilamentEvaluation, evaluate_filaments
from heliodor.simulation.dataset import simulate
from heliodor.simulation.filament_kinds import FILAMENTS
from heliodor.simulation.settings import SimulationSettings

#: Chosen on one micrograph of each layout of seed 110 (`--tune --seed 110 --count 1`).
CHOSEN = {
    "amyloid": AutopickSettings(mask_widths=4.0, threshold=0.3, kappa_max=0.5),
    "microtubule": AutopickSettings(mask_widths=1.5, threshold=0.05, kappa_max=0.05),
    "actin": AutopickSettings(mask_widths=4.0, threshold=0.3, kappa_max=0.5),
    "tube": AutopickSettings(mask_widths=2.5, threshold=0.1, kappa_max=0.1),
}
#: What is tried: masks in widths.
MASKS = (1.5, 2.5, 4.0)
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
CURVATURES = (0.05, 0.1, 0.25, 0.5)
HEAD = (
    *("filament", "layout", "precision", "recall", "pieces", "direction, degrees"),
    *("position, widths", "inside precision", "inside recall", "best precision", "best recall"),
    "CPU seconds",
)


@dataclass(frozen=True)
class Row:
    """RELION on one set."""

    kind: str
    layout: str
    precision: float
    recall: float
    pieces: float
    angle_deg: float
    distance_widths: float
    inside_precision: float
    inside_recall: float
    best_precision: float
    best_recall: float
    cpu_s: float

    def cells(self) -> list[str]:
        """Return the row as text."""
        numbers = [value for value in asdict(self).values() if isinstance(value, float)]
        return [self.kind, self.layout, *(f"{value:.2f}" for value in numbers)]


@dataclass(frozen=True)
class SimulatedSet:
    """Micrographs in a folder, and the truth about them."""

    folder: Path
    settings: SimulationSettings
    truth: Filaments

    @classmethod
    def make(cls, folder: Path, kind: str, layout: str, seed: int, count: int) -> SimulatedSet:
        """Simulate micrographs."""
        settings = SimulationSettings(filament=kind, seed=seed, count=count, **LAYOUTS[layout])  # type: ignore[arg-type]
        made = simulate(folder, settings)
        return cls(folder, settings, read_filaments(made.truth_star))

    def pick(self, settings: AutopickSettings) -> tuple[Filaments, float]:
        """Return the axes that RELION finds, and CPU seconds."""
        return autopick(self.folder, self.truth.micrographs, self.settings, settings)

    def evaluate(self, found: Filaments, inside_px: int = 0) -> FilamentEvaluation:
        """Compare with the truth, away from the edges if asked to."""
        sizes = dict.fromkeys(self.truth.micrographs, self.settings.pixel_size_angstrom)
        both = (found, self.truth)
        if inside_px:
            both = tuple(_crop(one, self.settings.shape, inside_px) for one in both)
        return evaluate_filaments(*both, sizes, None, self.truth.micrographs)


def _crop(table: Filaments, shape: tuple[int, int], margin_px: int) -> Filaments:
    """Return the parts of filaments away from the edges, in pixels from there."""
    inner = (shape[0] - 2 * margin_px, shape[1] - 2 * margin_px)
    parts: list[Filament] = []
    for one in table.filaments:
        pieces = crop_axis(one.axis_px - margin_px, inner)
        parts += [replace(one.with_axis(piece), tube_id=len(parts) + 1) for piece in pieces]
    return Filaments(table.micrographs, tuple(parts), table.pixel_sizes)


def list_settings(
    kind: str, masks: Sequence[float], thresholds: Sequence[float], curvatures: Sequence[float]
) -> list[AutopickSettings]:
    """Return what is tried, those with the same maps one behind another."""
    listed = []
    for mask in masks:
        for amyloid in (False, True) if kind == "amyloid" else (False,):
            # The algorithm for amyloids has no curvature.
            for kappa in curvatures[:1] if amyloid else curvatures:
                base = AutopickSettings(mask, amyloid, kappa_max=kappa)
                listed += vary_threshold(base, thresholds)
    return listed


def vary_threshold(
    base: AutopickSettings, thresholds: Sequence[float] = THRESHOLDS
) -> list[AutopickSettings]:
    """Return settings with other thresholds."""
    return [replace(base, threshold=threshold) for threshold in thresholds]


def measure(one: SimulatedSet, kind: str, layout: str) -> Row:
    """Pick a set with the chosen settings, and with all thresholds."""
    chosen = CHOSEN[kind]
    found, seconds = one.pick(chosen)
    width, pixel = FILAMENTS[kind].width_angstrom, one.settings.pixel_size_angstrom
    margin = math.ceil(0.5 * (chosen.mask_widths * width + BEYOND_ANGSTROM) / pixel)
    whole, inside = one.evaluate(found), one.evaluate(found, margin)
    tried = [one.evaluate(one.pick(other)[0]) for other in vary_threshold(chosen)]
    best = max(tried, key=lambda each: -1.0 if math.isnan(each.f1) else each.f1)
    return Row(
        kind, layout, whole.precision, whole.recall, whole.pieces, whole.median_angle_error_deg,
        whole.median_distance_angstrom / width, inside.precision, inside.recall,
        best.precision, best.recall, seconds / len(one.truth.micrographs),
    )  # fmt: skip


def tune(
    kind: str, layouts: Sequence[str], seed: int, count: int, tried: Sequence[AutopickSettings]
) -> None:
    """Print the settings with the highest mean F1."""
    scores: dict[AutopickSettings, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        for layout in layouts:
            one = SimulatedSet.make(Path(name) / layout, kind, layout, seed, count)
            for settings in tried:
                f1 = one.evaluate(one.pick(settings)[0]).f1
                scores[settings].append(0.0 if math.isnan(f1) else f1)
    ranked = sorted(scores, key=lambda each: -float(np.mean(scores[each])))
    for settings in ranked[:5]:
        values = ", ".join(f"{value:.2f}" for value in scores[settings])
        print(f"{kind}: {np.mean(scores[settings]):.3f} ({values}) {settings}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", default=list(FILAMENTS), choices=FILAMENTS)
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=LAYOUTS)
    parser.add_argument("--seed", type=int, default=500)
    parser.add_argument("--count", type=int, default=4, help="micrographs per set")
    parser.add_argument("--tune", action="store_true", help="choose settings instead")
    for name, values in (
        ("masks", MASKS), ("thresholds", THRESHOLDS), ("curvatures", CURVATURES)
    ):  # fmt: skip
        parser.add_argument(f"--{name}", nargs="+", type=float, default=values)
    parser.add_argument("--out", type=Path, help="JSON with all rows")
    given = parser.parse_args()
    if not is_installed():
        parser.error("relion_autopick is not on the PATH; install RELION 3.1")
    if given.tune:
        for kind in given.kinds:
            tried = list_settings(kind, given.masks, given.thresholds, given.curvatures)
            tune(kind, given.layouts, given.seed, given.count, tried)
        return
    print(markdown(HEAD, []), flush=True)
    rows = []
    for kind in given.kinds:
        for layout in given.layouts:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "set"
                one = SimulatedSet.make(folder, kind, layout, given.seed, given.count)
                rows.append(measure(one, kind, layout))
            print("| " + " | ".join(rows[-1].cells()) + " |", flush=True)
    numbers = [name for name, value in asdict(rows[0]).items() if isinstance(value, float)]
    means = {name: float(np.nanmean([getattr(row, name) for row in rows])) for name in numbers}
    print("| " + " | ".join(Row("mean", f"{len(rows)} sets", **means).cells()) + " |", flush=True)
    if given.out:
        given.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
