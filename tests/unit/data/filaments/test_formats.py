"""Files of filaments: what is written is read back, and what programs write is understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.data.coordinates.formats import find_reader, read_picks
from heliodor.data.coordinates.formats.filament_columns import HoldsFilaments
from heliodor.data.coordinates.writers import WriteContext
from heliodor.data.filaments.filament import Filament, Filaments, from_points, to_points
from heliodor.data.filaments.geometry import remove_repeated_points
from heliodor.data.filaments.readers import describe_filament_formats, read_filaments
from heliodor.data.filaments.writers import FORMATS, choose_format, write_filaments
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput

SHAPE = (1000, 1400)

numbers = st.floats(0, 999)
axes = (
    st.lists(st.tuples(numbers, numbers), min_size=2, max_size=6)
    .map(lambda points: remove_repeated_points(np.array(points)))
    .filter(lambda axis: len(axis) > 1)
)


#: Points that are pixels apart.
coarse_axes = (
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=2, max_size=6)
    .map(lambda points: remove_repeated_points(3.0 * np.array(points) + [0.3, 0.8]))
    .filter(lambda axis: len(axis) > 1)
)


@st.composite
def tables(draw, of=axes):
    own = draw(st.lists(of, min_size=1, max_size=4))
    tubes = draw(st.permutations(range(1, 9)))
    names = draw(st.lists(st.sampled_from(["m/a.mrc", "m/b.mrc"]), min_size=4, max_size=4))
    width = draw(st.sampled_from([np.nan, 250.0]))
    filaments = [
        Filament(name, axis, tube, width, box_px=64.0)
        for name, axis, tube in zip(names, own, tubes, strict=False)
    ]
    used = tuple(dict.fromkeys(one.micrograph for one in filaments))
    return Filaments(used, tuple(filaments), dict.fromkeys(used, 1.5), dict.fromkeys(used, SHAPE))


def write(table: Filaments, out: Path, name: str) -> list[Path]:
    context = WriteContext(64, table.shapes, table.pixel_sizes)
    return write_filaments(out, to_points(table), FORMATS[name], context)


def by_place(table: Filaments, stems: bool = False) -> dict[tuple[str, bytes], Filament]:
    """Return filaments by what a format without identities keeps."""
    return {
        (Path(one.micrograph).stem if stems else one.micrograph, one.axis_px.tobytes()): one
        for one in table
    }


@settings(max_examples=25, deadline=None)
@given(tables())
def test_a_star_file_holds_axes_exactly(tmp_path_factory, table):
    out = tmp_path_factory.getbasetemp() / "filaments.star"
    write(table, out, "filaments")
    back = read_filaments(out)
    assert by_place(back).keys() == by_place(table).keys()
    for key, one in by_place(back).items():
        other = by_place(table)[key]
        assert one.tube_id == other.tube_id
        np.testing.assert_equal(one.width_angstrom, other.width_angstrom)
    assert back.pixel_sizes == table.pixel_sizes
    first = out.read_bytes()
    write(back, out, "filaments")
    assert [*by_place(read_filaments(out))] == [*by_place(back)]
    assert len(out.read_bytes()) == len(first)


@settings(max_examples=25, deadline=None)
@given(tables(), st.sampled_from(["start-end", "helix", "cbox"]))
def test_files_per_micrograph_hold_axes_exactly(tmp_path_factory, table, name):
    out = tmp_path_factory.mktemp("round")
    written = write(table, out, name)
    back = read_filaments(written[1:] if name == "start-end" else written)
    if name == "cbox":  # corners, from which centers are exact to rounding
        for one, other in zip(_sorted(back), _sorted(table), strict=True):
            np.testing.assert_allclose(one.axis_px, other.axis_px, atol=1e-9)
            assert one.tube_id == other.tube_id
    else:
        assert by_place(back, True).keys() == by_place(table, True).keys()
    if name == "start-end":
        tubes = {key: one.tube_id for key, one in by_place(back, True).items()}
        assert tubes == {key: one.tube_id for key, one in by_place(table, True).items()}
    if name in ("helix", "cbox"):
        assert {one.box_px for one in back} == {64.0}


def _sorted(table: Filaments) -> list[Filament]:
    return sorted(table, key=lambda one: (Path(one.micrograph).stem, one.tube_id))


@settings(max_examples=25, deadline=None)
@given(tables(coarse_axes))
def test_helix_boxes_hold_axes_to_half_a_pixel(tmp_path_factory, table):
    out = tmp_path_factory.mktemp("round")
    back = read_filaments(write(table, out, "box"))
    again = tmp_path_factory.mktemp("again")
    twice = read_filaments(write(back, again, "box"))
    assert by_place(twice).keys() == by_place(back).keys()
    points = np.concatenate([one.axis_px for one in back])
    wanted = np.concatenate([one.axis_px for one in table])
    gaps = np.abs(points[:, None] - wanted[None]).max(axis=2)
    assert gaps.min(axis=1).max() <= 0.5 + 1e-9
    assert gaps.min(axis=0).max() <= 0.5 + 1e-9


@settings(max_examples=25, deadline=None)
@given(tables(coarse_axes))
def test_cryosparc_holds_axes_in_single_precision(tmp_path_factory, table):
    out = tmp_path_factory.getbasetemp() / "a.cs"
    write(table, out, "cs")
    back = read_filaments(out)
    assert len(back) == len(table)
    for one, other in zip(back, sorted_by_micrograph(table), strict=True):
        np.testing.assert_allclose(one.axis_px, other.axis_px, atol=1e-3)
    uids = {one.tube_id for one in back}
    assert len(uids) == len(back)
    assert min(uids) > 2**31
    # cryoSPARC's own identities are kept.
    write(back, out, "cs")
    assert {one.tube_id for one in read_filaments(out)} == uids
    assert back.shapes == table.shapes


def sorted_by_micrograph(table: Filaments) -> list[Filament]:
    return [one for _, own in table.split_by_micrograph() for one in own]


def test_the_pose_of_cryosparc_is_minus_psi(tmp_path: Path):
    axis = np.array([[100.0, 100.0], [400.0, 300.0]])
    table = Filaments(("a.mrc",), (Filament("a.mrc", axis, 1),), {"a.mrc": 2.0}, {"a.mrc": SHAPE})
    write(table, tmp_path / "a.cs", "cs")
    rows = np.load(tmp_path / "a.cs")
    np.testing.assert_allclose(rows["filament/filament_pose"], np.arctan2(200, 300), rtol=1e-6)
    np.testing.assert_allclose(rows["filament/position_A"], [0, 2 * np.hypot(300, 200)])
    assert rows["filament/filament_uid"].dtype == np.uint64


def test_large_identities_are_renumbered_for_relion(tmp_path: Path):
    axis = np.array([[1.0, 1.0], [40.0, 30.0]])
    own = [Filament("a.mrc", axis + n, 2**63 + n) for n in range(2)]
    table = Filaments(("a.mrc",), (*own, Filament("a.mrc", axis + 9, 2)))
    write(table, tmp_path / "a.star", "filaments")
    assert [one.tube_id for one in read_filaments(tmp_path / "a.star")] == [1, 3, 2]


# ---- What other programs write ----

MANUAL = """
data_

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnParticleSelectionType #3
_rlnAnglePsi #4
_rlnAutopickFigureOfMerit #5
10.0 20.0 -999 -999.0 -999.0
110.0 220.0 -999 -999.0 -999.0
30.0 20.0 -999 -999.0 -999.0
30.0 320.5 -999 -999.0 -999.0
"""

SEGMENTS = """
data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnMicrographName #3
_rlnHelicalTubeID #4
_rlnAnglePsiPrior #5
_rlnHelicalTrackLengthAngst #6
20 10 M/a.mrc 1 0 30.0
10 10 M/a.mrc 1 0 0.0
5 5 M/b.mrc 1 0 0.0
40 90 M/a.mrc 2 -90 0.0
30 10 M/a.mrc 1 0 60.0
40 99 M/a.mrc 2 -90 30.0
"""

CBOX = """
data_global

