from __future__ import annotations

import numpy as np
import pytest

from heliodor.errors import BadInput
from heliodor.reconstruction.classification import ClassAssignment
from heliodor.reconstruction.initial_model import FEWEST_IMAGES, MOST_IMAGES, choose_images
from heliodor.reconstruction.particles import PICK, RANDOM, ImageTable, Positions


def classified(count: int, scored: bool = True) -> tuple[ImageTable, ClassAssignment]:
    """Return images of which every third is at a random position, in three classes."""
    rng = np.random.default_rng(0)
    kind = np.where(np.arange(count) % 3 == 2, RANDOM, PICK)
    score = rng.normal(size=count) if scored else np.full(count, np.nan)
    positions = Positions(np.zeros(count, dtype=np.intp), np.zeros((count, 2)), kind, score)
    number = 1 + rng.integers(0, 3, count)
    assignment = ClassAssignment(np.arange(count), number, np.zeros((3, 4, 4)))
    return ImageTable({}, {}, positions), assignment


def test_the_surest_picks_in_classes_of_particles_are_chosen() -> None:
    images, assignment = classified(12_000)
    rows = choose_images(images, [assignment], [np.array([0.1, 0.9, np.nan])], seed=0)
    usable = (images.positions.kind == PICK) & (assignment.number == 1)
    assert len(rows) == MOST_IMAGES < usable.sum()
    assert usable[rows].all()
    rest = np.setdiff1d(np.flatnonzero(usable), rows)
    assert images.positions.score[rest].max() <= images.positions.score[rows].min()


def test_without_scores_the_seed_chooses() -> None:
    images, assignment = classified(12_000, scored=False)
    junk = [np.array([0.1, 0.2, 0.9])]
    one, again, other = (choose_images(images, [assignment], junk, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert len({*one}) == MOST_IMAGES


def test_too_few_images_are_refused() -> None:
    images, assignment = classified(FEWEST_IMAGES)
    with pytest.raises(BadInput, match="too few for an initial model"):
        choose_images(images, [assignment], [np.zeros(3)], seed=0)
