from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from heliodor.conventions import (
    FloatArray,
    Image,
    Shape,
)
from heliodor.data.coordinates.labels import LabeledImage, make_label_mask
from heliodor.data.micrographs.fourier_crop import mirror_pad
from heliodor.errors import BadInput
from heliodor.training.sampler import (
    NEGATIVE,
    OUTSIDE,
    POSITIVE,
    UNLABELLED,
    Sampler,
)
from helpers.networks import noise

shapes = st.tuples(st.integers(1, 14), st.integers(1, 14))
widths = st.integers(0, 4).map(lambda half: 2 * half + 1)


def numbered(shape: Shape, first: int = 0) -> Image:
    """An image whose every pixel has a value of its own."""
    return (first + np.arange(shape[0] * shape[1], dtype=np.float32)).reshape(shape)


def at(*xy: tuple[float, float]) -> FloatArray:
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


def two_images() -> list[LabeledImage]:
    first = LabeledImage(numbered((20, 33)), at((4, 5), (30, 18.4), (12, 7)))
    second = LabeledImage(numbered((27, 16), 1000), at((8, 8)))
    return [first, second]


def test_no_region_of_the_margin_is_drawn() -> None:
    """Of tiles with one output; others may reach into the margin, but its outputs are outside."""
    image = LabeledImage(numbered((20, 30)), at((10, 10)), margin_px=4)
    drawn = Sampler([image], 1.0, 1, 0).draw(0, 2000).images.flatten().int()
    rows, columns = drawn // 30, drawn % 30
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 15, 4, 25)
    wide = Sampler([image], 1.0, 1, 0, side=3).draw(0, 200)
    place = wide.images[:, 0].int()
    inside = (place // 30 >= 4) & (place // 30 < 16) & (place % 30 >= 4) & (place % 30 < 26)
    assert ((wide.labels != OUTSIDE) == inside).all()


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(shapes, min_size=1, max_size=4), width=widths, data=st.data())
def test_crops_are_slices_of_the_padded_images(
    sizes: list[Shape], width: int, data: st.DataObject
) -> None:
    # Every image with a label in a corner, one pixel wide.
    images = [LabeledImage(noise(s, i), at((0, 0))) for i, s in enumerate(sizes)]
    images[0] = LabeledImage(noise((5, 3), 9), at((2, 4)))
    sampler = Sampler(images, 0.5, width, 0)
    regions, expected = [], []
    first = 0
    for item in images:
        height, columns = item.shape
        row = data.draw(st.integers(0, height - 1))
        column = data.draw(st.integers(0, columns - 1))
        for r, c in ((row, column), (0, 0), (height - 1, columns - 1)):
            regions.append(first + r * columns + c)
            padded = mirror_pad(item.image, width // 2)
            expected.append(padded[r : r + width, c : c + width])
        first += height * columns
    crops = sampler.cut(torch.tensor(regions), torch.zeros(len(regions), dtype=torch.int64)).images
    assert crops.dtype == torch.float32
    np.testing.assert_array_equal(crops[:, 0], np.stack(expected))


def test_padding_mirrors_about_the_edge_pixel() -> None:
    image = numbered((3, 4))
    padded = mirror_pad(image, 2)
    np.testing.assert_array_equal(padded[2:-2, 2:-2], image)
    np.testing.assert_array_equal(padded[2], [2, 1, 0, 1, 2, 3, 2, 1])
    np.testing.assert_array_equal(padded[:, 2], [8, 4, 0, 4, 8, 4, 0])
    assert mirror_pad(numbered((1, 1), 5), 3).tolist() == [[5.0] * 7] * 7


def test_the_eight_turns_are_the_symmetries_of_a_square() -> None:
    image = noise((9, 9), 3)
    sampler = Sampler([LabeledImage(image, at((4, 4)))], 1, 9, 0)
    crops = sampler.cut(torch.full((8,), 4 * 9 + 4), torch.arange(8)).images[:, 0].numpy()
    np.testing.assert_array_equal(crops[0], image)
    group = [np.rot90(m, k) for m in (image, image.T) for k in range(4)]
    # Each symmetry of the square once, none twice.
    matches = [[bool(np.array_equal(crop, g)) for g in group] for crop in crops]
    assert np.sum(matches, axis=0).tolist() == [1] * 8
    assert np.sum(matches, axis=1).tolist() == [1] * 8


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_crop_keeps_its_centre_and_its_content(turn: int) -> None:
    images = two_images()
    sampler = Sampler(images, 2, 7, 0)
    regions = torch.arange(20 * 33 + 27 * 16)
    plain = sampler.cut(regions, torch.zeros(len(regions), dtype=torch.int64)).images
    turned = sampler.cut(regions, torch.full((len(regions),), turn)).images
    values = np.concatenate([item.image.ravel() for item in images])
    np.testing.assert_array_equal(turned[:, 0, 3, 3], values)
    np.testing.assert_array_equal(
        turned.flatten(1).sort(dim=1).values, plain.flatten(1).sort(dim=1).values
    )


def centres(crops: torch.Tensor) -> FloatArray:
    half = crops.shape[-1] // 2
    return np.asarray(crops[:, 0, half, half].numpy(), dtype=np.float64)


def test_positives_lie_within_the_radius_and_unlabelled_never_do() -> None:
    images, radius = two_images(), 2.5
    sampler = Sampler(images, radius, 5, 1)
    crops = sampler.draw(4000, 12000).images
    assert crops.shape == (16000, 1, 5, 5)
    near = {
        float(item.image[row, column])
        for item in images
        for row in range(item.shape[0])
        for column in range(item.shape[1])
        if (np.hypot(item.xy_px[:, 0] - column, item.xy_px[:, 1] - row) <= radius).any()
    }
    everything = {float(v) for item in images for v in item.image.ravel()}
    drawn = centres(crops)
    assert sampler.labelled_pixels == len(near)
    assert set(drawn[:4000].tolist()) == near
    assert set(drawn[4000:].tolist()) == everything - near


def test_overlapping_labels_count_once_and_draws_are_uniform() -> None:
    # Two labels at one place and one beside it: no pixel may weigh more than another.
    images = [
        LabeledImage(numbered((12, 9)), at((3, 3), (3, 3), (4, 3))),
        LabeledImage(numbered((7, 20), 500), at((10, 3))),
    ]
    sampler = Sampler(images, 1, 3, 5)
    drawn = centres(sampler.draw(20_000, 60_000).images)
    # Two neighboring discs of five pixels share two; the other image has one disc.
    values, counts = np.unique(drawn[:20_000], return_counts=True)
    assert len(values) == 8 + 5
    assert chisquare(counts).pvalue > 1e-3
    # Unlabeled regions: as often as labels from each image, alike within an image.
    values, counts = np.unique(drawn[20_000:], return_counts=True)
    assert len(values) == (108 - 8) + (140 - 5)
    share = np.array([8 * (1 - 8 / 108), 5 * (1 - 5 / 140)])
    expected = np.where(values < 500, share[0] / 100, share[1] / 135)
    assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 1e-3


def test_labels_are_drawn_as_often_as_picks_that_outnumber_them() -> None:
    labeled = LabeledImage(numbered((13, 13)), at((6, 6), (6, 12)))
    picks = at((3, 3), (3, 9), (9, 3), (9, 9))
    with_picks = LabeledImage(numbered((13, 13), 500), at(), picked_xy_px=picks)
    sampler = Sampler([labeled, with_picks], 0.5, 3, 5)
    assert sampler.labelled_pixels == 6
    drawn = centres(sampler.draw(20_000, 60_000).images)
    values, counts = np.unique(drawn[:20_000], return_counts=True)
    assert values.tolist() == [84, 162, 542, 548, 620, 626]
    assert chisquare(counts, [5000, 5000, 2500, 2500, 2500, 2500]).pvalue > 1e-3
    # Unlabeled regions come from the micrographs as often as labeled ones.
    own = float((drawn[20_000:] < 500).mean())
    free = 1 - 2 / 169, 1 - 4 / 169
    assert own == pytest.approx(free[0] / sum(free), abs=0.01)


def test_picks_that_labels_outnumber_are_neither_particles_nor_background() -> None:
    picks, labels = at((3, 3), (9, 9)), at((6, 6), (6, 12))
    sampler = Sampler([LabeledImage(numbered((13, 13)), labels, picked_xy_px=picks)], 0.5, 3, 5)
    assert sampler.labelled_pixels == 2
    drawn = centres(sampler.draw(2000, 20_000).images)
    assert set(drawn[:2000].tolist()) == {84, 162}
    assert set(drawn[2000:].tolist()) == set(range(169)) - {84, 162, 42, 126}


def test_micrographs_with_such_picks_alone_leave_nothing_to_draw() -> None:
    covered = LabeledImage(numbered((9, 9)), at((4, 4)))
    other = LabeledImage(numbered((30, 30)), at(), picked_xy_px=at((0, 0)))
    with pytest.raises(BadInput, match="the labels cover the whole micrographs"):
        Sampler([covered, other], 7, 5, 0)


def test_turns_are_drawn_uniformly_and_for_both_kinds() -> None:
    image = numbered((3, 3))
    image[1, 1] = -1
    sampler = Sampler([LabeledImage(image, at((1, 1)))], 0.1, 3, 2)
    crops = sampler.draw(8000, 1).images[:-1, 0].numpy().reshape(8000, 9)
    counts = np.unique(crops, axis=0, return_counts=True)[1]
    assert len(counts) == 8
    assert chisquare(counts).pvalue > 1e-3


def test_the_seed_decides_the_draws() -> None:
    samplers = [Sampler(two_images(), 2, 7, seed) for seed in (3, 3, 4)]
    first, same, other = ([s.draw(5, 11).images for _ in range(3)] for s in samplers)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[1])


