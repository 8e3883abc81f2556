from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.conventions import Image, Shape
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import (
    Failure,
    WorkingImage,
    WorkingImages,
)
from heliodor.errors import BadInput
from heliodor.evaluation.score_histogram import DatasetScores
from heliodor.models.model_file import NOVELTY_KEY, Model
from heliodor.models.novelty import NoveltyReference
from heliodor.picking.batch import (
    DecoySearch,
    InMemoryStore,
    PickingResult,
    pick_micrographs,
)
from heliodor.picking.candidates import find_candidates, find_operating_point
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.picking.nms import suppress
from heliodor.picking.score_maps import (
    EDGE_DOUBT,
    EDGE_REACH,
    card_step,
    level_scores,
    score_micrograph,
    score_normalized,
)
from heliodor.picking.scoring import score_image, score_smoothly
from heliodor.picking.settings import PickSettings
from helpers.networks import (
    disc_detector,
    discs,
    model,
    noise,
    scattered,
    working,
    write_mrc,
)

#: Particles of 40 A; working pixels of 4 A unless said.
MODEL = model(disc_detector())


def peaks(shape: Shape, at: dict[tuple[int, int], float], below: float = -20.0) -> Image:
    """A score map that is low but at the given (row, column)."""
    score = np.full(shape, below, dtype=np.float32)
    for place, value in at.items():
        score[place] = value
    return score


def pick(score: Image, wanted: PickSettings = PickSettings(), **changes: Any) -> Picks:
    chosen = model(disc_detector(), **changes) if changes else MODEL
    return find_candidates(chosen, working(np.zeros_like(score)), score, wanted)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    more=st.tuples(st.floats(1, 5), st.floats(1, 5)),
    data=st.data(),
)
def test_candidates_map_to_original_pixels_exactly(
    shape: Shape, more: tuple[float, float], data: st.DataObject
) -> None:
    original = round(shape[0] * more[0]), round(shape[1] * more[1])
    row = data.draw(st.integers(0, shape[0] - 1))
    column = data.draw(st.integers(0, shape[1] - 1))
    score = peaks(shape, {(row, column): 2.5})
    image = working(np.zeros(shape, np.float32), original)
    found = find_candidates(MODEL, image, score, PickSettings())
    assert found.micrographs == ("mic.mrc",)
    assert found.score.tolist() == [2.5]
    assert found.score.dtype == found.xy_px.dtype == np.float64
    # Pixel 0 on pixel 0, no half-pixel shift.
    expected = [column * (original[1] / shape[1]), row * (original[0] / shape[0])]
    assert found.xy_px.tolist() == [expected]


def test_candidates_are_ranked() -> None:
    score = peaks((40, 40), {(3, 9): 1.0, (20, 5): 3.0, (35, 35): -5.5, (10, 30): 2.0})
    found = pick(score)
    assert found.score.tolist() == [3.0, 2.0, 1.0, -5.5]
    assert found.xy_px.tolist() == [[5, 20], [30, 10], [9, 3], [35, 35]]


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [
        (0.0, [2.0, -5.0, -6.0]),
        (None, [2.0, -5.0, -6.0]),
        (5.0, [2.0, -5.0, -6.0]),
        (-6.0, [2.0, -5.0, -6.0]),
        (-7.0, [2.0, -5.0, -6.0, -7.0]),
        (-9.0, [2.0, -5.0, -6.0, -7.0, -8.0]),
    ],
)
def test_candidates_reach_down_to_the_floor_or_the_threshold(
    threshold: float | None, kept: list[float]
) -> None:
    values = [2.0, -5.0, -6.0, -7.0, -8.0]
    score = peaks((20, 90), {(9, 9 + 15 * i): v for i, v in enumerate(values)})
    wanted = PickSettings(threshold=threshold)
    assert pick(score, wanted).score.tolist() == kept


