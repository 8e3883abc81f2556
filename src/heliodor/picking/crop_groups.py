"""Quick groups of crops that look alike, with their averages, to tell particles from junk.

This is no 2D classification: nothing is refined, views of one particle are not separated, and the
CTF is not considered. Crops are compared by properties that do not depend on their rotation, so
that a few hundred take seconds. They are then rotated to the average of their group, to show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.distance import cdist

from heliodor.conventions import FloatArray, Image, IndexArray
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.utils.statistics import robust_deviation

#: Side of a crop in pixels, and the particle's diameter on it.
SIDE_PX: Final = 48
DIAMETER_PX: Final = 24.0
#: The usual number of groups, and the fewest crops per group, on average.
GROUPS: Final = 40
FEWEST_EACH: Final = 5
#: Gaussian whose average is subtracted from a micrograph, in diameters; crops keep the shading of
#: carbon and ice.
BACKGROUND_DIAMETERS: Final = 4.0
#: Pixels beyond this many deviations of the micrograph are clipped.
CLIP: Final = 8.0
#: Gaussian that removes most noise, in pixels of a crop.
SMOOTH_PX: Final = 1.2
#: Rings of the profile, from the center to one diameter.
RINGS: Final = 10
#: Detail is measured below these Gaussians, in pixels of a crop.
BANDS_PX: Final = (1.0, 2.0, 4.0)
#: The weights of detail, of the profile and of scores beside the features of a network, whose
#: weight is 1.
DETAIL_WEIGHT: Final = 0.5
PROFILE_WEIGHT: Final = 0.35
SCORE_WEIGHT: Final = 0.5
#: The share of the mean variance that is added to the noise of each feature, as it is measured on
#: few crops, and the number of components in which features are compared.
MORE_NOISE: Final = 0.02
COMPONENTS: Final = 16
#: Standardized properties beyond this are clipped.
MOST_DEVIATIONS: Final = 5.0
#: Starts of the clustering, of which the tightest result is taken, and its iterations.
STARTS, ITERATIONS = 5, 50
#: Angles, and rounds in which crops are rotated to the average of their group.
ANGLES: Final = 64
TURNS: Final = 3

Crops = NDArray[np.float32]


@dataclass(frozen=True)
class CropGroups:
    """Groups of crops that look alike, the largest first."""

    #: The group of each crop, shape (n,).
    group: IndexArray
    #: Number of crops in each group, shape (k,).
    counts: IndexArray
    #: Average of each group, its crops rotated to each other, shape (k, SIDE_PX, SIDE_PX).
    averages: Crops


def cut_crops(
    image: Image, pixel_size_angstrom: float, xy_px: FloatArray, diameter: float
) -> Crops:
    """Cut crops that are two particle diameters wide from a micrograph.

    Parameters
    ----------
    image
        The micrograph at any sampling, shape (h, w).
    pixel_size_angstrom
        Of the image.
    xy_px
        Centers (x, y) in pixels of the image, shape (n, 2).
    diameter
        The particle's, in angstrom.

    Returns
    -------
    ndarray of float32, shape (n, SIDE_PX, SIDE_PX)
        In robust deviations of the micrograph, without its slow background; mirrored beyond its
        edges.
    """
    scale = DIAMETER_PX * pixel_size_angstrom / diameter
    shape = tuple(max(1, round(side * scale)) for side in image.shape)
    if scale < 1:
        small = fourier_crop(np.asarray(image, np.float32), (shape[0], shape[1]))
    else:
        rows, columns = (
            (np.arange(new) + 0.5) * old / new - 0.5
            for new, old in zip(shape, image.shape, strict=True)
        )
        grid = np.meshgrid(rows, columns, indexing="ij")
        small = map_coordinates(np.asarray(image, np.float32), grid, order=1, mode="nearest")
    small = small - _blur(small, BACKGROUND_DIAMETERS * DIAMETER_PX)
    small = np.clip(small / (robust_deviation(small, 0.0) or 1.0), -CLIP, CLIP)
    half = SIDE_PX // 2
    padded = np.pad(small, half, mode="symmetric" if min(shape) >= half else "edge")
    scales = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]])
    corners = np.rint((np.reshape(xy_px, (-1, 2)) + 0.5) * scales - 0.5).astype(np.intp)
    corners = np.clip(corners, 0, np.array(small.shape[::-1]) - 1)
    out = np.empty((len(corners), SIDE_PX, SIDE_PX), np.float32)
    for crop, (x, y) in zip(out, corners, strict=True):
        crop[:] = padded[y : y + SIDE_PX, x : x + SIDE_PX]
    return out


def group_crops(
    crops: Crops,
    features: NDArray[np.floating] | None = None,
    groups: int = GROUPS,
    seed: int = 0,
    noise: NDArray[np.floating] | None = None,
    scores: NDArray[np.floating] | None = None,
) -> CropGroups:
    """Group crops by what they look like, whatever their rotation.

    By the mean over rings around the center, and with the features of a network by these, by how
    much detail there is at several scales in the particle and around it, and by scores. A network
    does not see quite the same in a crop and in the same crop turned. Where it is known by how
    much, features are compared by differences that are larger than this.

    Parameters
    ----------
    crops
        Of `cut_crops`, shape (n, SIDE_PX, SIDE_PX).
    features
        Of a network at the centers, shape (n, k).
    groups
        The number of groups; there are fewer for fewer crops.
    seed
        The same seed gives the same groups.
    noise
        Differences of the features between crops like these and the same crops, turned; shape
        (m, k).
    scores
        Of the network, if it is not to be told from the features alone; shape (n,).

    Raises
    ------
    ValueError
        If there are no crops, or the features are not one row for each.
    """
    rows = [len(own) for own in (features, scores) if own is not None]
    if not len(crops) or any(own != len(crops) for own in rows):
        raise ValueError("there must be crops, and one row of features, and a score, for each")
    smooth = gaussian_filter(crops, (0, SMOOTH_PX, SMOOTH_PX), mode="nearest")
    if features is None:
        table = _as_block(_measure_profile(smooth))
    else:
        seen = np.asarray(features, np.float64)
        has_noise = noise is not None and bool(np.any(noise))
        blocks = [
            _whiten(seen, np.asarray(noise, np.float64)) if has_noise else _as_block(seen),
            DETAIL_WEIGHT * _as_block(_measure_detail(crops)),
            PROFILE_WEIGHT * _as_block(_measure_profile(smooth)),
        ]
        if scores is not None:
            blocks.append(SCORE_WEIGHT * _as_block(np.asarray(scores, np.float64)[:, None]))
        table = np.concatenate(blocks, axis=1)
    group = _cluster(table, min(groups, len(crops)), seed)
    counts = np.bincount(group)
    averages = [
        _average_rotated(crops[group == g], smooth[group == g]) for g in range(len(counts))
    ]
    return CropGroups(group, counts, np.stack(averages))


def average_crops(crops: Crops) -> Image:
    """Return the mean of crops as they are: aligned by their centers only."""
    return np.asarray(crops.mean(axis=0, dtype=np.float64), dtype=np.float32)


def _blur(image: Image, sigma_px: float) -> Image:
    """Return an image with a wide Gaussian average, of blocks of pixels, which is much faster."""
    block = max(1, int(sigma_px / 8))
    height, width = image.shape
    rows, columns = (np.arange(0, side, block) for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(image, rows, axis=0), columns, axis=1)
    high, wide = np.diff([*rows, height]), np.diff([*columns, width])
    smooth = gaussian_filter(sums / np.outer(high, wide), sigma_px / block, mode="reflect")
    at = [(np.arange(side) + 0.5) / block - 0.5 for side in (height, width)]
    grid = np.meshgrid(*at, indexing="ij")
    return np.asarray(map_coordinates(smooth, grid, order=1, mode="nearest"), np.float32)


def _radius() -> FloatArray:
    """Return the distance of each pixel of a crop from its center, in diameters."""
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX // 2
    return np.asarray(np.hypot(row, column) / DIAMETER_PX)


def _measure_profile(smooth: Crops) -> FloatArray:
    """Return the mean of each crop over rings around its center, shape (n, RINGS)."""
    radius, edges = _radius(), np.linspace(0, 1, RINGS + 1)
    rings = [(radius >= a) & (radius < b) for a, b in pairwise(edges)]
    return np.stack([smooth[:, ring].mean(axis=1, dtype=np.float64) for ring in rings], axis=1)


def _measure_detail(crops: Crops) -> FloatArray:
    """Return the log variance of detail at several scales, in the particle and around it."""
    radius, columns, last = _radius(), list[FloatArray](), crops
    inside, around = radius < 0.5, (radius > 0.55) & (radius < 1)
    for sigma in BANDS_PX:
        smooth = gaussian_filter(crops, (0, sigma, sigma), mode="nearest")
        columns += [_log_variance((last - smooth)[:, part]) for part in (inside, around)]
        last = smooth
    columns.append(_log_variance(last.reshape(len(last), -1)))
    return np.stack(columns, axis=1)


def _log_variance(values: Crops) -> FloatArray:
    return np.asarray(np.log(values.var(axis=1, dtype=np.float64) + 1e-6))


def _as_block(table: FloatArray) -> FloatArray:
    """Return columns of robust deviation 1, divided by the square root of their number."""
    middle = np.median(table, axis=0)
    deviation = 1.4826 * np.median(np.abs(table - middle), axis=0)
    scaled = (table - middle) / np.where(deviation > 1e-9, deviation, np.inf)
    return np.clip(scaled, -MOST_DEVIATIONS, MOST_DEVIATIONS) / math.sqrt(table.shape[1])


def _whiten(features: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the main components of features in units of their noise, of total deviation 1."""
    covariance = noise.T @ noise / len(noise)
    more = MORE_NOISE * np.trace(covariance) / len(covariance)
    values, vectors = np.linalg.eigh(covariance + more * np.eye(len(covariance)))
    whitened = (features - np.median(features, axis=0)) @ (vectors / np.sqrt(values))
    # Rows far from the others have no more weight in the choice of components.
    length = np.linalg.norm(whitened, axis=1)
    weight = 1 / np.maximum(1, length / (np.median(length) or np.inf))
    axes = np.linalg.svd(whitened * weight[:, None], full_matrices=False)[2]
    found = whitened @ axes[:COMPONENTS].T
    found -= np.median(found, axis=0)
    deviation = 1.4826 * np.median(np.abs(found), axis=0)
    found = np.clip(found, -MOST_DEVIATIONS * deviation, MOST_DEVIATIONS * deviation)
    return np.asarray(found / (math.sqrt(float((deviation**2).sum())) or 1.0))


