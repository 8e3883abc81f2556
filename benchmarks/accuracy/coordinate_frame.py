"""How reliably the coordinate frame of labels is detected on real micrographs.

    python -m benchmarks.accuracy.coordinate_frame [DATA]

Study, 2026-11. For each number of labels and each planted frame: the fit of the right frame and
of the labels unchanged, and in how many draws of labels the right frame, another one or none was
detected. Then the same for random positions, where every detected frame is a false alarm.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.frame_detection import (
    UNCHANGED,
    Frame,
    ImageCoordinates,
    judge_frame,
)
from heliodor.data.coordinates.label_assignment import assign_labels
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.sources import find_sources

SETS = (("betagal", "manual_positive.star"), ("t20s", "weak_autopicks.star"))
PLANTED = {
    "none": (UNCHANGED, UNCHANGED),
    "y flip": (Frame(flip_y=True), Frame(flip_y=True)),
    "swap": (Frame(swap=True), Frame(swap=True)),
    "double": (Frame(scale=2.0), Frame(scale=0.5)),
}
VIEWS, DRAWS = 8, 5


def views(folder: Path, labels: str) -> list[ImageCoordinates]:
    """Return the micrographs with most labels."""
    labelled, _ = assign_labels(read_picks(folder / labels), find_sources(folder / "micrographs"))
    fullest = sorted(labelled, key=lambda item: -len(item.xy_px))[:VIEWS]
    images = [read_micrograph(item.source.path).image for item in fullest]
    return [
        ImageCoordinates(image, (image.shape[0], image.shape[1]), item.xy_px)
        for image, item in zip(images, fullest, strict=True)
    ]


def drawn(
    scene: list[ImageCoordinates], number: int, random: np.random.Generator
) -> Iterator[ImageCoordinates]:
    """Draw some of the labels of all micrographs."""
    total = sum(len(view.xy_px) for view in scene)
    chosen = np.zeros(total, dtype=bool)
    chosen[random.permutation(total)[:number]] = True
    start = 0
    for view in scene:
        own = chosen[start : start + len(view.xy_px)]
        start += len(view.xy_px)
        yield replace(view, xy_px=view.xy_px[own])


def main(data: Path) -> None:
    print("| set | labels | planted | fit, right frame | fit, as given | right | other | none |")
    print("|---|---|---|---|---|---|---|---|")
    for name, labels in SETS:
        scene = views(data / name, labels)
        for number in (8, 16, 32, 100, 1000):
            for planted, (forth, back) in PLANTED.items():
                fits, given, right, other = [], [], 0, 0
                for seed in range(DRAWS):
                    own = [
                        replace(view, xy_px=forth.apply(view.xy_px, view.original_shape))
                        for view in drawn(scene, number, np.random.default_rng(seed))
                    ]
                    verdict = judge_frame(own)
                    fits.append(verdict.fit)
                    given.append(verdict.fit_unchanged)
                    named = verdict.is_decided and verdict.displacement_px is None
                    right += named and verdict.frame == back
                    other += (named and verdict.frame != back) or (verdict.is_wrong and not named)
                print(
                    f"| {name} | {number} | {planted} | {np.median(fits):.1f} |"
                    f" {np.median(given):.1f} | {right} | {other} | {DRAWS - right - other} |",
                    flush=True,
                )
        for number in (8, 100):
            alarms, fits = 0, []
            for seed in range(4 * DRAWS):
                random = np.random.default_rng(seed)
                own = [
                    replace(
                        v,
                        xy_px=random.uniform(0, 1, (max(1, number // VIEWS), 2))
                        * (np.array(v.original_shape[::-1]) - 1),
                    )
                    for v in scene
                ]
                verdict = judge_frame(own)
                alarms += verdict.is_wrong
                fits.append(verdict.fit)
            print(
                f"| {name} | {number} at random | | {np.median(fits):.1f} (most {max(fits):.1f}) |"
                f" | | {alarms} | {4 * DRAWS - alarms} |",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
