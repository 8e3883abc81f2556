"""Detection of the coordinates frame: whether coordinates lie on the particles in the images.

Programs flip, swap and scale coordinates, and the numbers look plausible afterwards. The images
show it: around true centers the average of the image is a particle; around points in a wrong frame
it is uniform. How far the average is from chance is measured for each frame, and for displacements
common to all coordinates; see `ring_averages`.

Where all coordinates lie also shows a wrong scale: those in pixels of a binned image fill one
corner of every micrograph, and those in pixels of an unbinned one lie mostly outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from heliodor.conventions import (
    FloatArray,
    Image,
    IndexArray,
    Shape,
    to_working,
)
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.coordinates.ring_averages import (
    RING_PX,
    RINGS,
    SIDE_PX,
    USUAL,
    RingMaps,
    count_coincidence,
    measure_distances,
    ring_spectra,
    standardize_distance,
)

#: Displacements up to this are computed; those from `FAR_PX` on show what chance produces.
REACH_PX = 64
FAR_PX = 24
#: The inaccuracy of clicks and boxes.
SLACK_PX = 2.5
#: The fit from which a frame is accepted, in standard deviations.
FITS = 4.5
#: The fit from which a displacement is accepted: there are a thousand to choose from.
DISPLACED = 6.0
#: The fit up to which coordinates fit no better than random positions, with at least
#: `ENOUGH_TO_DENY` of them.
CHANCE, ENOUGH_TO_DENY = 3.5, 100
#: Number of coordinates that are enough if a model does not find particles there either.
ENOUGH_TO_DOUBT = 30
#: With fewer picks in total no frame is called wrong: of sets of 5 or 8 random points, one in five
#: fits some frame well.
FEWEST = 10
#: The squared distance from chance of another frame, and of a displacement, is larger than that of
#: the coordinates as they are by these factors.
BETTER, DISPLACED_BETTER = 1.5, 4.0
#: A frame in which more than this share of the picks lies outside is excluded.
MOST_OUTSIDE = 0.2
#: The extent of the coordinates alone shows a wrong scale only with this many of them, on this
#: many micrographs; or if this share of them lies outside.
ENOUGH_FOR_EXTENT, MICROGRAPHS_FOR_EXTENT, MANY_OUTSIDE = 30, 3, 0.4
#: Number of micrographs used, those with the most picks.
MOST_VIEWS = 8
#: Number of picks used per micrograph, evenly spaced in the list.
MOST_PICKS = 500
#: Images with a shorter side are too small: they have too few displacements.
SMALLEST_PX = 3 * REACH_PX
#: Factors by which images are binned, before picking or after.
FACTORS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
#: Rarer factors, which are tried without swaps and flips.
RARE_FACTORS = (1.25, 4 / 3, 2.5, 5.0, 7.0, 10.0, 20.0, 24.0, 32.0)


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
            f"scaled by {self._factor}" if self.scale != 1 else "",
            mirrored,
        ]
        return ", ".join(part for part in parts if part) or "as they are"

    @property
    def _factor(self) -> str:
        inverse = 1 / self.scale
        is_fraction = inverse > 1 and math.isclose(inverse, round(inverse, 1), rel_tol=1e-3)
        decimal = f"{self.scale:g}"
        return f"1/{inverse:g}" if is_fraction and len(decimal) > len("0.125") else decimal

    @property
    def options(self) -> str:
        """The options of `heliodor convert` that apply the transform."""
        parts = [
            "--swap-xy" if self.swap else "",
            f"--scale {self.scale:.6g}" if self.scale != 1 else "",
            "--flip-x" if self.flip_x else "",
            "--flip-y" if self.flip_y else "",
        ]
        return " ".join(part for part in parts if part)


UNCHANGED = Frame()
#: All transforms that programs apply to coordinates, the identity first.
FRAMES = tuple(
    Frame(swap, flip_x, flip_y, scale)
    for scale in (1.0, *FACTORS, *(1 / factor for factor in FACTORS))
    for swap in (False, True)
    for flip_x in (False, True)
    for flip_y in (False, True)
) + tuple(Frame(scale=scale) for factor in RARE_FACTORS for scale in (factor, 1 / factor))


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

    #: The frame in which the coordinates lie on the particles; as they are unless another one is
    #: clearly right.
    frame: Frame
    #: How well it fits, and how well the coordinates fit as they are, in standard deviations above
    #: random positions: 0 is chance, 4.5 or more is significant.
    fit: float
    fit_unchanged: float
    #: Displacement (x, y) of the particles from the unchanged coordinates, in original pixels, if
    #: the coordinates fit far better there than in any frame: if they are corners of boxes
    #: instead of centers, for example.
    displacement_px: tuple[float, float] | None = None
    #: Whether the frame follows from the extent of the coordinates, not from the images.
    by_extent: bool = False
    #: Number of coordinates compared with the images.
    number: int = 0

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
        return self.frame != UNCHANGED

    @property
    def is_chance(self) -> bool:
        """Whether many coordinates fit the images no better than random positions."""
        return self.number >= ENOUGH_TO_DENY and self.may_be_chance

    @property
    def may_be_chance(self) -> bool:
        """Whether at least `ENOUGH_TO_DOUBT` fit no better, which faint particles may do too."""
        few = self.number < ENOUGH_TO_DOUBT
        return not (few or self.is_wrong or self.fit_unchanged >= CHANCE)

    def __str__(self) -> str:
        """Return the result as a sentence without a period."""
        if self.by_extent:
            return _describe_extent(self.frame)
        if self.is_transformed:
            return (
                f"the coordinates match the images when changed: {self.frame} (fit {self.fit:.1f},"
                f" unchanged {self.fit_unchanged:.1f}; chance is 0), as `heliodor convert"
                f" {self.frame.options}` does"
            )
        if self.displacement_px is not None:
            x, y = self.displacement_px
            return (
                f"the particles in the images are displaced by {x:+.0f}, {y:+.0f} px (x, y) from"
                " the coordinates: are these corners of boxes instead of centers?"
            )
        if self.fit_unchanged >= FITS:
            return f"the coordinates match the images (fit {self.fit_unchanged:.1f})"
        if self.is_chance:
            return (
                "the coordinates fit the images no better than random positions (fit"
                f" {self.fit_unchanged:.1f} with {self.number} of them, chance is 0): are they of"
                " other micrographs, or are the particles too faint to see?"
            )
        return (
            f"the images do not show whether the frame is right (fit {self.fit_unchanged:.1f},"
            " chance is 0): too few picks, or particles too faint"
        )


def _describe_extent(frame: Frame) -> str:
    if frame.scale > 1:
        return (
            f"all coordinates lie within the first 1/{frame.scale:g} of both sides of every"
            f" micrograph, as in pixels of images binned by {frame.scale:g} or somewhat more (the"
            f" images do not show by how much); if by {frame.scale:g}, scale them with `heliodor"
            f" convert {frame.options}`"
        )
    return (
        f"most coordinates lie outside the micrographs, as in pixels of images {1 / frame.scale:g}"
        f" times as large: scale them with `heliodor convert {frame.options}`"
    )


@dataclass(frozen=True)
class MeasuredView:
    """A micrograph, measured, and coordinates on it in pixels of the file."""

    maps: RingMaps
    original_shape: Shape
    xy_px: FloatArray

    def place(self, frame: Frame) -> FloatArray:
        """Return the coordinates in a frame that lie inside, in pixels of the small image."""
        xy = frame.apply(self.xy_px, self.original_shape)
        xy = xy[~mask_outside(xy, self.original_shape)]
        return to_working(xy, self.original_shape, self.maps.shape)


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
        The best of flips, a swap and factors of 1/16 to 16, and a displacement common to all
        picks.
    """
    measured = [
        MeasuredView(RingMaps.from_image(view.image), view.original_shape, _thin(view.xy_px))
        for view in views
        if len(view.xy_px) and _is_large(view.image)
    ]
    return judge_measured(measured)


