"""Read the density of a particle from an MRC or CCP4 map."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from heliodor.data.micrographs.compression import (
    decompress,
    is_compressed,
    read_first_bytes,
)
from heliodor.data.micrographs.headers import MRC_HEADER_BYTES
from heliodor.errors import BadInput
from heliodor.utils.statistics import robust_deviation

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from heliodor.conventions import FloatArray

MAP_SUFFIXES = (".mrc", ".map", ".ccp4")

#: 812 x 812 x 812 voxels.
MOST_VOXELS = 2**29

#: Voxels are averaged to about this size, and the density is smoothed to this resolution.
VOXEL_ANGSTROM = 2.5
RESOLUTION_ANGSTROM = 6.0
#: The standard deviation of the Gaussian of a resolution, as in UCSF Chimera's molmap.
SIGMA_OF_RESOLUTION = 1.0 / (math.pi * math.sqrt(2.0))

#: Minimum automatic contour: this many standard deviations above the faces of the box.
_NOISE_DEVIATIONS = 4.0
#: Separate pieces with less than this fraction of the largest piece's mass are noise.
_LEAST_PIECE_SHARE = 0.1


@dataclass(frozen=True)
class DensityMap:
    """The density of a particle in a map."""

    points: FloatArray
    """Centers of the voxels with density, (x, y, z) in angstrom, shape (n, 3)."""
    weights: FloatArray
    """Density above that of the surroundings, in units of the map, shape (n,), positive."""
    voxel_angstrom: FloatArray
    """Sides of a voxel along x, y and z, shape (3,)."""
    contour: float
    """Lowest density of the particle, in units of the map."""


def read_density_map(path: Path, contour: float | None = None) -> DensityMap:
    """Read a map and find the particle in it.

    Parameters
    ----------
    path
        .mrc, .map or .ccp4, plain or compressed (.gz).
    contour
        The lowest density of the particle, as recommended by EMDB. None: the threshold of Otsu
        (1979) in the smoothed map, but well above the noise at the faces of the box.

    Raises
    ------
    BadInput
        If the file is not a map, lacks a voxel size, or has invalid values or no density.
    """
    data, sides = _read_grid(path)
    if not np.isfinite(data).all():
        raise BadInput(f"{path} has voxels that are not numbers; write the map again")
    surroundings = float(np.median(_faces(data)))
    if contour is not None:
        # The contour refers to the map as it is, so it is applied before voxels are averaged.
        data = np.where(data >= contour, data - np.float32(surroundings), np.float32(0.0))
        data = np.maximum(data, 0.0)
    factors = [
        max(1, min(math.floor(VOXEL_ANGSTROM / side), number // 2))
        for side, number in zip(sides, data.shape, strict=True)
    ]
    data = _average_blocks(data, factors)
    sides = sides * factors
    least = contour
    if least is None:
        data = ndimage.gaussian_filter(
            data, SIGMA_OF_RESOLUTION * RESOLUTION_ANGSTROM / sides, mode="nearest"
        )
        least = _otsu_threshold(data)
        # Smoothing keeps the units of the map.
        inside = data > least
        data = data - np.float32(surroundings)
        inside &= data > 0.0
    else:
        inside = data > 0.0
    if not inside.any():
        what = "above the noise" if contour is None else f"of {contour:g} or more"
        raise BadInput(f"{path} has no density {what}; set the contour, or give another map")
    inside = _find_main_pieces(inside, data)
    points = np.argwhere(inside) * sides
    return DensityMap(points, data[inside].astype(np.float64), sides, float(least))


def _read_grid(path: Path) -> tuple[NDArray[np.float32], FloatArray]:
    """Return the density along (x, y, z) and the sides of a voxel."""
    from mrcfile.mrcinterpreter import MrcInterpreter
    from mrcfile.utils import data_dtype_from_header

    try:
        head = bytearray(read_first_bytes(path, MRC_HEADER_BYTES))
        if len(head) < MRC_HEADER_BYTES or head[208:211] != b"MAP":
            raise BadInput(f"{path} is not a map in MRC or CCP4 format; write it again")
        length, head[92:96] = bytes(head[92:96]), bytes(4)
        with warnings.catch_warnings(action="ignore"):
            header = MrcInterpreter(BytesIO(head), permissive=True, header_only=True).header
        extended = int(np.frombuffer(length, header.nsymbt.dtype)[0])
        dtype = data_dtype_from_header(header)
        content = _read_voxels(path, header, extended, dtype)
    except BadInput:
        raise
    except Exception as error:  # mrcfile and the decompressors raise many types of errors
        raise BadInput(f"{path} is damaged or not a map ({error}); copy it again") from error
    sides = _voxel_sides(path, header)
    named = [int(header.maps), int(header.mapr), int(header.mapc)]
    named = named if sorted(named) == [1, 2, 3] else [3, 2, 1]
    along_xyz = content.transpose([named.index(axis) for axis in (1, 2, 3)])
    return np.ascontiguousarray(along_xyz, dtype=np.float32), sides


def _read_voxels(path: Path, header: Any, extended: int, dtype: Any) -> NDArray[Any]:
    shape = int(header.nz), int(header.ny), int(header.nx)
    if min(shape) < 8:
        raise BadInput(
            f"{path} has {shape[2]} x {shape[1]} x {shape[0]} voxels, so it is an image and not a"
            " map; give a density map with at least 8 voxels per side"
        )
    count = math.prod(shape)
    if count > MOST_VOXELS or not 0 <= extended <= 2**25:
        raise BadInput(f"{path} has more than {MOST_VOXELS:,} voxels; bin or crop the map")
    if dtype.kind not in "iuf":
        raise BadInput(f"{path} holds {dtype} values; give a map of real numbers")
    offset = MRC_HEADER_BYTES + extended
    wanted = offset + count * dtype.itemsize
    if is_compressed(path):
        content = np.frombuffer(decompress(path, 0, wanted), np.uint8)
    else:
        content = np.fromfile(path, np.uint8, wanted)
    if len(content) < wanted:
        raise BadInput(f"{path} holds less data than its header states; copy it again")
    return np.asarray(content[offset:wanted].view(dtype).reshape(shape))


def _voxel_sides(path: Path, header: Any) -> FloatArray:
    """Return the sides of a voxel along x, y and z."""
    cell = np.array([float(header.cella[axis]) for axis in "xyz"])
    number = np.array([int(header[name]) for name in ("mx", "my", "mz")])
    angles = [float(header.cellb[name]) for name in ("alpha", "beta", "gamma")]
    # Some programs do not write the angles.
    if any(angles) and not np.allclose(angles, 90.0, atol=0.5):
        raise BadInput(f"{path} has a cell with oblique angles; resample the map on a cubic grid")
    sides = cell / np.maximum(number, 1)
    if not (np.isfinite(sides).all() and (sides >= 0.05).all() and (sides <= 50.0).all()):
        raise BadInput(f"{path} has no valid voxel size in its header; correct the header")
    return np.asarray(sides)


def _average_blocks(data: NDArray[np.float32], factors: list[int]) -> NDArray[np.float32]:
    """Average blocks of voxels; incomplete blocks at the far faces are dropped."""
    for axis, factor in enumerate(factors):
        if factor == 1:
            continue
        number = data.shape[axis] // factor
        parts = np.moveaxis(data, axis, 0)[: number * factor]
        parts = parts.reshape(number, factor, *parts.shape[1:]).mean(axis=1)
        data = np.moveaxis(parts, 0, axis)
    return data


def _faces(data: NDArray[np.float32]) -> NDArray[np.float32]:
    ends = [np.take(data, place, axis).ravel() for axis in range(3) for place in (0, -1)]
    return np.concatenate(ends)


def _otsu_threshold(data: NDArray[np.float32]) -> float:
    """Return the threshold that maximizes the variance between two classes (Otsu 1979)."""
    low, high = float(data.min()), float(data.max())
    counts, edges = np.histogram(data, bins=1024, range=(low, max(high, low + 1e-30)))
    middles = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = mass / below - (mass[-1] - mass) / above
        between = np.nan_to_num(below * above * apart**2)
    faces = _faces(data)
    noise = robust_deviation(faces)
    best = float(edges[1:][np.argmax(between)])
    return max(best, float(np.median(faces)) + _NOISE_DEVIATIONS * noise)


def _find_main_pieces(inside: NDArray[np.bool_], data: NDArray[np.float32]) -> NDArray[np.bool_]:
    pieces, number = ndimage.label(inside, np.ones((3, 3, 3)))
    masses = ndimage.sum_labels(data, pieces, np.arange(1, number + 1))
    kept = 1 + np.flatnonzero(masses >= _LEAST_PIECE_SHARE * masses.max())
    return np.isin(pieces, kept)
