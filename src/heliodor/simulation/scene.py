"""The field a micrograph is cut from: its geometry, its ice, and where particles can lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from heliodor.conventions import (
        FloatArray,
        Image,
        Shape,
    )

#: Places tried at a time when particles are thrown into a field.
TRIES_PER_BATCH = 256

#: Mean free path of electrons between inelastic collisions in ice.
MEAN_FREE_PATH_NM = 300.0

#: Usual mean ice thickness of a set; each micrograph has its own around it.
MEAN_ICE_NM = 45.0

#: Relative amplitude of the noise of ice of average thickness, before the contrast transfer,
#: white in 4 A pixels, and of its slow part with the correlation length below.
ICE_WHITE = 0.025
ICE_SLOW = 0.30
ICE_LENGTH_ANGSTROM = 150.0

Mask = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Field:
    """A micrograph with a margin, so that what lies just outside reaches in through the optics."""

    inner: Shape
    """(height, width) of the micrograph in pixels."""
    shape: Shape
    """(height, width) of the field in pixels; sides that are fast to transform."""
    margin_px: int
    """Rows above and columns left of the micrograph; at least as many below and right."""
    pixel_size_angstrom: float
    """Sampling."""

    @classmethod
    def around(cls, inner: Shape, margin_angstrom: float, pixel_size_angstrom: float) -> Field:
        """Return the smallest field with fast sides and at least that margin."""
        margin = math.ceil(margin_angstrom / pixel_size_angstrom)
        height, width = (scipy.fft.next_fast_len(side + 2 * margin, real=True) for side in inner)
        return cls(inner, (height, width), margin, pixel_size_angstrom)

    @property
    def area(self) -> float:
        """Return the area in square angstrom."""
        return self.shape[0] * self.shape[1] * self.pixel_size_angstrom**2

    def crop(self, image: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the view of a field's image that the micrograph shows."""
        top = left = self.margin_px
        return image[top : top + self.inner[0], left : left + self.inner[1]]

    def shows(self, xy_px: FloatArray) -> Mask:
        """Tell which points (x, y) of the field are on the micrograph, shape (n,)."""
        inside = xy_px - self.margin_px
        last = np.array([self.inner[1] - 1, self.inner[0] - 1])
        return np.asarray(np.all((inside >= 0.0) & (inside <= last), axis=1))


@dataclass
class Scenery:
    """Everything in a field except the particles, shape (height, width) each."""

    potential: Image
    """Projected potential; its contrast transfer is a relative change of intensity."""
    transmission: Image
    """Fraction of the electrons that are not lost; 1 in ice of average thickness."""
    grain: Image
    """Amplitude of the amorphous noise, relative to ice of average thickness."""
    blocked: Mask
    """Where no particle is."""


def draw_ice(
    rng: np.random.Generator,
    field: Field,
    mean_nm: float = MEAN_ICE_NM,
    gradient: float | None = None,
) -> Scenery:
    """Return a field of empty ice whose thickness changes smoothly.

    Parameters
    ----------
    rng
        Source of randomness.
    field
        Its geometry.
    mean_nm
        Mean thickness over the micrographs of a set, each of which has its own around it.
    gradient
        Relative change of the thickness from the middle to the far edge; None: a random one of
        up to 0.35.
    """
    height, width = field.shape
    # In units of half the longer side, so that the bend is the same at any field of view.
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
    # Relative to the usual thickness, in which the beam keeps a transmission of 1.
    thickness = (mean_nm / MEAN_ICE_NM) * np.maximum(level * thickness, 0.3)
    thickness = thickness.astype(np.float32)
    return Scenery(
        potential=np.zeros(field.shape, np.float32),
        transmission=np.exp((1.0 - thickness) * np.float32(MEAN_ICE_NM / MEAN_FREE_PATH_NM)),
        grain=np.sqrt(thickness),
        blocked=np.zeros(field.shape, np.bool_),
    )


