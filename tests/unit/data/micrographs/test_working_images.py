from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from heliodor.conventions import WORKING_DIAMETER_PX
from heliodor.data.micrographs import working_images
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import (
    MAX_COARSENING,
    WorkingImages,
    check_diameter,
    choose_pixel_size,
    prepare_working_image,
    prepare_working_images,
    working_pixel_size,
)
from heliodor.errors import BadInput
from heliodor.models.networks import NETWORKS, build_network


def source(path, pixel_size=None):
    return Source(str(path), Path(path), Path(path).stem, pixel_size)


# Which pixel size


@pytest.mark.parametrize(
    ("given", "star", "header", "expected"),
    [
        (1.1, 2.2, 3.3, 1.1),
        (1.1, None, None, 1.1),
        (None, 2.2, 3.3, 2.2),
        (None, None, 3.3, 3.3),
    ],
)
def test_the_user_comes_before_the_star_file_before_the_header(given, star, header, expected):
    assert choose_pixel_size(source("a.mrc", star), header, given) == expected


def test_without_any_pixel_size():
    with pytest.raises(BadInput, match=r"a\.mrc has no valid pixel size .* set the pixel size"):
        choose_pixel_size(source("a.mrc"), None, None)


@pytest.mark.parametrize("size", [0.0, -1.0, 0.05, 51.0, 1e6, math.nan, math.inf])
def test_absurd_pixel_sizes(size):
    with pytest.raises(BadInput, match=r"a\.mrc has a pixel size of .* not plausible"):
        choose_pixel_size(source("a.mrc", 2.0), 3.0, size)
    with pytest.raises(BadInput, match="not plausible"):
        choose_pixel_size(source("a.mrc", size), 3.0, None)


@pytest.mark.parametrize("diameter", [0, -180, 5, 1e5, math.nan, math.inf])
def test_absurd_diameters(diameter):
    with pytest.raises(BadInput, match="not plausible"):
        check_diameter(diameter)
    with pytest.raises(BadInput, match="not plausible"):
        working_pixel_size(diameter, "conv31")


def test_the_working_pixel_size_suits_the_network():
    assert check_diameter(180) == 180
    assert working_pixel_size(180, "conv31") == pytest.approx(7.2)
    assert working_pixel_size(175, "resnet8") == pytest.approx(5.0)
    assert working_pixel_size(200, "resnet16") == working_pixel_size(200, "conv63") == 5.0
    assert working_pixel_size(210, "conv127") == pytest.approx(3.0)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_particle_fits_into_what_a_network_sees(name):
    assert WORKING_DIAMETER_PX[name] < build_network(name, 1).receptive_field
    assert set(WORKING_DIAMETER_PX) == set(NETWORKS)


# One micrograph


def test_prepare_crops_to_the_working_pixel_size(write_mrc, noise):
    path = write_mrc("a.mrc", noise, 2.0)
    working = prepare_working_image(source(path), 4.0)
    assert working.shape == (20, 30)
    assert working.original_shape == (40, 60)
    assert working.pixel_size_angstrom == 2.0
    assert working.working_pixel_size_angstrom == 4.0
    np.testing.assert_array_equal(working.image, fourier_crop(noise, (20, 30)))


def test_the_working_pixel_size_follows_the_rounded_width(write_mrc):
    image = np.random.default_rng(0).normal(size=(100, 101)).astype("f4")
    working = prepare_working_image(source(write_mrc("a.mrc", image, 2.0)), 7.0)
    assert working.shape == (29, 29)
    assert working.working_pixel_size_angstrom == pytest.approx(2 * 101 / 29)


def test_prepare_takes_the_pixel_size_in_order(write_mrc, noise):
    path = write_mrc("a.mrc", noise, 2.0)
    assert prepare_working_image(source(path), 8.0).shape == (10, 15)
    assert prepare_working_image(source(path, 4.0), 8.0).shape == (20, 30)
    assert prepare_working_image(source(path, 4.0), 8.0, pixel_size_angstrom=8.0).shape == (40, 60)
    with pytest.raises(BadInput, match="not plausible"):
        prepare_working_image(source(path), 8.0, pixel_size_angstrom=0.0)
    with pytest.raises(BadInput, match="no valid pixel size"):
        prepare_working_image(source(write_mrc("b.mrc", noise, 1.0)), 8.0)


def test_an_image_is_never_made_finer(write_mrc, noise):
    path = write_mrc("a.mrc", noise, 2.0)
    for wanted in (2.0, 1.9, 2.01 / MAX_COARSENING):
        np.testing.assert_array_equal(prepare_working_image(source(path), wanted).image, noise)


def test_micrographs_coarser_than_the_working_pixel_size(write_mrc, noise):
    path = write_mrc("a.mrc", noise, 2.0)
    wanted = 1.99 / MAX_COARSENING
    with pytest.raises(BadInput, match=r"a\.mrc has 2 Å/pixel, too coarse .* 1\.66 Å"):
        prepare_working_image(source(path), wanted)
    assert prepare_working_image(source(path), wanted, coarsest_angstrom=2.0).shape == (40, 60)
    with pytest.raises(BadInput, match="too coarse"):
        prepare_working_image(source(path), 4.0, coarsest_angstrom=1.9)
    images = WorkingImages(wanted)
    with pytest.raises(BadInput, match="too coarse"):
        images.get(source(path))