def test_the_state_is_that_of_the_draws() -> None:
    a, b = (Sampler(two_images(), 2, 7, 3) for _ in range(2))
    assert torch.equal(a.random.get_state(), b.random.get_state())
    before = a.random.get_state()
    a.draw(4, 4)
    assert not torch.equal(a.random.get_state(), before)
    b.draw(4, 4)
    assert torch.equal(a.random.get_state(), b.random.get_state())


def test_draws_leave_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    Sampler(two_images(), 2, 7, 3).draw(4, 4)
    assert torch.equal(torch.get_rng_state(), before)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    radius=st.floats(0, 2),
    data=st.data(),
)
def test_labels_anywhere_on_an_image_agree_with_the_mask(
    shape: Shape, radius: float, data: st.DataObject
) -> None:
    # In corners and beyond the edges too, as long as some pixel is in reach.
    inside = (
        data.draw(st.floats(-0.4, shape[1] - 0.6)),
        data.draw(st.floats(-0.4, shape[0] - 0.6)),
    )
    beyond = data.draw(st.tuples(st.floats(-3, shape[1] + 2), st.floats(-3, shape[0] + 2)))
    xy = at(inside, beyond)
    mask = make_label_mask(xy, shape, radius)
    image = numbered(shape)
    if mask.all():
        with pytest.raises(BadInput, match="cover the whole"):
            Sampler([LabeledImage(image, xy)], radius, 5, 0)
        return
    sampler = Sampler([LabeledImage(image, xy)], radius, 5, 0)
    assert sampler.labelled_pixels == mask.sum() >= 1
    drawn = centres(sampler.draw(60, 60).images)
    assert mask.ravel()[drawn[:60].astype(int)].all()
    assert not mask.ravel()[drawn[60:].astype(int)].any()


