"""How reliably wrong coordinates are detected on real micrographs, and right ones accepted.

    python -m benchmarks.accuracy.coordinate_frame [DATA] [--split train|test] [--draws N]

Study, 2026-11. Labels of real sets are drawn at random several times, and changed in known ways:
not at all, flipped, swapped, displaced by half a box, scaled, taken from another micrograph, or
replaced by random positions. Printed are the number of draws that are accepted, refused with the
right change, refused with another one, and reported to be no better than random positions. Each
micrograph is measured once.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.frame_detection import (
    FACTORS,
    MOST_PICKS,
    MOST_VIEWS,
    UNCHANGED,
    Frame,
    FrameVerdict,
    MeasuredView,
    judge_measured,
)
from heliodor.data.coordinates.label_assignment import assign_labels
from heliodor.data.coordinates.ring_averages import RingMaps
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.sources import find_sources

#: Folder, labels, and half of a box around the particle in pixels. T20S has no split, and its
#: labels are automatic picks, many of them wrong.
SETS = (
    ("apoferritin", "truth.star", 31),
    ("apoferritin", "second_annotator.star", 31),
    ("betagal", "manual_positive.star", 38),
    ("betagal", "dense.star", 38),
    ("ribosome80s", "truth.star", 40),
    ("trpv1", "truth.star", 23),
    ("t20s", "weak_autopicks.star", 14),
)
NUMBERS = (10, 30, 100, 200, None)
FRAMES = {
    "nothing": UNCHANGED,
    "y flip": Frame(flip_y=True),
    "x flip": Frame(flip_x=True),
    "swap": Frame(swap=True),
}
SCALED = 100


@dataclass(frozen=True)
class Scene:
    """The micrographs of a set with the most labels, measured."""

    name: str
    views: list[MeasuredView]
    half_box_px: int

    @classmethod
    def read(cls, folder: Path, labels: str, half_box_px: int, split: str) -> Scene:
        """Read a set; all of its micrographs if it has no split."""
        chosen = folder / f"{split}.star"
        sources = find_sources(chosen if chosen.exists() else folder / "micrographs")
        labeled, _ = assign_labels(read_picks(folder / labels), sources)
        fullest = sorted(labeled, key=lambda item: -len(item.xy_px))[:MOST_VIEWS]
        views = []
        for item in fullest:
            image = read_micrograph(item.source.path).image
            shape = image.shape[0], image.shape[1]
            views.append(MeasuredView(RingMaps.from_image(image), shape, item.xy_px))
        return cls(f"{folder.name} {Path(labels).stem}", views, half_box_px)

    def draw(self, number: int | None, random: np.random.Generator) -> list[MeasuredView]:
        """Draw some of the labels of all micrographs."""
        owner = np.repeat(np.arange(len(self.views)), [len(view.xy_px) for view in self.views])
        chosen = np.zeros(len(owner), dtype=bool)
        chosen[random.permutation(len(owner))[:number]] = True
        return [
            replace(view, xy_px=view.xy_px[chosen[owner == i]][:MOST_PICKS])
            for i, view in enumerate(self.views)
            if chosen[owner == i].any()
        ]


def count_verdicts(verdicts: Sequence[FrameVerdict], right: Frame | None) -> Counter[str]:
    """Count verdicts; `right` is the frame to be named, None for a displacement."""
    counts: Counter[str] = Counter()
    for verdict in verdicts:
        if not verdict.is_wrong:
            counts["chance" if verdict.is_chance else "accepted"] += 1
            continue
        displaced = verdict.displacement_px is not None
        named = displaced if right is None else not displaced and is_same(verdict.frame, right)
        counts["right" if named else "other"] += 1
    return counts


def is_same(frame: Frame, other: Frame) -> bool:
    """Return whether two frames are the same but for rounding."""
    return replace(frame, scale=1.0) == replace(other, scale=1.0) and bool(
        np.isclose(frame.scale, other.scale)
    )


def judge_draws(
    scene: Scene,
    number: int | None,
    draws: int,
    change: Callable[[MeasuredView, int, np.random.Generator], FloatArray],
) -> list[FrameVerdict]:
    """Judge several draws of labels, each changed; all labels are judged once."""
    verdicts = []
    for seed in range(1 if number is None else draws):
        random = np.random.default_rng(seed)
        views = scene.draw(number, random)
        verdicts.append(
            judge_measured([replace(v, xy_px=change(v, i, random)) for i, v in enumerate(views)])
        )
    return verdicts


def list_changes(scene: Scene) -> Iterator[tuple[str, Frame | None, Callable[..., FloatArray]]]:
    """Yield what is done to labels, with the frame that should be named (None: displaced)."""

    def apply(frame: Frame) -> Callable[..., FloatArray]:
        return lambda view, _index, _random: frame.apply(view.xy_px, view.original_shape)

    for name, frame in FRAMES.items():
        yield name, frame, apply(frame)
    yield "corners of boxes", None, lambda v, _i, _r: v.xy_px - scene.half_box_px

    def take_others(view: MeasuredView, _: int, random: np.random.Generator) -> FloatArray:
        others = [v for v in scene.views if v.maps is not view.maps]
        xy = others[int(random.integers(len(others)))].xy_px
        return xy[random.permutation(len(xy))[: len(view.xy_px)]]

    yield "of other micrographs", UNCHANGED, take_others
    yield (
        "at random",
        UNCHANGED,
        lambda v, _i, r: r.uniform(0, np.array(v.original_shape[::-1]) - 1, v.xy_px.shape),
    )


def main(data: Path, split: str, draws: int) -> None:
    scenes = [
        Scene.read(data / name, labels, half_box_px, split) for name, labels, half_box_px in SETS
    ]
    print(f"{split} splits, {draws} draws\n")
    print("| set | labels | changed | median fit | as given | accepted | right | other | chance |")
    print("|---|---|---|---|---|---|---|---|---|")
    for scene in scenes:
        for number in NUMBERS:
            for name, right, change in list_changes(scene):
                found = judge_draws(scene, number, draws, change)
                counts = count_verdicts(found, right)
                columns = [counts[key] for key in ("accepted", "right", "other", "chance")]
                fit, given = (
                    np.median([getattr(v, key) for v in found]) for key in ("fit", "fit_unchanged")
                )
                print(
                    f"| {scene.name} | {'all' if number is None else number} | {name} |"
                    f" {fit:.1f} | {given:.1f} | {' | '.join(map(str, columns))} |",
                    flush=True,
                )
    print(f"\n{SCALED} labels, scaled: draws in which the factor is named\n")
    scales = [*FACTORS[::-1], *(1 / factor for factor in FACTORS)]
    print(f"| set | {' | '.join(str(Frame(scale=1 / scale))[10:] for scale in scales)} |")
    print("|---" * (len(scales) + 1) + "|")
    for scene in scenes:
        cells = []
        for scale in scales:
            planted = Frame(scale=1 / scale)

            def change(
                view: MeasuredView, _: int, __: np.random.Generator, frame: Frame = planted
            ) -> FloatArray:
                return frame.apply(view.xy_px, view.original_shape)

            found = judge_draws(scene, SCALED, draws, change)
            cells.append(count_verdicts(found, Frame(scale=scale))["right"])
        print(f"| {scene.name} | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    main(given.data, given.split, given.draws)
