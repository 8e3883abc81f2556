"""Classes of crops without RELION."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.micrographs.ctf import CtfParameters, flip_phases
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.picking.crop_groups import DIAMETER_PX, SIDE_PX, cut_crops
from heliodor.reconstruction import crop_classes
from heliodor.reconstruction.crop_classes import (
    cut_position_crops,
    draw_rows,
    group_images,
)
from heliodor.reconstruction.junk import ClassCounts
from heliodor.reconstruction.micrograph_table import JudgedMicrograph, MicrographTable
from heliodor.reconstruction.particles import PICK, REVERSED, Positions

SHAPE, PIXEL, DIAMETER = (200, 300), 5.0, 120.0


def positions(micrograph: list[int], seed: int = 0) -> Positions:
    xy_px = np.random.default_rng(seed).uniform(40, 160, size=(len(micrograph), 2))
    return Positions.of_kind(
        PICK, np.array(micrograph), np.round(xy_px), np.arange(len(micrograph), dtype=float)
    )


def table_of(images: list[np.ndarray]) -> MicrographTable:
    sources = [
        Source(f"{number}.mrc", Path(f"{number}.mrc"), f"{number}", PIXEL, image)
        for number, image in enumerate(images)
    ]
    return MicrographTable([JudgedMicrograph(one, SHAPE, PIXEL) for one in sources], [])


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def test_crops_are_flipped_only_where_the_ctf_is_known() -> None:
    images, ctf = [noise(1), noise(2)], CtfParameters(20000, 19000, 30, 300, 2.7, 0.1)
    found = positions([0, 0, 1])
    crops, rows, failures = cut_position_crops(
        found, table_of(images), DIAMETER, {"1.mrc": ctf}, threads=2
    )
    assert crops.shape == (3, SIDE_PX, SIDE_PX)
    assert rows.tolist() == [0, 1, 2]
    assert not failures
    # These micrographs have the pixel size of the crops, so that nothing is resampled.
    assert DIAMETER / DIAMETER_PX == PIXEL
    plain = cut_crops(images[0], PIXEL, found.xy_px[:2], DIAMETER)
    np.testing.assert_allclose(crops[:2], plain, atol=1e-5)
    flipped = cut_crops(flip_phases(images[1], PIXEL, ctf), PIXEL, found.xy_px[2:], DIAMETER)
    np.testing.assert_allclose(crops[2:], flipped, atol=1e-5)
    assert np.abs(crops[2:] - cut_crops(images[1], PIXEL, found.xy_px[2:], DIAMETER)).max() > 0.1


def test_crops_at_reversed_positions_have_reversed_contrast() -> None:
    found = positions([0, 0])
    reversed_found = replace(found, kind=np.array([REVERSED, PICK]))
    table = table_of([noise(1)])
    plain, _, _ = cut_position_crops(found, table, DIAMETER, {})
    mixed, _, _ = cut_position_crops(reversed_found, table, DIAMETER, {})
    np.testing.assert_array_equal(mixed, [-plain[0], plain[1]])


def test_a_micrograph_that_cannot_be_used_is_left_out() -> None:
    images = [noise(1), np.ones(SHAPE, dtype=np.float32)]
    crops, rows, failures = cut_position_crops(
        positions([0, 1, 1, 0]), table_of(images), DIAMETER, {}
    )
    assert rows.tolist() == [0, 1]
    assert len(crops) == 2
    assert [failure.name for failure in failures] == ["1.mrc"]
    with pytest.raises(BadInput, match="none of the micrographs"):
        cut_position_crops(positions([0]), table_of(images[1:]), DIAMETER, {})


def test_positions_are_drawn_only_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw_rows(60, 0).tolist() == [*range(60)]
    monkeypatch.setattr(crop_classes, "MOST_IMAGES", 20)
    drawn = draw_rows(60, 0)
    assert len(drawn) == 20
    assert (np.diff(drawn) > 0).all()
    assert drawn.max() > 40


def test_random_positions_gather_in_other_groups_than_particles() -> None:
    rng = np.random.default_rng(3)
    steps = np.arange(SIDE_PX) - SIDE_PX // 2
    disc = np.hypot(steps[:, None], steps) < DIAMETER_PX / 2
    crops = rng.normal(size=(600, SIDE_PX, SIDE_PX)).astype(np.float32)
    crops[:300] -= 0.3 * disc  # particles are dark
    (found,) = group_images(crops, seed=1)
    counts = ClassCounts.count(found.number[:400], found.number[400:], len(found.averages))
    assert counts.estimate(counts.picks).value == pytest.approx(0.25, abs=0.06)
    junk = counts.junk_of_each()
    # They are bright in the averages.
    brightness = [image[disc].mean() - image[:, :4].mean() for image in found.averages]
    assert np.mean([b for b, j in zip(brightness, junk, strict=True) if j < 0.5]) > 40
    again = group_images(crops, seed=1)[0]
    assert (again.number == found.number).all()