def test_unusable_labels() -> None:
    image = numbered((8, 9))
    for xy in (at(), at((40, 3)), at((3, -20), (-9, 1))):
        with pytest.raises(BadInput, match="no label lies on any"):
            Sampler([LabeledImage(image, xy)], 2, 5, 0)
    with pytest.raises(BadInput, match="cover the whole micrographs"):
        Sampler([LabeledImage(image, at((4, 4)))], 100, 5, 0)
    with pytest.raises(BadInput, match="no micrograph"):
        Sampler([], 2, 5, 0)


def test_an_image_without_labels_is_never_drawn_from() -> None:
    images = [
        LabeledImage(numbered((5, 5)), at((2, 2))),
        LabeledImage(numbered((5, 5), 50), at()),
    ]
    drawn = centres(Sampler(images, 1, 3, 0).draw(50, 400).images)
    assert (drawn < 25).all()


def test_labels_that_leave_nothing_beside_them_are_refused() -> None:
    # A further image has unlabeled regions, but none is drawn from it.
    covered, empty = LabeledImage(numbered((5, 5)), at((2, 2))), numbered((5, 5), 50)
    with pytest.raises(BadInput, match="cover the whole"):
        Sampler([covered, LabeledImage(empty, at())], 10, 3, 0)
    drawn = centres(
        Sampler([covered, LabeledImage(empty, at((0, 0)))], 5, 3, 0).draw(20, 20).images
    )
    assert (drawn[20:] >= 50).all()


