"""The scaled two-component Gaussian mixture of pixel values (Bepler et al., Methods 2).

Pixel x of image k comes from N(alpha_k mu_c, (alpha_k sigma_c)^2) with c = 0 or 1. The
weights, mu and sigma belong to the whole data set, and one scale alpha_k to each image. They are
fitted by EM with closed-form steps on histograms, so the cost does not depend on image size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from heliodor.conventions import FloatArray, Image
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

BINS = 4096
#: Initial fractions of pixels in the darker component; EM runs from each, and the best fit counts.
STARTS = (0.02, 0.1, 0.3, 0.5, 0.8)
#: A component with less weight than this is dropped.
MIN_WEIGHT = 1e-4
#: A component narrower than this fraction of the image's spread is a spike of equal pixels.
MIN_SIGMA_FRACTION = 0.02
#: At most this many spikes (saturated pixels, filled areas) are excluded from a fit.
MAX_SPIKES = 3


@dataclass(frozen=True)
class PixelHistograms:
    """Histograms of the pixel values of K images: mean value and pixel count of each bin."""

    value: FloatArray  # (K, bins)
    count: FloatArray  # (K, bins)

    @cached_property
    def square(self) -> FloatArray:
        """The squares of the values, shape (K, bins)."""
        return np.asarray(self.value**2)

    @cached_property
    def moments(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The count, mean and variance of the pixels of each image, shapes (K,)."""
        pixels = self.count.sum(axis=1)
        mean = np.sum(self.count * self.value, axis=1) / pixels
        variance = np.sum(self.count * (self.value - mean[:, None]) ** 2, axis=1) / pixels
        return pixels, mean, variance

    def occupied(self) -> PixelHistograms:
        """Return the histograms without bins that are empty in every image, for speed."""
        used = self.count.any(axis=0)
        return PixelHistograms(self.value[:, used], self.count[:, used])

    @classmethod
    def from_images(cls, images: Sequence[Image]) -> PixelHistograms:
        """Return the histograms of images, without rows and columns of a single value."""
        rows = [_histogram(image) for image in images]
        return cls(np.stack([value for value, _ in rows]), np.stack([count for _, count in rows]))


@dataclass(frozen=True)
class PixelMixture:
    """The parameters shared by all images; component 0 is the darker one."""

    weight: FloatArray  # (2,), sums to 1
    mu: FloatArray  # (2,)
    sigma: FloatArray  # (2,)

    @property
    def dominant(self) -> int:
        """The component with more pixels, by which images are normalized."""
        return int(np.argmax(self.weight))


@dataclass(frozen=True)
class PixelMixtureFit:
    """A fitted mixture."""

    mixture: PixelMixture
    #: One positive scale per image, with mean(log alpha) = 0, shape (K,).
    alpha: FloatArray
    #: Log-likelihood after each EM step of the best run, from the step on at which a component was
    #: dropped, if any; it never decreases.
    log_likelihood: FloatArray
    #: Fraction of the pixels that were excluded because they form spikes of equal values.
    excluded_fraction: float = 0.0


def _histogram(image: Image) -> tuple[FloatArray, FloatArray]:
    pixels = _without_dead_lines(image).astype(np.float64).ravel()
    if pixels.size == 0 or pixels.min() == pixels.max():
        raise BadInput("a blank image (all pixels equal) cannot be normalized; leave it out")
    low, high = pixels.min(), pixels.max()
    index = np.minimum(((pixels - low) * (BINS / (high - low))).astype(np.intp), BINS - 1)
    count = np.bincount(index, minlength=BINS).astype(np.float64)
    total = np.bincount(index, weights=pixels, minlength=BINS)
    center = low + (np.arange(BINS) + 0.5) * ((high - low) / BINS)
    return np.where(count > 0, total / np.maximum(count, 1), center), count


def _without_dead_lines(image: Image) -> Image:
    """Remove rows and columns of a single value, repeatedly, since they can hide each other."""
    shape: tuple[int, ...] = ()
    while image.size and image.shape != shape:
        shape = image.shape
        for axis in (0, 1):
            if image.size:
                live = image.min(axis=1 - axis) < image.max(axis=1 - axis)
                image = image if live.all() else image.compress(live, axis=axis)
    return image


def _expectation_step(
    h: PixelHistograms, y: FloatArray, mixture: PixelMixture
) -> tuple[FloatArray, float]:
    """Return the pixel counts assigned to each component, and the log-likelihood (E-step).

    The counts have the shape (2, K, bins); y = 1 / alpha.
    """
    if mixture.weight.min() == 0:
        return _expectation_of_one_component(h, y, mixture)
    scaled = h.value * y[:, None]
    log_density = []
    for weight, mu, sigma in zip(mixture.weight, mixture.mu, mixture.sigma, strict=True):
        z = (scaled - mu) * (np.sqrt(0.5) / sigma)
        log_density.append(np.log(weight) - np.log(sigma) - z * z)
    # Both densities may underflow, but the ratio of the smaller to the larger never does.
    difference = log_density[0] - log_density[1]
    ratio = np.exp(-np.abs(difference))
    larger = h.count / (1 + ratio)
    shares = np.empty((2, *h.count.shape))
    shares[0] = np.where(difference > 0, larger, h.count - larger)
    shares[1] = h.count - shares[0]
    total = np.maximum(*log_density) + np.log1p(ratio)
    return shares, float(np.vdot(total, h.count)) + _common_log_likelihood(h, y)


