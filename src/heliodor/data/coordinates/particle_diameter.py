"""Measurement of the particle diameter, and of other lengths, from labels.

The only number that a user must give is the longest diameter of the particle; all other lengths
follow from it. Here it is measured from labels, to be suggested or compared with the given one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from heliodor.conventions import (
    TRAINING_RADIUS_FRACTION,
    WORKING_DIAMETER_PX,
    FloatArray,
    Image,
)
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.particle_average import (
    FEWEST_PX,
    MOST_PX,
    SIDE_PX,
    BoxScale,
    LabeledView,
    bandpass_boxes,
    choose_scale,
    cut_scales,
    recenter_boxes,
)
from heliodor.data.coordinates.particle_extent import (
    Extent,
    compute_profiles,
    measure_extent,
    try_diameter,
)
from heliodor.errors import BadInput

#: Finest pixel size used for measurements: 40 Å are then ten pixels.
FINEST_ANGSTROM = 4.0
#: The largest diameter, in angstrom and as a share of the side of the micrograph: a particle needs
#: surroundings.
MOST_ANGSTROM, MOST_OF_SIDE = 1600.0, 0.4
#: Fewest labels for a measurement, and for an accurate one.
FEWEST_LABELS, ENOUGH_LABELS = 5, 20
#: Largest numbers of labels, chosen at random, and of micrographs, those with the most labels.
MOST_LABELS, MOST_MICROGRAPHS = 300, 40
#: Contrast, in standard errors, of a clear signal: needed to contradict a given diameter.
PLAIN = 4.0
#: Contrast below which the signal may be noise.
FAINT = 2.0
#: The network of the default recipe.
NETWORK = "resnet8"
#: Share of the labels with a neighbor within the label distance.
CLOSE_SHARE = 0.05
#: A given diameter is questioned if it differs by more than this factor and there are
#: `ENOUGH_LABELS`. Diameters within a factor of `LOOKED_AT` are tried.
DISAGREES, LOOKED_AT = 1.5, 4.0
#: Numbers of labels and micrographs for that.
QUICK_LABELS, QUICK_MICROGRAPHS = 120, 8
#: Share of the labels that must have been used, away from ice and edges.
MEASURED = 0.7


@dataclass(frozen=True)
class Geometry:
    """Lengths suited to labeled particles, in angstrom, and the average particle."""

    extent: Extent
    working_pixel_size_angstrom: float
    training_radius_angstrom: float
    exclusion_radius_angstrom: float
    #: The distance beyond which 95% of the labels have their nearest neighbor; None if there are
    #: too few neighbors.
    label_distance_angstrom: float | None
    labels: int
    micrographs: int
    #: The average of the boxes around labels, centered on the particle, shape (n, n).
    average: Image
    labels_averaged: int
    average_pixel_size_angstrom: float
    #: Distances from the center in angstrom, and in the rings there the mean of the band-passed
    #: pixels and the power of the particles, both with a maximum of 1, shape (k,).
    radius_angstrom: FloatArray
    mean: FloatArray
    power: FloatArray
    #: Remarks for the user.
    notes: list[str]

    @property
    def diameter_angstrom(self) -> float:
        """The longest diameter, in whole angstrom up to 100 and in steps of 5 beyond."""
        step = 1 if self.extent.diameter_angstrom < 100 else 5
        return float(step * round(self.extent.diameter_angstrom / step))

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, ready for JSON."""
        extent = self.extent
        return {
            "diameter_angstrom": self.diameter_angstrom,
            "diameter_low_angstrom": round(extent.low_angstrom, 1),
            "diameter_high_angstrom": round(extent.high_angstrom, 1),
            "confidence": 0.95,
            "contrast": round(extent.contrast, 2),
            "round": extent.round,
            "labels": self.labels,
            "labels_used": extent.labels,
            "micrographs": self.micrographs,
            "working_pixel_size_angstrom": self.working_pixel_size_angstrom,
            "training_radius_angstrom": self.training_radius_angstrom,
            "exclusion_radius_angstrom": self.exclusion_radius_angstrom,
            "label_distance_angstrom": self.label_distance_angstrom,
            "profile": {
                "radius_angstrom": [round(float(r), 2) for r in self.radius_angstrom],
                "mean": [round(float(m), 4) for m in self.mean],
                "power": [round(float(p), 4) for p in self.power],
            },
        }


