from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.conventions import score_to_probability
from heliodor.data.coordinates.formats import cbox
from heliodor.data.coordinates.picks import BOX, Picks
from heliodor.errors import BadInput

HEADER = """
data_global

_cbox_format_version   1.0

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Depth #6
_EstWidth #7
_EstHeight #8
_Confidence #9
_NumBoxes #10
_Angle #11
"""
ROWS = """\
 101.500000  202.250000 <NA>   216.000000  216.000000 <NA>  180.300000      179.125000 \
 0.912346     7.000000 <NA>
   1.500000   -2.250000 <NA>   216.000000  216.000000 <NA> <NA>          nan  \
 0.120000 <NA>         0.500000
"""
INCLUDE = "\ndata_cryolo_include\n\nloop_\n_slice_index #1\n\n"
CBOX = HEADER + ROWS + INCLUDE

numbers = st.floats(-1e5, 1e5)
unknown = st.just(float("nan"))
scores = st.floats(-15, 15) | unknown


def save(path: Path, contents: str) -> Path:
    path.write_text(contents)
    return path


@settings(max_examples=40)
@given(
    st.lists(st.tuples(numbers, numbers, scores, numbers | unknown, numbers), max_size=6),
    st.integers(1, 600),
)
def test_round_trip(tmp_path_factory, rows, side):
    path = tmp_path_factory.getbasetemp() / "a.cbox"
    table = np.array(rows).reshape(-1, 5)
    picks = replace(
        Picks.on("a", table[:, :2], table[:, 2]),
        extra={"EstWidth": table[:, 3], "filamentid": table[:, 4]},
    )
    cbox.write_picks(path, picks, side)
    assert cbox.looks_like(path.read_bytes())
    back = cbox.read_picks(path)
    assert back.micrographs == ("a",)
    np.testing.assert_allclose(back.xy_px, picks.xy_px, rtol=0, atol=1e-9)
    np.testing.assert_allclose(back.score, picks.score, rtol=0, atol=1e-8)
    if rows:
        assert set(back.extra[BOX]) == {side}
        np.testing.assert_allclose(back.extra["filamentid"], table[:, 4], rtol=1e-14)
        if not np.isnan(table[:, 3]).all():
            np.testing.assert_allclose(back.extra["EstWidth"], table[:, 3], rtol=1e-14)


def test_what_cryolo_writes(tmp_path: Path):
    path = save(tmp_path / "mic.001.cbox", CBOX)
    assert cbox.looks_like(path.read_bytes())
    picks = cbox.read_picks(path)
    assert picks.names() == ["mic.001"] * 2
    np.testing.assert_array_equal(picks.xy_px, [[209.5, 310.25], [109.5, 105.75]])
    np.testing.assert_allclose(score_to_probability(picks.score), [0.912346, 0.12], rtol=1e-12)
    assert set(picks.extra) == {BOX, "EstWidth", "EstHeight", "NumBoxes", "Angle"}
    np.testing.assert_array_equal(picks.extra["EstWidth"], [180.3, np.nan])
    np.testing.assert_array_equal(picks.extra["EstHeight"], [179.125, np.nan])
    np.testing.assert_array_equal(picks.extra["NumBoxes"], [7, np.nan])
    np.testing.assert_array_equal(picks.extra["Angle"], [np.nan, 0.5])


def test_what_we_write(tmp_path: Path):
    picks = Picks.on("a", np.array([[209.5, 310.25], [1 / 3, 7]]), np.array([0.0, np.nan]))
    path = tmp_path / "a.cbox"
    cbox.write_picks(path, picks, 100)
    rows = (
        "159.5 260.25 <NA> 100.0 100.0 <NA> 100.0 100.0 0.5 1.0 <NA>\n"
        f"{1 / 3 - 50!r} -43.0 <NA> 100.0 100.0 <NA> 100.0 100.0 <NA> 1.0 <NA>\n"
    )
    assert path.read_text() == HEADER + rows + INCLUDE.removesuffix("\n")
    blocks = starfile.read(path, always_dict=True)
    assert list(blocks) == ["global", "cryolo", "cryolo_include"]
    assert len(blocks["cryolo"]) == 2


