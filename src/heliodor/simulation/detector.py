"""Detectors that integrate the light or charge of electrons, and 8-bit output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from heliodor.simulation.optics import apply_transfer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from heliodor.conventions import Image, Shape

#: Modulation transfer of an integrating detector at its Nyquist frequency.
MTF_AT_NYQUIST = 0.25
#: Its detective quantum efficiency at low frequencies: electrons give unequal amounts of light.
DQE_AT_ZERO = 0.5
#: Standard deviation of its read noise over that of the shot noise at the mean intensity.
READ_NOISE = 0.25

#: Gray values per standard deviation in 8-bit images.
GRAYS_PER_DEVIATION = 25.0

#: Pixels by which images are extended by reflection before the blur.
_PAD_PX = 16


def blur(image: Image) -> Image:
    """Apply the modulation transfer of an integrating detector, which rolls off towards Nyquist.

    Parameters
    ----------
    image
        Intensity, shape (height, width).
    """
    wide = np.pad(image, _PAD_PX, mode="symmetric")
    inner = slice(_PAD_PX, -_PAD_PX)
    return apply_transfer(wide, modulation_transfer(wide.shape))[inner, inner].astype(np.float32)


def integrate_noise(shot: Image, rng: np.random.Generator, mean_deviation: float) -> Image:
    """Return the noise of an integrating detector from the shot noise of the electrons.

    Parameters
    ----------
    shot
        Shot noise, shape (height, width).
    rng
        Source of the read noise.
    mean_deviation
        Standard deviation of the shot noise of a pixel of mean intensity.

    Notes
    -----
    Electrons spread by unequal amounts, so the noise rolls off less than the signal: here its
    power follows the modulation transfer, not the square of it (McMullan et al. 2009,
    Ultramicroscopy 109, 1126-1143). The quantum efficiency is ``DQE_AT_ZERO`` times the
    modulation transfer before the read noise, which lowers it further.
    """
    rolled = apply_transfer(
        shot, np.sqrt(modulation_transfer(shot.shape) / np.float32(DQE_AT_ZERO))
    )
    read = rng.standard_normal(shot.shape, dtype=np.float32)
    return np.asarray(rolled + np.float32(READ_NOISE * mean_deviation) * read, dtype=np.float32)


def modulation_transfer(shape: Shape) -> Image:
    """Return the modulation transfer on the ``rfft2`` grid of an image of that shape.

    ``1 / (1 + (f / g)^2)`` with f in cycles per pixel: the Fourier transform of an exponential
    spread of light, with g such that it is `MTF_AT_NYQUIST` at 0.5 cycles per pixel.
    """
    rows = scipy.fft.fftfreq(shape[0])[:, None]
    columns = scipy.fft.rfftfreq(shape[1])[None, :]
    steep = 4.0 * (1.0 / MTF_AT_NYQUIST - 1.0)
    return np.asarray(1.0 / (1.0 + steep * (rows**2 + columns**2)), dtype=np.float32)


def to_eight_bit(image: Image) -> NDArray[np.int8]:
    """Return an image as integers from -128 to 127.

    The mean becomes 0 and a standard deviation 25 gray values, so that the rounding is small
    compared with the noise. Values more than five standard deviations from the mean are clipped.

    Parameters
    ----------
    image
        Shape (height, width).
    """
    mean, deviation = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    stretched = (image - np.float32(mean)) * np.float32(GRAYS_PER_DEVIATION / (deviation or 1.0))
    return np.asarray(np.clip(np.rint(stretched), -128, 127), dtype=np.int8)