def measure_geometry(
    views: Sequence[LabeledView], original_pixel_size_angstrom: float, seed: int = 0
) -> Geometry:
    """Measure the diameter and other lengths of labeled particles.

    Parameters
    ----------
    views
        Micrographs with one pixel size, with all their labels.
    original_pixel_size_angstrom
        The pixel size of the files; the working images cannot be finer.
    seed
        Seed of the choice of labels, if there are many, and of the uncertainty.

    Raises
    ------
    BadInput
        If there are fewer than five labels, or no clear signal at them.
    """
    number = _count_labels(views)
    if number < FEWEST_LABELS:
        raise BadInput(
            f"{number} labels are too few to measure the diameter; label at least {FEWEST_LABELS}"
            f" particles, better {ENOUGH_LABELS}"
        )
    chosen = sample_labels(views, MOST_LABELS, MOST_MICROGRAPHS, seed)
    pixel = chosen[0].pixel_size_angstrom
    side = max(min(view.image.shape) for view in chosen) * pixel
    most = max(2 * FEWEST_PX * pixel, min(MOST_ANGSTROM, MOST_OF_SIDE * side))
    scales = cut_scales(chosen, most)
    extent = measure_extent(scales, FEWEST_PX * pixel, most, seed)
    if extent is None or extent.contrast < FAINT:
        raise BadInput(
            f"there is no clear particle signal between {FEWEST_PX * pixel:.0f} and {most:.0f} Å"
            " at the labels; check them with `heliodor check`, label more, or give --diameter"
        )
    distance = measure_label_distance(views, extent.diameter_angstrom)
    radius, notes = _exclusion_radius(extent, distance)
    notes = _collect_notes(extent, number) + notes
    average, sampling = _average_boxes(scales, extent)
    mean, power = _measure_profiles(scales, extent)
    working = extent.diameter_angstrom / WORKING_DIAMETER_PX[NETWORK]
    return Geometry(
        extent,
        round(max(working, original_pixel_size_angstrom), 2),
        round(extent.diameter_angstrom * TRAINING_RADIUS_FRACTION, 1),
        radius,
        distance,
        number,
        len(views),
        average,
        _count_labels(chosen),
        sampling,
        np.arange(len(mean)) * extent.diameter_angstrom / len(mean),
        mean / (float(np.abs(mean).max()) or 1.0),
        power / (float(np.abs(power).max()) or 1.0),
        notes,
    )


def sample_labels(
    views: Sequence[LabeledView], most_labels: int, most_micrographs: int, seed: int
) -> list[LabeledView]:
    """Choose labels at random from the micrographs with most of them."""
    fullest = sorted(views, key=lambda view: -len(view.xy_px))[:most_micrographs]
    fullest = [view for view in fullest if len(view.xy_px)]
    owner = np.repeat(np.arange(len(fullest)), [len(view.xy_px) for view in fullest])
    chosen = np.zeros(len(owner), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(owner))[:most_labels]] = True
    return [
        LabeledView(view.image, view.pixel_size_angstrom, view.xy_px[chosen[owner == i]])
        for i, view in enumerate(fullest)
        if chosen[owner == i].any()
    ]


def measure_label_distance(views: Sequence[LabeledView], diameter_angstrom: float) -> float | None:
    """Return the distance in angstrom beyond which 95% of the labels have their nearest neighbor.

    Labels closer than an eighth of the diameter are one particle labeled twice, and are ignored.
    None if fewer than 20 labels have a neighbor.
    """
    nearest: list[float] = []
    for view in views:
        if len(view.xy_px) > 1:
            own = cKDTree(view.xy_px).query(view.xy_px, 2)[0][:, 1] * view.pixel_size_angstrom
            nearest += own[own > diameter_angstrom * TRAINING_RADIUS_FRACTION].tolist()
    if len(nearest) < ENOUGH_LABELS:
        return None
    return round(float(np.quantile(nearest, CLOSE_SHARE)), 1)


