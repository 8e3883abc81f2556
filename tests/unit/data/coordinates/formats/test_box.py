from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.data.coordinates.formats import box, relion_star
from heliodor.data.coordinates.picks import BOX, Picks
from heliodor.errors import BadInput

PARTICLES = "1346\t2081\t216\t216\n1145\t1880\t216\t216\n-20\t7\t216\t216\n"
HELIX = "100 200 64 64 -1\n400 260 64 64 -2\n10 20 64 64 -1\n30 20 64 64 -2\n"

sides = st.integers(1, 600).map(lambda half: 2 * half)
numbers = st.floats(-20000, 20000)
scores = st.floats(-30, 30) | st.just(float("nan"))


def save(path: Path, contents: str | bytes) -> Path:
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path


@st.composite
def tables(draw):
    rows = draw(st.lists(st.tuples(numbers, numbers, scores), max_size=8))
    xy = np.array([row[:2] for row in rows]).reshape(-1, 2)
    return Picks.on("a", xy, np.array([row[2] for row in rows], dtype=float))


@settings(max_examples=60)
@given(tables(), sides)
def test_round_trip(tmp_path_factory, picks, side):
    path = tmp_path_factory.getbasetemp() / "a.box"
    box.write_picks(path, picks, side)
    back = box.read_picks(path)
    assert back.micrographs == ("a",)
    assert len(back) == len(picks)
    np.testing.assert_allclose(back.xy_px, picks.xy_px, rtol=0, atol=0.5 + 1e-9)
    np.testing.assert_array_equal(back.score, picks.score)
    assert set(back.extra.get(BOX, [])) <= {side}
    assert box.TAG not in back.extra
    # What has been rounded stays where it is.
    box.write_picks(path, back, side)
    np.testing.assert_array_equal(box.read_picks(path).xy_px, back.xy_px)


@given(st.lists(st.sampled_from([-1, -2, -3, None]), min_size=1, max_size=6))
def test_tags_survive(tmp_path_factory, tags):
    path = tmp_path_factory.getbasetemp() / "a.box"
    picks = Picks.on("a", np.ones((len(tags), 2)), np.full(len(tags), -1.0))
    marked = replace(picks, extra={box.TAG: np.array(tags, dtype=object)})
    box.write_picks(path, marked, 8)
    back = box.read_picks(path)
    if any(tags):
        assert back.extra[box.TAG].tolist() == tags
    else:
        assert box.TAG not in back.extra
    expected = [np.nan if tag else -1.0 for tag in tags]
    np.testing.assert_array_equal(back.score, expected)


def test_particles(tmp_path: Path):
    picks = box.read_picks(save(tmp_path / "mic.001_autopick.box", PARTICLES))
    assert picks.micrographs == ("mic.001",)
    np.testing.assert_array_equal(picks.xy_px, [[1454, 2189], [1253, 1988], [88, 115]])
    assert picks.extra[BOX].tolist() == [216] * 3
    assert np.isnan(picks.score).all()


def test_the_ends_of_helices(tmp_path: Path):
    picks = box.read_picks(save(tmp_path / "a.box", HELIX))
    np.testing.assert_array_equal(picks.xy_px, [[132, 232], [432, 292], [42, 52], [62, 52]])
    assert picks.extra[box.TAG].tolist() == [-1, -2, -1, -2]
    box.write_picks(tmp_path / "b.box", picks, 64)
    assert (tmp_path / "b.box").read_text().split() == HELIX.split()


