"""Detection of the coordinates frame: whether coordinates lie on the particles in the images.

Programs flip, swap and scale coordinates, and the numbers look plausible afterwards. The images
show it: around true centers the average of the image is a particle; around points in a wrong frame
it is uniform. The average around all picks, for every displacement at once, is the correlation of
the image with the picks. Its value without displacement is compared with those far away, which
show what chance and the structure of the image produce.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from heliodor.conventions import (
    FloatArray,
    Image,
    Shape,
    to_working,
)
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.micrographs.dead_borders import find_dead_border
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.utils.statistics import robust_deviation

#: Pixels along the longer side of the images used: particles are then 8 to 40 pixels wide.
SIDE_PX = 512
#: Displacements up to this are computed; those from `FAR_PX` on show what chance produces.
REACH_PX = 64
FAR_PX = 24
#: Number and width of the rings in which the average around the picks is taken, as particles have
#: random orientations.
RINGS, RING_PX = 10, 1.5
#: The inaccuracy of clicks and boxes.
SLACK_PX = 2.5
#: The fit from which a frame is accepted; 1 is the average by chance. The best of all frames
#: reaches it for one in twenty sets of 10 to 30 random points on one micrograph, and for no set of
#: some hundred points.
FITS = 3.5
#: With fewer picks in total no frame is called wrong: of sets of 5 or 8 random points, one in five
#: fits some frame well.
FEWEST = 10
#: In ordinary images two displacements in a hundred fit this well by chance.
RARE = 1.6
#: A frame is wrong if another one fits better by this factor.
BETTER = 2.0
#: A frame in which more than this share of the picks lies outside is excluded.
MOST_OUTSIDE = 0.2
#: Number of micrographs used, those with the most picks.
MOST_VIEWS = 8
#: Number of picks used per micrograph, evenly spaced in the list: windows around picks are summed
#: one by one, which up to this number is faster than a Fourier transform.
MOST_PICKS = 1000
#: Images with a shorter side are too small: they have too few displacements.
SMALLEST_PX = 3 * REACH_PX


@dataclass(frozen=True)
class Frame:
    """A transform of coordinates: swap x and y, scale, then flip within the micrograph."""

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False
    scale: float = 1.0

    @property
    def needs_shape(self) -> bool:
        """Whether the shape of the micrograph is needed."""
        return self.flip_x or self.flip_y

    def apply(self, xy_px: FloatArray, shape: Shape | None = None) -> FloatArray:
        """Return coordinates in the frame of the micrograph.

        Parameters
        ----------
        xy_px
            (x, y), shape (n, 2).
        shape
            (height, width) of the micrograph; needed only for flips.
        """
        xy = np.array(xy_px, dtype=np.float64).reshape(-1, 2)
        if self.swap:
            xy = xy[:, ::-1]
        xy = xy * self.scale
        if self.needs_shape and shape is None:
            raise ValueError("a flip needs the shape of the micrograph")
        if self.flip_x and shape is not None:
            xy[:, 0] = shape[1] - 1 - xy[:, 0]
        if self.flip_y and shape is not None:
            xy[:, 1] = shape[0] - 1 - xy[:, 1]
        return xy

    def __str__(self) -> str:
        """Return the transform in words, as part of a sentence."""
        mirrored = {(True, False): "x flipped", (False, True): "y flipped"}.get(
            (self.flip_x, self.flip_y), "x and y flipped" if self.flip_x else ""
        )
        parts = [
            "x and y swapped" if self.swap else "",
            f"scaled by {self.scale:g}" if self.scale != 1 else "",
            mirrored,
        ]
        return ", ".join(part for part in parts if part) or "as they are"


UNCHANGED = Frame()
#: All transforms that programs apply to coordinates, the identity first.
FRAMES = tuple(
    Frame(swap, flip_x, flip_y, scale)
    for scale in (1.0, 0.5, 2.0, 0.25, 4.0)
    for swap in (False, True)
    for flip_x in (False, True)
    for flip_y in (False, True)
)


@dataclass(frozen=True)
class ImageCoordinates:
    """A micrograph and the coordinates on it."""

    #: At any sampling, shape (h, w).
    image: Image
    #: (height, width) of the original file, in whose pixels the coordinates are.
    original_shape: Shape
    xy_px: FloatArray


@dataclass(frozen=True)
class FrameVerdict:
    """Which frame fits the images."""

    #: The best of all frames.
    frame: Frame
    #: How well it fits: 1 is the average by chance, 3.5 or more is significant.
    fit: float
    #: How well the coordinates fit as they are.
    fit_unchanged: float
    #: Displacement (x, y) of the particles from the unchanged coordinates, in original pixels, if
    #: the coordinates fit far better there than in any frame: if they are corners of boxes
    #: instead of centers, for example.
    displacement_px: tuple[float, float] | None

    @property
    def is_decided(self) -> bool:
        """Whether the images determine the frame."""
        return self.fit >= FITS

    @property
    def is_wrong(self) -> bool:
        """Whether the coordinates clearly lie in another frame, or next to the particles."""
        return self.is_transformed or self.displacement_px is not None

    @property
    def is_transformed(self) -> bool:
        """Whether the coordinates clearly lie in another frame."""
        return (
            self.is_decided and self.frame != UNCHANGED and self.fit > BETTER * self.fit_unchanged
        )

    def __str__(self) -> str:
        """Return the result as a sentence without a period."""
        if self.is_transformed:
            return (
                f"the coordinates match the images with {self.frame} (fit {self.fit:.1f},"
                f" unchanged {self.fit_unchanged:.1f}; chance is 1)"
            )
        if self.displacement_px is not None:
            x, y = self.displacement_px
            return (
                f"the particles in the images are displaced by {x:+.0f}, {y:+.0f} px (x, y) from"
                " the coordinates: are these corners of boxes instead of centers?"
            )
        if self.fit_unchanged >= FITS:
            return f"the coordinates match the images (fit {self.fit_unchanged:.1f})"
        return (
            f"the images do not show whether the frame is right (fit {self.fit_unchanged:.1f},"
            " chance is 1): too few picks, or particles too faint"
        )


def judge_frame(views: Iterable[ImageCoordinates]) -> FrameVerdict:
    """Find the frame in which coordinates match the images.

    Parameters
    ----------
    views
        Micrographs with their coordinates; 30 picks in total are enough at typical contrast.
        Images of less than 192 pixels are ignored.

    Returns
    -------
    Verdict
        The best of flips, a swap and factors of 1/4 to 4, and a displacement common to all picks.
    """
    # For each frame and displacement: the sum around the picks, and the number of picks summed.
    sums = {frame: np.zeros((2, 2 * REACH_PX + 1, 2 * REACH_PX + 1)) for frame in FRAMES}
    lost, total, zoom = dict.fromkeys(FRAMES, 0), 0, 1.0
    for view in views:
        image = _prepare_image(view.image)
        if min(image.shape) < SMALLEST_PX:
            continue
        padded = np.pad(image.astype(np.float64), REACH_PX)
        total += len(view.xy_px)
        zoom = view.original_shape[1] / image.shape[1]
        for frame in FRAMES:
            xy = frame.apply(view.xy_px, view.original_shape)
            inside = ~mask_outside(xy, view.original_shape)
            lost[frame] += int(np.count_nonzero(~inside))
            if inside.any():
                some = xy[inside]
                some = some[:: -(-len(some) // MOST_PICKS)]
                small = to_working(some, view.original_shape, _shape(image))
                sums[frame] += _sum_around(padded, small)
    fits = {
        frame: _compute_fits(*own)
        for frame, own in sums.items()
        if own.any() and lost[frame] <= MOST_OUTSIDE * total
    }
    center = {frame: _fit_at_center(fit) for frame, fit in fits.items()}
    as_given = center.get(UNCHANGED, 0.0)
    best = max(center, key=center.__getitem__, default=UNCHANGED)
    fit = center.get(best, 0.0)
    if total < FEWEST:
        return FrameVerdict(UNCHANGED, as_given, as_given, None)
    displacement = None
    if UNCHANGED in fits:
        row, column = np.unravel_index(np.argmax(fits[UNCHANGED]), fits[UNCHANGED].shape)
        # One of many displacements is the best by chance, so more is required than of one.
        if fits[UNCHANGED][row, column] > BETTER * max(fit, FITS):
            displacement = ((column - REACH_PX) * zoom, (row - REACH_PX) * zoom)
    return FrameVerdict(best, fit, as_given, displacement)


def _shape(image: Image) -> Shape:
    height, width = image.shape
    return height, width


def _prepare_image(image: Image) -> Image:
    """Return a small image with deviation 1, without background, outliers and dead borders."""
    factor = min(1.0, SIDE_PX / max(image.shape))
    small = fourier_crop(image, (round(image.shape[0] * factor), round(image.shape[1] * factor)))
    small -= np.float32(small.mean(dtype=np.float64))
    small -= gaussian_filter(small, FAR_PX / 2)
    rows, columns = find_dead_border(small).widen(4).live_region(small.shape)
    alive = small[rows, columns]
    alive = alive - np.median(alive)
    spread = robust_deviation(alive, 0.0) or 1.0
    out = np.zeros_like(small)
    out[rows, columns] = np.clip(alive / np.float32(spread), -3, 3)
    out[rows, columns] -= out[rows, columns].mean()
    return out


def _sum_around(padded: FloatArray, xy: FloatArray) -> FloatArray:
    """Return the sums of an image, and of ones, in windows centered on all picks.

    Parameters
    ----------
    padded
        The image, padded with `REACH_PX` zeros on each side.
    xy
        (x, y) in the image without padding, shape (n, 2).

    Returns
    -------
    ndarray
        Shape (2, 2 `REACH_PX` + 1, 2 `REACH_PX` + 1).
    """
    sides = np.array(padded.shape[::-1]) - 2 * REACH_PX
    nearest = np.minimum(np.rint(xy).astype(np.intp), sides - 1)
    window = 2 * REACH_PX + 1
    total = np.zeros((window, window))
    for x, y in nearest.tolist():
        total += padded[y : y + window, x : x + window]
    # Whether a displaced pick is in the image depends on its row and its column separately.
    moved = nearest[:, :, None] + np.arange(-REACH_PX, REACH_PX + 1)
    columns, rows = ((moved >= 0) & (moved < sides[:, None])).transpose(1, 0, 2).astype(np.float64)
    return np.stack([total, rows.T @ columns])


def _displacement_lengths() -> FloatArray:
    axis = np.arange(-REACH_PX, REACH_PX + 1)
    return np.hypot(axis[:, None], axis[None, :])


@cache
def _ring_spectra(padded: int) -> NDArray[np.complexfloating]:
    """Return the spectra of averages over rings, for squares with sides of `padded` pixels."""
    axis = scipy.fft.fftfreq(padded, 1 / padded)
    ring = np.floor(np.hypot(axis[:, None], axis[None, :]) / RING_PX)
    kernels = (ring == np.arange(RINGS)[:, None, None]).astype(np.float64)
    return np.asarray(scipy.fft.rfft2(kernels / kernels.sum(axis=(1, 2), keepdims=True)))


def _compute_fits(around: FloatArray, count: FloatArray) -> FloatArray:
    """Return for each displacement how much the rings around it differ from chance.

    The root mean square over the rings of their averages, each in units of the typical value
    among displacements: 1 by chance. 0 where most picks are displaced to outside.
    """
    distance = _displacement_lengths()
    margin = int(RINGS * RING_PX)
    known = count > count.max() / 2
    known[:margin] = known[-margin:] = known[:, :margin] = known[:, -margin:] = False
    far = known & (distance > FAR_PX)
    if not far.any():
        return np.zeros_like(around)
    # The noise of a sum grows with the square root of the number of its terms.
    around = around / np.sqrt(np.maximum(count, 1.0))
    around = around - around[far].mean()
    side = len(around)
    padded = scipy.fft.next_fast_len(side + margin, True)
    spectra = scipy.fft.rfft2(around, (padded, padded)) * _ring_spectra(padded)
    means = scipy.fft.irfft2(spectra, (padded, padded), overwrite_x=True)[:, :side, :side]
    # From the median, as particles that are all displaced are far away but not chance.
    usual = np.median(means[:, far] ** 2, axis=1) / 0.455
    usual[usual == 0] = 1.0
    total = (means**2 / usual[:, None, None]).sum(axis=0)
    return np.where(known, np.sqrt(total / RINGS), 0.0)


def _fit_at_center(fits: FloatArray) -> float:
    """Return the fit without displacement, reduced if good fits are common far away.

    They are for few picks on images with edges and ice.
    """
    distance = _displacement_lengths()
    far = fits[(distance > FAR_PX) & (fits > 0)]
    common = float(np.quantile(far, 0.98)) / RARE if len(far) else 1.0
    return float(fits[distance <= SLACK_PX].max()) / max(1.0, common)
