"""The contrast transfer function of a micrograph, as its CTF fit describes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft

from heliodor.conventions import FloatArray, Image, Shape


@dataclass(frozen=True)
class CtfParameters:
    """What a CTF fit and the microscope's settings say of one micrograph."""

    #: Underfocus along two perpendicular axes; positive.
    defocus_u_angstrom: float
    defocus_v_angstrom: float
    #: From the columns (x) towards the rows (y) to the axis of `defocus_u_angstrom`.
    defocus_angle_deg: float
    voltage_kv: float
    spherical_aberration_mm: float
    #: Fraction of amplitude contrast, 0 to 1.
    amplitude_contrast: float
    phase_shift_deg: float = 0.0


def wavelength_angstrom(voltage_kv: float) -> float:
    """Return the relativistic wavelength of an electron.

    Parameters
    ----------
    voltage_kv
        Acceleration voltage in kilovolt.

    Notes
    -----
    ``h / sqrt(2 m e V (1 + e V / (2 m c^2)))``, with V in volt.
    """
    volt = 1000.0 * voltage_kv
    return 12.264259661 / math.sqrt(volt * (1.0 + 0.978475598e-6 * volt))


def find_zeros(ctf: CtfParameters, angles_deg: FloatArray, finest: float) -> FloatArray:
    """Return where the contrast transfer function is zero, which are the dark rings.

    Parameters
    ----------
    ctf
        The parameters.
    angles_deg
        Directions from the columns (x) towards the rows (y), shape (n,).
    finest
        The spatial frequency up to which zeros are wanted, per angstrom.

    Returns
    -------
    ndarray
        Spatial frequencies per angstrom, shape (m, n): the first zero in each direction, the
        second one, and so on; nan where a direction has no such zero up to `finest`.

    Notes
    -----
    The function is ``-sin(chi)`` with ``chi = pi lambda d(angle) k^2 - pi/2 Cs lambda^3 k^4 +
    phase shift + asin(amplitude contrast)`` and ``d(angle) = (U + V)/2 + (U - V)/2 cos(2 (angle -
    angle of U))`` (Rohou & Grigorieff 2015, J. Struct. Biol. 192, 216-221). It is zero where chi
    is a multiple of pi, n pi. That is a quadratic equation for ``k^2``; its smaller solution is
    the zero that comes first.
    """
    length = wavelength_angstrom(ctf.voltage_kv)
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    half = 0.5 * (ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)
    defocus = mean + half * np.cos(2.0 * np.radians(angles_deg - ctf.defocus_angle_deg))
    # chi / pi = linear k^2 - quadratic k^4 + offset
    linear = length * defocus
    quadratic = 0.5 * 1e7 * ctf.spherical_aberration_mm * length**3
    offset = (math.radians(ctf.phase_shift_deg) + math.asin(ctf.amplitude_contrast)) / math.pi
    # The first multiple of pi above the value at k = 0, up to the largest one that is reached.
    first = math.floor(offset) + 1
    square = finest**2
    if quadratic > 0:
        square = min(square, float(linear.max()) / (2.0 * quadratic))
    last = math.floor(float(linear.max()) * square - quadratic * square**2 + offset)
    order = np.arange(first, max(first, last + 1), dtype=np.float64)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(linear**2 - 4.0 * quadratic * (order - offset))
        # In this form, nothing is divided by a Cs of zero.
        frequency = np.sqrt(2.0 * (order - offset) / (linear + root))
    frequency[~(frequency <= finest)] = np.nan
    return np.asarray(frequency, dtype=np.float64)


def compute_chi(shape: Shape, pixel_size_angstrom: float, ctf: CtfParameters) -> FloatArray:
    """Return the phase chi of the contrast transfer function ``-sin(chi)``, in radians.

    Parameters
    ----------
    shape
        (height, width) of the image.
    pixel_size_angstrom
        Its sampling.

    Returns
    -------
    ndarray
        On the grid of ``scipy.fft.rfft2`` of an image of that shape: (height, width // 2 + 1).
        The formula is that of `find_zeros`.
    """
    height, width = shape
    rows = scipy.fft.fftfreq(height, pixel_size_angstrom)[:, None]
    columns = scipy.fft.rfftfreq(width, pixel_size_angstrom)[None, :]
    squared = rows**2 + columns**2
    angle = math.radians(2.0 * ctf.defocus_angle_deg)
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    half = 0.5 * (ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)
    # k^2 cos(2 (angle of k - angle of U)) without a trigonometric function per pixel.
    twofold = math.cos(angle) * (columns**2 - rows**2) + math.sin(angle) * 2.0 * columns * rows
    length = wavelength_angstrom(ctf.voltage_kv)
    spherical = 1e7 * ctf.spherical_aberration_mm
    chi = math.pi * length * (mean * squared + half * twofold)
    chi -= 0.5 * math.pi * spherical * length**3 * squared**2
    chi += math.asin(ctf.amplitude_contrast) + math.radians(ctf.phase_shift_deg)
    return np.asarray(chi)


def flip_phases(image: Image, pixel_size_angstrom: float, ctf: CtfParameters) -> Image:
    """Return an image whose frequencies all have the sign of contrast of the lowest ones.

    Parameters
    ----------
    image
        Shape (h, w), as a whole: what the transfer function has spread must not be cut off.
    pixel_size_angstrom
        Its sampling.

    Notes
    -----
    Amplitudes stay as they are, so that noise is not amplified where little signal is left.
    """
    shape = image.shape[0], image.shape[1]
    spectrum = scipy.fft.rfft2(image, workers=1)
    spectrum[np.sin(compute_chi(shape, pixel_size_angstrom, ctf)) < 0] *= -1
    return np.asarray(
        scipy.fft.irfft2(spectrum, s=shape, workers=1, overwrite_x=True), dtype=np.float32
    )
