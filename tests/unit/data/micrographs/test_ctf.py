from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.data.micrographs.ctf import (
    CtfParameters,
    find_zeros,
    flip_phases,
    wavelength_angstrom,
)
from heliodor.simulation.optics import Optics, contrast_transfer

parameters = st.builds(
    CtfParameters,
    st.floats(3000, 40000),
    st.floats(3000, 40000),
    st.floats(0, 180),
    st.sampled_from([100.0, 200.0, 300.0]),
    st.sampled_from([0.0, 0.01, 2.7]),
    st.floats(0.0, 0.3),
)


@settings(max_examples=50, deadline=None)
@given(parameters, st.floats(0, 360))
def test_the_zeros_are_where_the_ctf_of_the_simulation_changes_its_sign(ctf, angle):
    # Up to the frequency at which the aberration takes over, and zeros come closer again.
    finest = min(0.2, 0.99 * turning_point(ctf))
    zeros = find_zeros(ctf, np.array([angle]), finest)[:, 0]
    zeros = zeros[np.isfinite(zeros)]
    optics = Optics(
        ctf.voltage_kv,
        ctf.spherical_aberration_mm,
        ctf.amplitude_contrast,
        ctf.defocus_u_angstrom,
        ctf.defocus_v_angstrom,
        ctf.defocus_angle_deg - angle,  # the direction becomes that of the columns
        0.0,
    )
    width = 40000
    transfer = contrast_transfer((1, width), 0.5 / finest, optics)[0, 1:]
    frequency = finest * np.arange(1, width // 2 + 1) / (width // 2)
    changes = np.flatnonzero(np.diff(np.sign(transfer)))
    expected = 0.5 * (frequency[changes] + frequency[changes + 1])
    # One right at the end may be on either side of it.
    count = min(len(expected), len(zeros))
    assert abs(len(expected) - len(zeros)) <= 1
    np.testing.assert_allclose(zeros[:count], expected[:count], atol=2 * finest / width)


def turning_point(ctf: CtfParameters) -> float:
    """Return the frequency at which the phase has its maximum."""
    least = min(ctf.defocus_u_angstrom, ctf.defocus_v_angstrom)
    spherical = 1e7 * ctf.spherical_aberration_mm * wavelength_angstrom(ctf.voltage_kv) ** 2
    return math.sqrt(least / spherical) if spherical > 0 else math.inf


def test_a_phase_shift_moves_the_rings_inward():
    angles = np.array([0.0, 60.0])
    plain = find_zeros(CtfParameters(15000, 14000, 30, 300, 2.7, 0.1), angles, 0.2)
    shifted = find_zeros(CtfParameters(15000, 14000, 30, 300, 2.7, 0.1, 60.0), angles, 0.2)
    assert (shifted[0] < plain[0]).all()
    # A phase shift of 180 degrees leaves the rings of an unshifted CTF, and one more or none.
    whole = find_zeros(CtfParameters(15000, 14000, 30, 300, 2.7, 0.1, 180.0), angles, 0.2)
    count = min(len(plain), len(whole))
    np.testing.assert_allclose(whole[:count], plain[:count], rtol=1e-9)


def test_without_zeros_there_are_no_rings():
    found = find_zeros(CtfParameters(10000, 10000, 0, 300, 2.7, 0.1), np.array([0.0]), 0.01)
    assert not np.isfinite(found).any()


@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_the_first_ring_is_where_the_defocus_says(angle):
    ctf = CtfParameters(20000, 10000, 0, 300, 0.0, 0.0)
    found = find_zeros(ctf, np.array([angle]), 0.3)[0, 0]
    defocus = 20000 if angle == 0 else 10000
    # Without aberration and amplitude contrast: lambda d k^2 = 1.
    assert found == pytest.approx(1 / math.sqrt(0.0196875 * defocus), rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(parameters)
def test_flipped_phases_have_the_sign_of_the_lowest_frequency_everywhere(ctf):
    # The highest frequency of an even side has no phase of its own in a real image.
    shape, size = (63, 81), 4.0
    optics = Optics(
        ctf.voltage_kv,
        ctf.spherical_aberration_mm,
        ctf.amplitude_contrast,
        ctf.defocus_u_angstrom,
        ctf.defocus_v_angstrom,
        ctf.defocus_angle_deg,
        0.0,
    )
    transfer = contrast_transfer(shape, size, optics)
    point = np.fft.irfft2(transfer, s=shape)
    flipped = np.fft.rfft2(flip_phases(point.astype(np.float32), size, ctf))
    np.testing.assert_allclose(flipped, -np.abs(transfer), atol=1e-4)
    # Twice is not at all.
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    again = flip_phases(flip_phases(image, size, ctf), size, ctf)
    np.testing.assert_allclose(again, image, atol=1e-4)