def judge_measured(measured: Sequence[MeasuredView]) -> FrameVerdict:
    """Do as `judge_frame`, with micrographs that are measured already."""
    number = sum(len(view.xy_px) for view in measured)
    if number < FEWEST:
        return FrameVerdict(UNCHANGED, 0.0, 0.0, number=number)
    as_given = _measure_fit(measured, UNCHANGED)
    best, frame = as_given, UNCHANGED
    for other in _choose_frames(measured):
        fit = _measure_fit(measured, other, best)
        if fit.standardized > best.standardized:
            best, frame = fit, other
    given = as_given.standardized
    fits = frame != UNCHANGED and best.standardized >= FITS and best.is_better(frame, as_given)
    # Picks in one corner, or on top of each other, seem to fit displacements too.
    displacement = None
    if not (fits and frame.scale != 1):
        displacement = _find_displacement(measured, max(as_given.square, best.square))
    if fits and displacement is None:
        return FrameVerdict(frame, best.standardized, given, number=number)
    if displacement is None and given < FITS:
        extent = find_scale_by_extent([(view.xy_px, view.original_shape) for view in measured])
        if extent is not None:
            return FrameVerdict(extent, given, given, by_extent=True, number=number)
    return FrameVerdict(UNCHANGED, given, given, displacement, number=number)