def test_a_particle_must_fit_into_the_micrograph(write_mrc, noise):
    path = write_mrc("a.mrc", noise, 2.0)
    assert prepare_working_image(source(path), 4.0, diameter_angstrom=80.0)
    with pytest.raises(BadInput, match=r"particle of 81 Å is larger than .*a\.mrc \(120 x 80 Å\)"):
        prepare_working_image(source(path), 4.0, diameter_angstrom=81.0)


# Many micrographs


@pytest.fixture
def reads(monkeypatch):
    """Count the micrographs that are read."""
    seen = []
    read = working_images.open_micrograph

    def counting(path):
        seen.append(Path(path).name)
        return read(path)

    monkeypatch.setattr(working_images, "open_micrograph", counting)
    return seen


def test_the_cache_returns_the_same_object(write_mrc, noise, reads):
    a = source(write_mrc("a.mrc", noise, 2.0))
    images = WorkingImages(4.0)
    assert images.get(a) is images.get(a)
    assert reads == ["a.mrc"]
    assert images.get(source(a.path)) is images.get(a)  # an equal source is the same
    assert images.get(source(a.path, 4.0)).shape == (40, 60)  # another pixel size is not


def test_the_cache_keeps_the_last_used_within_its_bytes(write_mrc, noise, reads):
    a, b, c = (source(write_mrc(f"{name}.mrc", noise, 2.0)) for name in "abc")
    size = 20 * 30 * 4
    images = WorkingImages(4.0, keep_bytes=2 * size)
    for each in (a, b, a, c):  # b is the one used longest ago
        images.get(each)
    assert reads == ["a.mrc", "b.mrc", "c.mrc"]
    images.get(a)
    images.get(c)
    assert len(reads) == 3
    images.get(b)
    assert reads[3:] == ["b.mrc"]
    assert sum(image.image.nbytes for image in images._kept.values()) <= 2 * size


def test_a_cache_forgets_when_it_is_coarsened(write_mrc, noise):
    a = source(write_mrc("a.mrc", noise, 2.0))
    images = WorkingImages(4.0)
    assert images.get(a).shape == (20, 30)
    images.coarsen(8.0)
    assert images.get(a).shape == (10, 15)


def test_a_cache_too_small_for_anything_still_serves(write_mrc, noise, reads):
    a = source(write_mrc("a.mrc", noise, 2.0))
    images = WorkingImages(4.0, keep_bytes=0)
    assert images.get(a).shape == images.get(a).shape == (20, 30)
    assert reads == ["a.mrc"] * 2


def test_the_settings_reach_every_micrograph(write_mrc, noise):
    a = source(write_mrc("a.mrc", noise, 2.0))
    assert WorkingImages(8.0, pixel_size_angstrom=4.0).get(a).shape == (20, 30)
    with pytest.raises(BadInput, match="larger than"):
        WorkingImages(8.0, diameter_angstrom=100.0).get(a)


@pytest.mark.parametrize("threads", [1, 4])
def test_one_that_fails_spoils_nothing(write_mrc, noise, tmp_path, threads):
    good = [source(write_mrc(f"{name}.mrc", noise, 2.0)) for name in "ab"]
    (tmp_path / "text.mrc").write_text("no micrograph\n" * 100)
    (tmp_path / "cut.mrc").write_bytes((tmp_path / "a.mrc").read_bytes()[:-100])
    (tmp_path / "folder.mrc").mkdir()
    bad = [source(tmp_path / f"{name}.mrc") for name in ("text", "cut", "folder", "x" * 300)]
    bad.append(source(write_mrc("coarse.mrc", noise, 20.0)))
    bad.append(source(write_mrc("unknown.mrc", noise, 1.0)))
    bad.append(source(write_mrc("nan.mrc", noise * np.nan, 2.0)))
    steps = []
    order = [bad[0], good[0], *bad[1:], good[1]]
    images = WorkingImages(4.0, threads=threads)
    done, failures = prepare_working_images(order, images, lambda *step: steps.append(step))
    assert [image.source for image in done] == good
    assert [failure.name for failure in failures] == [each.name for each in bad]
    assert all(failure.name in failure.reason for failure in failures)
    assert steps == [(i, len(order)) for i in range(1, len(order) + 1)]


def test_when_none_can_be_used(tmp_path):
    first, second = (source(tmp_path / name) for name in ("a.mrc", "b.mrc"))
    with pytest.raises(BadInput, match=r"a\.mrc does not exist") as caught:
        prepare_working_images([first], WorkingImages(4.0))
    assert "others" not in str(caught.value)
    with pytest.raises(BadInput, match=r"a\.mrc does not exist.*\(and 1 other failed\)"):
        prepare_working_images([first, second], WorkingImages(4.0))
    with pytest.raises(BadInput, match="no micrographs"):
        prepare_working_images([], WorkingImages(4.0))