def _expectation_of_one_component(
    h: PixelHistograms, y: FloatArray, mixture: PixelMixture
) -> tuple[FloatArray, float]:
    """Do the E-step if one component has all the weight."""
    c = mixture.dominant
    shares = np.zeros((2, *h.count.shape))
    shares[c] = h.count
    z = (h.value * y[:, None] - mixture.mu[c]) / mixture.sigma[c]
    likelihood = -0.5 * float(np.vdot(z * z, h.count))
    likelihood -= float(h.count.sum() * np.log(mixture.sigma[c]))
    return shares, likelihood + _common_log_likelihood(h, y)


def _common_log_likelihood(h: PixelHistograms, y: FloatArray) -> float:
    """Return the part of the log-likelihood that all components share."""
    pixels = h.moments[0]
    return float(pixels @ np.log(y) - 0.5 * np.log(2 * np.pi) * pixels.sum())


def _maximize_scales(h: PixelHistograms, shares: FloatArray, mixture: PixelMixture) -> FloatArray:
    """M-step for y_k = 1 / alpha_k: the positive root of A y^2 - B y - n = 0."""
    precision = 1.0 / mixture.sigma**2
    a = precision @ np.einsum("ckb,kb->ck", shares, h.square)
    b = (precision * mixture.mu) @ np.einsum("ckb,kb->ck", shares, h.value)
    n = h.moments[0]
    root = np.sqrt(b * b + 4 * a * n)
    # The form of the root without cancellation.
    y = np.where(b > 0, (b + root) / (2 * a), 2 * n / (root - np.minimum(b, 0)))
    return np.asarray(y, dtype=np.float64)


def _maximize_mixture(h: PixelHistograms, y: FloatArray, shares: FloatArray) -> PixelMixture:
    """M-step for the shared parameters: weighted moments of x y."""
    scaled = h.value * y[:, None]
    n = shares.sum(axis=(1, 2))
    mu, sigma = np.zeros(2), np.zeros(2)
    for c in np.flatnonzero(n):
        mu[c] = np.vdot(shares[c], scaled) / n[c]
        sigma[c] = np.sqrt(np.vdot(shares[c], (scaled - mu[c]) ** 2) / n[c])
    return PixelMixture(n / n.sum(), mu, sigma)


def _min_sigma(h: PixelHistograms, y: FloatArray) -> float:
    number, mean, variance = h.moments
    share = number / number.sum()
    away = y * mean - share @ (y * mean)
    return MIN_SIGMA_FRACTION * float(np.sqrt(share @ (y * y * variance + away * away)))


def _single_component(mixture: PixelMixture, c: int, least_sigma: float) -> PixelMixture:
    """Return the mixture of component c only."""
    weight = np.zeros(2)
    weight[c] = 1.0
    sigma = max(mixture.sigma[c], least_sigma)
    return PixelMixture(weight, np.full(2, mixture.mu[c]), np.full(2, sigma))


def fit_pixel_mixture(
    histograms: PixelHistograms, iterations: int = 200, tolerance: float = 1e-7
) -> PixelMixtureFit:
    """Fit the mixture and the scale of each image by maximum likelihood.

    Every step (scales, then shared parameters) maximizes the expected log-likelihood in closed
    form, so the likelihood never decreases. Several starts are tried for a few steps, and the
    best one is continued to convergence. If a component shrinks to a spike of equal pixels, for
    which the likelihood is unbounded, these pixels are excluded and the fit is repeated.

    Parameters
    ----------
    histograms
        Pixels of K images.
    iterations, tolerance
        Maximum number of EM steps, and the gain in log-likelihood per pixel at which to stop.
    """
    h = histograms.occupied()
    run = _run_em_from_starts(h, iterations, tolerance)
    for _ in range(MAX_SPIKES):
        if run.without_spike is None:
            break
        h = PixelHistograms(h.value, run.without_spike)
        run = _run_em_from_starts(h, iterations, tolerance)
    shift = np.exp(np.mean(np.log(run.y)))  # fixes mean(log alpha) = 0
    order = np.argsort(run.mixture.mu, kind="stable")
    shared = PixelMixture(
        run.mixture.weight[order], run.mixture.mu[order] / shift, run.mixture.sigma[order] / shift
    )
    excluded_fraction = 1.0 - float(h.count.sum() / histograms.count.sum())
    return PixelMixtureFit(shared, shift / run.y, np.array(run.trace), excluded_fraction)