@settings(max_examples=60, deadline=None)
@given(
    width=widths,
    stride=st.integers(1, 3),
    side=st.integers(1, 4),
    turn=st.integers(0, 7),
    data=st.data(),
)
def test_each_output_of_a_tile_is_the_crop_and_the_label_of_its_region(
    width: int, stride: int, side: int, turn: int, data: st.DataObject
) -> None:
    images = [
        LabeledImage(numbered((13, 9)), at((3, 4)), at((7, 9))),
        LabeledImage(numbered((6, 17), 200), at((15, 1)), at((2, 2), (15, 2))),
    ]
    tiles = Sampler(images, 1.5, width, 0, stride=stride, side=side)
    crops = Sampler(images, 1.5, width, 0)
    sizes = [item.image.size for item in images]
    number = data.draw(st.integers(0, 1))
    row = data.draw(st.integers(0, images[number].shape[0] - 1))
    column = data.draw(st.integers(0, images[number].shape[1] - 1))
    anchor = data.draw(st.tuples(st.integers(0, side - 1), st.integers(0, side - 1)))
    height, columns = images[number].shape
    region = sum(sizes[:number]) + row * columns + column
    one = torch.tensor
    tile = tiles.cut(one([region]), one([turn]), one([anchor]))
    assert tile.labels.shape == (1, side, side)
    positive = make_label_mask(images[number].xy_px, (height, columns), 1.5)
    negative = make_label_mask(images[number].negative_xy_px, (height, columns), 1.5)
    symmetry = crops_turn(turn)
    for i in range(side):
        for j in range(side):
            step = stride * (np.array([i, j]) - np.array(anchor))
            down, right = symmetry @ step
            r, c = row + down, column + right
            known = int(tile.labels[0, i, j])
            if not (0 <= r < height and 0 <= c < columns):
                assert known == OUTSIDE
                continue
            expected = POSITIVE if positive[r, c] else NEGATIVE if negative[r, c] else UNLABELLED
            assert known == expected
            crop = crops.cut(one([region - row * columns - column + r * columns + c]), one([turn]))
            part = tile.images[0, 0, stride * i :, stride * j :][:width, :width]
            np.testing.assert_array_equal(part, crop.images[0, 0])


def crops_turn(turn: int) -> FloatArray:
    """Read a symmetry off a crop of an image whose pixels say where they are."""
    image = numbered((5, 5))
    sampler = Sampler([LabeledImage(image, at((2, 2)))], 0.1, 5, 0)
    crop = sampler.cut(torch.tensor([12]), torch.tensor([turn])).images[0, 0].numpy()
    below, beside = (np.array(divmod(int(v), 5)) - 2 for v in (crop[3, 2], crop[2, 3]))
    return np.stack([below, beside], axis=1)


def test_tiles_are_drawn_for_their_anchors() -> None:
    images = [
        LabeledImage(numbered((30, 30)), at((8, 8)), at((20, 22))),
        LabeledImage(numbered((20, 40), 2000), at((11, 5))),
    ]
    sampler = Sampler(images, 2, 5, 0, stride=2, side=3)
    tiles = sampler.draw(300, 500, 200)
    number = torch.arange(1000)
    known = tiles.labels[number, tiles.anchors[:, 0], tiles.anchors[:, 1]]
    expected = torch.tensor([POSITIVE] * 300 + [UNLABELLED] * 500 + [NEGATIVE] * 200)
    assert torch.equal(known.long(), expected)
    assert sampler.negative_pixels == 13
    counts = np.bincount((tiles.anchors[:, 0] * 3 + tiles.anchors[:, 1]).numpy(), minlength=9)
    assert chisquare(counts).pvalue > 1e-3


def test_a_label_overrules_a_negative_at_its_place() -> None:
    image = LabeledImage(numbered((9, 9)), at((4, 4)), at((4, 5)))
    sampler = Sampler([image], 1, 3, 0)
    assert (sampler.labelled_pixels, sampler.negative_pixels) == (5, 3)


def test_negatives_that_leave_nothing_unlabelled_are_refused() -> None:
    image = LabeledImage(numbered((6, 6)), at((0, 0)), at((3, 3)))
    with pytest.raises(BadInput, match="cover the whole"):
        Sampler([image], 10, 3, 0)
    many = LabeledImage(
        numbered((3, 3)), at((1, 1)), at(*((x, y) for x in range(3) for y in (0, 1, 2)))
    )
    with pytest.raises(BadInput, match="cover the whole"):
        Sampler([many], 0.1, 3, 0)
