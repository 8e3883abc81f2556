from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.dead_borders import DeadBorder, find_dead_border
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.training.sampler import Sampler
from helpers.networks import noise

widths = st.sampled_from([0, 5, 9, 12])


@settings(max_examples=30, deadline=None)
@given(widths, widths, widths, widths, st.integers(0, 9), st.floats(0.01, 100), st.booleans())
def test_bars_of_repeated_or_blank_rows_are_found(
    top: int, bottom: int, left: int, right: int, seed: int, scale: float, blank: bool
) -> None:
    image = scale * noise((110, 130), seed) + 7
    for turned, before, after in ((image, top, bottom), (image.T, left, right)):
        size = len(turned)
        turned[:before] = 0 if blank else turned[before]
        turned[size - after :] = 0 if blank else turned[size - after - 1]
    found = find_dead_border(image)
    for got, bar in zip(
        (found.top, found.bottom, found.left, found.right),
        (top, bottom, left, right),
        strict=True,
    ):
        # Of a bar that repeats, the row that is repeated may count too.
        assert got in ((0,) if not bar else (bar - 1, bar))


def test_a_bar_survives_fourier_cropping() -> None:
    image = noise((300, 400), 2)
    image[:40] = image[40]
    image[:, 380:] = image[:, 379:380]
    found = find_dead_border(fourier_crop(image, (150, 200)))
    # The last rows of a bar ring with what lies beside it.
    assert 17 <= found.top <= 20
    assert 7 <= found.right <= 10
    assert found.bottom == found.left == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (5, 4), (64, 3)])
def test_small_and_blank_images_have_no_border(shape: tuple[int, int]) -> None:
    for image in (np.zeros(shape, np.float32), noise(shape)):
        assert find_dead_border(image) == DeadBorder()


def test_a_margin_widens_only_what_is_narrower() -> None:
    border = DeadBorder(top=9, left=2).at_least(4)
    assert border == DeadBorder(top=9, bottom=4, left=4, right=4)
    assert np.zeros((30, 20))[border.live_region((30, 20))].shape == (17, 12)
    assert not np.zeros((30, 20))[DeadBorder().at_least(99).live_region((30, 20))].size


def test_smooth_images_have_no_border() -> None:
    rows, columns = np.indices((90, 80))
    for image in (rows + columns, np.sin(rows / 9) + np.cos(columns / 7)):
        assert find_dead_border(image.astype(np.float32)) == DeadBorder()


def test_regions_in_a_dead_border_are_never_drawn_unless_labelled() -> None:
    image = noise((60, 60), 4)
    image[:8] = image[8]
    marked = LabeledImage(image, np.array([[30.0, 30.0], [20.0, 2.0]]))
    sampler = Sampler([marked], 1, 1, 0)
    drawn = sampler.draw(200, 4000).images[:, 0, 0, 0].numpy()
    assert np.isin(image[2, 19:22], drawn[:200]).all()
    alive = set(image[7:].ravel().tolist())
    assert set(drawn[200:].tolist()) <= alive
