"""How well filaments are traced: the general filament model, 20 labels, and a classical detector.

    python -m benchmarks.accuracy.filaments [--pickers general labels lines] [--kinds ...]
        [--layouts sparse crossing bundled] [--seed 500] [--count 4] [--out FILE]

Check. Simulated sets of the four built-in filaments, none of which the general filament model was
trained on, with the default settings of `heliodor simulate` (contaminants included): apart
(sparse), crossing (--overlap), and with others beside most of them (--overlap --bundles 0.8).

For each set and picker: precision and recall of the length of the axes within a quarter of the
width, at the threshold that is chosen automatically; pieces per true filament; median errors of
direction and position; the expected precision; CPU seconds per micrograph. `labels` fine-tunes the
general filament model on 20 labeled filaments of another set (seed + 1000). `lines` is
`benchmarks.common.line_filter`, traced in the same way. The last rows of a picker are means over
the sets.

Constants are chosen on seeds 100 to 199 and reported on seeds from 500.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.common.line_filter import LineFilter
from benchmarks.common.tables import markdown

from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.micrographs.sources import Source
from heliodor.evaluation.filaments import evaluate_filaments
from heliodor.picking.filaments.batch import Predictor, TracingResult, trace_micrographs
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.simulation.dataset import simulate
from heliodor.simulation.filament_kinds import FILAMENTS
from heliodor.simulation.micrograph import simulate_micrograph
from heliodor.simulation.settings import SimulationSettings
from heliodor.workflows.filament_model import load_predictor

LAYOUTS: dict[str, dict[str, object]] = {
    "sparse": {},
    "crossing": {"overlap": True},
    "bundled": {"overlap": True, "bundles": 0.8},
}
LABELS, LABELED_MICROGRAPHS = 20, 8
#: The shortest filament of the classical detector, in widths: short ones are mostly false.
LINES_LEAST_WIDTHS = 6.0
#: What is asked for: precision, recall, pieces, and error of the direction in degrees.
BARS = {"general": (0.80, 0.75, 1.3, 2.0), "labels": (0.90, 0.90, 1.3, 2.0)}


@dataclass(frozen=True)
class Row:
    """One picker on one set."""

    picker: str
    kind: str
    layout: str
    precision: float
    recall: float
    pieces: float
    angle_deg: float
    distance_widths: float
    expected_precision: float
    #: Precision and recall at the threshold with the highest F1 of this set.
    best_precision: float
    best_recall: float
    cpu_s: float

    def cells(self) -> list[str]:
        """Return the row as text."""
        numbers = (
            self.precision, self.recall, self.pieces, self.angle_deg, self.distance_widths,
            self.expected_precision, self.best_precision, self.best_recall, self.cpu_s,
        )  # fmt: skip
        return [self.picker, self.kind, self.layout, *(f"{value:.2f}" for value in numbers)]


HEAD = (
    *("picker", "filament", "layout", "precision", "recall", "pieces", "direction, deg"),
    *("position, widths", "expected precision", "best precision", "best recall", "CPU s"),
)


def read_set(kind: str, layout: str, seed: int, count: int) -> tuple[list[Source], Filaments]:
    """Simulate micrographs in memory, and return them with the truth."""
    settings = SimulationSettings(filament=kind, seed=seed, **LAYOUTS[layout])  # type: ignore[arg-type]
    sources, axes = [], []
    for index in range(count):
        made = simulate_micrograph(settings, index)
        name = f"{kind}_{layout}_{index}"
        size = settings.pixel_size_angstrom
        sources.append(Source(name, Path(name), name, size, pixels=made.image))
        width = FILAMENTS[kind].width_angstrom
        axes += [Filament(name, axis, n, width) for n, axis in enumerate(made.axes_px, 1)]
    names = tuple(source.name for source in sources)
    sizes = dict.fromkeys(names, settings.pixel_size_angstrom)
    return sources, Filaments(names, tuple(axes), sizes)


def measure(
    picker: str, predictor: Predictor, kind: str, layout: str, seed: int, count: int
) -> Row:
    """Trace one set."""
    sources, truth = read_set(kind, layout, seed, count)
    started = time.process_time()
    least = LINES_LEAST_WIDTHS * predictor.width_angstrom if picker == "lines" else None
    settings = FilamentSettings(filaments=True, min_length_angstrom=least)
    result = trace_micrographs(predictor, sources, settings)
    seconds = (time.process_time() - started) / count
    sizes = dict(truth.pixel_sizes)
    found = evaluate_filaments(result.filaments(), truth, sizes, None, truth.micrographs)
    best = _find_best(result, truth)
    return Row(
        picker, kind, layout, found.precision, found.recall, found.pieces,
        found.median_angle_error_deg,
        found.median_distance_angstrom / FILAMENTS[kind].width_angstrom,
        result.expected.precision, *best, seconds,
    )  # fmt: skip


def _find_best(result: TracingResult, truth: Filaments) -> tuple[float, float]:
    """Return precision and recall at the threshold with the highest F1."""
    scores = np.concatenate([np.zeros(1), *(one.scores() for one in result.micrographs)])
    best = (-1.0, math.nan, math.nan)
    for threshold in np.unique(np.quantile(scores, np.linspace(0.0, 1.0, 25))):
        kept = result.filaments(float(threshold))
        one = evaluate_filaments(kept, truth, dict(truth.pixel_sizes), None, truth.micrographs)
        if one.f1 > best[0]:
            best = (one.f1, one.precision, one.recall)
    return best[1], best[2]


def train_on_labels(kind: str, layout: str, seed: int, start: str | None) -> Predictor:
    """Fine-tune the general filament model, or another one, with labels of another set."""
    from heliodor.cli.main import main as run_command

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = SimulationSettings(
            filament=kind, seed=seed, count=LABELED_MICROGRAPHS, labels=LABELS, **LAYOUTS[layout]  # type: ignore[arg-type]
        )  # fmt: skip
        made = simulate(folder / "set", settings)
        _call(
            run_command, "train", "--filaments", "--micrographs", made.micrographs_star,
            "--labels", made.labels_star, "--width", FILAMENTS[kind].width_angstrom,
            "-o", folder / "out", *([] if start is None else ["--from", start]),
        )  # fmt: skip
        return load_predictor(folder / "out" / "model.safetensors", None, torch.device("cpu"))


def _call(command: Callable[[], None], *words: object) -> None:
    import sys
    from unittest import mock

    with mock.patch.object(sys, "argv", ["heliodor", *map(str, words)]):
        try:
            command()
        except SystemExit as end:
            if end.code:
                raise


def choose_predictor(
    picker: str, kind: str, layout: str, seed: int, model: str | None
) -> Predictor:
    """Return what says where filaments are."""
    width = FILAMENTS[kind].width_angstrom
    if picker == "lines":
        return LineFilter(width)
    if picker == "labels":
        return train_on_labels(kind, layout, seed + 1000, model)
    return load_predictor(model, width, torch.device("cpu"))


def summarize(picker: str, rows: Sequence[Row]) -> Row:
    """Return the means over the sets of a picker."""
    names = [name for name, value in asdict(rows[0]).items() if isinstance(value, float)]
    means = {name: float(np.nanmean([getattr(row, name) for row in rows])) for name in names}
    return Row(picker, "mean", f"{len(rows)} sets", **means)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pickers", nargs="+", default=["general", "labels", "lines"])
    parser.add_argument("--kinds", nargs="+", default=list(FILAMENTS))
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS))
    parser.add_argument("--seed", type=int, default=500)
    parser.add_argument("--count", type=int, default=4, help="micrographs per set")
    parser.add_argument("--model", help="in place of the general filament model")
    parser.add_argument("--out", type=Path, help="JSON with all rows")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(markdown(HEAD, []), flush=True)
    everything = []
    for picker in given.pickers:
        rows = []
        for kind in given.kinds:
            for layout in given.layouts:
                predictor = choose_predictor(picker, kind, layout, given.seed, given.model)
                rows.append(measure(picker, predictor, kind, layout, given.seed, given.count))
                print("| " + " | ".join(rows[-1].cells()) + " |", flush=True)
        print("| " + " | ".join(summarize(picker, rows).cells()) + " |", flush=True)
        everything += rows
    for picker, (precision, recall, pieces, angle) in BARS.items():
        for row in (row for row in everything if row.picker == picker):
            misses = [
                *([f"precision {row.precision:.2f}"] if row.precision < precision else []),
                *([f"recall {row.recall:.2f}"] if row.recall < recall else []),
                *([f"pieces {row.pieces:.2f}"] if row.pieces > pieces else []),
                *([f"direction {row.angle_deg:.2f}"] if row.angle_deg > angle else []),
            ]
            if misses:
                print(f"{picker} misses its bars on {row.kind} {row.layout}: {', '.join(misses)}")
    if given.out:
        given.out.write_text(json.dumps([asdict(row) for row in everything], indent=1))


if __name__ == "__main__":
    main()