_cbox_format_version 1.0

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
_filamentid #12
0.0 10.0 <NA> 100.0 100.0 <NA> <NA> <NA> 0.9 1.0 <NA> 0.0
20.0 10.0 <NA> 100.0 100.0 <NA> <NA> <NA> 0.8 1.0 <NA> 0.0
300.0 10.0 <NA> 100.0 100.0 <NA> <NA> <NA> 0.9 1.0 <NA> 1.0
300.0 30.0 <NA> 100.0 100.0 <NA> <NA> <NA> 0.9 1.0 <NA> 1.0

data_cryolo_include

loop_
_slice_index #1
"""

HELIX = """#micrograph: data/mic_7.mrc
#segment length: 100
#segment width: 64
#helix: (120.0, 130.5),(180.0, 190.0),64
130.0\t140.5
150.0\t160.0
#helix: (7, 8),(27, 8),64
"""

BOXES = "100 200 64 64 -1\n400 260 64 64 -2\n10 20 64 64 -1\n30 20 64 64 -2\n"


def save(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_manual_picking_of_relion_is_read_as_pairs_if_asked(tmp_path: Path):
    path = save(tmp_path / "mic_manualpick.star", MANUAL)
    with pytest.raises(BadInput, match="--start-end"):
        read_filaments(path)
    first, second = read_filaments(path, start_end=True)
    np.testing.assert_array_equal(first.axis_px, [[10, 20], [110, 220]])
    np.testing.assert_array_equal(second.axis_px, [[30, 20], [30, 320.5]])
    assert (first.micrograph, first.tube_id, second.tube_id) == ("mic", 1, 2)
    odd = save(tmp_path / "odd.star", MANUAL.rstrip().rsplit("\n", 1)[0] + "\n")
    with pytest.raises(BadInput, match="3 points on odd, which are not pairs"):
        read_filaments(odd, start_end=True)


def test_segments_of_relion_are_in_the_order_along_their_tube(tmp_path: Path):
    table = read_filaments(save(tmp_path / "run_data.star", SEGMENTS))
    first, second = table
    np.testing.assert_array_equal(first.axis_px, [[10, 10], [20, 10], [30, 10]])
    np.testing.assert_array_equal(second.axis_px, [[40, 90], [40, 99]])
    assert table.micrographs == ("M/a.mrc", "M/b.mrc")  # one segment of b has no axis


@pytest.mark.parametrize("place", ["nan", "abc"])
def test_a_segment_at_no_place_along_its_tube_is_refused(tmp_path: Path, place: str):
    path = save(
        tmp_path / "run_data.star", SEGMENTS.replace("a.mrc 1 0 60.0", f"a.mrc 1 0 {place}")
    )
    with pytest.raises(BadInput, match=f"{place!r} for rlnHelicalTrackLengthAngst in row 5"):
        read_filaments(path)


def test_without_any_place_the_order_of_the_rows_counts(tmp_path: Path):
    text = SEGMENTS.replace("0.0\n", "nan\n")
    first, _ = read_filaments(save(tmp_path / "run_data.star", text))
    np.testing.assert_array_equal(first.axis_px, [[20, 10], [10, 10], [30, 10]])


def test_an_identity_between_two_numbers_is_refused(tmp_path: Path):
    for name, text in (
        ("run_data.star", SEGMENTS.replace("a.mrc 2 -90", "a.mrc 1.5 -90")),
        ("mic.cbox", CBOX.replace("<NA> 1.0\n", "<NA> 0.5\n")),
    ):
        with pytest.raises(BadInput, match="is not the number of a filament"):
            read_filaments(save(tmp_path / name, text))


@pytest.mark.parametrize(
    ("field", "value"), [("filament_uid", 1.5), ("filament_uid", 2j), ("position_A", np.nan)]
)
def test_numbers_of_cryosparc_that_are_none_are_refused(
    tmp_path: Path, field: str, value: complex
):
    axis = np.array([[10.0, 20.0], [30.0, 25.0], [60.0, 40.0]])
    own = Filament("m/a.mrc", axis, 1)
    sizes, shapes = {"m/a.mrc": 1.5}, {"m/a.mrc": SHAPE}
    write(Filaments(("m/a.mrc",), (own,), sizes, shapes), tmp_path / "a.cs", "cs")
    table = np.load(tmp_path / "a.cs")
    key = f"filament/{field}"
    kinds = [
        (n, np.asarray(value).dtype if n == key else table.dtype[n]) for n in table.dtype.names
    ]
    changed = np.zeros(len(table), kinds)
    for name in table.dtype.names:
        changed[name] = table[name]
    changed[key][1] = value
    with (tmp_path / "b.cs").open("wb") as stream:
        np.save(stream, changed)
    with pytest.raises(BadInput, match=key):
        read_filaments(tmp_path / "b.cs")


def test_cbox_of_cryolo(tmp_path: Path):
    path = save(tmp_path / "mic.cbox", CBOX)
    first, second = read_filaments(path)
    np.testing.assert_array_equal(first.axis_px, [[50, 60], [70, 60]])
    np.testing.assert_array_equal(second.axis_px, [[350, 60], [350, 80]])
    assert (first.tube_id, first.box_px, first.micrograph) == (0, 100, "mic")
    np.testing.assert_allclose(first.scores, np.log([9, 4]))
    assert "crYOLO" in describe_filament_formats([path])


def test_files_of_one_name_in_two_folders_are_two_micrographs(tmp_path: Path):
    paths = [tmp_path / folder / "mic.box" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("100 200 64 64 -1\n400 260 64 64 -2\n")
    table = read_filaments(paths)
    assert table.micrographs == tuple(path.with_suffix("").as_posix() for path in paths)
    assert table.file_stems == dict.fromkeys(table.micrographs, ("mic",))
    assert from_points(to_points(table)).file_stems == table.file_stems
    assert read_filaments(paths[:1]).micrographs == ("mic",)


def test_a_suffix_may_belong_to_the_name_of_the_micrograph(tmp_path: Path):
    table = read_filaments(save(tmp_path / "grid_pick.box", BOXES))
    sources = [Source(name, tmp_path / name, name) for name in ("grid.mrc", "grid_pick.mrc")]
    found = match_names(table.micrographs, sources, table.file_stems)
    assert [source.name for source in found.values()] == ["grid_pick.mrc"]


def test_helices_without_points_between_are_no_empty_files(tmp_path: Path):
    ends = HELIX.replace("130.0\t140.5\n150.0\t160.0\n", "")
    save(tmp_path / "mic_7_helix_ptcl_coords.txt", ends)
    save(tmp_path / "mic_8_helix_ptcl_coords.txt", "")
    save(tmp_path / "long_boxes.txt", HELIX.replace("mic_7", "mic_9") + "#\n" * 40_000)
    save(tmp_path / "notes.txt", "first day\n")
    table = read_filaments(tmp_path)
    assert {one.micrograph for one in table} == {"data/mic_7.mrc", "data/mic_9.mrc"}
    assert "mic_8" in table.micrographs


TUBES = """
data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnMicrographName #3
_rlnHelicalTubeID #4
"""


@pytest.mark.parametrize("place", ["nan", "<NA>", "inf", "1e9"])
@pytest.mark.parametrize("first", [True, False])
def test_ends_that_are_no_places_are_refused(tmp_path: Path, place: str, first: bool):
    pair = f"{place} 4" if first else f"4 {place}"
    path = save(tmp_path / "mic.txt", f"4 6\n{pair}\n")
    with pytest.raises(BadInput, match=r"where x and y of a point|unknown coordinate format"):
        read_filaments(path, start_end=True)


def test_filaments_longer_than_any_micrograph_are_refused(tmp_path: Path):
    path = save(tmp_path / "mic.box", "0 2 8 8 -1\n900000000 4 8 8 -2\n")
    with pytest.raises(BadInput, match=r"filament 1 on mic is 9e\+08 pixels long"):
        read_filaments(path)


def test_two_filaments_with_one_number_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [f"{20 + 10 * n} {y} M/a.mrc 3\n" for y in (50, 150) for n in range(4)]
    assert len(read_filaments(save(tmp_path / "two.star", TUBES + "".join(rows)))) == 1
    assert "1 filament with a long step aside" in caplog.text
    assert "number 3 on M/a.mrc" in caplog.text
    caplog.clear()
    gap = [f"{20 + 10 * n} 50 M/a.mrc 3\n" for n in (0, 1, 2, 3, 20, 21, 22)]
    assert len(read_filaments(save(tmp_path / "gap.star", TUBES + "".join(gap)))) == 1
    assert not caplog.text


def test_helices_of_eman2(tmp_path: Path):
    path = save(tmp_path / "x_helix_ptcl_coords.txt", HELIX)
    first, second = read_filaments(path)
    np.testing.assert_array_equal(
        first.axis_px, [[120, 130.5], [130, 140.5], [150, 160], [180, 190]]
    )
    np.testing.assert_array_equal(second.axis_px, [[7, 8], [27, 8]])
    assert (first.micrograph, first.box_px) == ("data/mic_7.mrc", 64)
    unnamed = save(tmp_path / "x_boxes.txt", HELIX.replace("data/mic_7.mrc", "NA"))
    assert read_filaments(unnamed).micrographs == ("x",)
    with pytest.raises(BadInput, match="line 5"):
        read_filaments(save(tmp_path / "bad.txt", HELIX.replace("130.0\t", "13O.0\t")))


def test_ends_of_helix_boxes(tmp_path: Path):
    text = "100 200 64 64 -1\n400 260 64 64 -2\n400 260 64 64 -1\n30 20 64 64 -2\n"
    (bent,) = read_filaments(save(tmp_path / "a.box", text))
    np.testing.assert_array_equal(bent.axis_px, [[132, 232], [432, 292], [62, 52]])
    with pytest.raises(BadInput, match="do not alternate"):
        read_filaments(save(tmp_path / "b.box", "1 2 8 8 -2\n3 4 8 8 -1\n"))
    with pytest.raises(BadInput, match="particles beside"):
        read_filaments(save(tmp_path / "c.box", text + "5 5 64 64 -3\n"))


def test_pairs_without_a_header(tmp_path: Path):
    path = save(tmp_path / "mic.coords", "10 20\n110 220\n\n30 20\n30 320.5\n")
    first, second = read_filaments(path, start_end=True)
    np.testing.assert_array_equal(first.axis_px, [[10, 20], [110, 220]])
    np.testing.assert_array_equal(second.axis_px, [[30, 20], [30, 320.5]])
    with pytest.raises(BadInput, match="line 2"):
        read_filaments(save(tmp_path / "b.coords", "1 2\nx 4\n"), start_end=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.star", SEGMENTS),
        ("a.cbox", CBOX),
        ("a_boxes.txt", HELIX),
        ("a.box", "100 200 64 64 -1\n400 260 64 64 -2\n"),
    ],
)
def test_filaments_are_never_read_as_particles(tmp_path: Path, name, text):
    path = save(tmp_path / name, text)
    with pytest.raises(HoldsFilaments, match="holds filaments, not particles"):
        read_picks(path)


def test_a_list_of_files_of_filaments_is_not_read_as_particles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    axis = np.array([[1.0, 1.0], [40.0, 30.0]])
    table = Filaments(("m/a.mrc",), (Filament("m/a.mrc", axis, 4),))
    written = write(table, Path("ManualPick"), "start-end")
    with pytest.raises(HoldsFilaments):
        read_picks(written[0])
    assert written[0].name == "manualpick.star"
    (back,) = read_filaments("ManualPick")
    assert (back.micrograph, back.tube_id) == ("m/a.mrc", 4)
    np.testing.assert_array_equal(back.axis_px, axis)


def test_particles_with_boxes_and_scores_stay_particles(tmp_path: Path):
    for text in ("1 2 8 8 -3\n", "1 2 8 8 -1.0\n", "1 2 8 8 0.5\n"):
        assert len(read_picks(save(tmp_path / "a.box", text))) == 1
    assert find_reader(tmp_path / "a.box").name == "box"


def test_formats_of_particles_are_refused():
    for name in ("csv", "topaz", "autopick"):
        with pytest.raises(BadInput, match="--segments"):
            choose_format(name, Path("x"))
    with pytest.raises(BadInput, match="--segments"):
        choose_format(None, Path("x.csv"))
    assert choose_format("star", Path("x")).name == "filaments"
    assert choose_format(None, Path("x.cbox")).name == "cbox"


def test_boxes_need_a_size(tmp_path: Path):
    axis = np.array([[1.0, 1.0], [40.0, 30.0]])
    table = Filaments(("a.mrc",), (Filament("a.mrc", axis, 1),), {"a.mrc": 2.0})
    with pytest.raises(BadInput, match="--box-px"):
        write_filaments(tmp_path / "a.box", to_points(table), FORMATS["box"])
    wide = Filaments(("a.mrc",), (Filament("a.mrc", axis, 1, 200.0),), {"a.mrc": 2.0})
    write_filaments(tmp_path / "a.box", to_points(wide), FORMATS["box"])
    assert (tmp_path / "a.box").read_text().split()[2] == "100"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([("a.star", SEGMENTS), ("a.cbox", CBOX), ("a.txt", HELIX), ("a.box", BOXES)]),
    st.integers(0, 10_000),
    st.integers(0, 12),
    st.sampled_from(
        ["", "inf", "nan", "-", "1e999", "\n", "\0", "é", "0", "99999999999999999999"]
    ),
    st.booleans(),
)
def test_damaged_files_give_one_sentence(tmp_path_factory, given_file, place, cut, added, pairs):
    name, text = given_file
    place %= len(text)
    path = tmp_path_factory.getbasetemp() / f"damaged_{name}"
    path.write_text(text[:place] + added + text[place + cut :], encoding="utf-8")
    table, sentence = Filaments((), ()), str(path)
    try:
        table = read_filaments(path, start_end=pairs)
    except BadInput as error:
        sentence = str(error)
    assert str(path) in sentence
    assert all(np.isfinite(one.axis_px).all() for one in table)
