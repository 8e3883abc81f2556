"""Geometry: what the labels alone say of diameter, distances and sampling.

The one number that a user must give is the particle's longest diameter, and all other lengths
follow from it. Here it is measured from labels, to be suggested or to be held against what was
given.
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

#: Micrographs are looked at with this many angstrom a pixel: 40 A are ten pixels then.
FINEST_ANGSTROM = 4.0
#: The largest diameter that is looked for, and the largest that fits: a particle needs its
#: surroundings.
MOST_ANGSTROM, MOST_OF_SIDE = 1600.0, 0.4
#: Fewer labels than this tell nothing, and with fewer than the other the figure is rough.
FEWEST_LABELS, ENOUGH_LABELS = 5, 20
#: Labels taken at random where there are more, and micrographs, those with most labels.
MOST_LABELS, MOST_MICROGRAPHS = 300, 40
#: So many standard errors must the power at labels stand out, to suggest or to contradict.
PLAIN = 4.0
#: Below this, what is seen may well be noise.
FAINT = 2.0
#: The network of the default recipe.
NETWORK = "resnet8"
#: A label in 20 has a nearer neighbour than the distance that labels keep.
CLOSE_SHARE = 0.05
#: A given diameter is called into question where it differs by more than this factor, from
#: `ENOUGH_LABELS` on. Diameters of up to `LOOKED_AT` times the given one are looked at, with so
#: many labels on so many micrographs.
DISAGREES, LOOKED_AT = 1.5, 4.0
QUICK_LABELS, QUICK_MICROGRAPHS = 40, 4
#: This share of the labels must have been measured, away from ice and edges.
MEASURED = 0.7


@dataclass(frozen=True)
class Geometry:
    """Lengths that suit labelled particles, in angstrom, and how they look on average."""

    extent: Extent
    working_pixel_size_angstrom: float
    training_radius_angstrom: float
    exclusion_radius_angstrom: float
    #: The distance that 95 of 100 labels keep from their nearest neighbour; None where hardly
    #: any micrograph has two.
    label_distance_angstrom: float | None
    labels: int
    micrographs: int
    #: The average of the labels' boxes, centred on the particle, shape (n, n).
    average: Image
    labels_averaged: int
    average_pixel_size_angstrom: float
    #: Distances from the centre, angstrom, and in the rings there the mean of the band-passed
    #: pixels and the particles' power, both with 1 for the largest, shape (k,).
    radius_angstrom: FloatArray
    mean: FloatArray
    power: FloatArray
    #: Sentences that the user should read.
    notes: list[str]

    @property
    def diameter_angstrom(self) -> float:
        """The longest diameter, in whole angstrom up to 100 and in steps of 5 beyond."""
        step = 1 if self.extent.diameter_angstrom < 100 else 5
        return float(step * round(self.extent.diameter_angstrom / step))

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
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
    """Measure what labels show.

    Parameters
    ----------
    views
        Micrographs, of one sampling, with all their labels.
    original_pixel_size_angstrom
        The sampling of the files; the working images cannot be finer.
    seed
        Of the choice of labels, where there are many, and of the uncertainty.

    Raises
    ------
    BadInput
        With fewer than five labels, or where nothing is seen at them.
    """
    number = _count_labels(views)
    if number < FEWEST_LABELS:
        raise BadInput(
            f"{number} labels tell nothing of the particle's size; label {FEWEST_LABELS} or more,"
            f" better {ENOUGH_LABELS}"
        )
    chosen = choose_labels(views, MOST_LABELS, MOST_MICROGRAPHS, seed)
    pixel = chosen[0].pixel_size_angstrom
    side = max(min(view.image.shape) for view in chosen) * pixel
    most = max(2 * FEWEST_PX * pixel, min(MOST_ANGSTROM, MOST_OF_SIDE * side))
    scales = cut_scales(chosen, most)
    extent = measure_extent(scales, FEWEST_PX * pixel, most, seed)
    if extent is None or extent.contrast < FAINT:
        raise BadInput(
            "at the labels nothing stands out plainly that is between"
            f" {FEWEST_PX * pixel:.0f} and {most:.0f} A large; check the labels with `heliodor"
            " check`, label more, or give --diameter as you know it"
        )
    distance = measure_label_distance(views, extent.diameter_angstrom)
    radius, notes = _exclusion_radius(extent, distance)
    notes = _collect_notes(extent, number) + notes
    average, sampling = _average_boxes(scales, extent)
    shown = try_diameter(scales, extent.diameter_angstrom, centre=extent.round)
    shown = shown or try_diameter(scales, extent.diameter_angstrom)
    assert shown is not None  # this diameter lies between two that could be tried
    mean, power = compute_profiles(shown)
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


def choose_labels(
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
    """Return the distance that 95 of 100 labels keep from their nearest neighbour, angstrom.

    Labels nearer than an eighth of the diameter are one particle labelled twice, and are passed
    over. None where fewer than 20 labels have a neighbour.
    """
    nearest: list[float] = []
    for view in views:
        if len(view.xy_px) > 1:
            own = cKDTree(view.xy_px).query(view.xy_px, 2)[0][:, 1] * view.pixel_size_angstrom
            nearest += own[own > diameter_angstrom * TRAINING_RADIUS_FRACTION].tolist()
    if len(nearest) < ENOUGH_LABELS:
        return None
    return round(float(np.quantile(nearest, CLOSE_SHARE)), 1)


def check_diameter(
    images: Sequence[LabeledImage], pixel_size_angstrom: float, diameter_angstrom: float
) -> str | None:
    """Say that labels plainly show particles of another diameter than the one given.

    Parameters
    ----------
    images
        Working images, normalised or not, with their labels.
    pixel_size_angstrom
        Their sampling.
    diameter_angstrom
        What the user gave.

    Returns
    -------
    str or None
        A sentence; None where the two agree within the uncertainty, or with fewer than 20 labels.
    """
    views = [LabeledView(i.image, pixel_size_angstrom, i.xy_px) for i in images]
    few = choose_labels(views, QUICK_LABELS, QUICK_MICROGRAPHS, seed=0)
    if _count_labels(few) < ENOUGH_LABELS:
        few = choose_labels(views, QUICK_LABELS, MOST_MICROGRAPHS, seed=0)
    if _count_labels(few) < ENOUGH_LABELS:
        return None
    most = diameter_angstrom * LOOKED_AT
    least = max(diameter_angstrom / LOOKED_AT, FEWEST_PX * pixel_size_angstrom)
    # On coarse images it is enough to see that the two agree.
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
        f"the labels show particles of about {extent.diameter_angstrom:.0f} A"
        f" ({extent.low_angstrom:.0f} to {extent.high_angstrom:.0f}), but a diameter of"
        f" {diameter_angstrom:g} A was given: look at the average that `heliodor suggest` draws"
    )


def _count_labels(views: Sequence[LabeledView]) -> int:
    return sum(len(view.xy_px) for view in views)


def _exclusion_radius(extent: Extent, distance: float | None) -> tuple[float, list[str]]:
    """Return the radius of the particle, or less where labels lie nearer to each other."""
    radius = extent.diameter_angstrom / 2
    if distance is None or distance >= radius:
        return round(radius, 1), []
    smaller = max(distance, radius / 2)
    note = (
        f"one label in 20 has a neighbour within {distance:.0f} A, nearer than the particle's"
        f" radius of {radius:.0f} A: give --exclusion-radius {smaller:.0f} if these are particles"
        " side by side"
    )
    return round(smaller, 1), [note]


def _collect_notes(extent: Extent, number: int) -> list[str]:
    notes = []
    if number < ENOUGH_LABELS:
        notes.append(f"the figures are rough with {number} labels; label {ENOUGH_LABELS} or more")
    if extent.contrast < PLAIN:
        notes.append(
            "the particles hardly stand out at these labels, so the diameter may be far off: look"
            " at the average, check the labels, or label more"
        )
    return notes


def _average_boxes(scales: Sequence[BoxScale], extent: Extent) -> tuple[Image, float]:
    """Return the average of all boxes and its sampling, angstrom a pixel."""
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
