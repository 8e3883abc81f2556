"""The contrast transfer function of the microscope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from heliodor.data.micrographs.ctf import CtfParameters, compute_chi

if TYPE_CHECKING:
    from heliodor.conventions import Image, Shape


@dataclass(frozen=True)
class Optics:
    """Parameters of the contrast transfer function of one micrograph."""

    voltage_kv: float
    """Acceleration voltage."""
    spherical_aberration_mm: float
    """Cs of the objective lens."""
    amplitude_contrast: float
    """Fraction of amplitude contrast, within 0 and 1."""
    defocus_u_angstrom: float
    """Larger defocus; underfocus is positive."""
    defocus_v_angstrom: float
    """Smaller defocus."""
    defocus_angle_deg: float
    """Angle of the axis of `defocus_u_angstrom`, from columns (x) towards rows (y)."""
    b_factor: float
    """Envelope: amplitudes fall as ``exp(-b_factor k^2 / 4)``, square angstrom."""


def contrast_transfer(shape: Shape, pixel_size_angstrom: float, optics: Optics) -> Image:
    """Return the transfer from projected potential to relative intensity.

    Parameters
    ----------
    shape
        (height, width) of the image.
    pixel_size_angstrom
        Its sampling.
    optics
        The microscope and its focus.

    Returns
    -------
    ndarray
        On the grid of ``scipy.fft.rfft2`` of an image of that shape: (height, width // 2 + 1).

    Notes
    -----
    ``-(sqrt(1 - A^2) sin(chi) + A cos(chi)) exp(-B k^2 / 4)`` with
    ``chi = pi lambda d(angle) k^2 - pi/2 Cs lambda^3 k^4`` (Mindell & Grigorieff 2003,
    J. Struct. Biol. 142, 334-347; Rohou & Grigorieff 2015, J. Struct. Biol. 192, 216-221).
    It is negative at low frequencies, so that protein comes out dark; RELION's function is its
    negative, for images whose contrast has been inverted.
    """
    ctf = CtfParameters(
        optics.defocus_u_angstrom,
        optics.defocus_v_angstrom,
        optics.defocus_angle_deg,
        optics.voltage_kv,
        optics.spherical_aberration_mm,
        optics.amplitude_contrast,
    )
    chi = compute_chi(shape, pixel_size_angstrom, ctf)
    height, width = shape
    rows = scipy.fft.fftfreq(height, pixel_size_angstrom)[:, None]
    columns = scipy.fft.rfftfreq(width, pixel_size_angstrom)[None, :]
    squared = rows**2 + columns**2
    transfer = -np.sin(chi) * np.exp(-0.25 * optics.b_factor * squared)
    return np.asarray(transfer, dtype=np.float32)


def apply_transfer(image: Image, transfer: Image) -> Image:
    """Return an image multiplied in Fourier space by a transfer on its ``rfft2`` grid."""
    spectrum = scipy.fft.rfft2(image, workers=1)
    spectrum *= transfer
    return np.asarray(scipy.fft.irfft2(spectrum, s=image.shape, workers=1, overwrite_x=True))
