from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.mixture import GaussianMixture

from heliodor.data.micrographs import normalization
from heliodor.data.micrographs import pixel_mixture as em
from heliodor.data.micrographs.modes import NORMALIZATION_MODES
from heliodor.data.micrographs.normalization import (
    MAX_FITTED_IMAGES,
    MIN_COSINE_SD_PX,
    Normalizer,
    subtract_slow_background,
)
from heliodor.data.micrographs.pixel_mixture import (
    BINS,
    PixelHistograms,
    PixelMixture,
    fit_image_scales,
    fit_pixel_mixture,
)
from heliodor.errors import BadInput
from helpers.networks import noise


def draw(rng, weight, mu, sigma, shape=(64, 64)):
    """Draw an image from a mixture of two Gaussians; `weight` is that of the first."""
    first = rng.random(shape) < weight
    image = np.where(first, rng.normal(mu[0], sigma[0], shape), rng.normal(mu[1], sigma[1], shape))
    return image.astype(np.float32)


def bulk(rng, shape=(64, 64)):
    """30 % around -3, 70 % around 0, both of standard deviation 1."""
    return draw(rng, 0.3, (-3, 0), (1, 1), shape)


def fit(*images):
    return fit_pixel_mixture(PixelHistograms.from_images(images))


def log_likelihood(images, fitted):
    """The model's definition, pixel by pixel."""
    total = 0.0
    for image, alpha in zip(images, fitted.alpha, strict=True):
        x = image.astype(float).ravel()
        density = np.zeros_like(x)
        for weight, mu, sigma in zip(
            fitted.mixture.weight, fitted.mixture.mu, fitted.mixture.sigma, strict=True
        ):
            s = alpha * sigma
            density += (
                weight * np.exp(-0.5 * ((x - alpha * mu) / s) ** 2) / (s * np.sqrt(2 * np.pi))
            )
        total += np.log(density).sum()
    return total


# Histograms


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_histograms_keep_number_and_sum_of_the_pixels(height, width, seed):
    image = np.random.default_rng(seed).normal(50, 10, (height, width)).astype(np.float32)
    h = PixelHistograms.from_images([image])
    assert h.value.shape == h.count.shape == (1, BINS)
    assert h.count.sum() == image.size
    assert (h.count * h.value).sum() == pytest.approx(image.sum(dtype=float), rel=1e-9)
    assert (np.diff(h.value[0]) >= 0).all()
    assert h.value.min() >= image.min() - 1e-3
    assert h.value.max() <= image.max() + 1e-3


def test_rows_and_columns_of_one_value_are_left_out():
    image = bulk(np.random.default_rng(0))
    damaged = np.zeros((70, 66), np.float32)
    damaged[3:67, 2:] = image
    damaged[67:] = 1000  # where these rows cross the columns, neither is of one value
    damaged[:, 0] = -7
    np.testing.assert_array_equal(
        PixelHistograms.from_images([damaged]).count, PixelHistograms.from_images([image]).count
    )
    np.testing.assert_allclose(fit(damaged).mixture.mu, fit(image).mixture.mu)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8)),
        np.eye(1),
        np.repeat(np.arange(8.0)[:, None], 8, axis=1),  # each row of one value
        # Without the last row and the first column, all is of one value.
        np.array([[5, 0, 0], [5, 0, 0], [5, 5, 5]]),
    ],
)
def test_blank_images_are_refused(image):
    image = image.astype(np.float32)
    with pytest.raises(BadInput, match="blank"):
        PixelHistograms.from_images([image])
    with pytest.raises(BadInput, match="blank"):
        Normalizer("micrograph").apply(image)


# The fit


mixtures = st.tuples(
    st.floats(0.03, 0.97),
    st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)),
    st.sampled_from([0.0, 20.0, -20.0, 300.0]),
    st.lists(st.floats(0.2, 5), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=20)
