"""Boxes around labels, cut at several scales, band-pass filtered and recentered, to be averaged.

The size of the particle need not be known. Each micrograph is halved repeatedly, and a box with
the same number of pixels is cut around each label at each scale, so that for any size one of the
scales shows the particle with its surroundings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from heliodor.conventions import (
    FloatArray,
    Image,
    to_working,
)
from heliodor.data.micrographs.dead_borders import find_dead_border
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.utils.statistics import robust_deviation

#: Side of a box in pixels; the label is in pixel `SIDE_PX // 2`.
SIDE_PX = 112
#: Largest diameter in pixels for which a box is used: twice the diameter is evaluated, and the
#: filters reach as far again.
MOST_PX = 32.0
#: Smallest diameter in pixels for which a box is used, and that for the finest boxes.
USUAL_PX, FEWEST_PX = 16.0, 10.0
#: Rings per diameter, from the center outwards.
RINGS = 24
#: Standard deviations of the Gaussian averages that smooth fine detail and remove the background,
#: in diameters. Fine detail is mostly noise, and spread by the defocus; a wider average would
#: leave the slow variation of the ice.
SMOOTH, BACKGROUND = 0.05, 0.1
#: Pixels further than this from the median, in robust deviations, are clipped: ice and gold.
CLIP = 8.0
#: Number of pixels from which the median and deviation of a micrograph are computed.
SAMPLE_PX = 100_000
#: Distance of labels from the center of the particle in diameters: the standard deviation along
#: each axis, and the maximum.
OFF_CENTER, MOST_OFF = 0.06, 0.18
#: Number of times that the boxes are aligned to their average.
TURNS = 3


@dataclass(frozen=True)
class LabeledView:
    """A micrograph at any sampling, and the labels on it in its own pixels."""

    #: Shape (h, w).
    image: Image
    pixel_size_angstrom: float
    #: (x, y), shape (n, 2).
    xy_px: FloatArray


@dataclass(frozen=True)
class BoxScale:
    """The boxes of all labels at one sampling."""

    pixel_size_angstrom: float
    #: Shape (n, SIDE_PX, SIDE_PX), mirrored beyond the edges of the micrograph.
    boxes: NDArray[np.float32]
    #: Pixels from the center of each box to the left, right, top and bottom edges of the recorded
    #: image, shape (n, 4).
    room: NDArray[np.intp]


def cut_scales(views: Iterable[LabeledView], most_angstrom: float) -> list[BoxScale]:
    """Cut boxes around labels at scales that are a factor of two apart.

    Parameters
    ----------
    views
        Micrographs with the same pixel size, except for rounding; each is used once.
    most_angstrom
        The largest diameter to be measured.

    Returns
    -------
    list of BoxScale
        The finest first, with the pixel size of the views; labels in their order.
    """
    sizes: list[float] = []
    boxes: list[list[NDArray[np.float32]]] = []
    rooms: list[list[NDArray[np.intp]]] = []
    for view in views:
        height, width = view.image.shape
        if not sizes:
            sizes = [view.pixel_size_angstrom]
            while sizes[-1] * MOST_PX < most_angstrom:
                sizes.append(2 * sizes[-1])
            boxes, rooms = [[] for _ in sizes], [[] for _ in sizes]
        image, shape = _standardize(view.image), (height, width)
        for level in range(len(sizes)):
            if level:
                image = fourier_crop(
                    image, (max(1, round(shape[0] / 2)), max(1, round(shape[1] / 2)))
                )
            shape = (image.shape[0], image.shape[1])
            cut, room = _cut_boxes(image, to_working(view.xy_px, (height, width), shape))
            boxes[level].append(cut)
            rooms[level].append(room)
    return [
        BoxScale(size, np.concatenate(own), np.concatenate(room))
        for size, own, room in zip(sizes, boxes, rooms, strict=True)
    ]


def choose_scale(scales: Sequence[BoxScale], diameter_angstrom: float) -> BoxScale:
    """Return the coarsest scale with enough pixels per diameter, or the finest."""
    fit = [s for s in scales if diameter_angstrom >= USUAL_PX * s.pixel_size_angstrom]
    return fit[-1] if fit else scales[0]


def _standardize(image: Image) -> Image:
    """Return an image with median 0 and robust deviation 1, extreme pixels clipped."""
    # A sample of the pixels is faster and exact enough.
    some = image.ravel()[:: max(1, image.size // SAMPLE_PX)]
    middle = np.median(some)
    image = image - np.float32(middle)
    spread = robust_deviation(some) or float(image.std()) or 1.0
    return np.asarray(np.clip(image / np.float32(spread), -CLIP, CLIP))


def _cut_boxes(image: Image, xy_px: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Cut the boxes of one micrograph, centered on the pixel nearest to each label."""
    half = SIDE_PX // 2
    height, width = image.shape
    rows, columns = find_dead_border(image).widen(2).live_region(image.shape)
    alive = image[rows, columns]
    if not alive.size:
        rows, columns, alive = slice(0, height), slice(0, width), image
    padded = np.pad(alive, half, mode="symmetric")
    last = np.array([alive.shape[1], alive.shape[0]]) - 1
    centers = np.rint(xy_px).astype(np.intp) - np.array([columns.start, rows.start])
    centers = np.clip(centers, 0, last)
    boxes = np.empty((len(centers), SIDE_PX, SIDE_PX), np.float32)
    for box, (x, y) in zip(boxes, centers, strict=True):
        box[:] = padded[y : y + SIDE_PX, x : x + SIDE_PX]
    away = last - centers
    room = np.stack([centers[:, 0], away[:, 0], centers[:, 1], away[:, 1]], axis=1)
    return boxes, room


