from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from heliodor.simulation.filament_kinds import FILAMENTS, repeat_subunit


@pytest.mark.parametrize("kind", FILAMENTS.values(), ids=FILAMENTS)
def test_a_step_along_the_helix_maps_the_filament_onto_itself(kind):
    blobs = kind.build_stretch(300.0)
    step = repeat_subunit(blobs, np.radians([kind.twist_deg]), np.array([kind.rise_angstrom]))
    # Each blob but those of the last subunit lands on another with its weight.
    own = len(kind.build())
    gaps, place = cKDTree(blobs.positions).query(step.positions[:-own])
    assert gaps.max() < 1e-6
    np.testing.assert_allclose(blobs.weights[place], step.weights[:-own])


@pytest.mark.parametrize("kind", FILAMENTS.values(), ids=FILAMENTS)
def test_filaments_are_as_wide_and_long_as_they_say(kind):
    blobs = kind.as_particle().blobs
    radii = np.hypot(*blobs.positions[:, :2].T) + 2 * blobs.sigmas
    assert 2 * radii.max() == pytest.approx(kind.width_angstrom, rel=0.2)
    assert np.ptp(blobs.positions[:, 2]) >= 3 * kind.width_angstrom


def test_a_positive_twist_is_right_handed():
    blobs = FILAMENTS["tube"].build_stretch(20.0)
    own = len(FILAMENTS["tube"].build())
    first, second = (blobs.positions[n * own : (n + 1) * own].mean(axis=0) for n in (0, 1))
    assert second[2] > first[2]
    assert np.linalg.det([first[:2], second[:2]]) > 0  # counter-clockwise seen from above