@given(mixtures)
@example((0.5, (0.0, 0.0), (1.0, 1.0), 0.0, [1.0, 2.0], 0))
@example((0.875, (0.0, 0.0), (1.0, 1.0), 0.0, [1.0, 1.0], 80))
def test_the_likelihood_never_falls_and_is_the_models(mixture):
    weight, mu, sigma, offset, scales, seed = mixture
    rng = np.random.default_rng(seed)
    mu = (mu[0] + offset, mu[1] + offset)
    images = [draw(rng, weight, mu, sigma, (24, 32)) * np.float32(scale) for scale in scales]
    fitted = fit(*images)
    trace = fitted.log_likelihood
    assert (np.diff(trace) >= -1e-9 * np.abs(trace).max()).all()
    assert np.isfinite(trace).all()
    assert fitted.mixture.weight.sum() == pytest.approx(1)
    assert (fitted.mixture.weight >= 0).all()
    assert (fitted.mixture.sigma > 0).all()
    assert fitted.mixture.mu[0] <= fitted.mixture.mu[1]
    assert (fitted.alpha > 0).all()
    assert np.log(fitted.alpha).mean() == pytest.approx(0, abs=1e-9)
    of_all = log_likelihood(images, fitted)
    if fitted.excluded_fraction:  # a few pixels that happened to be equal
        assert fitted.excluded_fraction < 0.1
        assert trace[-1] > of_all
    else:
        assert trace[-1] == pytest.approx(of_all, rel=1e-4, abs=1)


def plain_expectation(h, y, mixture):
    """Share the pixels of each bin out by Bayes' rule, as it is written in the paper."""
    scaled = h.value * y[:, None]
    with np.errstate(divide="ignore"):
        log_weight = np.log(mixture.weight)
    log_density = [
        log_weight[c]
        - np.log(mixture.sigma[c])
        - 0.5 * np.log(2 * np.pi)
        + np.log(y)[:, None]
        - 0.5 * ((scaled - mixture.mu[c]) / mixture.sigma[c]) ** 2
        for c in range(2)
    ]
    total = np.logaddexp(*log_density)
    return np.exp(np.array(log_density) - total) * h.count, (total * h.count).sum()