def bandpass_boxes(scale: BoxScale, diameter_angstrom: float) -> NDArray[np.float32]:
    """Return boxes band-pass filtered for a particle diameter.

    The filter is the difference of two Gaussian averages, the same everywhere on all micrographs,
    so that the noise power does not depend on the distance from the label. See `SMOOTH`.
    """
    across = diameter_angstrom / scale.pixel_size_angstrom
    k = np.hypot(scipy.fft.fftfreq(SIDE_PX)[:, None], scipy.fft.rfftfreq(SIDE_PX)[None, :])
    fine, slow = (np.exp(-2 * (np.pi * k * part * across) ** 2) for part in (SMOOTH, BACKGROUND))
    spectra = scipy.fft.rfft2(scale.boxes)
    spectra *= (fine - slow).astype(np.float32)
    filtered = scipy.fft.irfft2(spectra, (SIDE_PX, SIDE_PX), overwrite_x=True)
    return np.asarray(filtered, dtype=np.float32)


def recenter_boxes(
    boxes: NDArray[np.float32], across_px: float
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Align band-passed boxes to the rotational average of all.

    Parameters
    ----------
    boxes
        Shape (n, side, side).
    across_px
        The diameter of the particle in pixels; a box is moved by at most `MOST_OFF` of it.

    Returns
    -------
    boxes, moves
        The moved boxes, and their displacements (x, y), shape (n, 2).
    """
    reach = max(1, round(MOST_OFF * across_px))
    steps = np.arange(-reach, reach + 1)
    x, y = (grid.ravel() for grid in np.meshgrid(steps, steps))
    near = np.hypot(x, y) <= reach
    x, y = x[near], y[near]
    unlikely = (x**2 + y**2) / (2 * (OFF_CENTER * across_px) ** 2)
    radius = _radius_px()
    ring = radius.round().astype(np.intp)
    inside = radius <= 0.6 * across_px
    far = np.fft.ifftshift((radius > 0.6 * across_px) & (radius < 1.2 * across_px))
    moved, moves = boxes, np.zeros((len(boxes), 2), np.intp)
    spectra = scipy.fft.rfft2(boxes)
    for _ in range(TURNS):
        mean = moved.mean(axis=0, dtype=np.float64)
        rings = np.bincount(ring.ravel(), mean.ravel()) / np.bincount(ring.ravel())
        template = np.where(inside, rings[ring], 0.0).astype(np.float32)
        fits = scipy.fft.irfft2(spectra * np.conj(scipy.fft.rfft2(template)), boxes.shape[1:])
        # The log-likelihood of a displacement is its fit times the typical fit of a particle,
        # divided by the variance of the fit of noise; `OFF_CENTER` is the prior.
        noise = float(fits[:, far].var()) or 1.0
        near_fits = fits[:, y % SIDE_PX, x % SIDE_PX]
        usual = max(0.0, float(fits[:, 0, 0].mean()))
        best = np.argmax(near_fits * (usual / noise) - unlikely, axis=1)
        moves = np.stack([-x[best], -y[best]], axis=1)
        moved = np.stack(
            [np.roll(box, (dy, dx), (0, 1)) for box, (dx, dy) in zip(boxes, moves, strict=True)]
        )
    return moved, moves


def _radius_px() -> FloatArray:
    axis = np.arange(SIDE_PX) - SIDE_PX // 2
    return np.hypot(axis[:, None], axis[None, :])


def sum_rings(
    boxes: NDArray[np.float32], room: NDArray[np.intp], across_px: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sum boxes and their squares over the rings around their centers.

    Parameters
    ----------
    boxes
        Shape (n, side, side).
    room
        As in `BoxScale`; pixels beyond are not counted.
    across_px
        The diameter in pixels; `RINGS` rings fill it.

    Returns
    -------
    pixels, squares, counts
        Shape (n, RINGS); ring k holds distances from (k - 1/2) to (k + 1/2) ring widths.
    """
    half = min(SIDE_PX // 2, math.ceil(across_px))
    middle = slice(SIDE_PX // 2 - half, SIDE_PX // 2 + half)
    axis = np.arange(-half, half)
    radius = np.hypot(axis[:, None], axis[None, :])
    ring = np.minimum(np.rint(radius * (RINGS / across_px)), RINGS).astype(np.intp)
    flat = ring.ravel()
    whole = np.bincount(flat, minlength=RINGS + 1)[:RINGS]
    pixels, squares, counts = (np.empty((len(boxes), RINGS)) for _ in range(3))
    for i, (box, (left, right, top, bottom)) in enumerate(zip(boxes, room, strict=True)):
        values = box[middle, middle].ravel()
        if min(left, right, top, bottom) >= half:
            own, counts[i] = flat, whole
        else:
            beyond_x, beyond_y = (axis < -left) | (axis > right), (axis < -top) | (axis > bottom)
            own = np.where(beyond_y[:, None] | beyond_x[None, :], RINGS, ring).ravel()
            counts[i] = np.bincount(own, minlength=RINGS + 1)[:RINGS]
        pixels[i] = np.bincount(own, values, RINGS + 1)[:RINGS]
        squares[i] = np.bincount(own, values**2, RINGS + 1)[:RINGS]
    return pixels, squares, counts
