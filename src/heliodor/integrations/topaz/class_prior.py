"""The class prior from what a caller says: particles an image, or a share of all regions."""

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
    """Shares of positive regions, each a region a pixel."""

    #: Among all regions of the training images.
    total: float
    #: The labeled ones among all.
    observed: float
    #: Among those that are not labeled.
    unlabeled: float
    expected_particles: float

    @property
    def adjustment(self) -> float:
        """What a precision counted on labels alone is multiplied by, as most are unlabeled."""
        return self.total / self.observed


def find_class_prior(
    expected_particles: float | None,
    pi: float | None,
    images: Sequence[LabeledImage],
    radius_px: float,
    diameter_px: float,
) -> ClassPrior:
    """Return the prior.

    Parameters
    ----------
    expected_particles
        Particles an image, where the caller says.
    pi
        Share of positive regions among all, where the caller says; the particles come first.
    images
        Training images with their labels.
    radius_px
        Training radius.
    diameter_px
        Of the particle, for a guess where the caller says nothing.

    Raises
    ------
    BadInput
        If what the caller says cannot be.
    """
    if expected_particles is not None and not 0 < expected_particles < 1e6:
        raise BadInput(f"-n must be the particles an image, more than 0, not {expected_particles}")
    if pi is not None and not 0 < pi < 1:
        raise BadInput(f"--pi must be a share between 0 and 1, not {pi:g}")
    pixels = float(np.mean([item.image.size for item in images]))
    disc = disc_area_px(radius_px)
    if expected_particles is None and pi is None:
        most = max(len(item.xy_px) for item in images)
        expected_particles = guess_particles(pixels, diameter_px, most)
        report(
            f"Neither -n nor --pi was given, so {expected_particles:.0f} particles an image are"
            " assumed."
        )
    elif expected_particles is None:
        assert pi is not None
        expected_particles = pi * pixels / disc
    elif pi is not None:
        report("--pi is left aside: -n is given too.")
    labeled = sum(len(disc_pixels(i.xy_px, i.shape, radius_px)) for i in images)
    prior = ClassPrior(
        total=min(expected_particles * disc / pixels, 0.9999),
        observed=labeled / (pixels * len(images)),
        unlabeled=class_prior(expected_particles, images, radius_px),
        expected_particles=expected_particles,
    )
    report(
        f"{expected_particles:.1f} particles an image: pi = {prior.total:.5f} of all regions,"
        f" {prior.observed:.5f} are labeled"
    )
    return prior
