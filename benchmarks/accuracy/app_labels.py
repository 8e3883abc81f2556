"""The app after a few labels: AP, F1 at the threshold shown, and the precision it states.

    python -m benchmarks.accuracy.app_labels [--set apoferritin] [--labels 27] [--on 3] [--draws 2]

Opens a project as the page does, with the real engine, puts labels on published positions of the
first micrographs, drawn at random, trains once, and waits until all micrographs are scored again.
All micrographs count, the labeled ones too, against the published list, matched within 0.4 of
the diameter; the picks are those of the page, without the corrections of an export.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heliodor.app.server.project import open_project
from heliodor.app.server.state import ProjectState
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import find_sources
from heliodor.evaluation.matching import MATCH_FRACTION, match_picks
from heliodor.evaluation.metrics import evaluate_picks

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))
#: Diameter in angstrom, micrographs, coordinates, and pixel size if the headers lack it.
SETS = {
    "apoferritin": (130.0, "micrographs", "truth.star", None),
    "betagal": (180.0, "micrographs", "dense.star", 3.54),
}


def wait(state: ProjectState, is_done: Callable[[], bool]) -> None:
    """Wait until the engine has done something."""
    end = time.monotonic() + 1800
    while not is_done():
        if state.engine.state()["state"] == "failed" or time.monotonic() > end:
            raise SystemExit(f"the engine failed: {state.engine.state()['says']}")
        time.sleep(0.2)


def is_scored(state: ProjectState, model: int) -> bool:
    """Return whether all micrographs have been scored with a model."""
    found = (state.predictions.get(n) for n in range(len(state.sources)))
    all_scored = all(own is not None and own.model == model for own in found)
    return all_scored and state.predictions.calibration(model).settled


def measure(name: str, labels: int, on: int, seed: int) -> None:
    """Train and print a row of the table."""
    diameter, micrographs, truth, pixel_size = SETS[name]
    folder = DATA / name
    by_stem = {
        Path(n).stem: own.xy_px for n, own in read_picks(folder / truth).split_by_micrograph()
    }
    inputs = [str(folder / micrographs)]
    sources = [s for s in find_sources(inputs) if s.path.stem in by_stem]
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as temporary:
        project = open_project(Path(temporary) / "project", sources, inputs, pixel_size, diameter)
        state = ProjectState(project)
        state.engine.start()
        try:
            wait(state, lambda: is_scored(state, 0))
            for number in range(on):
                xy = by_stem[sources[number].path.stem]
                drawn = random.permutation(len(xy))[: labels // on]
                state.annotations.add_positions(state.name(number), xy[drawn], "particle").result()
            state.engine.train()
            wait(state, lambda: is_scored(state, 1))
            report(name, labels, on, state, by_stem)
        finally:
            state.close()


def report(
    name: str, labels: int, on: int, state: ProjectState, by_stem: dict[str, FloatArray]
) -> None:
    """Print what the page would show, and what is true."""
    threshold = state.threshold_of(1)
    ranked, wanted, reach, true, picks = {}, {}, 0.0, 0, 0
    for number, source in enumerate(state.sources):
        found = state.predictions.get(number)
        assert found is not None
        reach = MATCH_FRACTION * found.diameter_px
        xy = by_stem[source.path.stem]
        ranked[source.name], wanted[source.name] = (found.xy_px, found.score), xy
        kept = found.score >= threshold
        picks += int(kept.sum())
        true += int(match_picks(found.xy_px[kept], xy, reach).is_true_positive.sum())
    average = evaluate_picks(ranked, wanted, reach).micro.average_precision
    precision, recall = true / picks, true / sum(map(len, wanted.values()))
    estimates = state.histogram()["estimates"]
    stated = np.interp(threshold, estimates["threshold"], estimates["precision"])
    low, high = (
        np.interp(threshold, estimates["threshold"], estimates[f"precision_{end}"])
        for end in ("low", "high")
    )
    f1 = 2 * precision * recall / (precision + recall)
    print(
        f"| {name} | {labels} on {on} | {average:.3f} | {threshold:.2f} | {f1:.3f} |"
        f" {precision:.3f} | {recall:.3f} | {stated:.2f} ({low:.2f} to {high:.2f}) |",
        flush=True,
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=SETS, default="apoferritin")
    parser.add_argument("--labels", type=int, default=27)
    parser.add_argument("--on", type=int, default=3)
    parser.add_argument("--draws", type=int, default=2)
    chosen = parser.parse_args()
    if not (DATA / chosen.set).is_dir():
        print(f"no {DATA / chosen.set}: skipped (set HELIODOR_DATA)")
        return
    print("| set | labels | AP | threshold | F1 | precision | recall | stated precision |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in range(chosen.draws):
        measure(chosen.set, chosen.labels, chosen.on, seed)


if __name__ == "__main__":
    main()