@pytest.mark.parametrize(
    ("line", "xy", "score"),
    [
        ("10 20 7 9", [13, 24], np.nan),  # whole numbers are divided as RELION does
        ("10.5 20.25 8.0 8.0", [14.5, 24.25], np.nan),  # crYOLO's boxes need not be whole
        ("10 20 8 8 0.75", [14, 24], 0.75),
        ("10 20 8 8 -1.0", [14, 24], -1),
        ("10 20 8 8 -4", [14, 24], -4),
        ("10 20 8 8 nan", [14, 24], np.nan),
        ("\ufeff 1e1\t 20  8 8 \r", [14, 24], np.nan),
    ],
)
def test_lines(tmp_path: Path, line, xy, score):
    path = save(tmp_path / "a.box", line + "\n\n")
    assert box.looks_like(path.read_bytes())
    picks = box.read_picks(path)
    np.testing.assert_array_equal(picks.xy_px, [xy])
    np.testing.assert_array_equal(picks.score, [score])
    assert box.TAG not in picks.extra


@pytest.mark.parametrize("contents", ["", "\n"])
def test_an_empty_file_has_no_picks(tmp_path: Path, contents):
    picks = box.read_picks(save(tmp_path / "a.box", contents))
    assert picks.micrographs == ("a",)
    assert len(picks) == 0
    box.write_picks(tmp_path / "b.box", picks, 8)
    assert (tmp_path / "b.box").read_text() == ""
    assert not box.looks_like(contents.encode())


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("1 2 8 8\n1 2 8\n", "line 2, has '1 2 8'"),
        ("1 2 8 8 1 1\n", "line 1"),
        ("1 2 0 8\n", "line 1"),
        ("1 nan 8 8\n", "line 1"),
        ("1,2,8,8\n", "line 1, has '1,2,8,8'"),
        ("#micrograph: a.mrc\n", "#micrograph"),
        (b"1 2 8 8\n\xe4\n", "cannot be read as a box file"),
    ],
)
def test_bad_files(tmp_path: Path, contents, words):
    path = save(tmp_path / "bad.box", contents)
    assert not box.looks_like(path.read_bytes())
    with pytest.raises(BadInput, match=words) as caught:
        box.read_picks(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(BadInput, match=r"none\.box cannot be read"):
        box.read_picks(tmp_path / "none.box")


@pytest.mark.parametrize("side", [0, -2, 5])
def test_a_box_without_a_pixel_in_its_middle_is_refused(tmp_path: Path, side):
    with pytest.raises(BadInput, match=r"a\.box .* even number"):
        box.write_picks(tmp_path / "a.box", Picks.on("a", np.ones((1, 2))), side)
    assert not list(tmp_path.iterdir())


def test_a_long_file_is_told_by_its_beginning():
    rows = b"1346\t2081\t216\t216\n" * 5000
    for length in range(65536 - 20, 65537):
        assert box.looks_like(rows[:65536][:length]) or rows[length - 1 : length] != b"\n"
    assert box.looks_like(rows[:65536])
    assert not box.looks_like(b"image_name\tx\ty\n" + rows)


def test_real_boxes_are_where_the_manual_picks_are(real_data: Path):
    """The table of manual picks was made from these boxes, at half their size."""
    manual = dict(
        relion_star.read_picks(
            real_data / "betagal" / "manual_positive.star"
        ).split_by_micrograph()
    )
    manual = {Path(name).stem: picks for name, picks in manual.items()}
    files = sorted((real_data / "betagal" / "box_files_fullsize").glob("*.box"))
    assert {file.stem for file in files} == set(manual)
    for file in files:
        assert box.looks_like(file.read_bytes()[:65536])
        picks = box.read_picks(file)
        np.testing.assert_allclose(
            picks.xy_px / 2, manual[file.stem].xy_px, rtol=0, atol=0.75, err_msg=file.name
        )
        assert set(picks.extra[BOX]) == {216}


def test_comments_among_boxes_are_skipped_but_alone_are_no_boxes(tmp_path: Path) -> None:
    rows = "#micrograph: a.mrc\n#helix: (1.0, 2.0),(3.0, 4.0),8\n0 2 8 8\n"
    assert box.read_picks(save(tmp_path / "a.box", rows)).xy_px.tolist() == [[4.0, 6.0]]
    with pytest.raises(BadInput, match="no boxes, only comments"):
        box.read_picks(save(tmp_path / "b.box", "# c\n\n"))
