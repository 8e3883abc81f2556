"""How reliably training notices inverted contrast, a wrong diameter and labels at random.

    python -m benchmarks.accuracy.label_checks [DATA] [--split train|test] [--draws N]

Study, 2026-11. 100 labels of real sets are drawn several times. For the contrast: the mean rank
of the labels among the scores of the general model, on the micrographs and on inverted ones,
whether inverted contrast is reported for either, and whether random positions seem to fit. For
the diameter: in how many draws training questions half of the right diameter, the right one, and
twice the right one, which is also what a pixel size wrong by a factor of two looks like.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.conventions import to_working
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.label_assignment import assign_labels
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.particle_diameter import find_diameter_conflict
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.label_scores import measure_label_scores
from heliodor.picking.score_maps import open_working_images

#: Folder, labels and longest diameter in angstrom.
SETS = (
    ("apoferritin", "truth.star", 125.0),
    ("betagal", "manual_positive.star", 180.0),
    ("ribosome80s", "truth.star", 290.0),
    ("trpv1", "truth.star", 140.0),
    ("t20s", "weak_autopicks.star", 150.0),
)
LABELS, MICROGRAPHS = 100, 8


def read_images(
    folder: Path, labels: str, split: str, diameter_angstrom: float
) -> tuple[list[LabeledImage], float]:
    """Return the images with the most labels as training sees them, and their pixel size."""
    chosen = folder / f"{split}.star"
    sources = find_sources(chosen if chosen.exists() else folder / "micrographs")
    labeled, _ = assign_labels(read_picks(folder / labels), sources)
    model = load_model_for_picking(None, diameter_angstrom)
    working = open_working_images(model)
    images = []
    for item in sorted(labeled, key=lambda item: -len(item.xy_px))[:MICROGRAPHS]:
        image = working.get(item.source)
        xy = to_working(item.xy_px, image.original_shape, image.shape)
        images.append(LabeledImage(model.normalizer.apply(image.image), xy))
    return images, model.card.working_pixel_size_angstrom


def draw(images: list[LabeledImage], random: np.random.Generator) -> list[LabeledImage]:
    """Draw some of the labels of all images."""
    owner = np.repeat(np.arange(len(images)), [len(image.xy_px) for image in images])
    chosen = np.zeros(len(owner), dtype=bool)
    chosen[random.permutation(len(owner))[:LABELS]] = True
    return [replace(im, xy_px=im.xy_px[chosen[owner == i]]) for i, im in enumerate(images)]


def count_conflicts(
    folder: Path, labels: str, split: str, diameter_angstrom: float, draws: int
) -> str:
    """Return in how many draws a diameter is questioned."""
    try:
        images, size = read_images(folder, labels, split, diameter_angstrom)
    except BadInput:
        return "too coarse"
    number = 0
    for seed in range(draws):
        own = draw(images, np.random.default_rng(seed))
        number += find_diameter_conflict(own, size, diameter_angstrom) is not None
    return str(number)


def main(data: Path, split: str, draws: int) -> None:
    print(f"{split} splits, {LABELS} labels, {draws} draws\n")
    print(
        "| set | rank | rank, inverted | reported as they are | reported inverted | random fit |"
        " half the diameter questioned | right | twice |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, labels, diameter in SETS:
        images, size = read_images(data / name, labels, split, diameter)
        model = load_model_for_picking(None, diameter)
        ranks, wrong, noticed, fits = [], 0, 0, 0
        for seed in range(draws):
            random = np.random.default_rng(seed)
            own = draw(images, random)
            scores = measure_label_scores(model, own, size)
            ranks.append((scores.rank.mean(), scores.inverted_rank.mean()))
            wrong += scores.is_inverted
            swapped = replace(scores, rank=scores.inverted_rank, inverted_rank=scores.rank)
            noticed += swapped.is_inverted
            anywhere = [
                replace(im, xy_px=random.uniform(0, np.array(im.shape[::-1]) - 1, im.xy_px.shape))
                for im in own
            ]
            fits += measure_label_scores(model, anywhere, size).fits
        rank, negative = np.mean(ranks, axis=0)
        conflicts = [
            count_conflicts(data / name, labels, split, diameter * factor, draws)
            for factor in (0.5, 1.0, 2.0)
        ]
        print(
            f"| {name} | {rank:.2f} | {negative:.2f} | {wrong} | {noticed} | {fits} |"
            f" {' | '.join(conflicts)} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--draws", type=int, default=5)
    given = parser.parse_args()
    main(given.data, given.split, given.draws)
