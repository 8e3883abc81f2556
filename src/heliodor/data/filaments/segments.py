"""Helical segments: coordinates at equal distances along filaments, with RELION's priors.

RELION's sign of psi is that of its own conversion of start-end coordinates to segments
(``convertHelicalTubeCoordsToMetaDataTable`` in ``src/helix.cpp`` of RELION 3.1 to 5): for a tube
from (x1, y1) to (x2, y2), ``rlnAnglePsiPrior`` is ``-atan2(y2 - y1, x2 - x1)`` in degrees, where y
grows with the row: psi turns counter-clockwise where row 0 is at the top, and a segment that is
turned back by its psi lies along x. The same function gives every segment a tilt of 90, counts
``rlnHelicalTrackLengthAngst`` from the first segment of the tube, places that segment at 1% of the
spacing behind the start, and sets ``rlnAnglePsiFlipRatio`` to 0.5 where the polarity of tubes is
not known.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray, Shape
from heliodor.data.coordinates.formats.filament_columns import PSI_PRIOR, TRACK_LENGTH, TUBE
from heliodor.data.coordinates.formats.relion_star import OPTICS
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.coordinates.writers import FORMATS, WriteContext, plan_files, write_picks
from heliodor.data.filaments.curve import fit_curve
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.geometry import direction_angle_deg, measure_arc
from heliodor.data.micrographs.star_list import PIXEL_SIZE as STAR_PIXEL_SIZE
from heliodor.errors import BadInput
from heliodor.utils.files import create_subfolder

#: The table of segments, and the folder with coordinate files, from which RELION extracts.
SEGMENTS_STAR, SEGMENTS_FOLDER = "segments.star", "segments"
TILT_PRIOR, FLIP_RATIO = "rlnAngleTiltPrior", "rlnAnglePsiFlipRatio"
#: The tilt of a helix that lies flat, and the ratio for tubes of unknown polarity.
FLAT_TILT_DEG, UNKNOWN_POLARITY = 90.0, 0.5
#: The share of the spacing between the start of a tube and its first segment, RELION's.
FIRST_SEGMENT = 0.01


def segment_positions(length_px: float, spacing_px: float) -> FloatArray:
    """Return the distances of segments from the start of a filament, as RELION places them."""
    first = FIRST_SEGMENT * spacing_px
    count = int(np.floor((length_px - first) / spacing_px + 1e-9)) + 1
    return np.asarray(first + spacing_px * np.arange(max(0, count)), dtype=np.float64)


def psi_prior_deg(directions: FloatArray) -> FloatArray:
    """Return RELION's psi of axes with these directions (x, y), within [-180, 180), shape (n,)."""
    return -direction_angle_deg(directions)


def mask_whole_segments(xy_px: FloatArray, shape: Shape, box_px: int) -> NDArray[np.bool_]:
    """Return which segments RELION extracts, as an edge cuts off the boxes of the others.

    It compares coordinates with fractions, unlike those of particles.

    Parameters
    ----------
    xy_px
        Centers (x, y), shape (n, 2).
    shape
        (height, width) of the micrograph.
    box_px
        Side of the boxes.
    """
    half = box_px / 2.0
    farthest = np.array([shape[1], shape[0]]) - half
    return np.asarray(np.all((xy_px >= half) & (xy_px <= farthest), axis=1))


def cut_segments(
    filaments: Filaments,
    spacing_angstrom: float,
    smoothing_px: float = 0.0,
) -> Picks:
    """Return segments at equal distances along smooth curves through the axes.

    Parameters
    ----------
    filaments
        Filaments on micrographs with known pixel sizes.
    spacing_angstrom
        Distance between segments along the axis: the rise times the number of asymmetric units.
    smoothing_px
        As for `fit_curve`.

    Returns
    -------
    Picks
        Centers of segments, with the score of the nearest points, and RELION's columns of
        helical segments.

    Raises
    ------
    BadInput
        If the spacing is not positive, or the pixel size of a micrograph with filaments is
        unknown.
    """
    if not spacing_angstrom > 0.0:
        raise BadInput(f"the distance between segments must be above 0, not {spacing_angstrom:g}")
    tables = [Picks.empty(filaments.micrographs)]
    for one in filaments:
        pixel = filaments.pixel_sizes.get(one.micrograph)
        if pixel is None:
            raise BadInput(
                f"the pixel size of {one.micrograph} is unknown, so segments cannot be spaced in"
                " angstrom; give --pixel-size"
            )
        tables.append(_cut_one(one, spacing_angstrom, pixel, smoothing_px))
    return Picks.concatenate(tables)


def _cut_one(one: Filament, spacing: float, pixel: float, smoothing_px: float) -> Picks:
    curve = fit_curve(one.axis_px, smoothing_px)
    along = segment_positions(curve.length_px, spacing / pixel)
    count = len(along)
    arc = measure_arc(one.axis_px)
    # Positions on the curve are a little farther along than those on the polyline.
    scores = np.interp(along * (arc[-1] / curve.length_px), arc, one.scores)
    return Picks.from_columns(
        [one.micrograph] * count,
        curve.locate(along),
        scores,
        {
            TUBE: np.full(count, one.tube_id, dtype=object),
            TILT_PRIOR: np.full(count, FLAT_TILT_DEG),
            PSI_PRIOR: psi_prior_deg(curve.directions(along)),
            TRACK_LENGTH: spacing * np.arange(count),
            FLIP_RATIO: np.full(count, UNKNOWN_POLARITY),
            PIXEL_SIZE: np.full(count, pixel),
        },
    )


def add_optics(segments: Picks) -> Picks:
    """Return segments with an optics group for each pixel size, as RELION expects."""
    sizes = np.asarray(segments.extra.get(PIXEL_SIZE, np.zeros(0)))
    numbers = {size: n for n, size in enumerate(dict.fromkeys(sizes.tolist()), 1)}
    names = np.array([f"opticsGroup{numbers[size]}" for size in sizes.tolist()], dtype=object)
    optics = {f"{OPTICS}rlnOpticsGroupName": names, OPTICS + STAR_PIXEL_SIZE: sizes}
    return replace(segments, extra={**segments.extra, **optics})


def write_segments(folder: Path, segments: Picks, given: WriteContext) -> None:
    """Write segments as one table of particles, and as coordinate files with their list.

    RELION's extraction takes the list or the suffix of coordinate files, not a table.

    Parameters
    ----------
    folder
        Where `SEGMENTS_STAR` and `SEGMENTS_FOLDER` go.
    segments
        As `cut_segments` returns them.
    """
    write_picks(folder / SEGMENTS_STAR, add_optics(segments), FORMATS["star"], given)
    place, form = create_subfolder(folder, SEGMENTS_FOLDER), FORMATS["autopick"]
    written = write_picks(place, segments, form, given)
    # With another threshold, there may have been segments on a micrograph that has none now.
    for file in {*plan_files(place, segments, form).values()} - {*written}:
        file.unlink(missing_ok=True)