def draw_amorphous_noise(rng: np.random.Generator, field: Field, grain: Image) -> Image:
    """Draw the projected potential of amorphous material: white, with a stronger slow part.

    Parameters
    ----------
    rng
        Source of randomness.
    field
        Its geometry.
    grain
        Local amplitude, shape of the field.
    """
    noise = rng.standard_normal(field.shape, dtype=np.float32)
    noise *= grain
    rows = scipy.fft.fftfreq(field.shape[0], field.pixel_size_angstrom)[:, None]
    columns = scipy.fft.rfftfreq(field.shape[1], field.pixel_size_angstrom)[None, :]
    squared = (rows**2 + columns**2).astype(np.float32)
    slow = (1.0 + squared * np.float32(ICE_LENGTH_ANGSTROM**2)) ** np.float32(-1.5)
    amplitude = np.sqrt(np.float32(ICE_WHITE**2) + np.float32(ICE_SLOW**2) * slow)
    spectrum = scipy.fft.rfft2(noise, workers=1)
    # White noise of one density per square angstrom, whatever the pixel.
    spectrum *= amplitude * np.float32(4.0 / field.pixel_size_angstrom)
    return np.asarray(scipy.fft.irfft2(spectrum, s=field.shape, workers=1, overwrite_x=True))


def measure_clearance(field: Field, blocked: Mask) -> tuple[Image, int]:
    """Measure how far every place is from the next blocked one.

    Parameters
    ----------
    field
        Its geometry.
    blocked
        Where no particle is, shape of the field.

    Returns
    -------
    ndarray
        Distance in angstrom at every `step`-th pixel, never too large.
    int
        That step.
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
    wanted: int,
    spacing_angstrom: float,
    room: tuple[Image, int],
    room_angstrom: float,
) -> FloatArray:
    """Throw particles at random where they fit.

    The micrograph is filled first, then the margin at the same density.

    Parameters
    ----------
    rng
        Source of randomness.
    field
        Its geometry.
    wanted
        Number on the micrograph; fewer are placed where there is no room.
    spacing_angstrom
        Least distance between two centres.
    room, room_angstrom
        The result of `measure_clearance` and how much of it a centre needs.

    Returns
    -------
    ndarray
        (x, y) in pixels of the field, shape (n, 2).
    """
    rows, columns = field.inner
    low = float(field.margin_px)
    inner = np.array([[low, low], [low + columns - 1, low + rows - 1]])
    outer = np.array([[0.0, 0.0], [field.shape[1] - 1.0, field.shape[0] - 1.0]])
    in_margin = round(wanted * (field.shape[0] * field.shape[1] / (rows * columns) - 1.0))
    distances, step = room
    spacing = spacing_angstrom / field.pixel_size_angstrom
    placed = np.empty((0, 2))
    for box, more in ((inner, wanted), (outer, in_margin)):
        # No more discs than a hexagonal packing holds, to stop throwing in good time.
        if spacing > 0.0:
            width, height = box[1] - box[0] + 2.0 * spacing
            more = min(more, math.ceil(width * height / (0.866 * spacing**2)))
        goal = len(placed) + more
        # Sixty throws for each particle, many at a time: most fail only when the field is full.
        for _ in range(math.ceil(60 * more / TRIES_PER_BATCH)):
            if len(placed) >= goal:
                break
            throws = rng.uniform(box[0], box[1], (TRIES_PER_BATCH, 2))
            cells = throws.astype(int) // step
            free = distances[cells[:, 1], cells[:, 0]] >= room_angstrom
            if box is outer:
                free &= ~field.shows(throws)
            throws = throws[free]
            free = cdist(throws, placed).min(axis=1, initial=np.inf) >= spacing
            fresh = np.empty((0, 2))
            for throw in throws[free]:
                if cdist(throw[None], fresh).min(initial=np.inf) >= spacing:
                    fresh = np.concatenate([fresh, throw[None]])
            placed = np.concatenate([placed, fresh[: goal - len(placed)]])
    return placed
