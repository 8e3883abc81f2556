"""Normalization: a micrograph's background to mean 0 and standard deviation 1."""

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

#: A Gaussian average with at least this standard deviation, in pixels, is computed from the few
#: cosines that it does not reduce below this amplitude.
MIN_COSINE_SD_PX = 4.0
MIN_COSINE_AMPLITUDE = 1e-6

#: The joint mixture is fitted to at most this many images; more do not improve it.
MAX_FITTED_IMAGES = 256


@dataclass(frozen=True)
class Normalizer:
    """Converts a working image into the network's input; stored in the model file."""

    mode: NormalizationMode
    #: The data set's mixture in `joint` mode, otherwise None.
    mixture: PixelMixture | None = None
    #: Standard deviation, in pixels, of the Gaussian average (the slow background) that is
    #: subtracted first; 0 subtracts nothing.
    flatten_px: float = 0.0

    @classmethod
    def fit(
        cls, images: Sequence[Image], mode: NormalizationMode, flatten_px: float = 0.0
    ) -> Normalizer:
        """Fit to a data set; only the `joint` mode has parameters to fit.

        Of more than 256 images, an evenly spaced subset is used.

        Raises
        ------
        BadInput
            If the mode is unknown, or there are no images in `joint` mode.
        """
        if mode not in NORMALIZATION_MODES:
            raise BadInput(
                f"normalization must be one of {', '.join(NORMALIZATION_MODES)}, not {mode!r}",
                parameter="normalization",
            )
        if mode != "joint":
            return cls(mode, flatten_px=flatten_px)
        if not images:
            raise BadInput("the joint normalization needs at least one image")
        chosen = np.unique(np.linspace(0, len(images) - 1, MAX_FITTED_IMAGES).astype(int))
        flat = [subtract_slow_background(images[i], flatten_px) for i in chosen]
        return cls(mode, fit_pixel_mixture(PixelHistograms.from_images(flat)).mixture, flatten_px)

    def apply(self, image: Image) -> Image:
        """Normalize an image by its dominant component: mean 0, standard deviation 1.

        In `none` mode only the slow background is subtracted.

        The result depends only on this image and the fitted data set, not on the other
        micrographs that are processed with it.
        """
        image = subtract_slow_background(image, self.flatten_px)
        if self.mode == "none":
            return image.astype(np.float32)
        if self.mode == "standard":
            mean, sd = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
            if sd == 0:
                raise BadInput("a blank image cannot be normalized; leave it out")
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
        values: dict[str, Any] = {"mode": self.mode, "flatten_px": self.flatten_px}
        if self.mixture is None:
            return values
        m = self.mixture
        parts = {"weight": m.weight, "mu": m.mu, "sigma": m.sigma}
        return values | {key: value.tolist() for key, value in parts.items()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Normalizer:
        """Rebuild from `as_dict`; raise BadInput if the values are invalid."""
        mode = value.get("mode")
        if mode not in NORMALIZATION_MODES:
            raise BadInput(f"the model has an unknown normalization {mode!r}")
        flatten_px = value.get("flatten_px", 0.0)
        if not isinstance(flatten_px, int | float) or not 0 <= flatten_px < 1e4:
            raise BadInput("the model's normalization has an invalid background length")
        if mode != "joint":
            return cls(mode, flatten_px=flatten_px)
        try:
            parts = [np.array(value[k], dtype=np.float64) for k in ("weight", "mu", "sigma")]
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput("the model's normalization is incomplete") from error
        finite = all(p.shape == (2,) and np.isfinite(p).all() for p in parts)
        if not finite or parts[0].min() < 0 or parts[0].sum() <= 0 or parts[2].min() <= 0:
            raise BadInput("the model's normalization is not a mixture of two Gaussians")
        return cls(mode, PixelMixture(parts[0] / parts[0].sum(), *parts[1:]), flatten_px)


def subtract_slow_background(image: Image, flatten_px: float) -> Image:
    """Subtract an image's slow background: varying ice thickness, uneven illumination.

    Parameters
    ----------
    image
        Shape (h, w).
    flatten_px
        Standard deviation of the Gaussian average that is the background; 0 subtracts nothing.
    """
    if flatten_px == 0:
        return image
    # The mean first: single precision would lose digits under a large offset.
    centered = image - np.float32(image.mean(dtype=np.float64))
    return np.asarray(centered - _gaussian_average(centered, flatten_px), dtype=np.float32)


def _gaussian_average(image: Image, sd_px: float) -> Image:
    """Return an image's Gaussian average, with the image mirrored at its edges.

    A wide Gaussian leaves only a few slow cosines.
    """
    height, width = image.shape
    if sd_px < MIN_COSINE_SD_PX:
        from scipy.ndimage import gaussian_filter  # slow to import, and rarely needed

        return np.asarray(gaussian_filter(image, sd_px, mode="reflect"), dtype=np.float32)
    (down, amplitude_down), (across, amplitude_across) = (
        low_frequency_cosines(side, sd_px) for side in (height, width)
    )
    waves = (down @ image @ across.T) * amplitude_down[:, None] * amplitude_across
    return np.asarray(down.T @ waves @ across, dtype=np.float32)


@functools.lru_cache(maxsize=16)
def low_frequency_cosines(side: int, sd_px: float) -> tuple[Image, Image]:
    """Return the cosines of `side` mirrored pixels that pass a Gaussian, and their amplitudes.

    They are those of the discrete cosine transform (type 2, orthonormal).

    Returns
    -------
    waves, amplitudes
        Shapes (waves, side) and (waves,).
    """
    frequency = np.pi / side * np.arange(side)
    left = np.exp(-0.5 * (sd_px * frequency) ** 2)
    frequency, left = frequency[left > MIN_COSINE_AMPLITUDE], left[left > MIN_COSINE_AMPLITUDE]
    waves = np.cos(frequency[:, None] * (np.arange(side) + 0.5)) * np.sqrt(2 / side)
    waves[0] = np.sqrt(1 / side)
    return waves.astype(np.float32), left.astype(np.float32)


#: Standard deviation of the background's Gaussian average, as a fraction of the diameter.
FLATTEN_FRACTION = 0.6