def test_no_candidates(tmp_path: Path):
    for contents in (HEADER + "\n" + INCLUDE, None):
        path = tmp_path / "a.cbox"
        if contents:
            save(path, contents)
        else:
            cbox.write_picks(path, Picks.empty(["a"]), 100)
        picks = cbox.read_picks(path)
        assert picks.micrographs == ("a",)
        assert len(picks) == 0


def test_certainty_is_finite_and_other_numbers_are_no_probability(tmp_path: Path):
    row = "1 2 <NA> 8 8 <NA> 8 8 {} 1 <NA>\n"
    values = ["0", "1", "0.5", "-0.1", "10", "<NA>"]
    path = save(tmp_path / "a.cbox", HEADER + "".join(map(row.format, values)) + INCLUDE)
    score = cbox.read_picks(path).score
    assert np.isfinite(score[:3]).all()
    assert score[0] < -30
    assert score[1] > 30
    assert score[2] == 0
    assert np.isnan(score[3:]).all()


def test_columns_that_hold_no_numbers_are_left_out(tmp_path: Path):
    extra = {
        "eman2_type": np.array(["manual"], dtype=object),
        "ctf/shift_A": np.zeros((1, 2)),
        "box_px": np.array([64]),
        "selected": np.array(["1"], dtype=object),
        "Angle": np.array([None], dtype=object),
    }
    picks = replace(Picks.on("a", np.ones((1, 2))), extra=extra)
    cbox.write_picks(tmp_path / "a.cbox", picks, 8)
    back = cbox.read_picks(tmp_path / "a.cbox")
    assert set(back.extra) == {BOX, "EstWidth", "EstHeight", "NumBoxes", "selected"}
    assert back.extra[BOX].tolist() == [8]


def test_one_slice_of_a_tomogram_is_an_image(tmp_path: Path):
    row = "1 2 {} 8 8 1 8 8 0.5 1 <NA>\n"
    path = save(tmp_path / "a.cbox", HEADER + row.format(5) * 2 + INCLUDE)
    cbox.write_picks(tmp_path / "b.cbox", cbox.read_picks(path), 8)
    assert starfile.read(tmp_path / "b.cbox")["cryolo_include"]["slice_index"].tolist() == [5]
    save(path, HEADER + row.format(5) + row.format(6) + INCLUDE)
    with pytest.raises(BadInput, match=r"a\.cbox .* tomogram"):
        cbox.read_picks(path)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", "is empty"),
        ("hello\n", "not a STAR file"),
        (HEADER + "1 2 3\n", "cannot be read"),
        (CBOX.replace("_CoordinateY", "_Why"), "no column _CoordinateY"),
        (CBOX.replace("data_cryolo\n", "data_other\n"), "no column _CoordinateX in a block"),
        (CBOX.replace("202.250000", "<NA>      "), "_CoordinateY in row 1"),
        (CBOX.replace("-2.250000", "here     "), "'here' for _CoordinateY in row 2"),
    ],
)
def test_bad_files(tmp_path: Path, contents, words):
    path = save(tmp_path / "bad.cbox", contents)
    with pytest.raises(BadInput, match=words) as caught:
        cbox.read_picks(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(BadInput, match=r"none\.cbox does not exist"):
        cbox.read_picks(tmp_path / "none.cbox")


def test_a_box_needs_a_size(tmp_path: Path):
    with pytest.raises(BadInput, match=r"a\.cbox .* boxes of 0 pixels"):
        cbox.write_picks(tmp_path / "a.cbox", Picks.empty(["a"]), 0)


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (CBOX, True),
        ("# made by hand\r\n" + CBOX.replace("\n", "\r\n"), True),
        ("data_\n\nloop_\n_rlnCoordinateX #1\n", False),
        ("data_cryolo/a.mrc _CoordinateX\n", False),
        ("data_cryolo_include\n_CoordinateX\n", False),
        ("101.5 202.25 216 216 0.9 180 179\n", False),  # as crYOLO wrote it before 1.8
    ],
)
def test_told_by_the_content(head, is_one):
    assert cbox.looks_like(head.encode()) is is_one
