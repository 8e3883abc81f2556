"""The comparison with RELION's helical autopicking, as far as it does not need RELION."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.accuracy.filaments_relion import SimulatedSet, list_settings
from benchmarks.common.relion_helical_autopick import (
    AutopickSettings,
    draw_references,
    read_tubes,
)

from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.simulation.settings import SimulationSettings

TUBES = """
data_

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnHelicalTubeID #3
10.0 20.0 1
20.0 20.5 1
30.0 21.0 1
90.0 90.0 2
50.0 60.0 3
50.0 70.0 3
"""


def test_segments_of_a_tube_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "mic_autopick.star"
    path.write_text(TUBES)
    one, other = read_tubes(path, "mic.mrc", 70.0)
    np.testing.assert_array_equal(one.axis_px, [[10.0, 20.0], [20.0, 20.5], [30.0, 21.0]])
    assert (one.tube_id, other.tube_id) == (1, 3)
    path.write_text("")
    assert read_tubes(path, "mic.mrc", 70.0) == []


def test_references_lie_along_x_on_the_scale_of_the_noise() -> None:
    simulation = SimulationSettings(filament="tube")
    references = draw_references(simulation, AutopickSettings(mask_widths=2.0), 0.1)
    side = references.shape[1]
    assert references.shape == (4, side, side)
    assert side * 4.0 == pytest.approx(2.0 * 180.0 + 24.0, abs=8.0)
    across, along = references.mean(axis=2).std(), references.mean(axis=1).std()
    assert across > 10.0 * along
    again = draw_references(simulation, AutopickSettings(mask_widths=2.0), 0.2)
    np.testing.assert_allclose(again, 0.5 * references, rtol=1e-5)


def test_each_setting_is_tried_once() -> None:
    tried = list_settings("amyloid", (2.0, 3.0), (0.1, 0.2), (0.1, 0.5))
    assert len(tried) == len({*tried}) == 2 * (2 * 2 + 2)
    assert all(not one.amyloid for one in list_settings("actin", (2.0,), (0.1,), (0.1,)))


def test_away_from_the_edges_only_what_is_there_counts() -> None:
    settings = SimulationSettings(filament="actin", shape=(200, 300))
    sizes = {"mic": settings.pixel_size_angstrom}
    long = Filament("mic", np.array([[0.0, 100.0], [299.0, 100.0]]), 1, 80.0)
    beside = Filament("mic", np.array([[5.0, 5.0], [290.0, 5.0]]), 2, 80.0)
    one = SimulatedSet(Path(), settings, Filaments(("mic",), (long, beside), sizes))
    short = replace(long, axis_px=np.array([[40.0, 100.0], [259.0, 100.0]]))
    found = Filaments(("mic",), (short,), sizes)
    assert one.evaluate(found).recall < 0.5
    assert one.evaluate(found, 40).recall == pytest.approx(1.0)