def _is_large(image: Image) -> bool:
    factor = min(1.0, SIDE_PX / max(image.shape))
    return bool(min(image.shape) * factor >= SMALLEST_PX)


def _thin(xy_px: FloatArray) -> FloatArray:
    return xy_px[:: -(-len(xy_px) // MOST_PICKS)]


def _choose_frames(views: Sequence[MeasuredView]) -> list[Frame]:
    """Return the frames in which most picks lie inside, if they may be right.

    Coordinates that fill the micrographs cannot be in pixels of an unbinned image: scaled down,
    they would all lie in one corner.
    """
    number = sum(len(view.xy_px) for view in views)

    def is_inside(frame: Frame) -> bool:
        inside = sum(len(view.place(frame)) for view in views)
        return inside >= (1 - MOST_OUTSIDE) * number

    fills = is_inside(UNCHANGED)
    return [
        frame
        for frame in FRAMES
        if frame != UNCHANGED and not (fills and frame.scale < 1) and is_inside(frame)
    ]


@dataclass(frozen=True)
class _Fit:
    """How far the averages around the picks in one frame are from chance."""

    #: Squared distance.
    square: float
    #: That of picks displaced by `FAR_PX` or more relative to chance, at least 1: it is larger for
    #: picks on top of each other, in images with edges and ice, and on lattices.
    usual: float

    @property
    def standardized(self) -> float:
        """In standard deviations above chance."""
        return max(0.0, standardize_distance(self.square / self.usual))

    def is_better(self, frame: Frame, as_given: _Fit) -> bool:
        """Return whether this fit, of another frame, is clearly better than the unchanged one.

        Without a factor both frames have the same arrangement of picks, and are compared directly:
        that of the right frame may be a lattice, whose displacements fit too.
        """
        other = as_given.square if frame.scale == 1 else as_given.square / as_given.usual
        own = self.square if frame.scale == 1 else self.square / self.usual
        return own > BETTER * other


def _measure_fit(views: Sequence[MeasuredView], frame: Frame, best: _Fit | None = None) -> _Fit:
    """Measure the fit of a frame; unless it exceeds `best`, without displacements."""
    maps, xy = [view.maps for view in views], [view.place(frame) for view in views]
    square = float(measure_distances(maps, xy, _NEAR).max())
    if best is not None and standardize_distance(square) <= best.standardized:
        return _Fit(square, 1.0)
    usual = float(np.median(measure_distances(maps, xy, _FAR))) / USUAL
    return _Fit(square, max(1.0, usual))


def _list_near() -> IndexArray:
    reach = int(SLACK_PX)
    axis = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return np.asarray(steps[np.hypot(steps[:, 0], steps[:, 1]) <= SLACK_PX])


def _list_far(number: int = 64) -> IndexArray:
    """Return displacements spread evenly over the ring from `FAR_PX` to twice that."""
    index = np.arange(number)
    length = FAR_PX * np.sqrt(1 + 3 * (index + 0.5) / number)
    angle = index * math.pi * (3 - math.sqrt(5))
    steps = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)
    return np.asarray(np.rint(steps), dtype=np.intp)


_NEAR, _FAR = _list_near(), _list_far()


def find_scale_by_extent(positions: Sequence[tuple[FloatArray, Shape]]) -> Frame | None:
    """Return the scale that the extent of coordinates alone shows, if any.

    Parameters
    ----------
    positions
        (x, y) on each micrograph, shape (n, 2), and the shape of the micrograph, in its pixels.

    Returns
    -------
    Frame or None
        A factor above 1 if all coordinates lie in the first corner of every micrograph, one below
        1 if many lie outside in x or y; None otherwise.
    """
    having = [(xy, shape) for xy, shape in positions if len(xy)]
    number = sum(len(xy) for xy, _ in having)
    if number < ENOUGH_FOR_EXTENT:
        return None
    reach = np.concatenate([xy / np.array(shape[::-1]) for xy, shape in having])
    outside = np.concatenate([mask_outside(xy, shape) for xy, shape in having])
    if outside.mean() > MANY_OUTSIDE:
        swapped = [mask_outside(xy[:, ::-1], shape) for xy, shape in having]
        if np.concatenate(swapped).mean() <= MOST_OUTSIDE:
            return None
        # A few coordinates may be outliers.
        needed = float(np.quantile(reach.max(axis=1), 0.99))
        enough = [factor for factor in FACTORS if factor >= needed]
        return Frame(scale=1 / enough[0]) if enough and reach.min() > -0.01 else None
    free = 1 / max(float(reach.max()), 1e-9)
    within = [factor for factor in FACTORS if factor <= free]
    if not within or len(having) < MICROGRAPHS_FOR_EXTENT:
        return None
    return Frame(scale=within[-1])


def _find_displacement(views: Sequence[MeasuredView], square: float) -> tuple[float, float] | None:
    """Return the displacement at which the picks fit far better than at `square`, in pixels.

    (x, y) in original pixels; None if there is none beyond the inaccuracy of clicks.
    """
    side = 2 * REACH_PX + 1
    margin = int(RINGS * RING_PX)
    padded = scipy.fft.next_fast_len(side + margin, True)
    spectra = ring_spectra((padded, padded))
    total, number = np.zeros((RINGS, side, side)), np.zeros((side, side))
    covariance = np.zeros((RINGS, RINGS))
    for view in views:
        xy = view.place(UNCHANGED)
        around, count = _sum_around(np.pad(view.maps.image.astype(np.float64), REACH_PX), xy)
        spectrum = scipy.fft.rfft2(around, (padded, padded)) * spectra
        total += scipy.fft.irfft2(spectrum, (padded, padded))[:, :side, :side]
        covariance += view.maps.covariance * (count.max() * count_coincidence(xy))
        number += count
    # The rings do not fit into the sums near their edges, nor where most picks leave the image.
    known = number > number.max() / 2
    known[:margin] = known[-margin:] = known[:, :margin] = known[:, -margin:] = False
    known &= _displacement_lengths() > SLACK_PX
    if not known.any():
        return None
    sums = total[:, known]
    squares = (sums * np.linalg.solve(covariance, sums)).sum(axis=0) * (
        number.max() / number[known]
    )
    usual = max(1.0, float(np.median(squares)) / USUAL)
    best = int(np.argmax(squares))
    fits = standardize_distance(squares[best] / usual) >= DISPLACED
    if not fits or squares[best] <= DISPLACED_BETTER * square:
        return None
    row, column = np.argwhere(known)[best] - REACH_PX
    zoom = views[0].original_shape[1] / views[0].maps.shape[1]
    return float(column * zoom), float(row * zoom)


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
