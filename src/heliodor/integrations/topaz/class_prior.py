"""The class prior, from the expected particles per image or the fraction of positive regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heliodor.conventions import disc_area_px
from heliodor.data.coordinates.labels import (
    LabeledImage,
    class_prior,
    disc_pixels,
    guess_particles,
)
from heliodor.errors import BadInput
from heliodor.integrations.topaz.output import report


@dataclass(frozen=True)
class ClassPrior:
    """Fractions of positive regions; every pixel is the center of a region."""

    #: Among all regions of the training images.
    total: float
    #: Labeled regions among all regions.
    observed: float
    #: Among the regions that are not labeled.
    unlabeled: float
    expected_particles: float

    @property
    def adjustment(self) -> float:
        """Return the factor that corrects a precision measured with incomplete labels."""
        return self.total / self.observed


def find_class_prior(
    expected_particles: float | None,
    pi: float | None,
    images: Sequence[LabeledImage],
    radius_px: float,
    diameter_px: float,
) -> ClassPrior:
    """Return the class prior.

    Parameters
    ----------
    expected_particles
        Particles per image, if given; takes precedence over `pi`.
    pi
        Fraction of positive regions among all regions, if given.
    images
        Training images with their labels.
    radius_px
        Training radius.
    diameter_px
        Diameter of the particle, for a guess if neither is given.

    Raises
    ------
    BadInput
        If a value is out of range.
    """
    if expected_particles is not None and not 0 < expected_particles < 1e6:
        raise BadInput(
            "-n must be the number of particles per image, greater than 0,"
            f" not {expected_particles}"
        )
    if pi is not None and not 0 < pi < 1:
        raise BadInput(f"--pi must be between 0 and 1, not {pi:g}")
    pixels = float(np.mean([item.image.size for item in images]))
    disc = disc_area_px(radius_px)
    if expected_particles is None and pi is None:
        most = max(len(item.xy_px) for item in images)
        expected_particles = guess_particles(pixels, diameter_px, most)
        report(
            f"Neither -n nor --pi was given; assuming {expected_particles:.0f} particles per image"
        )
    elif expected_particles is None:
        assert pi is not None
        expected_particles = pi * pixels / disc
    elif pi is not None:
        report("--pi has no effect: -n is given too")
    labeled = sum(len(disc_pixels(i.xy_px, i.shape, radius_px)) for i in images)
    prior = ClassPrior(
        total=min(expected_particles * disc / pixels, 0.9999),
        observed=labeled / (pixels * len(images)),
        unlabeled=class_prior(expected_particles, images, radius_px),
        expected_particles=expected_particles,
    )
    report(
        f"{expected_particles:.1f} particles per image: pi = {prior.total:.5f} of all regions,"
        f" {prior.observed:.5f} labeled"
    )
    return prior
