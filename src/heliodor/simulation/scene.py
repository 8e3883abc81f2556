"""The field from which a micrograph is cropped: its geometry, its ice and particle positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from heliodor.simulation.settings import MEAN_ICE_NM

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliodor.conventions import (
        FloatArray,
        Image,
        Shape,
    )

#: Random positions that are tried at a time when particles are placed.
TRIES_PER_BATCH = 256

#: Mean free path of electrons between inelastic collisions in ice.
MEAN_FREE_PATH_NM = 300.0

#: Relative amplitude of the noise of ice of average thickness before the contrast transfer: the
#: white part in 4 A pixels, and the slowly varying part with the correlation length below.
ICE_WHITE = 0.025
ICE_SLOW = 0.30
ICE_LENGTH_ANGSTROM = 150.0

Mask = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Field:
    """A micrograph with a margin: what lies just outside affects it through the point spread."""

    inner: Shape
    """(height, width) of the micrograph in pixels."""
    shape: Shape
    """(height, width) of the field in pixels, fast lengths for the Fourier transform."""
    margin_px: int
    """Rows above and columns to the left of the micrograph; at least as many below and right."""
    pixel_size_angstrom: float
    """Sampling, angstrom per pixel."""

    @classmethod
    def around(cls, inner: Shape, margin_angstrom: float, pixel_size_angstrom: float) -> Field:
        """Return the smallest field with at least this margin and fast Fourier lengths."""
        margin = math.ceil(margin_angstrom / pixel_size_angstrom)
        height, width = (scipy.fft.next_fast_len(side + 2 * margin, real=True) for side in inner)
        return cls(inner, (height, width), margin, pixel_size_angstrom)

    @property
    def area(self) -> float:
        """Return the area in square angstrom."""
        return self.shape[0] * self.shape[1] * self.pixel_size_angstrom**2

    def crop(self, image: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the part of an image of the field that the micrograph shows, as a view."""
        top = left = self.margin_px
        return image[top : top + self.inner[0], left : left + self.inner[1]]

    def shows(self, xy_px: FloatArray) -> Mask:
        """Return which points (x, y) of the field are on the micrograph, shape (n,)."""
        inside = xy_px - self.margin_px
        last = np.array([self.inner[1] - 1, self.inner[0] - 1])
        return np.asarray(np.all((inside >= 0.0) & (inside <= last), axis=1))


@dataclass
class Scenery:
    """Everything in a field except the particles, shape (height, width) each."""

    potential: Image
    """Projected potential; its contrast transfer is a relative change of intensity."""
    transmission: Image
    """Fraction of the electrons that are transmitted; 1 in ice of average thickness."""
    grain: Image
    """Amplitude of the amorphous noise, relative to ice of average thickness."""
    blocked: Mask
    """Where no particle may lie."""


def draw_ice(
    rng: np.random.Generator,
    field: Field,
    mean_nm: float = MEAN_ICE_NM,
    gradient: float | None = None,
) -> Scenery:
    """Draw a field of empty ice whose thickness varies smoothly.

    Parameters
    ----------
    rng
        Source of randomness.
    field
        The field of view.
    mean_nm
        Mean thickness over the micrographs of a dataset; this one varies around it.
    gradient
        Relative change of the thickness from the center to the far edge; None: random, up to
        0.35.
    """
    height, width = field.shape
    # In units of half the longer side, so that the curvature is the same for any field of view.
    half = 0.5 * max(height, width)
    rows = ((np.arange(height) - 0.5 * height) / half)[:, None]
    columns = ((np.arange(width) - 0.5 * width) / half)[None, :]
    level = rng.uniform(0.7, 1.4)
    slope, bend = rng.uniform(0.0, 0.35), rng.uniform(0.0, 0.2)
    if gradient is not None:
        slope = gradient
    direction = rng.uniform(0.0, 2.0 * math.pi)
    shift_x, shift_y = rng.uniform(-0.7, 0.7, 2)
    thickness = (
        1.0
        + slope * (math.cos(direction) * columns + math.sin(direction) * rows)
        + bend * ((columns - shift_x) ** 2 + (rows - shift_y) ** 2 - 0.6)
    )
    # Relative to the default thickness, whose transmission is 1.
    thickness = (mean_nm / MEAN_ICE_NM) * np.maximum(level * thickness, 0.3)
    thickness = thickness.astype(np.float32)
    return Scenery(
        potential=np.zeros(field.shape, np.float32),
        transmission=np.exp((1.0 - thickness) * np.float32(MEAN_ICE_NM / MEAN_FREE_PATH_NM)),
        grain=np.sqrt(thickness),
        blocked=np.zeros(field.shape, np.bool_),
    )