def _cluster(table: FloatArray, groups: int, seed: int) -> IndexArray:
    """Return the group of each row, numbered by falling size (k-means)."""
    random, best, least = np.random.default_rng(seed), np.zeros(len(table), np.intp), math.inf
    for _ in range(STARTS):
        group, cost = _move_centers(table, _choose_starts(table, groups, random))
        if cost < least:
            best, least = group, cost
    sizes = np.bincount(best, minlength=groups)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(groups, np.intp)
    rank[order] = np.arange(groups)
    return np.asarray(rank[best])


def _move_centers(table: FloatArray, centers: FloatArray) -> tuple[IndexArray, float]:
    """Return the group of each row, and the sum of squared distances from the centers.

    A center to which no row is nearest stays where it is, and its group is empty.
    """
    group = np.full(len(table), -1, np.intp)
    for _ in range(ITERATIONS):
        distance = cdist(table, centers, "sqeuclidean")
        last, group = group, np.argmin(distance, axis=1)
        if np.array_equal(group, last):
            break
        member = group[None] == np.arange(len(centers))[:, None]
        count = member.sum(axis=1)[:, None]
        centers = np.where(count > 0, member @ table / np.maximum(count, 1), centers)
    return group, float(((table - centers[group]) ** 2).sum())


def _choose_starts(table: FloatArray, groups: int, random: np.random.Generator) -> FloatArray:
    """Return rows far from each other (k-means++, Arthur and Vassilvitskii 2007)."""
    chosen = [int(random.integers(len(table)))]
    distance = ((table - table[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < groups:
        total = distance.sum()
        if not total:  # fewer different rows than groups
            break
        chosen.append(int(random.choice(len(table), p=distance / total)))
        distance = np.minimum(distance, ((table - table[chosen[-1]]) ** 2).sum(axis=1))
    return table[chosen]


def _average_rotated(crops: Crops, smooth: Crops) -> Image:
    """Return the average of crops that are rotated to it, which is found in a few rounds."""
    angles = _find_angles(smooth)
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX // 2
    total = np.zeros((SIDE_PX, SIDE_PX))
    for crop, angle in zip(crops, angles, strict=True):
        cosine, sine = math.cos(angle), math.sin(angle)
        at = [cosine * row - sine * column, cosine * column + sine * row]
        total += map_coordinates(
            crop, [each + SIDE_PX // 2 for each in at], order=1, mode="nearest"
        )
    return np.asarray(total / len(crops), dtype=np.float32)


def _find_angles(smooth: Crops) -> FloatArray:
    """Return the angle by which each crop has to be rotated, in radians."""
    radii = np.arange(2.0, DIAMETER_PX * 0.6)
    theta = 2 * np.pi * np.arange(ANGLES) / ANGLES
    rows, columns = (
        SIDE_PX // 2 + radii[:, None] * wave(theta)[None] for wave in (np.sin, np.cos)
    )
    rings = np.stack([map_coordinates(crop, [rows, columns], order=1) for crop in smooth])
    spectra = np.fft.rfft(rings * np.sqrt(radii)[:, None], axis=2)
    spectra[:, :, 0] = 0  # what does not change when it is rotated
    waves = np.arange(spectra.shape[2])
    shifts = np.zeros(len(smooth), np.intp)
    total = spectra[0].copy()
    for turn in range(TURNS):
        for i, own in enumerate(spectra):
            shifted = own * np.exp(-2j * np.pi * waves * shifts[i] / ANGLES)
            rest = total if turn == 0 else total - shifted
            if turn or i:
                match = np.fft.irfft((rest * own.conj()).sum(axis=0), ANGLES)
                shifts[i] = int(np.argmax(match))
                shifted = own * np.exp(-2j * np.pi * waves * shifts[i] / ANGLES)
                total = rest + shifted
    return np.asarray(2 * np.pi * shifts / ANGLES)


def as_gray(averages: Sequence[Image] | Crops) -> NDArray[np.uint8]:
    """Return averages as bytes: the mean of each is 128, and 3 deviations are black and white.

    The corners, which are not complete where crops were rotated, are 128 too.
    """
    out = np.empty((len(averages), SIDE_PX, SIDE_PX), np.uint8)
    for gray, own in zip(out, averages, strict=True):
        inside = _radius() < SIDE_PX / 2 / DIAMETER_PX
        middle, deviation = float(own[inside].mean()), float(own[inside].std()) or 1.0
        scaled = np.where(inside, 128 + (own - middle) * (127 / 3 / deviation), 128)
        gray[:] = np.clip(np.rint(scaled), 0, 255)
    return out
