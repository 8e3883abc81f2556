"""The contamination of micrographs with filaments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heliodor.picking.filaments.batch import TracedMicrograph
from heliodor.picking.filaments.codec import FILAMENTS
from heliodor.picking.filaments.contamination import describe_contamination
from heliodor.picking.filaments.width import profile_positions
from helpers.filament_maps import make_maps

SHAPE, PIXEL, WIDTH = (260, 320), 3.0, 60.0
MAPS = make_maps([], SHAPE, WIDTH / PIXEL)


def test_areas_that_are_likelier_contaminated_than_not_are_shown_but_no_specks() -> None:
    contaminant = np.full(MAPS.axis.shape, -3.0)
    step = MAPS.spacing_px
    rows, columns = np.indices(contaminant.shape) * step + MAPS.first_px[0]
    contaminant[columns < 100] = 2.0
    contaminant[(rows > 200) & (columns > 250)] = -0.1
    contaminant[20, 50] = 5.0
    maps = replace(MAPS, contaminant=contaminant)
    found = describe_contamination(maps, None, SHAPE, PIXEL, WIDTH)
    assert found is not None
    assert found.pixel_size_angstrom == pytest.approx(step * PIXEL)
    assert found.fraction == pytest.approx(100 / SHAPE[1], abs=0.02)
    x = np.arange(0.0, SHAPE[1], 4.0)
    inside = found.contains(np.column_stack([x, np.full(len(x), 100.0)]) * PIXEL)
    assert inside[x < 100 - step].all()
    assert not inside[x > 100 + step].any()
    for count, side in zip(found.mask.shape, SHAPE, strict=True):
        assert abs(count * step - side) <= 1.5 * step


def test_what_the_user_gives_is_shown_as_it_is() -> None:
    maps = replace(MAPS, contaminant=np.full(MAPS.axis.shape, 5.0))
    blocked = np.zeros(MAPS.axis.shape, bool)
    blocked[10, 10] = True
    found = describe_contamination(maps, blocked, SHAPE, PIXEL, WIDTH)
    assert found is not None
    assert 0 < np.count_nonzero(found.mask) <= 2
    assert describe_contamination(MAPS, None, SHAPE, PIXEL, WIDTH) is None


def test_the_journal_keeps_it() -> None:
    blocked = np.zeros(MAPS.axis.shape, bool)
    blocked[3:9, 2:20] = True
    found = describe_contamination(MAPS, blocked, SHAPE, PIXEL, WIDTH)
    profile = np.zeros(profile_positions().shape)
    for contamination in (found, None):
        traced = TracedMicrograph("m.mrc", PIXEL, SHAPE, (), profile, 0.0, contamination)
        again = FILAMENTS.decode("m.mrc", FILAMENTS.encode(traced)).contamination
        if contamination is None:
            assert again is None
        else:
            assert again is not None
            np.testing.assert_array_equal(again.mask, contamination.mask)
            assert again.pixel_size_angstrom == contamination.pixel_size_angstrom


def test_results_of_earlier_versions_do_not_know_it() -> None:
    profile = np.zeros(profile_positions().shape)
    values = FILAMENTS.encode(TracedMicrograph("m.mrc", PIXEL, SHAPE, (), profile, 0.0))
    del values["bad_areas"]
    assert FILAMENTS.decode("m.mrc", values).contamination is None
