"""Candidates that are too dark to be particles."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.conventions import FloatArray, Image
from heliodor.picking.dark_candidates import FEWEST, doubt_dark_candidates

DIAMETER = 20.0


def picture(darkness: FloatArray, noise: float = 1.0) -> tuple[Image, FloatArray]:
    """Discs of the particle's diameter in a row, with noise, and their centers."""
    random = np.random.default_rng(0)
    xy = np.stack([30.0 + 50.0 * np.arange(len(darkness)), np.full(len(darkness), 40.0)], axis=1)
    rows, columns = np.mgrid[:80, : 60 + 50 * len(darkness)]
    image = noise * random.standard_normal(rows.shape)
    for (x, y), own in zip(xy, darkness, strict=True):
        image[np.hypot(columns - x, rows - y) <= DIAMETER / 2] -= own
    return image.astype(np.float32), xy


def test_what_is_many_times_as_dark_is_doubted_and_nothing_else() -> None:
    darkness = np.array([1.0, 0.7, 1.2, 9.0, 1.0, 1.4, 0.9, 1.1, 6.0, 1.0])
    image, xy = picture(darkness)
    doubt = doubt_dark_candidates(image, xy, np.ones(len(xy)), DIAMETER)
    np.testing.assert_array_equal(doubt > 0, darkness > 5)
    assert doubt[3] > doubt[8]  # the darker, the more
    assert doubt[3] > 6.0


def test_faint_candidates_say_nothing_of_particles_but_are_doubted_as_well() -> None:
    darkness = np.array([1.0, 1.2, 0.9, 1.1, 1.0, 9.0, *np.full(30, 0.1)])
    image, xy = picture(darkness)
    score = np.where(darkness < 0.5, -3.0, 2.0)
    score[5] = -1.0
    doubt = doubt_dark_candidates(image, xy, score, DIAMETER)
    np.testing.assert_array_equal(np.flatnonzero(doubt), [5])
    # Among the faint ones alone, each particle would be too dark.
    assert (doubt_dark_candidates(image, xy, np.ones(len(xy)), DIAMETER)[:5] > 0).all()


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_scale_of_the_image_does_not_matter(scale: float) -> None:
    image, xy = picture(np.array([1.0, 0.8, 1.2, 9.0, 1.0, 1.1]))
    score = np.ones(len(xy))
    one = doubt_dark_candidates(image, xy, score, DIAMETER)
    other = doubt_dark_candidates(np.float32(scale) * image + 3, xy, score, DIAMETER)
    np.testing.assert_allclose(other, one, rtol=1e-3)


def test_candidates_are_compared_with_the_better_half() -> None:
    darkness = np.array([*np.full(6, 1.0), *np.full(6, 4.0)])
    image, xy = picture(darkness)
    score = np.where(darkness > 2, 0.5, 3.0)
    doubt = doubt_dark_candidates(image, xy, score, DIAMETER)
    np.testing.assert_array_equal(doubt > 0, darkness > 2)
    # If the dark ones score better, they are the particles.
    assert not doubt_dark_candidates(image, xy, 3.5 - score, DIAMETER).any()


def test_few_candidates_are_compared_with_nothing() -> None:
    image, xy = picture(np.array([*np.ones(FEWEST), 9.0]))
    score = np.ones(len(xy))
    assert doubt_dark_candidates(image, xy, score, DIAMETER)[-1] > 0
    score[1:3] = -1.0
    assert not doubt_dark_candidates(image, xy, score, DIAMETER).any()
    assert doubt_dark_candidates(image, np.empty((0, 2)), np.empty(0), DIAMETER).shape == (0,)


def test_bright_particles_are_not_compared() -> None:
    image, xy = picture(np.array([-1.0, -0.8, -1.2, 9.0, -1.0, -1.1]))
    assert not doubt_dark_candidates(image, xy, np.ones(len(xy)), DIAMETER).any()


def test_a_candidate_beyond_the_edge_is_taken_at_the_edge() -> None:
    image, xy = picture(np.ones(6))
    xy[0] = [-0.6, -0.6]
    assert doubt_dark_candidates(image, xy, np.ones(6), DIAMETER).shape == (6,)
