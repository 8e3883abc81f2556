from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RectBivariateSpline

from heliodor.conventions import Image, Shape
from heliodor.data.micrographs.fourier_crop import mirror_pad
from heliodor.errors import BadInput
from heliodor.models.networks import NETWORKS
from heliodor.picking import scoring
from heliodor.picking.scoring import (
    compute_turned_features,
    lattice_step,
    score_coarsely,
    score_image,
    score_lattice,
    score_smoothly,
    score_with_contaminants,
    score_with_features,
    surface_matrix,
)
from heliodor.utils.compute import choose_device
from helpers.networks import (
    disc_detector,
    discs,
    noise,
    scrambled,
)

NETWORK = {name: scrambled(name, 2) for name in NETWORKS}
CONV31 = NETWORK["conv31"]
names = st.sampled_from(sorted(NETWORKS))


def assert_same(scores: Image, expected: Image) -> None:
    """Equal to float32's rounding of sums as large as the largest of the scores."""
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-5 * scale)


@settings(max_examples=25, deadline=None)
@given(
    name=names,
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    seed=st.integers(0, 99),
)
def test_coarse_scores_are_those_of_every_few_pixels(name: str, shape: Shape, seed: int) -> None:
    network, image = NETWORK[name], noise(shape, seed)
    coarse, stride = score_coarsely(network, image)
    assert stride == network.stride
    assert coarse.dtype == np.float32
    assert_same(coarse, score_image(network, image)[::stride, ::stride])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_turned_features_are_those_of_turned_images(name: str) -> None:
    network, image = NETWORK[name], noise((65, 65), 3)
    last = 64 // network.stride
    rows_columns = np.array([[0, 0], [1, last], [last // 2, 1]])
    found = compute_turned_features(network, image, rows_columns)
    turned = np.ascontiguousarray(np.rot90(image))
    seen = score_with_features(network, turned, network.stride).features
    for own, (row, column) in zip(found, rows_columns, strict=True):
        assert_same(own, seen[:, last - column, row])
    assert compute_turned_features(network, image, rows_columns[:0]).shape[0] == 0


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 50), (33, 2)])
def test_each_score_is_that_of_the_crop_of_the_mirrored_image(name: str, shape: Shape) -> None:
    # Far smaller than the receptive field: the mirror images of mirror images are seen.
    network, image = NETWORK[name], noise(shape, 1)
    field = network.receptive_field
    padded = torch.from_numpy(mirror_pad(image, field // 2))
    crops = padded.unfold(0, field, 1).unfold(1, field, 1).reshape(-1, 1, field, field)
    with torch.inference_mode():
        expected = network(crops).reshape(shape).numpy()
    assert_same(score_image(network, image), expected)


def test_a_score_lies_where_its_particle_lies() -> None:
    image = discs((30, 41), np.array([[33.0, 9.0]]), sd=0)
    score = score_image(disc_detector(), image)
    assert divmod(int(score.argmax()), 41) == (9, 33)
    assert score[9, 33] == pytest.approx(6, abs=1e-4)
    assert score[25, 5] == pytest.approx(-4)


def test_scoring_keeps_the_image_and_takes_other_types() -> None:
    image = noise((20, 17))
    kept = image.copy()
    score = score_image(CONV31, image)
    np.testing.assert_array_equal(image, kept)
    double: Any = image.astype(np.float64)
    np.testing.assert_array_equal(score_image(CONV31, double), score)
    backwards = image[:, ::-1]
    mirrored = score_image(CONV31, backwards)
    np.testing.assert_array_equal(mirrored, score_image(CONV31, backwards.copy()))


def test_scores_need_no_gradient_memory() -> None:
    score = torch.from_numpy(score_image(CONV31, noise((8, 8))))
    assert not score.requires_grad
    assert all(weight.grad is None for weight in CONV31.parameters())


def test_devices_that_are_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device() == choose_device("auto")
    available = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (choose_device().type != "cpu") == available


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "0", "cpu,cuda", "cuda:-1", "cuda:x", "cpu:x", "cuda:99"]
)
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(BadInput, match="device") as caught:
        choose_device(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["meta", "meta:0", "mkldnn", "hpu", "privateuseone", "xla"])
