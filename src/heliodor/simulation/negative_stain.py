"""Negative stain: particles as bright gaps in a dark, uneven film of heavy metal on carbon."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from scipy import ndimage

from heliodor.simulation.scene import Field, Scenery

if TYPE_CHECKING:
    from heliodor.conventions import Image

#: The stain shows nothing finer than about 20 A: this B-factor (square angstrom) adds to that of
#: the microscope, so that amplitudes at 20 A are a quarter of those at low resolution.
STAIN_B_FACTOR = 2000.0

#: Amplitude contrast that scattering outside the aperture adds to that of protein in ice.
STAIN_AMPLITUDE_CONTRAST = 0.2

#: Contrast of a particle in stain relative to that in ice.
STAIN_CONTRAST = 2.5

#: Absorption of the stain of mean thickness, as an exponent.
ABSORPTION = 0.25
#: Components of the stain's uneven thickness: (standard deviation of the logarithm, correlation
#: length in angstrom).
UNEVEN = ((0.22, 1800.0), (0.12, 450.0))
#: Amplitude of the noise of stain and carbon support, relative to ice of usual thickness.
STAIN_GRAIN, SUPPORT_GRAIN = 1.6, 2.0

#: Stain that accumulates around a particle: its reach in particle diameters, and its amount as a
#: fraction of the stain that the particle displaces.
HALO_DIAMETERS, HALO_SHARE = 0.3, 0.5


def draw_stain(rng: np.random.Generator, field: Field) -> tuple[Scenery, Image]:
    """Draw a field of empty stain on a carbon support, and the thickness of the stain.

    Parameters
    ----------
    rng
        Source of randomness.
    field
        The field of view.

    Returns
    -------
    Scenery
        The transmission is 1 where the stain has its mean thickness.
    ndarray
        Thickness of the stain relative to the mean, same shape as the field.
    """
    logarithm = sum(
        (np.float32(spread) * _draw_smooth_field(rng, field, length) for spread, length in UNEVEN),
        np.zeros(field.shape, np.float32),
    )
    logarithm += np.float32(rng.normal(scale=0.15))
    thickness = np.exp(logarithm)
    scenery = Scenery(
        potential=np.zeros(field.shape, np.float32),
        transmission=np.exp((np.float32(1.0) - thickness) * np.float32(ABSORPTION)),
        grain=np.hypot(np.float32(SUPPORT_GRAIN), np.float32(STAIN_GRAIN) * thickness),
        blocked=np.zeros(field.shape, np.bool_),
    )
    return scenery, thickness


def displace_stain(
    particles: Image, thickness: Image, diameter_angstrom: float, pixel_size_angstrom: float
) -> Image:
    """Return the potential of particles in stain: each displaces stain and has a halo of it.

    Parameters
    ----------
    particles
        Projected density of the particles, shape (height, width).
    thickness
        Thickness of the stain relative to its mean: thin stain covers, and shows, less of a
        particle.
    diameter_angstrom
        Diameter of the particles.
    pixel_size_angstrom
        Sampling, angstrom per pixel.
    """
    sigma = HALO_DIAMETERS * diameter_angstrom / pixel_size_angstrom
    gathered = ndimage.gaussian_filter(particles, sigma, mode="constant", truncate=3.0)
    return np.asarray(thickness * (np.float32(HALO_SHARE) * gathered - particles))


def _draw_smooth_field(rng: np.random.Generator, field: Field, length_angstrom: float) -> Image:
    """Draw a Gaussian random field of unit standard deviation and given correlation length."""
    noise = rng.standard_normal(field.shape, dtype=np.float32)
    sigma = length_angstrom / field.pixel_size_angstrom
    rows = scipy.fft.fftfreq(field.shape[0])[:, None]
    columns = scipy.fft.rfftfreq(field.shape[1])[None, :]
    kernel = np.exp(-2.0 * (math.pi * sigma) ** 2 * (rows**2 + columns**2))
    # Normalize by the exact standard deviation after filtering, also for small fields.
    weight = np.full(kernel.shape[1], 2.0)
    weight[0] = 1.0
    if field.shape[1] % 2 == 0:
        weight[-1] = 1.0
    left = math.sqrt(float((weight * kernel**2).sum()) / (field.shape[0] * field.shape[1]))
    spectrum = scipy.fft.rfft2(noise, workers=1) * (kernel / left).astype(np.float32)
    return np.asarray(scipy.fft.irfft2(spectrum, s=field.shape, workers=1), dtype=np.float32)
