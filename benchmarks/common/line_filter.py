"""A classical detector of filaments: oriented filters on the smoothed micrograph.

It has no training. Filters are the negative second derivative of a Gaussian across, and a longer
Gaussian along, in many directions (as of ridge detectors such as crYOLO's and SPHIRE's helper
programs); the largest response in units of its usual deviation becomes log-odds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter

from heliodor.conventions import FloatArray, Image
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.models.filament_maps import FilamentMaps

#: Working pixels along the width of a filament, and between the points of the lattice.
WIDTH_PX, STEP_PX = 12, 3
#: Directions, and standard deviations of the filter across and along, in widths.
DIRECTIONS, ACROSS, ALONG = 24, 0.3, 1.2
#: Darker and brighter pixels are set to as many usual deviations.
CLIP = 2.0
#: Log-odds per deviation, and the response with log-odds 0; chosen on seeds 100 and up.
SLOPE, MIDDLE = 1.0, 4.5


@dataclass(frozen=True)
class LineFilter:
    """The detector; see `heliodor.picking.filaments.batch.Predictor`."""

    width_angstrom: float
    slope: float = SLOPE
    middle: float = MIDDLE

    @property
    def fingerprint(self) -> str:
        """Its settings."""
        return f"line filter {self.slope} {self.middle}"

    def predict(self, image: Image, pixel_size_angstrom: float) -> FilamentMaps:
        """Return the maps of one micrograph."""
        working = self.width_angstrom / WIDTH_PX
        scale = min(1.0, pixel_size_angstrom / working)
        shape = tuple(max(WIDTH_PX, round(side * scale)) for side in image.shape)
        small = np.asarray(fourier_crop(image, shape), dtype=np.float64)
        width = self.width_angstrom / (pixel_size_angstrom * image.shape[1] / shape[1])
        small -= gaussian_filter(small, 2.0 * width, mode="mirror")
        # Gold, ice crystals and aggregates are much darker than filaments.
        usual = 1.4826 * float(np.median(np.abs(small - np.median(small))))
        small = np.clip(small / usual, -CLIP, CLIP)
        responses = _filter(small, width)
        usual = 1.4826 * float(np.median(np.abs(responses)))
        best = responses.argmax(axis=0)
        angle = best * (math.pi / DIRECTIONS)
        offset = _find_offset(responses, best, angle, width)
        step = STEP_PX
        rows, columns = np.mgrid[step // 2 : shape[0] : step, step // 2 : shape[1] : step]
        strength = responses.max(axis=0)[rows, columns] / usual
        angle, offset = angle[rows, columns], offset[rows, columns]
        far = np.maximum(0.0, np.abs(offset) / (0.5 * step) - 1.0)
        axis = self.slope * (strength - self.middle) - 4.0 * far
        per_px = image.shape[1] / shape[1]
        return FilamentMaps(
            np.clip(axis, -12.0, 8.0),
            np.stack([np.cos(2 * angle), np.sin(2 * angle)]),
            per_px * np.stack([-np.sin(angle) * offset, np.cos(angle) * offset]),
            None,
            (per_px * (step // 2), per_px * (step // 2)),
            per_px * step,
        )


def _filter(image: FloatArray, width: float) -> FloatArray:
    """Return the response in each direction, larger for dark lines, shape (directions, h, w)."""
    height, columns = image.shape
    reach = math.ceil(2.5 * ALONG * width)
    mirrored = np.pad(image, reach, mode="symmetric")
    padded = tuple(next_fast_len(side + 2 * reach, real=True) for side in mirrored.shape)
    transform = rfft2(mirrored, padded)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    responses = np.empty((DIRECTIONS, height, columns))
    for number in range(DIRECTIONS):
        angle = number * math.pi / DIRECTIONS
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        t = (v / (ACROSS * width)) ** 2
        kernel = (t - 1.0) * np.exp(-0.5 * t - 0.5 * (u / (ALONG * width)) ** 2)
        kernel -= kernel.mean()
        kernel /= np.sqrt((kernel**2).sum())
        result = irfft2(transform * rfft2(kernel, padded), padded)
        first = 2 * reach
        responses[number] = result[first : first + height, first : first + columns]
    return responses


def _find_offset(
    responses: FloatArray, best: FloatArray, angle: FloatArray, width: float
) -> FloatArray:
    """Return how far aside the response is largest, from three values across, in pixels."""
    from scipy.ndimage import map_coordinates

    step = 0.15 * width
    rows, columns = np.mgrid[: best.shape[0], : best.shape[1]]
    values = [
        map_coordinates(
            responses,
            [best, rows + side * step * np.cos(angle), columns - side * step * np.sin(angle)],
            order=1,
            mode="nearest",
        )
        for side in (-1, 0, 1)
    ]
    curvature = values[0] - 2.0 * values[1] + values[2]
    slope = 0.5 * (values[2] - values[0])
    peak = np.where(curvature < 0.0, -slope / np.minimum(curvature, -1e-9), np.sign(slope) * 3.0)
    return np.clip(peak * step, -0.5 * width, 0.5 * width)