@pytest.mark.parametrize("value", [0.5, 0.1, -7.3, 1 / 3])
def test_a_pick_scores_the_threshold_or_more(value: float) -> None:
    """Scores are float32: what equals the threshold there is a pick, the next below is none."""
    single = np.float32(value)
    below = np.nextafter(single, np.float32(-np.inf))
    score = peaks((20, 60), {(9, 9): float(single), (9, 30): float(below), (9, 50): 3.0})
    # The threshold that a model file brings back is the float32 value itself.
    wanted = PickSettings(threshold=float(single))
    found = pick(score, wanted)
    store = InMemoryStore()
    name = found.micrographs[0]
    source = Source(name, Path(name), name)
    store.add(source, MicrographResult(found, 4.0, None, 1.0, MicrographMeasurements(None, None)))
    picked = PickingResult((name,), [], float(single), DatasetScores([name], ()), store)
    assert picked.picks.score.tolist() == [3.0, float(single)]
    assert picked.picks.micrographs == ("mic.mrc",)


def test_the_models_threshold_counts_unless_another_is_given() -> None:
    chosen = model(threshold=1.5)
    assert PickSettings().threshold_for(chosen) == 1.5
    assert PickSettings(threshold=-2).threshold_for(chosen) == -2
    assert PickSettings(threshold=0).threshold_for(chosen) == 0


