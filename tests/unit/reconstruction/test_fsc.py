from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from heliodor.errors import BadInput
from heliodor.reconstruction.fsc import (
    ShellCorrelation,
    compare_halves,
    correlate_shells,
    mask_sphere,
)

SIDE = 24
RNG = np.random.default_rng(0)
NOISE = [RNG.normal(size=(SIDE, SIDE, SIDE)) for _ in range(3)]


def test_a_map_agrees_with_itself_in_all_shells_whatever_the_scale() -> None:
    shells = correlate_shells(NOISE[0], 3 * NOISE[0], 2.0)
    np.testing.assert_allclose(shells.correlation, 1.0)
    assert shells.frequency[-1] == pytest.approx(1 / 4.0)
    assert shells.resolution_angstrom == pytest.approx(4.0)
    assert shells.reaches_nyquist
    assert shells.area == pytest.approx(1 / 4.0)


def test_independent_noise_does_not_agree() -> None:
    shells = correlate_shells(NOISE[0], NOISE[1], 2.0)
    assert abs(shells.correlation[4:]).max() < 0.2
    assert not shells.reaches_nyquist


def test_equal_signal_and_noise_give_one_half() -> None:
    signal = NOISE[0]
    shells = correlate_shells(signal + NOISE[1], signal + NOISE[2], 2.0)
    assert shells.correlation[5:].mean() == pytest.approx(0.5, abs=0.04)


def test_it_agrees_with_the_full_transform() -> None:
    one, other = NOISE[0] + NOISE[2], NOISE[1] + NOISE[2]
    first, second = np.fft.fftn(one), np.fft.fftn(other)
    steps = np.fft.fftfreq(SIDE) * SIDE
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(steps, steps, steps)))
    own = np.round(radius) == 7
    expected = (first[own] * second[own].conj()).sum().real / np.sqrt(
        (abs(first[own]) ** 2).sum() * (abs(second[own]) ** 2).sum()
    )
    assert correlate_shells(one, other, 1.0).correlation[7] == pytest.approx(expected)


def test_the_resolution_is_interpolated_at_the_first_crossing() -> None:
    frequency = np.arange(6) / 60
    shells = ShellCorrelation(frequency, np.array([1, 0.9, 0.243, 0.043, 0.9, 0.0]))
    assert 1 / shells.resolution_angstrom == pytest.approx(2.5 / 60)
    bad = ShellCorrelation(frequency, np.array([1, 0.0, 0.9, 0.9, 0.9, 0.9]))
    assert bad.resolution_angstrom >= 60


def test_the_mask_is_one_inside_and_zero_far_outside() -> None:
    mask = mask_sphere(32, 12.0)
    assert mask[16, 16, 16] == mask[16, 16, 22] == 1
    assert mask[16, 16, 28] == 0
    assert 0 < mask[16, 16, 24] < 1


def test_files_are_compared_within_the_particle(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.mrc", "other.mrc")]
    for path, noise in zip(paths, NOISE[1:], strict=True):
        with mrcfile.new(path) as mrc:
            outside = 1 - mask_sphere(SIDE, SIDE - 8)
            mrc.set_data((NOISE[0] + 5 * outside * noise).astype(np.float32))
            mrc.voxel_size = 3.0
    shells = compare_halves(*paths, diameter_angstrom=3.0 * (SIDE - 16))
    assert shells.correlation.min() > 0.9
    with mrcfile.new(paths[1], overwrite=True) as mrc:
        mrc.set_data(np.zeros((4, 4, 5), dtype=np.float32))
    with pytest.raises(BadInput, match="same cubic shape"):
        compare_halves(*paths, diameter_angstrom=30)
    paths[1].write_bytes(b"no map")
    with pytest.raises(BadInput, match="cannot be read as a map"):
        compare_halves(*paths, diameter_angstrom=30)
