from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from heliodor.data.coordinates.formats.relion_star import write_picks
from heliodor.data.coordinates.formats.tables import write_table
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from heliodor.workflows.judge_inputs import find_picker, read_judged_picks
from heliodor.workflows.judge_settings import JudgeSettings

QUICK = JudgeSettings(quick=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        with mrcfile.new(f"{name}.mrc") as mrc:
            mrc.set_data(np.zeros((64, 64), dtype=np.float32))
            mrc.voxel_size = 5.0
    return tmp_path


def save(score: np.ndarray, name: str = "p.star") -> str:
    names = ["b.mrc"] * (len(score) // 2) + ["a.mrc"] * (len(score) - len(score) // 2)
    xy = np.random.default_rng(0).uniform(0, 60, size=(len(score), 2))
    write_picks(Path(name), Picks.from_columns(names, xy, score))
    return name


def test_sets_without_given_thresholds_grow_by_equal_numbers_of_picks(folder: Path) -> None:
    score = np.random.default_rng(1).permutation(np.arange(120.0))
    found = read_judged_picks(save(score), ["a.mrc", "b.mrc"], QUICK, None)
    counts = [(score >= threshold).sum() for threshold in found.thresholds]
    assert counts == [20, 40, 60, 80, 100, 120]
    assert [source.name for source in found.sources] == ["a.mrc", "b.mrc"]
    assert (np.diff(found.picks.micrograph_index) >= 0).all()
    assert found.pixel_size_angstrom == 5
    assert found.picker is None


def test_only_picks_from_the_lowest_threshold_on_count(folder: Path) -> None:
    settings = JudgeSettings(quick=True, thresholds=(150.0, 20.0))
    found = read_judged_picks(save(np.arange(200.0)), "*.mrc", settings, 7.0)
    assert len(found.picks) == 180
    assert found.pixel_size_angstrom == 7


def test_picks_of_which_some_have_no_score_are_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="1 of 120 picks without a score"):
        read_judged_picks(save(np.append(np.arange(119.0), np.nan)), "*.mrc", QUICK, None)


def test_repeated_picks_and_those_on_other_micrographs_are_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(4)
    own = Picks.on("a.mrc", random.uniform(8, 90, (120, 2)), np.arange(120.0))
    other = Picks.on("z.mrc", own.xy_px[:7], own.score[:7])
    write_table(Path("p.tsv"), Picks.concatenate([own, own.select(np.arange(3)), other]), "\t")
    assert len(read_judged_picks("p.tsv", "*.mrc", QUICK, None).picks) == 123
    assert "7 of 130 picks in p.tsv are on 1 micrograph not given (such as z.mrc)" in caplog.text
    assert "of 123 picks in p.tsv repeat others" in caplog.text


def test_too_few_picks_are_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="has 99 picks at or above"):
        read_judged_picks(save(np.arange(99.0)), "*.mrc", QUICK, None)


def test_a_series_that_is_not_one_is_refused(folder: Path) -> None:
    Path("picks").mkdir()
    picks = Picks.on("a.mrc", np.full((120, 2), 9.0), np.arange(120.0))
    write_table(Path("picks/picks.tsv"), picks, "\t")
    for text in (b"set\tnumber\n1\t2\n", b"threshold\n\xff\n", b"threshold\nnan\n", b""):
        Path("picks/series.tsv").write_bytes(text)
        with pytest.raises(BadInput, match=r"series.tsv is not a series"):
            read_judged_picks("picks", "*.mrc", QUICK, None)


def record(folder: Path, **arguments: object) -> None:
    value = {"command": "pick", "directory": str(folder), "arguments": arguments}
    (folder / "run.json").write_text(json.dumps(value))


def test_the_picker_is_that_of_the_record(folder: Path) -> None:
    record(folder, model=None, diameter_angstrom=140.0, bad_areas="keep", mask=None, seed=3)
    picker = find_picker(folder)
    assert picker is not None
    assert picker.model.card.diameter_angstrom == 140
    assert picker.settings.bad_areas == "keep"
    assert find_picker(folder / "picks.tsv") is not None
    assert find_picker(folder / "other.star") is None


def test_a_model_that_is_gone_is_mentioned(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("gone.safetensors", "a" * 300):
        caplog.clear()
        record(folder, model=name)
        assert find_picker(folder) is None
        assert "cannot be used" in caplog.text


def test_settings_that_are_none_are_mentioned(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(folder, model=None, diameter_angstrom=140.0, exclusion_radius_angstrom="wide")
    assert find_picker(folder) is None
    assert "exclusion_radius" in caplog.text


def test_scores_are_moved_as_the_picker_moved_them(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(folder, model=None, diameter_angstrom=140.0)
    table = Path("micrographs.tsv")
    table.write_text("micrograph\tpicks\tlevelled_by\nb.mrc\t7\t-0.250\na.mrc\t7\t\n")
    sources = find_sources(["a.mrc", str(folder / "b.mrc")])
    picker = find_picker(folder)
    assert picker is not None
    assert list(picker.levels_of(sources).values()) == [0.0, -0.25]
    table.unlink()
    picker = find_picker(folder)
    assert picker is not None
    assert set(picker.levels_of(sources).values()) == {0.0}
    table.write_text("micrograph\nb.mrc\n")
    assert find_picker(folder) is None
    assert "micrographs.tsv is not a table of micrographs" in caplog.text


DEEP = "[" * 100_000


@pytest.mark.parametrize("text", ["", "[]", '{"command": "train", "arguments": {}}', "{", DEEP])
def test_other_records_are_no_picker(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text)
    assert find_picker(folder) is None