@settings(max_examples=40, deadline=None)
@given(
    exclusion=st.floats(0, 60) | st.none(),
    margin=st.floats(0, 60),
    pixel=st.floats(1, 8),
    factor=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_distances_in_angstrom_are_kept(
    exclusion: float | None, margin: float, pixel: float, factor: int, seed: int
) -> None:
    shape = (24, 33)
    original = shape[0] * factor, shape[1] * factor
    image = working(np.zeros(shape, np.float32), original, pixel / factor)
    assert image.working_pixel_size_angstrom == pytest.approx(pixel)
    wanted = PickSettings(
        exclusion_radius_angstrom=exclusion, edge_margin_angstrom=margin, threshold=-6
    )
    score = noise(shape, seed)
    found = find_candidates(MODEL, image, score, wanted)
    xy = found.xy_px * image.pixel_size_angstrom
    apart = 20.0 if exclusion is None else exclusion
    between = np.hypot(*np.moveaxis(xy[:, None] - xy[None], 2, 0))
    np.fill_diagonal(between, np.inf)
    assert (between > apart * (1 - 1e-9)).all()
    # From the first and the last pixel of the original, so from its edge all the more.
    last = (np.array(original[::-1]) - 1) * image.pixel_size_angstrom
    # Margins are rounded to a millionth of a pixel.
    assert (xy >= margin - 1e-6 * pixel).all()
    assert (xy <= last - margin + 1e-6 * pixel).all()
    # And no candidate is lost: each pixel inside has a pick that scores as high within reach.
    rows, columns = np.indices(shape)
    edge = math.ceil(margin / image.working_pixel_size_angstrom)
    inside = (np.minimum(rows, shape[0] - 1 - rows) >= edge) & (
        np.minimum(columns, shape[1] - 1 - columns) >= edge
    )
    for row, column in np.argwhere(inside):
        here = np.array([column, row]) * pixel
        near = np.hypot(*(xy - here).T) <= apart * (1 + 1e-9) + 1e-9
        assert (found.score[near] >= score[row, column]).any()


def test_the_default_exclusion_is_the_particles_radius() -> None:
    # 20 A are 5 working pixels.
    near, far = {(15, 10): 2.0, (15, 15): 1.0}, {(15, 10): 2.0, (15, 16): 1.0}
    assert pick(peaks((30, 30), near), PickSettings()).score.tolist() == [2]
    assert pick(peaks((30, 30), far), PickSettings()).score.tolist() == [2, 1]
    large = {"diameter_angstrom": 48.0}
    assert pick(peaks((30, 30), far), PickSettings(), **large).score.tolist() == [2]


def test_by_default_particles_at_the_very_edge_are_picked() -> None:
    corners = {(0, 0): 4.0, (0, 29): 3.0, (29, 0): 2.0, (29, 29): 1.0}
    assert pick(peaks((30, 30), corners), PickSettings()).score.tolist() == [4, 3, 2, 1]


def test_what_lies_in_the_margin_is_not_picked_and_suppresses_nothing() -> None:
    margin = PickSettings(edge_margin_angstrom=18)  # 4.5 pixels, so column 5 is the first
    score = peaks((30, 30), {(15, 4): 9.0, (15, 6): 1.0})
    assert pick(score, margin).score.tolist() == [1]
    for column, kept in ((4, []), (5, [1]), (24, [1]), (25, [])):
        score = peaks((30, 30), {(15, column): 1.0})
        assert pick(score, margin).score.tolist() == kept
        assert pick(score.T, margin).score.tolist() == kept


def test_a_candidate_with_a_cut_off_box_is_left_out_but_its_flank_is_not_picked() -> None:
    score = peaks((30, 30), {(15, 4): 9.0, (15, 6): 1.0, (15, 20): 2.0})
    assert pick(score, PickSettings(box_px=12)).score.tolist() == [2]
    assert pick(score, PickSettings(box_px=8)).score.tolist() == [9, 2]
    # A box is in pixels of the file, which has twice as many here.
    image = working(np.zeros_like(score), (60, 60))
    for box_px, kept in ((16, [9, 2]), (18, [2]), (36, [2]), (44, [])):
        wanted = PickSettings(box_px=box_px)
        assert find_candidates(MODEL, image, score, wanted).score.tolist() == kept


def test_decoys_and_the_area_are_those_of_whole_boxes(mics: dict[str, Source]) -> None:
    areas, decoys = dict[int | None, float](), dict[int | None, int]()

    def note(image: WorkingImage, _: Image, found: MicrographResult) -> None:
        assert found.decoys is not None
        areas[box_px], decoys[box_px] = found.area_angstrom2, len(found.decoys)

    search = DecoySearch(frozenset({"a.mrc"}))
    for box_px in (None, 40):
        wanted = PickSettings(box_px=box_px)
        pick_micrographs(MODEL, [mics["a.mrc"]], images(), wanted, done=note, search=search)
    height, width = SHAPES["a.mrc"]  # pixels of 4 A, two of the file
    assert areas[None] == 16 * height * width
    assert areas[40] == 16 * (height - 20) * (width - 20)
    assert 0.2 < decoys[40] / decoys[None] < 0.8


def test_the_margin_of_the_labels_holds_unless_another_is_given() -> None:
    score = peaks((30, 30), {(15, 4): 9.0, (15, 20): 1.0})
    assert pick(score, PickSettings(), edge_margin_angstrom=18.0).score.tolist() == [1]
    to_the_edge = PickSettings(edge_margin_angstrom=0.0)
    assert pick(score, to_the_edge, edge_margin_angstrom=18.0).score.tolist() == [9, 1]


def test_centers_are_corrected_within_the_micrograph_and_its_margin() -> None:
    score = peaks((30, 30), {(15, 10): 2.0, (15, 29): 1.0})
    corrected = {"center_correction_px": [0.5, -1.0]}
    assert pick(score, PickSettings(), **corrected).xy_px.tolist() == [[10.5, 14], [29, 14]]
    margin = PickSettings(edge_margin_angstrom=40)
    back = {"center_correction_px": [-3.0, 0.0]}
    assert pick(score, margin, **back).xy_px.tolist() == [[10, 15]]


def test_a_micrograph_without_a_pick_stays_listed() -> None:
    found = pick(peaks((12, 12), {}))
    assert len(found) == 0
    assert found.xy_px.shape == (0, 2)
    assert found.micrographs == ("mic.mrc",)
    # A margin wider than the micrograph leaves nothing, and nothing breaks.
    wide = PickSettings(edge_margin_angstrom=9e4, exclusion_radius_angstrom=9e4)
    assert len(pick(noise((12, 12)), wide)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": math.nan}, "threshold"),
        ({"threshold": math.inf}, "threshold"),
        ({"exclusion_radius_angstrom": -1}, "exclusion radius"),
        ({"exclusion_radius_angstrom": math.nan}, "exclusion radius"),
        ({"edge_margin_angstrom": -0.1}, "edge margin"),
        ({"edge_margin_angstrom": math.inf}, "edge margin"),
        ({"scores": "fine"}, "scores must be one of smooth, dense, not 'fine'"),
    ],
)
def test_bad_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        PickSettings(**change)


TRUTH = {
    # Whole working pixels away from the edges.
    "a.mrc": scattered((60, 70), 6, 12, seed=1, edge=9),
    "b.mrc": scattered((70, 60), 4, 12, seed=2, edge=9),
    "nothing.mrc": np.zeros((0, 2)),
}
SHAPES = {"a.mrc": (60, 70), "b.mrc": (70, 60), "nothing.mrc": (50, 50)}


