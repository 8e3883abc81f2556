"""Normalisation: a micrograph's background to mean 0 and spread 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliodor.conventions import Image
from heliodor.data.micrographs.modes import NORMALIZATION_MODES, NormalizationMode
from heliodor.data.micrographs.pixel_mixture import (
    PixelHistograms,
    PixelMixture,
    fit_image_scales,
    fit_pixel_mixture,
)
from heliodor.errors import BadInput

#: Gaussians of at least this standard deviation, in pixels, leave few enough cosines of an image
#: for these to be summed up; of each, no less than this share.
MIN_COSINE_SD_PX = 4.0
MIN_COSINE_AMPLITUDE = 1e-6

#: More images than this add nothing to what the shared parameters rest on.
MAX_FITTED_IMAGES = 256


@dataclass(frozen=True)
class Normalizer:
    """What turns a working image into the network's input, kept in the model file."""

    mode: NormalizationMode
    #: The data set's mixture in `joint` mode, else None.
    mixture: PixelMixture | None = None
    #: Standard deviation, in pixels, of the Gaussian that estimates the slow background which is
    #: subtracted first; 0 subtracts none.
    flatten_px: float = 0.0

    @classmethod
    def fit(
        cls, images: Sequence[Image], mode: NormalizationMode, flatten_px: float = 0.0
    ) -> Normalizer:
        """Fit to a data set; only `joint` mode has something to fit.

        Beyond 256 images an evenly spaced choice is used for the shared parameters.
        """
        if mode not in NORMALIZATION_MODES:
            raise BadInput(
                f"the normalisation {mode!r} is none of {', '.join(NORMALIZATION_MODES)}"
            )
        if mode != "joint":
            return cls(mode, flatten_px=flatten_px)
        if not images:
            raise BadInput("there is no image to fit the joint normalisation to")
        chosen = np.unique(np.linspace(0, len(images) - 1, MAX_FITTED_IMAGES).astype(int))
        flat = [subtract_slow_background(images[i], flatten_px) for i in chosen]
        return cls(mode, fit_pixel_mixture(PixelHistograms.from_images(flat)).mixture, flatten_px)

    def apply(self, image: Image) -> Image:
        """Standardise an image to its dominant component: background 0, spread 1.

        In `none` mode the values stay as they are but for the slow background, where one is
        subtracted.

        It depends on this image and the fitted data set alone, so a micrograph gets the same
        values whatever else is processed with it.
        """
        image = subtract_slow_background(image, self.flatten_px)
        if self.mode == "none":
            return image.astype(np.float32)
        if self.mode == "standard":
            mean, sd = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
            if sd == 0:
                raise BadInput("a blank image cannot be normalised; leave it out")
            return ((image - np.float32(mean)) / np.float32(sd)).astype(np.float32)
        histogram = PixelHistograms.from_images([image])
        if self.mode == "micrograph":
            fit = fit_pixel_mixture(histogram)
            mixture, alpha = fit.mixture, float(fit.alpha[0])
        else:
            assert self.mixture is not None
            mixture = self.mixture
            alpha = float(fit_image_scales(histogram, mixture)[0])
        mu, sigma = mixture.mu[mixture.dominant], mixture.sigma[mixture.dominant]
        scale, shift = np.float32(1.0 / (alpha * sigma)), np.float32(mu / sigma)
        return (image * scale - shift).astype(np.float32)

    def as_dict(self) -> dict[str, Any]:
        """Return what `from_dict` needs, ready for JSON."""
        own: dict[str, Any] = {"mode": self.mode, "flatten_px": self.flatten_px}
        if self.mixture is None:
            return own
        m = self.mixture
        parts = {"weight": m.weight, "mu": m.mu, "sigma": m.sigma}
        return own | {key: value.tolist() for key, value in parts.items()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Normalizer:
        """Rebuild from `as_dict`; raises BadInput where the values make no mixture."""
        mode = value.get("mode")
        if mode not in NORMALIZATION_MODES:
            raise BadInput(f"a model with the normalisation {mode!r} is not of this program")
        flatten_px = value.get("flatten_px", 0.0)
        if not isinstance(flatten_px, int | float) or not 0 <= flatten_px < 1e4:
            raise BadInput("the model's normalisation flattens by no plausible length")
        if mode != "joint":
            return cls(mode, flatten_px=flatten_px)
        try:
            parts = [np.array(value[k], dtype=np.float64) for k in ("weight", "mu", "sigma")]
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput("the model's normalisation is incomplete") from error
        finite = all(p.shape == (2,) and np.isfinite(p).all() for p in parts)
        if not finite or parts[0].min() < 0 or parts[0].sum() <= 0 or parts[2].min() <= 0:
            raise BadInput("the model's normalisation is not a mixture of two Gaussians")
        return cls(mode, PixelMixture(parts[0] / parts[0].sum(), *parts[1:]), flatten_px)


def subtract_slow_background(image: Image, flatten_px: float) -> Image:
    """Subtract an image's slow background: ice of changing thickness, uneven illumination.

    Parameters
    ----------
    image
        Shape (h, w).
    flatten_px
        Standard deviation of the Gaussian whose average is the background; 0 leaves all as it is.
    """
    if flatten_px == 0:
        return image
    # Its mean first: single precision has no digits to spare under a large offset.
    centred = image - np.float32(image.mean(dtype=np.float64))
    return np.asarray(centred - _gaussian_average(centred, flatten_px), dtype=np.float32)


def _gaussian_average(image: Image, sd_px: float) -> Image:
    """Return an image's Gaussian average, the image being mirrored at its edges.

    What is left of it by a wide Gaussian are a few slow cosines.
    """
    height, width = image.shape
    if sd_px < MIN_COSINE_SD_PX:
        from scipy.ndimage import gaussian_filter  # slow to import, and seldom needed

        return np.asarray(gaussian_filter(image, sd_px, mode="reflect"), dtype=np.float32)
    (down, own_down), (across, own_across) = (
        low_frequency_cosines(side, sd_px) for side in (height, width)
    )
    waves = (down @ image @ across.T) * own_down[:, None] * own_across
    return np.asarray(down.T @ waves @ across, dtype=np.float32)


@functools.lru_cache(maxsize=16)
def low_frequency_cosines(side: int, sd_px: float) -> tuple[Image, Image]:
    """Return the cosines that a Gaussian leaves of `side` mirrored pixels, and what of each.

    Those of the discrete cosine transform (type 2, orthonormal), shape (waves, side).
    """
    frequency = np.pi / side * np.arange(side)
    left = np.exp(-0.5 * (sd_px * frequency) ** 2)
    frequency, left = frequency[left > MIN_COSINE_AMPLITUDE], left[left > MIN_COSINE_AMPLITUDE]
    waves = np.cos(frequency[:, None] * (np.arange(side) + 0.5)) * np.sqrt(2 / side)
    waves[0] = np.sqrt(1 / side)
    return waves.astype(np.float32), left.astype(np.float32)


#: The slow background is averaged over this share of the diameter (standard deviation).
FLATTEN_FRACTION = 0.6
