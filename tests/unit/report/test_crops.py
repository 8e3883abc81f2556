from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from heliodor.report import crops
from heliodor.report.crops import cut_crops, draw_average, draw_sheet
from helpers.reports import gallery_item

DIAMETER = 100.0  # angstrom, 20 pixels


def item_with_blobs(seed: int, scores: list[float]):
    """Return a micrograph with a dark blob of 2 pixels at each pick, off the grid of pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((200, 240)).astype(float)
    image = rng.normal(0, 0.05, (200, 240))
    xy = []
    for n in range(len(scores)):
        x, y = 30 + 45 * (n % 4) + rng.uniform(0, 1), 40 + 60 * (n // 4) + rng.uniform(0, 1)
        xy.append((x, y))
        image -= np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    return gallery_item(picks=xy, image=image.astype(np.float32), picks_score=np.array(scores))


def test_each_pick_is_in_the_middle_of_its_crop_and_the_best_is_first():
    items = [item_with_blobs(1, [1.0, 5.0, 3.0]), item_with_blobs(2, [4.0, 2.0])]
    found = cut_crops(items, DIAMETER)
    side = found.shape[1]
    assert found.shape == (5, 33, 33)
    middle = side // 2
    steps = np.arange(side) - middle
    for crop in found:
        weight = np.clip(-crop - 0.3, 0, None)
        assert abs((weight * steps).sum() / weight.sum()) < 0.1
        assert abs((weight * steps[:, None]).sum() / weight.sum()) < 0.1
    # The best score is that of the second pick of the first micrograph.
    x, y = items[0].picks_xy_px[1].round().astype(int)
    own = items[0].image[y - 16 : y + 17, x - 16 : x + 17]
    assert np.corrcoef(own.ravel(), found[0].ravel())[0, 1] > 0.8


def test_what_reaches_beyond_the_micrograph_is_left_out():
    at_edge = gallery_item(shape=(60, 80), picks=((20.0, 10.0), (40.0, 30.0), (np.nan, 3.0)))
    assert len(cut_crops([at_edge], DIAMETER)) == 1
    assert len(cut_crops([], DIAMETER)) == 0
    assert len(cut_crops([gallery_item(picks=())], DIAMETER)) == 0


def test_the_average_is_darkest_in_the_middle():
    found = cut_crops([item_with_blobs(n, [1.0] * 8) for n in range(3)], DIAMETER)
    with Image.open(io.BytesIO(draw_average(found))) as image:
        pixels = np.asarray(image).astype(float)
    darkest = np.unravel_index(pixels.argmin(), pixels.shape)
    assert np.abs(np.array(darkest) - (len(pixels) - 1) / 2).max() < 12


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (10, 1), (11, 2), (500, 4)])
def test_the_sheet_has_as_many_rows_as_it_needs(count: int, rows: int):
    noise = np.random.default_rng(0).normal(size=(count, 33, 33)).astype(np.float32)
    with Image.open(io.BytesIO(draw_sheet(noise))) as image:
        wide, tall = image.size
    assert tall == pytest.approx(rows * wide / crops.COLUMNS, rel=0.04)


def test_flat_images_are_drawn():
    flat = np.ones((3, 9, 9), np.float32)
    for image in (draw_sheet(flat), draw_average(flat)):
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