def write_discs(folder: Path, name: str, seed: int, factor: int = 2) -> Source:
    """A micrograph of 2 A pixels whose working image of 4 A pixels shows dark discs."""
    small = discs(SHAPES[name], TRUTH[name], depth=8, seed=seed)
    # Each working pixel's value at the original pixels around it: band-limited well enough.
    big = np.repeat(np.repeat(small, factor, 0), factor, 1)
    big = np.roll(big, (-(factor // 2), -(factor // 2)), (0, 1))
    return write_mrc(folder / name, big, 4.0 / factor)


@pytest.fixture(scope="module")
def mics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    folder = tmp_path_factory.mktemp("mics")
    found = {name: write_discs(folder, name, seed) for seed, name in enumerate(TRUTH)}
    (folder / "broken.mrc").write_bytes(b"no micrograph")
    found["broken.mrc"] = Source("broken.mrc", folder / "broken.mrc", "broken")
    found["missing.mrc"] = Source("missing.mrc", folder / "missing.mrc", "missing")
    found["coarse.mrc"] = write_mrc(folder / "coarse.mrc", noise((64, 64)), 11.0)
    return found


def images(threads: int = 1) -> WorkingImages:
    return WorkingImages(4.0, None, 40.0, threads=threads)


def test_planted_discs_are_picked_where_they_lie(mics: dict[str, Source]) -> None:
    picked = pick_micrographs(
        MODEL, [mics[name] for name in TRUTH], images(), PickSettings(threshold=0)
    )
    assert picked.candidates.micrographs == picked.picks.micrographs == tuple(TRUTH)
    assert picked.threshold == 0
    assert picked.failures == []
    for name, own in picked.picks.split_by_micrograph():
        assert len(own) == len(TRUTH[name])
        true = 2 * TRUTH[name]  # original pixels
        for xy in true:
            assert np.hypot(*(own.xy_px - xy).T).min() <= 2  # one working pixel
    assert len(picked.candidates) >= len(picked.picks)
    assert (picked.picks.score >= 0).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_one_that_fails_spoils_no_other(mics: dict[str, Source], threads: int) -> None:
    alone = pick_micrographs(MODEL, [mics["a.mrc"]], images(), PickSettings())
    order = ["broken.mrc", "b.mrc", "missing.mrc", "a.mrc", "coarse.mrc"]
    told: list[tuple[WorkingImage, Image, MicrographResult]] = []
    steps: list[tuple[int, int]] = []
    picked = pick_micrographs(
        MODEL,
        [mics[name] for name in order],
        images(threads),
        PickSettings(),
        done=lambda *what: told.append(what),
        progress=lambda *step: steps.append(step),
    )
    assert picked.candidates.micrographs == ("b.mrc", "a.mrc")
    failed = [failure.name for failure in picked.failures]
    assert failed == ["broken.mrc", "missing.mrc", "coarse.mrc"]
    assert all(isinstance(f, Failure) and f.name in f.reason for f in picked.failures)
    assert steps == [(i, 5) for i in range(1, 6)]
    # What else is picked on changes nothing.
    own = dict(picked.candidates.split_by_micrograph())["a.mrc"]
    np.testing.assert_array_equal(own.xy_px, alone.candidates.xy_px)
    np.testing.assert_array_equal(own.score, alone.candidates.score)
    # As soon as a micrograph is done: its score map and all its candidates.
    assert [image.source.name for image, *_ in told] == ["b.mrc", "a.mrc"]
    for image, score, found in told:
        assert score.shape == image.shape
        np.testing.assert_array_equal(score, score_micrograph(MODEL, image))
        expected = dict(picked.candidates.split_by_micrograph())[image.source.name]
        np.testing.assert_array_equal(found.candidates.xy_px, expected.xy_px)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_measured_on_a_micrograph(mics: dict[str, Source], threads: int) -> None:
    sources = [mics["a.mrc"], mics["b.mrc"]]
    told: dict[str, MicrographMeasurements] = {}

    def note(image: WorkingImage, _: Image, found: MicrographResult) -> None:
        told[image.source.name] = found.measured

    # A model that says nothing of its training and does not level has nothing to measure by.
    pick_micrographs(MODEL, sources, images(threads), PickSettings(), done=note)
    assert told == {
        "a.mrc": MicrographMeasurements(None, None),
        "b.mrc": MicrographMeasurements(None, None),
    }
    seen = {s.name: MODEL.normalizer.apply(images().get(s).image) for s in sources}
    reference = NoveltyReference.fit([noise((120, 160), 5)], 10.0)
    assert reference is not None
    own = replace(MODEL.card, background=-3.5, extra={NOVELTY_KEY: reference.as_dict()})
    pick_micrographs(
        Model(MODEL.network, own), sources, images(threads), PickSettings(), done=note
    )
    for name, image in seen.items():
        median = float(np.median(score_image(MODEL.network, image)))
        assert told[name].unlike_training == reference.novel_fraction(image)
        assert told[name].levelled_by == pytest.approx(-3.5 - median, abs=0.02)


def test_what_is_finished_is_not_read_and_keeps_its_place(mics: dict[str, Source]) -> None:
    own = pick_micrographs(MODEL, [mics["a.mrc"]], images(), PickSettings()).candidates
    store = InMemoryStore()
    for name in ("broken.mrc", "coarse.mrc"):
        table = Picks.on(name, own.xy_px, own.score)
        store.add(
            mics[name], MicrographResult(table, 4.0, None, 1.0, MicrographMeasurements(None, None))
        )
    order = ["broken.mrc", "b.mrc", "missing.mrc", "coarse.mrc", "a.mrc"]
    sources = [mics[name] for name in order]
    picked = pick_micrographs(MODEL, sources, images(2), PickSettings(), store=store)
    assert picked.candidates.micrographs == ("broken.mrc", "b.mrc", "coarse.mrc", "a.mrc")
    assert [failure.name for failure in picked.failures] == ["missing.mrc"]
    again = pick_micrographs(
        MODEL, sources, images(2), PickSettings(), store=store, repeat={"coarse.mrc"}
    )
    assert again.micrographs == ("broken.mrc", "b.mrc", "a.mrc")
    # Known without decoys, one on which they are searched for is read again.
    search = DecoySearch(frozenset({"a.mrc", "broken.mrc"}))
    again = pick_micrographs(MODEL, sources, images(2), PickSettings(), store=store, search=search)
    assert [failure.name for failure in again.failures] == ["broken.mrc", "missing.mrc"]
    assert store.get("a.mrc").decoys is not None


def test_an_error_of_the_caller_is_no_failure_of_the_micrograph(mics: dict[str, Source]) -> None:
    def full(*_: Any) -> None:
        raise BadInput("the disk is full")

    with pytest.raises(BadInput, match="disk is full"):
        pick_micrographs(
            MODEL, [mics["a.mrc"], mics["b.mrc"]], images(), PickSettings(), done=full
        )


def test_not_a_single_usable_micrograph(mics: dict[str, Source]) -> None:
    with pytest.raises(BadInput, match=r"no micrograph could be picked: .*broken\.mrc"):
        pick_micrographs(
            MODEL, [mics["broken.mrc"], mics["missing.mrc"]], images(), PickSettings()
        )
    with pytest.raises(BadInput, match="no micrograph could be picked"):
        pick_micrographs(MODEL, [], images(), PickSettings())


def test_the_models_own_normalisation_is_used() -> None:
    image = working(100 + 7 * discs((40, 40), np.array([[20.0, 20.0]])))
    normalised = MODEL.normalizer.apply(image.image)
    expected = level_scores(score_image(MODEL.network, normalised), normalised, None, 10.0)
    np.testing.assert_array_equal(score_micrograph(MODEL, image), expected)


def test_scores_are_smooth_or_dense_as_asked_for() -> None:
    # Four pixels of training radius, so the lattice is as wide as the stride.
    chosen = model(disc_detector(2), training_radius_angstrom=16.0)
    image = working(discs((60, 50), np.array([[21.0, 33.0]])))
    normalised = chosen.normalizer.apply(image.image)
    assert card_step(chosen, image.working_pixel_size_angstrom) == 2
    dense = score_normalized(chosen, image, normalised, scores="dense")
    smooth = score_normalized(chosen, image, normalised, scores="smooth")
    every = score_image(chosen.network, normalised)
    fewer = score_smoothly(chosen.network, normalised, 2)
    np.testing.assert_array_equal(dense, level_scores(every, normalised, None, 10.0))
    np.testing.assert_array_equal(smooth, level_scores(fewer, normalised, None, 10.0))
    assert not np.allclose(smooth, dense)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("expected", [0.4, 1, 7.4, 14, 40])
def test_the_operating_threshold_gives_the_expected_number(stride: int, expected: float) -> None:
    chosen = model(disc_detector(stride))
    items = []
    for seed in (1, 2, 3):
        xy = scattered((90, 100), 14, 8, seed)
        image = discs((90, 100), xy, depth=np.linspace(1, 8, 14), seed=seed)
        items.append(LabeledImage(image, xy[:5]))
    background, threshold = find_operating_point(chosen.network, items, expected, exclusion_px=5)
    # As many as are picked, all three images taken together.
    number = 0
    for item in items:
        score = level_scores(score_image(chosen.network, item.image), item.image, background)
        found = find_candidates(
            chosen, working(item.image), score, PickSettings(threshold=threshold)
        )
        number += int((found.score >= threshold).sum())
    assert number == round(3 * expected)


def test_the_operating_threshold_of_absurd_numbers() -> None:
    network = disc_detector()
    item = LabeledImage(noise((40, 40)), np.zeros((0, 2)))
    score = score_image(network, item.image)
    ranked = suppress(score, 5)[1]
    assert find_operating_point(network, [item], len(ranked), 5).threshold == ranked.min()
    assert find_operating_point(network, [item], len(ranked) + 1, 5).threshold is None
    assert find_operating_point(network, [item], 1e-6, 5).threshold == score.max()


KEEP_ALL = PickSettings(threshold=-5.9)


def test_levelling_undoes_a_shift_of_all_scores_but_no_large_one() -> None:
    image, score = noise((40, 60)), noise((40, 60), 1)
    background = float(np.median(score))
    for shift, left in ((0.0, 0.0), (0.7, 0.0), (-0.9, 0.0), (2.5, 1.5), (-3.0, -2.0)):
        levelled = level_scores(score + np.float32(shift), image, background)
        np.testing.assert_allclose(levelled, score + left, atol=1e-5)
    np.testing.assert_array_equal(level_scores(score, image, None), score)


@given(st.integers(20, 60), st.integers(20, 60), st.floats(5.0, 30.0), st.integers(0, 2**31 - 1))
def test_edges_are_doubted_and_nothing_else(
    height: int, width: int, diameter_px: float, seed: int
) -> None:
    image, score = noise((height, width), seed), noise((height, width), seed + 1)
    away = np.full((height, width), np.inf)
    for axis, n in enumerate((height, width)):
        own = np.minimum(np.arange(n), n - 1 - np.arange(n))
        away = np.minimum(away, own[:, None] if axis == 0 else own[None, :])
    taken = score - level_scores(score, image, None, diameter_px)
    reach = EDGE_REACH * diameter_px
    np.testing.assert_allclose(taken[away == 0], EDGE_DOUBT, atol=1e-5)
    np.testing.assert_array_equal(taken[away >= reach], 0.0)
    np.testing.assert_allclose(taken, EDGE_DOUBT * np.clip(1 - away / reach, 0, 1), atol=1e-5)


def test_a_whole_particle_at_an_edge_is_still_found() -> None:
    xy = np.array([[1.0, 45.0], [50.0, 45.0]])
    image = working(discs((90, 100), xy, depth=8.0))
    found = find_candidates(
        MODEL, image, score_micrograph(MODEL, image), PickSettings(threshold=0.0)
    )
    picked = found.xy_px[found.score >= 0.0]
    np.testing.assert_allclose(picked, xy[::-1], atol=1.5)


def test_nothing_is_picked_in_dead_borders() -> None:
    xy = np.array([[30.0, 30.0], [50.0, 3.0], [4.0, 40.0], [60.0, 60.0]])
    image = discs((70, 80), xy)
    image[:6] = image[6]  # as where a detector repeats its last row
    found = find_candidates(
        MODEL, working(image), score_micrograph(MODEL, working(image)), KEEP_ALL
    )
    centres = found.xy_px[found.score > 0]
    assert len(centres) == 3
    assert np.hypot(*(centres[:, None] - xy[[0, 2, 3]]).T).min(axis=0).max() < 2
    # A quarter of the model's diameter is kept clear of the bar; edges without one are open.
    clear = MODEL.card.diameter_angstrom / 4 / working(image).working_pixel_size_angstrom
    assert found.xy_px[:, 1].min() >= 6 - 1 + clear
    assert found.xy_px[:, 0].min() < clear
