"""The power spectrum of a micrograph, in which the rings of the CTF can be seen."""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from heliodor.conventions import Image

#: The side of the parts that are averaged, in pixels, and that of the parts of smaller images,
#: of which there would be too few.
PART_PX, SMALL_PART_PX = 512, 256
#: Images whose shorter side has fewer pixels are small.
_SMALL_PX = 2048
#: The background below the rings is smooth over this share of the spectrum's side.
_BACKGROUND_SHARE = 1 / 14
#: Frequencies below this share of the spectrum's side are mostly gradients of the illumination.
_CENTER_SHARE = 1 / 64


def average_power(image: Image) -> Image:
    """Return the mean power spectrum of the overlapping parts of an image.

    Parameters
    ----------
    image
        Shape (h, w).

    Returns
    -------
    ndarray
        Shape (n, n) with n even, and frequency zero at (n/2, n/2). The frequency rises by
        ``1 / (n pixel_size)`` from one pixel to the next.

    Notes
    -----
    The mean of the periodograms of parts that overlap by half, each tapered with a Hann window
    (Welch 1967, IEEE Trans. Audio Electroacoust. 15, 70-73).
    """
    height, width = image.shape
    part_px = PART_PX if min(height, width) >= _SMALL_PX else SMALL_PART_PX
    side = max(2, min(part_px, height, width) // 2 * 2)
    taper = np.hanning(side + 1)[:-1].astype(np.float32)
    window = taper[:, None] * taper
    total = np.zeros((side, side // 2 + 1), dtype=np.float64)
    tops, lefts = (_starts(length, side) for length in (height, width))
    for top in tops:
        for left in lefts:
            part = image[top : top + side, left : left + side]
            spectrum = scipy.fft.rfft2((part - part.mean(dtype=np.float64)) * window)
            total += spectrum.real**2 + spectrum.imag**2
    total /= len(tops) * len(lefts)
    whole = np.empty((side, side), dtype=np.float32)
    whole[:, : side // 2 + 1] = total
    # The other half is the same, mirrored through frequency zero.
    whole[:, side // 2 + 1 :] = np.roll(total[::-1, 1 : side // 2][:, ::-1], 1, axis=0)
    return np.asarray(scipy.fft.fftshift(whole), dtype=np.float32)


def _starts(length: int, side: int) -> list[int]:
    """Return the starts of parts that cover a length and overlap by about half."""
    count = 1 + max(0, round((length - side) / (side / 2)))
    return [round(start) for start in np.linspace(0, length - side, count).tolist()]


def flatten_spectrum(power: Image) -> Image:
    """Return a power spectrum whose rings are equally strong at all frequencies.

    Parameters
    ----------
    power
        From `average_power`, shape (n, n).

    Returns
    -------
    ndarray
        Shape (n, n): the logarithm without its smooth background, in standard deviations at the
        same frequency.
    """
    side = len(power)
    level = np.log(np.maximum(power, np.finfo(np.float32).tiny)).astype(np.float64)
    level = gaussian_filter(level, 0.8, mode="wrap")
    steps = np.arange(side) - side // 2
    radius = np.rint(np.hypot(steps[:, None], steps)).astype(np.intp)
    counts = np.bincount(radius.ravel())
    profile = np.bincount(radius.ravel(), level.ravel()) / counts
    center = max(2, round(side * _CENTER_SHARE))
    profile[:center] = profile[center]
    smooth = gaussian_filter1d(profile, side * _BACKGROUND_SHARE, mode="nearest")
    # The rest of a steep fall near the center is left to a second pass.
    smooth += gaussian_filter1d(profile - smooth, side * _BACKGROUND_SHARE, mode="nearest")
    level -= smooth[radius]
    spread = np.sqrt(np.bincount(radius.ravel(), level.ravel() ** 2) / counts)
    spread = gaussian_filter1d(spread, side * _BACKGROUND_SHARE, mode="nearest")
    level /= np.maximum(spread, 1e-6)[radius]
    level[radius < center] = 0.0
    return np.asarray(level, dtype=np.float32)