def test_devices_torch_knows_but_nobody_can_use(name: str) -> None:
    with pytest.raises(BadInput, match="must be one of auto, cpu, cuda"):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_missing_gpu_is_a_sentence() -> None:
    with pytest.raises(BadInput, match=r"'cuda' cannot be used .*; choose auto or cpu"):
        choose_device("cuda")


@settings(max_examples=25, deadline=None)
@given(
    name=names,
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    halvings=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_a_lattice_is_every_step_th_of_all_scores(
    name: str, shape: Shape, halvings: int, seed: int
) -> None:
    network, image = NETWORK[name], noise(shape, seed)
    step = max(1, network.stride >> halvings)
    assert_same(score_lattice(network, image, step), score_image(network, image)[::step, ::step])
    with pytest.raises(ValueError, match="does not divide"):
        score_lattice(network, image, 3)


@pytest.mark.parametrize("shape", [(70, 61), (64, 64), (9, 50), (2, 3)])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_smooth_surface_goes_through_the_lattice(shape: Shape, step: int) -> None:
    image = noise(shape, 3)
    whole, smooth = score_image(CONV31, image), score_smoothly(CONV31, image, step)
    assert smooth.shape == shape
    assert smooth.dtype == np.float32
    assert_same(smooth[::step, ::step], whole[::step, ::step])


def test_a_smooth_surface_is_near_the_scores_of_wide_particles() -> None:
    rows, columns = np.indices((90, 100))
    image = np.exp(-((rows - 41.5) ** 2 + (columns - 52.3) ** 2) / 200).astype(np.float32)
    whole, smooth = score_image(CONV31, image), score_smoothly(CONV31, image, 4)
    assert np.abs(smooth - whole).max() < 0.05 * np.ptp(whole)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(26, 60), st.integers(26, 60)),
    step=st.integers(2, 8),
    seed=st.integers(0, 99),
)
def test_the_surface_is_a_bicubic_spline(shape: Shape, step: int, seed: int) -> None:
    lattice = noise(shape, seed)[::step, ::step]
    rows, columns = (np.arange(0, side, step) for side in shape)
    spline = RectBivariateSpline(rows, columns, lattice)
    places = [np.minimum(np.arange(side), (side - 1) // step * step) for side in shape]
    expected = spline(*places)
    drawn = surface_matrix(shape[0], step) @ lattice @ surface_matrix(shape[1], step).T
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_lattice_is_no_wider_than_the_training_radius(name: str) -> None:
    network = NETWORK[name]
    for radius_px in (0.0, 0.5, 1.0, 2.9, 3.1, 4.4, 8.75, 100.0):
        step = lattice_step(network, radius_px)
        assert network.stride % step == 0
        assert step <= max(1.0, radius_px)
        assert step == network.stride or 2 * step > radius_px or network.stride % (2 * step)


@settings(max_examples=25, deadline=None)
@given(
    name=names,
    shape=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    halvings=st.integers(0, 4),
    contaminant=st.booleans(),
)
def test_what_a_network_goes_by_comes_with_the_same_scores(
    name: str, shape: Shape, halvings: int, contaminant: bool
) -> None:
    network, image = copy.deepcopy(NETWORK[name]), noise(shape, 5)
    if contaminant:
        network.add_contaminant_classifier()
    step = max(1, network.stride >> halvings)
    seen, both = (
        score_with_features(network, image, step),
        score_with_contaminants(network, image, step),
    )
    assert np.array_equal(seen.maps.particle, both.particle)
    assert (seen.maps.contaminant is None) is (both.contaminant is None)
    if both.contaminant is not None:
        assert np.array_equal(seen.maps.contaminant, both.contaminant)
    # The classifier makes of the features what the network says.
    weight = network.classifier.weight.detach().numpy()[0, :, 0, 0]
    bias = network.classifier.bias.item()
    coarse, _ = score_coarsely(network, image)
    assert_same(np.tensordot(weight, seen.features, 1) + bias, coarse)


@settings(max_examples=15, deadline=None)
@given(
    name=names,
    rows=st.integers(1, 60),
    threads=st.integers(2, 5),
    band_px=st.integers(1, 20),
)
def test_bands_of_threads_change_nothing(name: str, rows: int, threads: int, band_px: int) -> None:
    network, image = NETWORK[name], noise((rows, 23))
    before = torch.get_num_threads()
    whole = score_image(network, image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BAND_PX", band_px)
        torch.set_num_threads(threads)
        try:
            parts = score_image(network, image)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    assert_same(parts, whole)