def find_diameter_conflict(
    images: Sequence[LabeledImage], pixel_size_angstrom: float, diameter_angstrom: float
) -> str | None:
    """Return a warning if labels clearly show another diameter than the given one.

    Parameters
    ----------
    images
        Working images, normalized or not, with their labels.
    pixel_size_angstrom
        Their pixel size.
    diameter_angstrom
        The given diameter.

    Returns
    -------
    str or None
        A warning; None if the two agree within the uncertainty, or with fewer than 20 labels.
    """
    views = [LabeledView(i.image, pixel_size_angstrom, i.xy_px) for i in images]
    few = sample_labels(views, QUICK_LABELS, QUICK_MICROGRAPHS, seed=0)
    if _count_labels(few) < ENOUGH_LABELS:
        few = sample_labels(views, QUICK_LABELS, MOST_MICROGRAPHS, seed=0)
    if _count_labels(few) < ENOUGH_LABELS:
        return None
    most = diameter_angstrom * LOOKED_AT
    least = max(diameter_angstrom / LOOKED_AT, FEWEST_PX * pixel_size_angstrom)
    # On coarse images it is enough to find that the two agree.
    least = min(least, diameter_angstrom / 2)
    scales = cut_scales(few, most)
    extent = measure_extent(scales, least, most, draws=0)
    if extent is None or extent.contrast < PLAIN or extent.labels < MEASURED * ENOUGH_LABELS:
        return None
    if abs(math.log(diameter_angstrom / extent.diameter_angstrom)) < math.log(DISAGREES):
        return None
    extent = measure_extent(scales, least, most)
    if extent is None or extent.low_angstrom <= diameter_angstrom <= extent.high_angstrom:
        return None
    return (
        f"the labels show particles of about {extent.diameter_angstrom:.0f} Å"
        f" ({extent.low_angstrom:.0f} to {extent.high_angstrom:.0f}), but the given diameter is"
        f" {diameter_angstrom:g} Å: check the diameter and the pixel size on the average drawn by"
        " `heliodor suggest`"
    )


def _count_labels(views: Sequence[LabeledView]) -> int:
    return sum(len(view.xy_px) for view in views)


def _exclusion_radius(extent: Extent, distance: float | None) -> tuple[float, list[str]]:
    """Return the radius of the particle, or less if labels are closer to each other."""
    radius = extent.diameter_angstrom / 2
    if distance is None or distance >= radius:
        return round(radius, 1), []
    smaller = max(distance, radius / 2)
    note = (
        f"one label in 20 has a neighbor within {distance:.0f} Å, which is less than the radius of"
        f" the particle, {radius:.0f} Å: give --exclusion-radius {smaller:.0f} if these are"
        " particles next to each other"
    )
    return round(smaller, 1), [note]


def _collect_notes(extent: Extent, number: int) -> list[str]:
    notes = []
    if number < ENOUGH_LABELS:
        notes.append(f"{number} labels give only rough estimates; label {ENOUGH_LABELS} or more")
    if extent.contrast < PLAIN:
        notes.append(
            "the particle signal at these labels is weak, so the diameter may be far off: check"
            " the average and the labels, or label more"
        )
    return notes


def _measure_profiles(scales: Sequence[BoxScale], extent: Extent) -> tuple[FloatArray, FloatArray]:
    """Return the mean of the pixels and the power of the particles in rings."""
    trial = try_diameter(scales, extent.diameter_angstrom, center=extent.round)
    trial = trial or try_diameter(scales, extent.diameter_angstrom)
    assert trial is not None  # this diameter lies between two that could be tried
    return compute_profiles(trial)


def _average_boxes(scales: Sequence[BoxScale], extent: Extent) -> tuple[Image, float]:
    """Return the average of all boxes and its pixel size in angstrom."""
    scale = choose_scale(scales, extent.diameter_angstrom)
    across = extent.diameter_angstrom / scale.pixel_size_angstrom
    _, moves = recenter_boxes(bandpass_boxes(scale, extent.diameter_angstrom), across)
    axis = np.arange(SIDE_PX) - SIDE_PX // 2
    distance = np.hypot(axis[:, None], axis[None, :])
    around = (distance > 0.75 * across) & (distance < min(1.25 * across, SIDE_PX / 2))
    levelled = scale.boxes - np.median(scale.boxes[:, around], axis=1)[:, None, None]
    total = np.zeros((SIDE_PX, SIDE_PX))
    for box, (x, y) in zip(levelled, moves, strict=True):
        total += np.roll(box, (y, x), (0, 1))
    half = min(SIDE_PX // 2, math.ceil(1.25 * max(across, MOST_PX / 2)))
    middle = slice(SIDE_PX // 2 - half, SIDE_PX // 2 + half)
    return (total[middle, middle] / len(levelled)).astype(np.float32), scale.pixel_size_angstrom
