"""Contamination: its score maps, and the masks that are made of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from heliodor.conventions import Image, Shape
from heliodor.picking.contamination import LEFT_OUT, ContaminationMask, ScoredCenters
from heliodor.picking.scoring import (
    score_image,
    score_lattice,
    score_smoothly,
    score_with_contaminants,
)
from helpers.contamination import Mask, blobs, both_heads, masks, names, plain
from helpers.networks import noise


@settings(max_examples=15)
@given(
    name=names,
    step=st.sampled_from([1, 2, 4]),
    shape=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    seed=st.integers(0, 99),
)
def test_the_particles_score_is_the_same_to_the_last_bit(
    name: str, step: int, shape: Shape, seed: int
) -> None:
    network, image = both_heads(name, 16, seed), noise(shape, seed)
    step = min(step, network.stride)
    maps = score_with_contaminants(network, image, step)
    bare = score_with_contaminants(plain(network), image, step)
    assert bare.contaminant is None
    assert maps.particle.tobytes() == bare.particle.tobytes()
    assert maps.particle.tobytes() == score_smoothly(plain(network), image, step).tobytes()
    # And the other is what the same classifier says in the place of the first.
    assert maps.contaminant is not None
    assert network.contaminant is not None
    network.classifier = network.contaminant
    expected = score_image(network, image)[:: network.stride, :: network.stride]
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(maps.contaminant, expected, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bands_of_threads_give_one_lattice(threads: int) -> None:
    network, image = both_heads("resnet8", 2), noise((3 * 128 + 7, 50), 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        maps = score_with_contaminants(network, image, 1)
    finally:
        torch.set_num_threads(before)
    assert maps.contaminant is not None
    assert maps.contaminant.shape == (-(-len(image) // network.stride), -(-50 // network.stride))
    assert network.contaminant is not None
    network.classifier = network.contaminant
    expected = score_lattice(network, image, network.stride)
    np.testing.assert_allclose(maps.contaminant, expected, rtol=0, atol=2e-4)


@given(mask=masks, pixel=st.floats(0.5, 40), data=st.data())
def test_distances_are_those_on_a_fine_grid(mask: Mask, pixel: float, data: st.DataObject) -> None:
    areas = ContaminationMask(mask, pixel, 0.5)
    fine = 8  # pixels of the grid in one of the mask, whose centers are never on an edge
    grid = np.kron(mask, np.ones((fine, fine), np.bool_))
    row = data.draw(st.integers(0, len(grid) - 1))
    column = data.draw(st.integers(0, grid.shape[1] - 1))
    xy = (np.array([[column, row]]) + 0.5) / fine - 0.5
    inside = bool(grid[row, column])
    assert areas.contains(xy * pixel).tolist() == [inside]
    (found,) = areas.distance_angstrom(xy * pixel) / pixel
    other = grid != inside
    if not other.any():
        assert found == (-math.inf if inside else math.inf)
        return
    # From the center of a pixel of the grid to the nearest one on the other side, half of it less.
    exact = ndimage.distance_transform_edt(~other)[row, column] / fine
    assert abs(found) >= exact - 1.5 / fine
    assert abs(found) <= exact + (math.sqrt(0.5) - 0.5) + 0.5 / fine
    assert (found < 0) == inside or found == 0


@given(mask=masks)
def test_distances_at_the_points_of_the_lattice_are_exact(mask: Mask) -> None:
    places = np.argwhere(np.ones_like(mask))[:, ::-1] * 20.0
    found = ContaminationMask(mask, 20.0, 0.5).distance_angstrom(places).reshape(mask.shape)
    if not mask.any():
        assert (found == np.inf).all()
    elif mask.all():
        assert (found == -np.inf).all()
    else:
        outside, inside = (ndimage.distance_transform_edt(own) for own in (~mask, mask))
        expected = np.where(mask, -(inside - 0.5), outside - 0.5) * 20.0
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(mask=masks, diameter=st.floats(10, 300), data=st.data())
def test_no_area_and_no_hole_is_smaller_than_a_particle(
    mask: Mask, diameter: float, data: st.DataObject
) -> None:
    strength = data.draw(st.floats(0.1, 50))
    log_odds = np.where(mask, strength, -strength).astype(np.float32)
    found = ContaminationMask.from_log_odds(log_odds, 20.0, diameter)
    least = math.pi / 4 * (diameter / 20.0) ** 2
    for side in (found.mask, ~found.mask):
        areas, number = ndimage.label(side)
        sizes = np.bincount(areas.ravel())[1 : number + 1]
        # One that fills the whole micrograph has no other side to belong to.
        assert number == 0 or sizes.min() >= least or side.all()
    assert found.fraction == found.mask.mean()
    assert not ContaminationMask.from_log_odds(
        np.full_like(log_odds, -strength), 20.0, diameter
    ).mask.any()


@given(mask=masks)
def test_without_size_or_noise_the_mask_is_where_a_contaminant_is_likely(mask: Mask) -> None:
    log_odds = np.where(mask, 1.0, -4.0).astype(np.float32)
    # A particle far smaller than a pixel: nothing is smoothed, nothing too small.
    found = ContaminationMask.from_log_odds(log_odds, 20.0, 0.1)
    np.testing.assert_array_equal(found.mask, mask)
    # What is possible counts where it touches what is likely, and nowhere else.
    grown = np.where(mask, log_odds, -1.5).astype(np.float32)
    assert ContaminationMask.from_log_odds(grown, 20.0, 0.1).mask.all() == mask.any()
    apart = np.full((3, 9), -4.0, np.float32)
    apart[1, 1], apart[1, 2], apart[1, 6] = 1.0, -1.5, -1.5
    assert np.argwhere(ContaminationMask.from_log_odds(apart, 20.0, 0.1).mask).tolist() == [
        [1, 1],
        [1, 2],
    ]
    # Even odds count.
    assert ContaminationMask.from_log_odds(np.zeros((3, 4), np.float32), 20.0, 0.1).mask.all()


@given(mask=masks, seed=st.integers(0, 99))
def test_dead_borders_are_no_part_of_it(mask: Mask, seed: int) -> None:
    alive = np.zeros_like(mask)
    alive[seed % 3 :, : mask.shape[1] - seed % 2] = True
    found = ContaminationMask.from_log_odds(
        np.where(mask, 5.0, -5.0).astype(np.float32), 20.0, 40.0, alive
    )
    assert not (found.mask & ~alive).any()
    bad, there = found.mask.sum(), alive.sum()
    assert found.fraction == (bad / there if there else 0.0)


@given(mask=masks, pixel=st.floats(0.5, 40), fraction=st.floats(0, 1))
def test_what_a_journal_keeps_is_all(mask: Mask, pixel: float, fraction: float) -> None:
    areas = ContaminationMask(mask, pixel, fraction)
    again = ContaminationMask.from_dict(json.loads(json.dumps(areas.as_dict())))
    np.testing.assert_array_equal(again.mask, mask)
    assert (again.pixel_size_angstrom, again.fraction) == (pixel, fraction)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [0, 4]},
        {"shape": [2**20, 2**20]},
        {"shape": [5, 40]},
        {"shape": 3},
        {"mask": "AAAA"},
        {"mask": 7},
        {"fraction": "x"},
    ],
)
def test_a_damaged_mask_is_refused(change: dict[str, Any]) -> None:
    values = ContaminationMask(blobs((9, 9), 1), 20.0, 0.5).as_dict()
    with pytest.raises((ValueError, LookupError, TypeError)):
        ContaminationMask.from_dict(values | change)


LATTICE, DIAMETER = 20.0, 100.0


def square(strength: float, side: int = 40) -> Image:
    """Log-odds of a contaminant: a square in the middle of clean ice."""
    log_odds = np.full((side, side), -6.0, np.float32)
    log_odds[side // 4 : -side // 4, side // 4 : -side // 4] = strength
    return log_odds


def crowd(log_odds: Image, score: float) -> ScoredCenters:
    """Candidates everywhere, a diameter apart in rows and columns."""
    places = np.arange(0, log_odds.shape[0] * LATTICE, DIAMETER)
    xy = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
    return ScoredCenters(xy, np.full(len(xy), score))


@given(seed=st.integers(0, 999), scale=st.floats(0.5, 12), score=st.floats(-5, 15))
def test_a_candidate_that_outweighs_the_contaminant_is_never_lost(
    seed: int, scale: float, score: float
) -> None:
    random = np.random.default_rng(seed)
    log_odds = (scale * ndimage.gaussian_filter(random.standard_normal((30, 30)), 3) * 8).astype(
        np.float32
    )
    xy = random.uniform(0, 29 * LATTICE, (25, 2))
    found = ContaminationMask.from_log_odds(
        log_odds, LATTICE, DIAMETER, None, ScoredCenters(xy, np.full(25, score))
    )
    assert found.lowered_by is not None
    # No candidate loses more than the largest log-odds of a contaminant, and what is left of them
    # is in order.
    most = float(np.logaddexp(0.0, max(0.0, float(log_odds.max()))))
    order, weighed = found.weigh(xy, np.full(25, score), -math.inf)
    assert sorted(order) == list(range(25))
    assert (np.diff(weighed) <= 0).all()
    assert (weighed >= score - most - 1e-4).all()
    assert (weighed <= score).all()
    outside = ~found.contains(xy)
    assert (weighed[np.isin(order, np.flatnonzero(outside))] == score).all()


@given(low=st.floats(0, 10), more=st.floats(0, 10), score=st.floats(-6, 10))
def test_more_evidence_of_a_contaminant_lowers_more(low: float, more: float, score: float) -> None:
    center = np.array([[19.5 * LATTICE, 19.5 * LATTICE]])
    lowered = []
    for strength in (low, low + more):
        found = ContaminationMask.from_log_odds(square(strength), LATTICE, DIAMETER)
        lowered.append(found.weigh(center, np.array([score]), -math.inf)[1][0])
    assert lowered[1] <= lowered[0] + 1e-4
    # And a higher score stays higher.
    found = ContaminationMask.from_log_odds(square(low), LATTICE, DIAMETER)
    order, weighed = found.weigh(center.repeat(2, 0), np.array([score, score + 1]), -math.inf)
    assert order.tolist() == [1, 0]
    assert weighed[0] - weighed[1] == pytest.approx(1.0)


def test_candidates_that_score_well_are_no_contamination() -> None:
    for strength in (0.5, 2.0, 4.0):
        log_odds = square(strength)
        alone = ContaminationMask.from_log_odds(log_odds, LATTICE, DIAMETER)
        assert alone.fraction == pytest.approx(0.25, abs=0.06)
        fractions = [
            ContaminationMask.from_log_odds(
                log_odds, LATTICE, DIAMETER, None, crowd(log_odds, score)
            ).fraction
            for score in (-6.0, 0.0, 3.0, 8.0)
        ]
        assert fractions[0] == pytest.approx(alone.fraction, abs=0.02)
        assert fractions == sorted(fractions, reverse=True)
        assert fractions[-1] == 0.0


def test_an_area_does_not_extend_to_most_of_the_particles() -> None:
    # Weak evidence all over the micrograph, as between crowded particles, and one real area.
    log_odds = np.full((60, 60), -2.0, np.float32)
    log_odds[20:32, 20:32] = 4.0
    assert ContaminationMask.from_log_odds(log_odds, LATTICE, DIAMETER).fraction == 1.0
    found = ContaminationMask.from_log_odds(
        log_odds, LATTICE, DIAMETER, None, crowd(log_odds, -1.0)
    )
    assert found.mask[22:30, 22:30].all()
    assert found.fraction <= 0.25


def test_only_where_hardly_a_candidate_remains_an_area_is_left_out() -> None:
    for strength in (2.0, LEFT_OUT + 1):
        found = ContaminationMask.from_log_odds(square(strength), LATTICE, DIAMETER)
        sure = strength > LEFT_OUT
        assert found.left_out_fraction == (found.fraction if sure else 0.0)
        center = np.array([[19.5 * LATTICE, 19.5 * LATTICE]])
        assert found.is_left_out(center).tolist() == [sure]
    mine = ContaminationMask(square(1.0) > 0, LATTICE, 0.25)
    assert mine.left_out_fraction == 0.25
    order, _ = mine.weigh(np.array([[400.0, 400.0], [0.0, 0.0]]), np.array([9.0, 1.0]), -6.0)
    assert order.tolist() == [1]  # a user's own mask is certain


def test_discs_are_added_to_areas() -> None:
    alive = np.ones((40, 40), np.bool_)
    alive[:2] = False
    clean = ContaminationMask.from_log_odds(square(-6.0), LATTICE, DIAMETER, alive)
    assert clean.with_discs(np.zeros((1, 2)), np.zeros(1), DIAMETER, alive) is clean
    # At a dead border, in clean ice, and overlapping it.
    xy = np.array([[100.0, 20.0], [400.0, 400.0], [440.0, 400.0]])
    found = clean.with_discs(xy, np.array([2.0, 7.0, 3.0]), DIAMETER, alive)
    order, weighed = found.weigh(xy, np.full(3, 1.0), -math.inf)
    assert order.tolist() == [0, 1, 2]
    np.testing.assert_allclose(weighed, [1.0, -6.0, -6.0])  # nothing is lowered in dead borders
    assert found.is_left_out(xy).tolist() == [False, True, True]
    assert not found.contains(np.array([[400.0 - DIAMETER, 400.0]]))[0]
    assert found.fraction == found.mask.sum() / alive.sum()
    distance = np.linalg.norm(np.argwhere(found.mask)[:, ::-1] * LATTICE - xy[1], axis=1)
    assert distance[np.argwhere(found.mask)[:, 0] > 10].max() <= DIAMETER / 2 + 40.0
    # In an area, both lower.
    area = ContaminationMask.from_log_odds(square(3.0), LATTICE, DIAMETER)
    both = area.with_discs(xy[1:2], np.array([2.0]), DIAMETER, np.ones_like(alive))
    assert area.lowered_by is not None
    assert both.lowered_by is not None
    assert both.lowered_by[20, 20] == pytest.approx(area.lowered_by[20, 20] + 2.0)
    assert (both.mask == area.mask).all()


def test_a_certain_mask_gets_no_discs() -> None:
    mine = ContaminationMask(square(1.0) > 0, LATTICE, 0.25)
    with pytest.raises(ValueError, match="certain"):
        mine.with_discs(np.zeros((1, 2)), np.ones(1), DIAMETER, np.ones((40, 40), np.bool_))
