"""Tracing many micrographs, with a stand-in for the network that knows the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from heliodor.data.filaments.geometry import measure_length
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from heliodor.picking.filaments.batch import (
    LEAST_AUTOMATIC,
    TracedMicrograph,
    TracingResult,
    choose_threshold,
    lower_in_contamination,
    trace_micrographs,
)
from heliodor.picking.filaments.codec import FILAMENTS
from heliodor.picking.filaments.refinement import ScoredAxis
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.picking.filaments.tracer import Geometry, trace_filaments
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.journal import NAME
from heliodor.picking.user_masks import UserMasks
from helpers.filament_maps import make_maps
from helpers.filament_network import PIXEL, SHAPE, WIDTH_ANGSTROM, KnownAxes, write_micrographs

SETTINGS = FilamentSettings(True, WIDTH_ANGSTROM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_micrographs(tmp_path_factory.mktemp("mics"), 3)


def trace(folder: Path, **arguments: object) -> TracingResult:
    return trace_micrographs(KnownAxes(), find_sources(folder), SETTINGS, **arguments)  # type: ignore[arg-type]


def test_a_bad_micrograph_changes_nothing_for_the_others(folder: Path, tmp_path: Path) -> None:
    good = trace(folder)
    assert [len(one.axes) for one in good.micrographs] == [2, 3, 4]
    for name in ("mic_1", "mic_2", "mic_3"):
        (tmp_path / f"{name}.mrc").write_bytes((folder / f"{name}.mrc").read_bytes())
    damaged = (folder / "mic_2.mrc").read_bytes()[:5000]
    (tmp_path / "mic_2.mrc").write_bytes(damaged)
    rest = trace(tmp_path)
    assert [failure.name for failure in rest.failures] == [str(tmp_path / "mic_2.mrc")]
    for one, other in zip(good.micrographs[::2], rest.micrographs, strict=True):
        for first, second in zip(one.axes, other.axes, strict=True):
            np.testing.assert_array_equal(first.axis, second.axis)
    several = trace(tmp_path, threads=3)
    assert [len(one.axes) for one in several.micrographs] == [2, 4]


def test_micrographs_that_are_too_coarse_or_too_small_fail(folder: Path) -> None:
    with pytest.raises(BadInput, match="too coarse"):
        trace(folder, pixel_size_angstrom=20.0)
    wide = KnownAxes()
    wide.width_angstrom = 1500.0
    with pytest.raises(BadInput, match="too wide"):
        trace_micrographs(wide, find_sources(folder), SETTINGS)


def test_a_mask_of_the_user_ends_filaments(folder: Path, tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, : SHAPE[1] // 2] = 255
    Pillow.fromarray(mask).save(tmp_path / "mic_1.png")
    sources = find_sources(folder)
    masks = UserMasks.find(tmp_path / "mic_1.png", sources)
    masked, free = trace(folder, masks=masks), trace(folder, masks=masks, bad_areas="keep")
    reach = min(one.axis[:, 0].min() for one in masked.micrographs[0].axes)
    assert reach > SHAPE[1] / 2 - WIDTH_ANGSTROM / PIXEL
    assert min(one.axis[:, 0].min() for one in free.micrographs[0].axes) < SHAPE[1] / 4
    assert len(masked.micrographs[1].axes) == 3


def test_likely_contamination_ends_a_filament_unless_that_is_surer() -> None:
    true = np.array([[0.0, 100.0], [300.0, 100.0]])
    maps = make_maps([true], (200, 300), 20.0)
    geometry = Geometry(20.0, 30.0, 80.0, 60.0)
    assert lower_in_contamination(maps) is maps

    def reach(log_odds: float) -> float:
        contaminant = np.full(maps.axis.shape, -5.0)
        contaminant[:, maps.axis.shape[1] // 2 :] = log_odds
        lowered = lower_in_contamination(replace(maps, contaminant=contaminant))
        (found,) = trace_filaments(lowered, geometry, (200, 300))
        return float(found.axis[:, 0].max())

    assert reach(6.0) < 150 + 20
    assert reach(1.0) > 290


def test_done_micrographs_are_not_read_again_unless_they_changed(
    folder: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for path in sorted(folder.glob("*.mrc")):
        (work / path.name).write_bytes(path.read_bytes())
    network = KnownAxes()

    def run(model: str = network.fingerprint) -> TracingResult:
        store = JoinedJournals(tmp_path, {"model": model}, FILAMENTS)
        return trace_micrographs(network, find_sources(work), SETTINGS, store=store)

    first = run()
    assert network.calls == 3
    again = run()
    assert network.calls == 3
    for one, other in zip(first.micrographs, again.micrographs, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one.profile, other.profile)
        for axis, same in zip(one.axes, other.axes, strict=True):
            np.testing.assert_array_equal(axis.axis, same.axis)
            np.testing.assert_array_equal(axis.scores, same.scores)
    (work / "mic_2.mrc").write_bytes((work / "mic_3.mrc").read_bytes())
    assert [len(one.axes) for one in run().micrographs] == [2, 4, 4]
    assert network.calls == 4
    run("another")
    assert network.calls == 7
    journal = tmp_path / NAME
    journal.write_bytes(journal.read_bytes()[:-20])
    assert [len(one.axes) for one in run("another").micrographs] == [2, 4, 4]
    assert network.calls == 8


def test_another_pixel_size_in_the_list_of_micrographs_is_traced_again(
    folder: Path, tmp_path: Path
) -> None:
    network = KnownAxes()
    store = JoinedJournals(tmp_path, {"model": network.fingerprint}, FILAMENTS)
    for size, calls in ((3.0, 3), (3.0, 3), (2.5, 6)):
        sources = [replace(own, pixel_size_angstrom=size) for own in find_sources(folder)]
        result = trace_micrographs(network, sources, SETTINGS, store=store)
        assert network.calls == calls
        assert {one.pixel_size_angstrom for one in result.micrographs} == {size}


def candidates(scores: list[float], lengths: list[float]) -> TracedMicrograph:
    axes = tuple(
        ScoredAxis(np.array([[0.0, 0.0], [length, 0.0]]), np.full(2, score))
        for score, length in zip(scores, lengths, strict=True)
    )
    return TracedMicrograph("m", 1.0, (100, 100), axes, np.zeros(1), 0.0)


def test_the_threshold_has_the_highest_expected_f1() -> None:
    rng = np.random.default_rng(4)
    scores, lengths = rng.normal(0.5, 2.5, 60).tolist(), rng.uniform(50, 900, 60).tolist()
    chosen = choose_threshold([candidates(scores, lengths)])
    true = np.array(lengths) / (1 + np.exp(-np.array(scores)))

    def f1(threshold: float) -> float:
        kept = np.array(scores) >= threshold
        return 2 * true[kept].sum() / (np.array(lengths)[kept].sum() + true.sum())

    assert f1(chosen.threshold) == pytest.approx(max(map(f1, scores)))
    unlikely = choose_threshold([candidates([-1.5, -2.0, -1.2], [100.0] * 3)])
    assert unlikely.threshold == LEAST_AUTOMATIC
    assert unlikely.recall == 0.0
    given = choose_threshold([candidates(scores, lengths)], 1.0)
    kept = np.array(scores) >= 1.0
    assert given.precision == pytest.approx(true[kept].sum() / np.array(lengths)[kept].sum())
    assert given.recall == pytest.approx(true[kept].sum() / true.sum())


def test_no_candidates_have_a_threshold_too() -> None:
    assert choose_threshold([candidates([], [])]).threshold == 0.0
    assert choose_threshold([], 2.0).threshold == 2.0


def test_filaments_are_those_above_the_threshold(folder: Path) -> None:
    result = trace(folder)
    table = result.filaments()
    assert [one.tube_id for one in table] == [1, 2, 1, 2, 3, 1, 2, 3, 4]
    assert {one.width_angstrom for one in table} == {WIDTH_ANGSTROM}
    assert len(result.filaments(1e3)) == 0
    assert table.shapes[table.micrographs[0]] == SHAPE
    assert all(measure_length(one.axis_px) > 0 for one in table)