@given(
    st.floats(0, 1),
    st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    st.tuples(st.floats(0.01, 3), st.floats(0.01, 3)),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_the_expectation_is_bayes_rule(weight, mu, sigma, number, seed):
    rng = np.random.default_rng(seed)
    images = [draw(rng, 0.3, (-3, 0), (1, 2), (20, 30)) for _ in range(number)]
    h, y = PixelHistograms.from_images(images), rng.uniform(0.5, 2, number)
    mixture = PixelMixture(np.array([weight, 1 - weight]), np.array(mu), np.array(sigma))
    shares, likelihood = em._expectation_step(h, y, mixture)
    expected, expected_likelihood = plain_expectation(h, y, mixture)
    np.testing.assert_allclose(shares, expected, atol=1e-6 * h.count.max())
    assert likelihood == pytest.approx(expected_likelihood, rel=1e-10)
    used = h.occupied()
    assert (used.count.sum(axis=0) > 0).all()
    np.testing.assert_array_equal(used.count.sum(axis=1), h.count.sum(axis=1))
    assert em._expectation_step(used, y, mixture)[1] == pytest.approx(likelihood, rel=1e-10)
    np.testing.assert_allclose(em._min_sigma(used, y), plain_least_sigma(h, y), rtol=1e-9)


def plain_least_sigma(h, y):
    scaled = h.value * y[:, None]
    mean = np.average(scaled, weights=h.count)
    return em.MIN_SIGMA_FRACTION * np.sqrt(np.average((scaled - mean) ** 2, weights=h.count))


def test_known_parameters_are_recovered():
    rng = np.random.default_rng(1)
    alpha = np.array([0.5, 1.0, 2.5, 0.8])
    alpha /= np.exp(np.log(alpha).mean())
    images = [draw(rng, 0.25, (4, 8), (1, 1.5), (128, 128)) * np.float32(a) for a in alpha]
    fitted = fit(*images)
    np.testing.assert_allclose(fitted.alpha, alpha, rtol=0.02)
    np.testing.assert_allclose(fitted.mixture.weight, [0.25, 0.75], atol=0.02)
    np.testing.assert_allclose(fitted.mixture.mu, [4, 8], rtol=0.03)
    np.testing.assert_allclose(fitted.mixture.sigma, [1, 1.5], rtol=0.05)
    assert fitted.mixture.dominant == 1


def test_bright_particles_are_the_smaller_component_too():
    fitted = fit(draw(np.random.default_rng(2), 0.8, (0, 5), (1, 1), (128, 128)))
    np.testing.assert_allclose(fitted.mixture.weight, [0.8, 0.2], atol=0.02)
    assert fitted.mixture.dominant == 0


def test_images_of_zero_mean():
    rng = np.random.default_rng(3)
    scales = (1.0, 4.0, 0.25)
    images = []
    for scale in scales:
        image = bulk(rng, (96, 96)).astype(float)
        images.append(((image - image.mean()) * scale).astype(np.float32))
    fitted = fit(*images)
    np.testing.assert_allclose(fitted.alpha, scales, rtol=0.03)
    np.testing.assert_allclose(fitted.mixture.mu, [-2.1, 0.9], atol=0.1)


def test_images_whose_means_differ_in_sign():
    # No scale turns one into the other: the fit is poor, but it is one.
    rng = np.random.default_rng(4)
    fitted = fit(bulk(rng) + 50, bulk(rng) - 50)
    assert np.isfinite(fitted.alpha).all()
    assert (np.diff(fitted.log_likelihood) >= -1e-9 * np.abs(fitted.log_likelihood).max()).all()


@pytest.mark.parametrize("seed", range(6))
def test_one_gaussian_is_fitted_as_one(seed):
    """Whether a component dies or both share the pixels, the image comes out the same."""
    image = np.random.default_rng(seed).normal(100, 7, (128, 128)).astype(np.float32)
    fitted = fit(image)
    mean = (fitted.mixture.weight * fitted.mixture.mu).sum()
    square = (fitted.mixture.weight * (fitted.mixture.mu**2 + fitted.mixture.sigma**2)).sum()
    assert mean == pytest.approx(100, abs=0.2)
    assert np.sqrt(square - mean**2) == pytest.approx(7, rel=0.02)
    assert (np.diff(fitted.log_likelihood) >= -1e-9 * np.abs(fitted.log_likelihood).max()).all()


def test_a_component_that_dies_leaves_the_other_one():
    # Two values are two spikes: no Gaussian but the one of both is left.
    image = (np.random.default_rng(0).random((64, 64)) < 0.3).astype(np.float32)
    fitted = fit(image)
    assert sorted(fitted.mixture.weight) == [0, 1]
    dominant = fitted.mixture.dominant
    assert fitted.mixture.mu[dominant] == pytest.approx(image.mean(), abs=1e-3)
    assert fitted.mixture.sigma[dominant] == pytest.approx(image.std(), rel=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("where", ["dark", "bright", "middle"])
def test_saturated_pixels_do_not_move_the_rest(share, where):
    rng = np.random.default_rng(5)
    image = bulk(rng)
    value = {"dark": image.min() - 1, "bright": image.max() + 1, "middle": 0.5}[where]
    image[rng.random(image.shape) < share] = value
    fitted = fit(image)
    assert (np.diff(fitted.log_likelihood) >= -1e-9 * np.abs(fitted.log_likelihood).max()).all()
    np.testing.assert_allclose(fitted.mixture.weight, [0.3, 0.7], atol=0.08)
    np.testing.assert_allclose(fitted.mixture.mu, [-3, 0], atol=0.35)
    np.testing.assert_allclose(fitted.mixture.sigma, [1, 1], atol=0.15)


def test_many_spikes():
    rng = np.random.default_rng(12)
    image = bulk(rng)
    for value in range(10, 60, 10):
        image[rng.random(image.shape) < 0.15] = value
    fitted = fit(image)
    assert np.isfinite(fitted.log_likelihood).all()
    assert np.isfinite(Normalizer("micrograph").apply(image)).all()


def test_an_image_that_is_a_spike_is_not_taken_out_of_a_joint_fit():
    rng = np.random.default_rng(13)
    images = [rng.normal(10, 1e-4, (32, 32)), rng.normal(0, 1, (32, 32))]
    start = PixelMixture(np.array([0.5, 0.5]), np.array([0.0, 10.0]), np.array([1.0, 0.1]))
    h = PixelHistograms.from_images([image.astype(np.float32) for image in images])
    run = em._run_em(h, np.ones(2), start, 50, 1e-7)
    assert run.without_spike is None
    assert sorted(run.mixture.weight) == [0, 1]
    assert np.isfinite(run.y).all()
    assert np.isfinite(run.trace).all()


@pytest.mark.parametrize("seed", range(8))
def test_as_likely_as_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    mu, sigma = rng.normal(0, 3, 2) + rng.choice([0, 20, 300]), rng.uniform(0.3, 3, 2)
    image = draw(rng, rng.uniform(0.1, 0.9), mu, sigma, (48, 48))
    pixels = image.reshape(-1, 1).astype(float)
    theirs = GaussianMixture(2, tol=1e-5, max_iter=1000, random_state=seed).fit(pixels)
    ours = fit(image)
    assert log_likelihood([image], ours) / image.size >= theirs.score(pixels) - 1e-3


def test_a_narrow_core_in_wide_tails():
    """No cut between dark and bright separates these."""
    fitted = fit(draw(np.random.default_rng(6), 0.17, (24, 23.7), (0.5, 2.8)))
    narrow = int(np.argmin(fitted.mixture.sigma))
    np.testing.assert_allclose(fitted.mixture.sigma[[narrow, 1 - narrow]], [0.5, 2.8], rtol=0.05)
    assert fitted.mixture.weight[narrow] == pytest.approx(0.17, abs=0.03)


@pytest.mark.parametrize("mean", [1e6, 3.0, 0.0, -3.0, -1e6])
def test_the_best_scale_solves_its_equation(mean):
    """Also where the image's mean has the other sign: the root is small but positive."""
    image = np.random.default_rng(14).normal(mean, 1, (32, 32))
    h = PixelHistograms.from_images([image])
    mixture = PixelMixture(np.array([1.0, 0.0]), np.array([50.0, 50.0]), np.array([0.5, 0.5]))
    (y,) = em._maximize_scales(h, np.stack([h.count, 0 * h.count]), mixture)
    a, b = (image**2).sum() / 0.25, image.sum() * 50 / 0.25
    assert y > 0
    # A y^2 - B y - n = 0, written so that nothing cancels for B < 0.
    assert a * y - b == pytest.approx(image.size / y, rel=1e-6, abs=1e-6 * max(b, 0))


# The scale of further images


@pytest.mark.parametrize("mu", [(4, 8), (-2.1, 0.9), (-8, -4)])
def test_fit_scale_finds_the_scale(mu):
    mixture = PixelMixture(np.array([0.3, 0.7]), np.array(mu, float), np.array([1.0, 1.5]))
    rng = np.random.default_rng(7)
    scales = np.array([0.01, 0.5, 1.0, 30.0])
    images = [draw(rng, 0.3, mu, (1, 1.5), (96, 96)) * np.float32(s) for s in scales]
    alpha = fit_image_scales(PixelHistograms.from_images(images), mixture)
    np.testing.assert_allclose(alpha, scales, rtol=0.04)
    alone = [
        fit_image_scales(PixelHistograms.from_images([image]), mixture)[0] for image in images
    ]
    np.testing.assert_array_equal(alpha, alone)


def test_fit_scale_agrees_with_the_joint_fit():
    rng = np.random.default_rng(8)
    images = [bulk(rng) * np.float32(s) + np.float32(10 * s) for s in (0.5, 1, 2)]
    fitted = fit(*images)
    np.testing.assert_allclose(
        fit_image_scales(PixelHistograms.from_images(images), fitted.mixture),
        fitted.alpha,
        rtol=1e-3,
    )


# Normalizers


def background(image, truth):
    return image[truth].mean(), image[truth].std()


@pytest.mark.parametrize("mode", ["joint", "micrograph"])
def test_the_background_becomes_standard(mode):
    rng = np.random.default_rng(9)
    images, truths = [], []
    for scale in (1.0, 3.0, 0.2):
        particle = rng.random((96, 96)) < 0.2
        image = np.where(particle, rng.normal(6, 1, (96, 96)), rng.normal(10, 1, (96, 96)))
        images.append((image * scale).astype(np.float32))
        truths.append(~particle)
    normalizer = Normalizer.fit(images, mode)
    for image, truth in zip(images, truths, strict=True):
        normal = normalizer.apply(image)
        assert normal.dtype == np.float32
        mean, sd = background(normal, truth)
        assert mean == pytest.approx(0, abs=0.05)
        assert sd == pytest.approx(1, rel=0.05)


def test_standard_mode():
    image = np.random.default_rng(0).integers(30000, 30500, (32, 40)).astype(np.float32)
    normal = Normalizer("standard").apply(image)
    assert normal.dtype == np.float32
    assert normal.mean() == pytest.approx(0, abs=1e-4)
    assert normal.std() == pytest.approx(1, rel=1e-4)
    with pytest.raises(BadInput, match="blank"):
        Normalizer("standard").apply(np.ones((32, 32), np.float32))


def test_the_mode_none_leaves_an_image_as_it_is():
    image = noise((30, 40), 3) * np.float32(7) + np.float32(100)
    normal = Normalizer.fit([], "none").apply(image)
    assert normal.dtype == np.float32
    np.testing.assert_array_equal(normal, image)
    blank = np.ones((8, 8), np.float32)
    np.testing.assert_array_equal(Normalizer("none").apply(blank), blank)


@settings(max_examples=15)
@given(
    st.floats(-4, 4),
    st.integers(0, 100),
    st.sampled_from([m for m in NORMALIZATION_MODES if m != "none"]),
)
def test_the_scale_of_an_image_does_not_matter(exponent, seed, mode):
    image = bulk(np.random.default_rng(seed)) + np.float32(seed)
    normalizer = Normalizer.fit([image, image * 2], mode)
    scaled = image * np.float32(10**exponent)
    np.testing.assert_allclose(normalizer.apply(scaled), normalizer.apply(image), atol=0.01)


def test_an_image_gets_the_same_values_in_any_company():
    rng = np.random.default_rng(10)
    images = [bulk(rng) * np.float32(s) + np.float32(5) for s in (1, 2, 3)]
    for mode in NORMALIZATION_MODES:
        normalizer = Normalizer.fit(images, mode)
        first = normalizer.apply(images[0])
        for image in images[1:]:
            normalizer.apply(image)
        np.testing.assert_array_equal(normalizer.apply(images[0]), first)
    micrograph = Normalizer.fit(images, "micrograph")
    assert micrograph == Normalizer.fit(images[:1], "micrograph") == Normalizer("micrograph")


def test_only_the_joint_mode_needs_images():
    assert Normalizer.fit([], "standard") == Normalizer("standard")
    with pytest.raises(BadInput, match="at least one image"):
        Normalizer.fit([], "joint")
    with pytest.raises(BadInput, match="one of joint, micrograph, standard, none, not 'topaz'"):
        Normalizer.fit([], "topaz")


@pytest.mark.parametrize("number", [1, 2, 255, 256, 257, 1000])
def test_of_many_images_an_even_choice_is_fitted(monkeypatch, number):
    chosen = []

    class Seen(PixelHistograms):
        @classmethod
        def from_images(cls, images):
            chosen.extend(images)
            return PixelHistograms.from_images([bulk(np.random.default_rng(0), (16, 16))])

    monkeypatch.setattr(normalization, "PixelHistograms", Seen)
    Normalizer.fit(list(range(number)), "joint")
    assert len(chosen) == min(number, MAX_FITTED_IMAGES)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] == number - 1


@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
def test_a_normalizer_survives_json(mode):
    image = bulk(np.random.default_rng(11))
    normalizer = Normalizer.fit([image], mode)
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.as_dict())))
    assert again.mode == mode
    np.testing.assert_array_equal(again.apply(image), normalizer.apply(image))