def draw_amorphous_noise(rng: np.random.Generator, field: Field, grain: Image) -> Image:
    """Draw the projected potential of amorphous material: white noise and a stronger slow part.

    Parameters
    ----------
    rng
        Source of randomness.
    field
        The field of view.
    grain
        Local amplitude, same shape as the field.
    """
    noise = rng.standard_normal(field.shape, dtype=np.float32)
    noise *= grain
    rows = scipy.fft.fftfreq(field.shape[0], field.pixel_size_angstrom)[:, None]
    columns = scipy.fft.rfftfreq(field.shape[1], field.pixel_size_angstrom)[None, :]
    squared = (rows**2 + columns**2).astype(np.float32)
    slow = (1.0 + squared * np.float32(ICE_LENGTH_ANGSTROM**2)) ** np.float32(-1.5)
    amplitude = np.sqrt(np.float32(ICE_WHITE**2) + np.float32(ICE_SLOW**2) * slow)
    spectrum = scipy.fft.rfft2(noise, workers=1)
    # White noise of the same density per square angstrom at any pixel size.
    spectrum *= amplitude * np.float32(4.0 / field.pixel_size_angstrom)
    return np.asarray(scipy.fft.irfft2(spectrum, s=field.shape, workers=1, overwrite_x=True))


def measure_clearance(field: Field, blocked: Mask) -> tuple[Image, int]:
    """Measure the distance of every position from the nearest blocked pixel.

    Parameters
    ----------
    field
        The field of view.
    blocked
        Where no particle may lie, same shape as the field.

    Returns
    -------
    ndarray
        Distance in angstrom at every `step`-th pixel, never overestimated.
    int
        The step.
    """
    step = max(1, math.floor(8.0 / field.pixel_size_angstrom))
    coarse = blocked[::step, ::step]
    if not blocked.any():
        return np.full(coarse.shape, np.inf, np.float32), step
    if step > 1:
        # A coarse cell is blocked if any pixel near it is.
        coarse = ndimage.maximum_filter(blocked, size=2 * step + 1)[::step, ::step]
    distance = ndimage.distance_transform_edt(~coarse) * (step * field.pixel_size_angstrom)
    return distance.astype(np.float32), step


def place_particles(
    rng: np.random.Generator,
    field: Field,
    count: int,
    spacing_angstrom: float,
    clearance: tuple[Image, int],
    clearance_angstrom: float,
) -> FloatArray:
    """Place particles at random where they fit.

    The micrograph is filled first, then the margin at the same density.

    Parameters
    ----------
    rng
        Source of randomness.
    field
        The field of view.
    count
        Number on the micrograph; fewer are placed where there is no room.
    spacing_angstrom
        Minimum distance between two centers.
    clearance
        The result of `measure_clearance`.
    clearance_angstrom
        Minimum distance of a center from blocked pixels.

    Returns
    -------
    ndarray
        (x, y) in pixels of the field, shape (n, 2).
    """
    rows, columns = field.inner
    low = float(field.margin_px)
    inner = np.array([[low, low], [low + columns - 1, low + rows - 1]])
    outer = np.array([[0.0, 0.0], [field.shape[1] - 1.0, field.shape[0] - 1.0]])
    count_in_margin = round(count * (field.shape[0] * field.shape[1] / (rows * columns) - 1.0))
    distances, step = clearance
    spacing = spacing_angstrom / field.pixel_size_angstrom

    def fits(xy: FloatArray) -> Mask:
        cells = xy.astype(int) // step
        return np.asarray(distances[cells[:, 1], cells[:, 0]] >= clearance_angstrom)

    placed = _fill_box(rng, inner, count, spacing, np.empty((0, 2)), fits)
    return _fill_box(
        rng, outer, count_in_margin, spacing, placed, lambda xy: fits(xy) & ~field.shows(xy)
    )


def _fill_box(
    rng: np.random.Generator,
    box: FloatArray,
    count: int,
    spacing_px: float,
    placed: FloatArray,
    fits: Callable[[FloatArray], Mask],
) -> FloatArray:
    """Add up to `count` random points in a box to the points placed before."""
    # A hexagonal packing bounds the number of points, which limits the number of tries.
    if spacing_px > 0.0:
        width, height = box[1] - box[0] + 2.0 * spacing_px
        count = min(count, math.ceil(width * height / (0.866 * spacing_px**2)))
    goal = len(placed) + count
    # Sixty tries per particle, many at a time: most fail only when the field is full.
    for _ in range(math.ceil(60 * count / TRIES_PER_BATCH)):
        if len(placed) >= goal:
            break
        tries = rng.uniform(box[0], box[1], (TRIES_PER_BATCH, 2))
        tries = tries[fits(tries)]
        free = cdist(tries, placed).min(axis=1, initial=np.inf) >= spacing_px
        added = np.empty((0, 2))
        for xy in tries[free]:
            if cdist(xy[None], added).min(initial=np.inf) >= spacing_px:
                added = np.concatenate([added, xy[None]])
        placed = np.concatenate([placed, added[: goal - len(placed)]])
    return placed