@dataclass(frozen=True)
class _EmRun:
    """The result of a number of EM steps."""

    y: FloatArray
    mixture: PixelMixture
    trace: list[float]
    #: If a component became a spike: the pixel counts without it.
    without_spike: FloatArray | None = None


def _run_em_from_starts(h: PixelHistograms, iterations: int, tolerance: float) -> _EmRun:
    y = _scales_of_one_component(h)
    starts = [*(_dark_and_bright(h, y, share) for share in STARTS), _core_and_tails(h, y)]
    runs = [_run_em(h, y, start, 15, tolerance) for start in starts]
    best = max(runs, key=lambda run: run.trace[-1])
    if best.without_spike is not None:
        return best
    return _run_em(h, best.y, best.mixture, iterations, tolerance, best.trace)


def _run_em(
    h: PixelHistograms,
    y: FloatArray,
    mixture: PixelMixture,
    iterations: int,
    tolerance: float,
    before: Sequence[float] = (),
) -> _EmRun:
    pixels = h.count.sum()
    shares, likelihood = _expectation_step(h, y, mixture)
    trace = list(before) or [likelihood]
    for _ in range(iterations):
        y = _maximize_scales(h, shares, mixture)
        mixture = _maximize_mixture(h, y, shares)
        least_sigma = _min_sigma(h, y)
        narrow = mixture.sigma <= least_sigma
        main = mixture.dominant
        if mixture.weight.min() < MIN_WEIGHT or narrow.all():
            if mixture.weight.min() > 0:
                trace = []  # the likelihood of another model cannot be compared with this one
            mixture = _single_component(mixture, main, least_sigma)
        elif narrow.any():
            rest = int(np.argmin(narrow))
            if (shares[rest].sum(axis=1) > MIN_WEIGHT * h.count.sum(axis=1)).all():
                return _EmRun(
                    y, _single_component(mixture, rest, least_sigma), trace, shares[rest]
                )
            trace = []
            mixture = _single_component(mixture, main, least_sigma)
        shares, likelihood = _expectation_step(h, y, mixture)
        trace.append(likelihood)
        if len(trace) > 1 and trace[-1] - trace[-2] < tolerance * pixels:
            break
    return _EmRun(y, mixture, trace)


def _scales_of_one_component(h: PixelHistograms) -> FloatArray:
    """Return y_k of a single scaled Gaussian, a start that works for any mean, even 0."""
    n = h.count.sum(axis=1)
    y: FloatArray = 1.0 / np.sqrt(np.sum(h.count * h.value**2, axis=1) / n)
    all_in_one = np.stack([h.count, np.zeros_like(h.count)])
    for _ in range(20):
        y = _maximize_scales(
            h, all_in_one, _single_component(_maximize_mixture(h, y, all_in_one), 0, 0.0)
        )
    return y


def _dark_and_bright(h: PixelHistograms, y: FloatArray, share: float) -> PixelMixture:
    """Split the pooled pixels at a quantile into a darker and a brighter part."""
    return _split(h, y, h.value * y[:, None], share)


def _core_and_tails(h: PixelHistograms, y: FloatArray) -> PixelMixture:
    """Split the pooled pixels into the half nearest to their mean and the rest."""
    scaled = h.value * y[:, None]
    return _split(h, y, np.abs(scaled - np.average(scaled, weights=h.count)), 0.5)


def _split(h: PixelHistograms, y: FloatArray, key: FloatArray, share: float) -> PixelMixture:
    order = np.argsort(key, axis=None)
    cumulative = np.cumsum(h.count.ravel()[order])
    position = min(int(np.searchsorted(cumulative, share * cumulative[-1])), len(order) - 1)
    first = key <= key.ravel()[order[position]]
    start = _maximize_mixture(h, y, np.stack([h.count * first, h.count * ~first]))
    return PixelMixture(start.weight, start.mu, np.maximum(start.sigma, _min_sigma(h, y)))


def fit_image_scales(
    histograms: PixelHistograms, mixture: PixelMixture, iterations: int = 100
) -> FloatArray:
    """Return the scales alpha_k of new images for a fixed mixture, shape (K,)."""
    y = np.full(len(histograms.value), np.nan)
    for k in range(len(y)):
        one = PixelHistograms(histograms.value[k : k + 1], histograms.count[k : k + 1])
        mean = np.average(one.value, weights=one.count)
        root = np.sqrt(np.average(one.value**2, weights=one.count))
        second = np.sum(mixture.weight * (mixture.mu**2 + mixture.sigma**2))
        y_of_image = np.array([np.sqrt(second) / root])
        if mean > 0 and np.sum(mixture.weight * mixture.mu) > 0:
            y_of_image = np.array([np.sum(mixture.weight * mixture.mu) / mean])
        for _ in range(iterations):
            shares, _likelihood = _expectation_step(one, y_of_image, mixture)
            new = _maximize_scales(one, shares, mixture)
            done = abs(new[0] - y_of_image[0]) < 1e-7 * y_of_image[0]
            y_of_image = new
            if done:
                break
        y[k] = y_of_image[0]
    return np.asarray(1.0 / y)