GOOD = {"mode": "joint", "weight": [0.3, 0.7], "mu": [0, 1], "sigma": [1, 2]}


@pytest.mark.parametrize(
    "change",
    [
        {"mode": None},
        {"mode": "topaz"},
        {"mode": ["joint"]},
        {"weight": None},
        {"weight": [0.3]},
        {"weight": [0.3, 0.3, 0.4]},
        {"weight": [-0.3, 1.3]},
        {"weight": [0, 0]},
        {"mu": [0, float("nan")]},
        {"mu": ["a", "b"]},
        {"mu": [[0], [1, 2]]},
        {"sigma": [1, 0]},
        {"sigma": [1, -1]},
        {"sigma": [1, float("inf")]},
        {"sigma": 1},
    ],
)
def test_dicts_that_make_no_normalizer(change):
    with pytest.raises(BadInput, match="normalization"):
        Normalizer.from_dict(GOOD | change)


def test_dicts_that_lack_a_part():
    for part in GOOD:
        with pytest.raises(BadInput, match="normalization"):
            Normalizer.from_dict({key: value for key, value in GOOD.items() if key != part})
    mixture = Normalizer.from_dict(GOOD).mixture
    assert mixture is not None
    assert mixture.weight.tolist() == [0.3, 0.7]
    # A component may have died.
    assert Normalizer.from_dict(GOOD | {"weight": [0, 1]}).mixture.dominant == 1


@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
def test_flattening_removes_what_is_slow_and_keeps_what_is_fast(mode):
    rows, columns = np.indices((160, 200))
    fast = noise((160, 200), 5)
    slow = (4 * np.sin(rows / 60) + columns / 30 + 1e4).astype(np.float32)
    plain = Normalizer.fit([fast], mode, 12.0).apply(fast)
    sloped = Normalizer.fit([fast + slow], mode, 12.0).apply(fast + slow)
    inner = slice(40, -40)
    np.testing.assert_allclose(sloped[inner, inner], plain[inner, inner], atol=0.25)
    assert np.corrcoef(plain.ravel(), fast.ravel())[0, 1] > 0.99


def test_a_flattening_normaliser_survives_its_dictionary():
    for mode in NORMALIZATION_MODES:
        made = Normalizer.fit([noise((60, 60))], mode, 7.5)
        again = Normalizer.from_dict(json.loads(json.dumps(made.as_dict())))
        image = noise((50, 70), 2)
        np.testing.assert_allclose(again.apply(image), made.apply(image), rtol=1e-6)
        assert again.flatten_px == 7.5
    assert Normalizer.from_dict({"mode": "standard"}).flatten_px == 0
    for wrong in (-1, "much", math.nan, 1e9):
        with pytest.raises(BadInput, match="invalid background length"):
            Normalizer.from_dict({"mode": "standard", "flatten_px": wrong})


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    sd_px=st.floats(0.3, 90),
    seed=st.integers(0, 99),
)
def test_what_flattening_subtracts_is_a_gaussian_average(
    shape: tuple[int, int], sd_px: float, seed: int
) -> None:
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    centred = image - image.mean()
    # Truncated far out: at 4 standard deviations, as by default, it misses by 1e-4.
    expected = centred - gaussian_filter(
        centred.astype(np.float64), sd_px, truncate=4 if sd_px < MIN_COSINE_SD_PX else 8
    )
    np.testing.assert_allclose(subtract_slow_background(image, sd_px), expected, rtol=0, atol=2e-5)
