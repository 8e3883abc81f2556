from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.data.coordinates.formats import cryosparc
from heliodor.data.coordinates.picks import (
    HEIGHT,
    PIXEL_SIZE,
    WIDTH,
    Picks,
)
from heliodor.data.micrographs import names
from heliodor.errors import BadInput
from helpers.file_bytes import stream

A = "J3/motioncorrected/000588255143468195995_a_patch_aligned.mrc"
B = "S1/ü.mrc"
SHAPES = {A: (4092, 5760), B: (3710, 3838)}
PIXELS = {A: 0.6575, B: 1.06}

#: The fields of a picker's output.
PICKED = [
    ("uid", "<u8"),
    ("location/micrograph_uid", "<u8"),
    ("location/exp_group_id", "<u4"),
    ("location/micrograph_path", "S64"),
    ("location/micrograph_shape", "<u4", (2,)),
    ("location/center_x_frac", "<f4"),
    ("location/center_y_frac", "<f4"),
    ("location/micrograph_psize_A", "<f4"),
    ("location/min_dist_A", "<f4"),
    ("pick_stats/ncc_score", "<f4"),
    ("pick_stats/power", "<f4"),
    ("pick_stats/template_idx", "<u4"),
    ("pick_stats/angle_rad", "<f4"),
    ("ctf/shift_A", "<f4", (2,)),
    ("ctf/type", "S8"),
]


def picked() -> np.ndarray:
    table = np.zeros(3, dtype=PICKED)
    table["uid"] = [2**64 - 1, 7, 8]
    table["location/micrograph_uid"] = [588255143468195995, 588255143468195995, 9]
    table["location/exp_group_id"] = [1, 1, 2]
    table["location/micrograph_path"] = [A.encode(), A.encode(), B.encode()]
    table["location/micrograph_shape"] = [SHAPES[A], SHAPES[A], SHAPES[B]]
    table["location/center_x_frac"] = [0.25, 0.5, 0.125]
    table["location/center_y_frac"] = [0.75, 0.0, 1.0]
    table["location/micrograph_psize_A"] = [0.6575, 0.6575, 1.06]
    table["location/min_dist_A"] = 100
    table["pick_stats/ncc_score"] = [0.5, 0.25, 0.125]
    table["pick_stats/power"] = [100, 200, 300]
    table["ctf/shift_A"] = [[1, 2], [3, 4], [5, 6]]
    table["ctf/type"] = b"spline"
    return table


def save(path: Path, table: np.ndarray, allow_pickle: bool = False) -> Path:
    with path.open("wb") as stream:
        np.save(stream, table, allow_pickle=allow_pickle)
    return path


def example() -> Picks:
    xy = np.array([[1440, 3069], [10.25, 4000.75], [3837, 0.5], [10.25, 4000.75]])
    return Picks.from_columns([A, A, B, A], xy, np.array([3.5, -1, 0.125, np.nan]))


def same(back: Picks, picks: Picks) -> None:
    """Positions agree to the rounding of a fraction in float32, all else exactly."""
    assert back.names() == picks.names()
    sides = np.array([SHAPES[name][::-1] for name in picks.names()]).reshape(-1, 2)
    error = np.abs(back.xy_px - picks.xy_px)
    assert (error <= np.spacing((np.abs(picks.xy_px) / sides).astype(np.float32)) * sides).all()
    np.testing.assert_array_equal(back.score, picks.score.astype(np.float32))


@st.composite
def tables(draw):
    fractions = st.floats(0, 1)
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from([A, B]),
                fractions,
                fractions,
                st.floats(-9, 9) | st.just(float("nan")),
                st.integers(0, 2**64 - 1),
                st.floats(-1, 1, width=32),
            ),
            max_size=8,
            unique_by=lambda row: row[4],
        )
    )
    xy = np.array([(row[1] * SHAPES[row[0]][1], row[2] * SHAPES[row[0]][0]) for row in rows])
    picks = Picks.from_columns([r[0] for r in rows], xy, np.array([r[3] for r in rows], float))
    pair = np.array([[r[5], -r[5]] for r in rows], dtype=np.float32).reshape(-1, 2)
    kind = np.array(["é" if r[5] > 0 else "" for r in rows], dtype=object)
    uid = np.array([r[4] for r in rows], dtype=np.uint64)
    extra = {"uid": uid, "ctf/shift_A": pair, "ctf/type": kind, "location/exp_group_id": uid % 5}
    return replace(picks, extra=extra)


@settings(max_examples=60)
@given(tables())
def test_round_trip(tmp_path_factory, picks):
    path = tmp_path_factory.getbasetemp() / "a.cs"
    cryosparc.write_picks(path, picks, SHAPES, PIXELS)
    assert cryosparc.looks_like(path.read_bytes()[:65536])
    back = cryosparc.read_picks(path)
    same(back, picks)
    if len(picks):
        for key, values in picks.extra.items():
            np.testing.assert_array_equal(back.extra[key], values)
    # What has been rounded stays as it is, and so does the file.
    again = path.with_name("b.cs")
    cryosparc.write_picks(again, back, SHAPES, PIXELS)
    assert len(back) == 0 or cryosparc.read_picks(again).xy_px.tolist() == back.xy_px.tolist()


def test_a_pickers_output(tmp_path: Path):
    path = save(tmp_path / "picked_particles.cs", picked())
    assert cryosparc.looks_like(path.read_bytes())
    picks = cryosparc.read_picks(path)
    assert picks.names() == [A, A, B]
    np.testing.assert_array_equal(
        picks.xy_px, [[1440, 3069], [2880, 0], [479.75, 3710]]
    )  # no flip: the fraction of the rows that the file stores
    assert picks.score.tolist() == [0.5, 0.25, 0.125]
    assert picks.extra[HEIGHT].tolist() == [4092, 4092, 3710]
    assert picks.extra[WIDTH].tolist() == [5760, 5760, 3838]
    np.testing.assert_allclose(picks.extra[PIXEL_SIZE].astype(float), [0.6575, 0.6575, 1.06])
    assert picks.extra["uid"].tolist() == [2**64 - 1, 7, 8]
    assert picks.extra["location/exp_group_id"].tolist() == [1, 1, 2]
    assert picks.extra["ctf/shift_A"].shape == (3, 2)
    assert picks.extra["ctf/type"].tolist() == ["spline"] * 3
    own = {"micrograph_path", "micrograph_shape", "center_x_frac", "center_y_frac"}
    assert not {f"location/{field}" for field in own} & set(picks.extra)


def test_paths_of_exported_files(tmp_path: Path):
    """They begin with >, as they are relative to the exported file."""
    table = picked()
    table[cryosparc.NAME] = [b">" + path for path in table[cryosparc.NAME]]
    picks = cryosparc.read_picks(save(tmp_path / "exported.cs", table))
    assert picks.names() == [A, A, B]
    cryosparc.write_picks(tmp_path / "again.cs", picks, SHAPES, PIXELS)
    written = np.load(tmp_path / "again.cs")[cryosparc.NAME].tolist()
    assert written == [name.encode() for name in (A, A, B)]
    table[cryosparc.NAME] = [b">", b"", b"a"]
    with pytest.raises(BadInput, match="names no micrograph in row 1"):
        cryosparc.read_picks(save(tmp_path / "nameless.cs", table))


def test_a_table_that_is_read_is_written_back_whole(tmp_path: Path):
    picks = cryosparc.read_picks(save(tmp_path / "a.cs", picked()))
    cryosparc.write_picks(tmp_path / "b.cs", picks, SHAPES, PIXELS)
    table = np.load(tmp_path / "b.cs")
    assert set(table.dtype.names) == {field[0] for field in PICKED}
    for field in table.dtype.names:
        np.testing.assert_array_equal(table[field], picked()[field], err_msg=field)


def test_what_is_written_for_picks_of_ours(tmp_path: Path):
    cryosparc.write_picks(tmp_path / "a.cs", example(), SHAPES, PIXELS)
    cryosparc.write_picks(tmp_path / "b.cs", example(), SHAPES, PIXELS)
    assert (tmp_path / "a.cs").read_bytes() == (tmp_path / "b.cs").read_bytes()
    table = np.load(tmp_path / "a.cs", allow_pickle=False)
    types = {field: table.dtype[field] for field in table.dtype.names}
    expected = {f[0]: np.dtype(f[1:] if len(f) == 3 else f[1]) for f in PICKED[:-2]}
    expected["location/micrograph_path"] = np.dtype(f"S{len(A)}")
    assert types == expected
    assert next(iter(types)) == "uid"
    assert len(set(table["uid"].tolist())) == 4  # though two picks are at one place
    # A micrograph's uid is the one in its name; where there is none, it is that of the path.
    uids = table["location/micrograph_uid"].tolist()
    assert uids[0] == uids[1] == uids[3] == 588255143468195995
    assert uids[2] not in (0, uids[0])
    assert table["location/micrograph_path"].tolist()[2] == B.encode()
    assert table["location/micrograph_shape"].tolist()[2] == [3710, 3838]
    np.testing.assert_array_equal(table["pick_stats/ncc_score"][:3], [3.5, -1, 0.125])
    assert not table["pick_stats/power"].any()
    assert table["location/center_x_frac"].max() < 1


def test_picks_without_scores_have_no_statistics(tmp_path: Path):
    picks = replace(example(), score=np.full(4, np.nan))
    cryosparc.write_picks(tmp_path / "a.cs", picks, SHAPES, PIXELS)
    table = np.load(tmp_path / "a.cs")
    assert not [field for field in table.dtype.names if field.startswith("pick_stats/")]
    assert np.isnan(cryosparc.read_picks(tmp_path / "a.cs").score).all()


def test_uids_do_not_depend_on_other_picks(tmp_path: Path):
    cryosparc.write_picks(tmp_path / "a.cs", example(), SHAPES, PIXELS)
    cryosparc.write_picks(tmp_path / "b.cs", example().select(np.arange(1, 4)), SHAPES, PIXELS)
    first, second = (np.load(tmp_path / name)["uid"].tolist() for name in ("a.cs", "b.cs"))
    assert first[1:] == second


def test_fields_that_some_picks_lack_are_left_out(tmp_path: Path):
    extra = {
        "uid": np.array([5, 5, 6, 7], dtype=np.uint64),  # no two particles may share one
        "blob/idx": np.array([1, None, 2, 3], dtype=object),
        "blob/path": np.array(["a", "b", "ü", ""], dtype=object),
        "rlnClassNumber": np.zeros(4),
        "selected": np.ones(4),
    }
    cryosparc.write_picks(tmp_path / "a.cs", replace(example(), extra=extra), SHAPES, PIXELS)
    back = cryosparc.read_picks(tmp_path / "a.cs")
    assert "blob/idx" not in back.extra
    assert back.extra["blob/path"].tolist() == ["a", "b", "ü", ""]
    assert len(set(back.extra["uid"].tolist())) == 4
    assert not {"rlnClassNumber", "selected"} & set(back.extra)


def test_fields_of_the_wrong_type_are_not_taken_over(tmp_path: Path):
    extra = {
        "uid": np.array(["a", "b", "c", "d"], dtype=object),
        "location/exp_group_id": np.array([1, 2, 3, 4]),  # int64, from another kind of file
        "location/min_dist_A": np.array([80, 80, 80, 80], dtype=object),
        "pick_stats/template_idx": np.array([0.5, np.nan, 0, 0]),
    }
    cryosparc.write_picks(tmp_path / "a.cs", replace(example(), extra=extra), SHAPES, PIXELS)
    table = np.load(tmp_path / "a.cs")
    assert table.dtype["uid"] == np.uint64
    assert table.dtype["location/exp_group_id"] == np.uint32
    assert table["location/exp_group_id"].tolist() == [1, 2, 3, 4]
    assert table["location/min_dist_A"].tolist() == [80] * 4
    assert table["pick_stats/template_idx"].tolist() == [0] * 4


def test_no_picks(tmp_path: Path):
    path = tmp_path / "a.cs"
    cryosparc.write_picks(path, Picks.empty([A]), SHAPES, PIXELS)
    assert cryosparc.looks_like(path.read_bytes())
    assert len(cryosparc.read_picks(path)) == 0


@pytest.mark.parametrize(("shapes", "sizes"), [({}, PIXELS), (SHAPES, {A: 1.0})])
def test_what_a_micrograph_must_tell(tmp_path: Path, shapes, sizes):
    with pytest.raises(BadInput, match=r"a\.cs cannot be written, as the (pixel )?size of "):
        cryosparc.write_picks(tmp_path / "a.cs", example(), shapes, sizes)
    assert not list(tmp_path.iterdir())


def test_pixel_sizes_may_be_unknown(tmp_path: Path):
    table = picked()
    table["location/micrograph_psize_A"] = [0, 1.5, np.nan]
    sizes = cryosparc.read_picks(save(tmp_path / "a.cs", table)).extra[PIXEL_SIZE]
    assert sizes.tolist() == [None, 1.5, None]
    table["location/micrograph_psize_A"] = 0
    assert PIXEL_SIZE not in cryosparc.read_picks(save(tmp_path / "a.cs", table)).extra


@pytest.mark.parametrize(
    ("name", "without"),
    [
        (A, "J3/motioncorrected/a_patch_aligned.mrc"),
        ("015762140416835289736_a.tif", "a.tif"),
        ("000588255143468195995_J/a.mrc", "000588255143468195995_J/a.mrc"),
        ("J1/00058825514346819599_a.mrc", "J1/00058825514346819599_a.mrc"),
        ("J1/x000588255143468195995_a.mrc", "J1/x000588255143468195995_a.mrc"),
        ("a.mrc", "a.mrc"),
    ],
)
def test_names_without_uid(name, without):
    assert names.strip_cryosparc_uid(name) == without


def changed(field, values):
    table = picked()
    table[field] = values
    return table


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code in a file was run",))


def pickled():
    fields = [("uid", "<u8"), ("location/micrograph_path", "O")]
    return np.array([(1, Harmful())], dtype=fields)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pickled, "pickled Python objects.*export it again"),
        (lambda: np.array([Harmful()], dtype=object), "pickled Python objects"),
        (lambda: np.zeros(3), "not a table"),
        (lambda: picked().reshape(3, 1), "not a table"),
        (lambda: picked()[["uid", "ctf/type"]], "no field location/micrograph_path.*passthrough"),
        (lambda: picked()[[f[0] for f in PICKED if "y_frac" not in f[0]]], "center_y_frac"),
        (lambda: changed("location/center_x_frac", [0, np.nan, 0]), "row 2"),
        (lambda: changed("location/micrograph_shape", [[1, 1], [1, 1], [0, 1]]), "row 3"),
        (lambda: changed("location/micrograph_path", [b"a", b"\xe4", b""]), "not UTF-8"),
        (lambda: changed("location/micrograph_path", [b"a", b"b", b""]), "no micrograph in row 3"),
    ],
)
def test_bad_tables(tmp_path: Path, table, words):
    path = save(tmp_path / "bad.cs", table(), allow_pickle=True)
    with pytest.raises(BadInput, match=words) as caught:
        cryosparc.read_picks(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "not a .cs file"),
        (b"data_\n", "not a .cs file"),
        (cryosparc.NUMPY_MAGIC, "cannot be read as a .cs file"),
        (cryosparc.NUMPY_MAGIC + b"\1\0\x05\0hello", "cannot be read as a .cs file"),
    ],
)
def test_bad_files(tmp_path: Path, contents, words):
    path = tmp_path / "bad.cs"
    path.write_bytes(contents)
    with pytest.raises(BadInput, match=words) as caught:
        cryosparc.read_picks(path)
    assert str(path) in str(caught.value)


def test_a_file_that_breaks_off(tmp_path: Path):
    whole = save(tmp_path / "a.cs", picked()).read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "cut.cs").write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"cut\.cs"):
            cryosparc.read_picks(tmp_path / "cut.cs")


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(BadInput, match=r"none\.cs cannot be read \(No such file"):
        cryosparc.read_picks(tmp_path / "none.cs")


@pytest.mark.parametrize("compression", ["lz4", None])
def test_the_compressed_form_needs_no_package(tmp_path: Path, monkeypatch, compression):
    monkeypatch.setitem(sys.modules, "cryosparc", None)
    path = tmp_path / "a.cs"
    path.write_bytes(stream(picked(), compression))
    assert cryosparc.looks_like(path.read_bytes())
    back = cryosparc.read_picks(path)
    path.write_bytes(save(tmp_path / "b.cs", picked()).read_bytes())
    same(back, cryosparc.read_picks(path))


@pytest.mark.parametrize("place", [2, 9, 2**40])
def test_texts_that_begin_nowhere(tmp_path: Path, place):
    """cryosparc-tools ends the whole process on these."""
    raw = bytearray(stream(picked(), None))
    first = raw.index(struct.pack("<Q", 1) + struct.pack("<Q", 1))
    raw[first : first + 8] = struct.pack("<Q", place)
    path = tmp_path / "a.cs"
    path.write_bytes(raw)
    with pytest.raises(BadInput, match="texts that it does not contain"):
        cryosparc.read_picks(path)


@pytest.mark.parametrize("head", [b"", b"data_\n", b"\x93NUMPY\1\0v\0{'descr': '<f8'}"])
def test_other_files_are_told_apart(head):
    assert not cryosparc.looks_like(head)


def test_a_table_of_very_many_fields(tmp_path: Path):
    more = [(f"alignments_class3D_{i:04}/pose", "<f4", (3,)) for i in range(400)]
    table = np.zeros(3, dtype=PICKED + more)
    for field in picked().dtype.names:
        table[field] = picked()[field]
    path = save(tmp_path / "a.cs", table)
    assert path.read_bytes().index(b"\n") > 10_000  # what numpy allows a header by itself
    assert cryosparc.read_picks(path).names() == [A, A, B]


# cryoSPARC's own program


def dataset():
    reason = "cryosparc-tools is not installed: its own reader is not asked"
    return pytest.importorskip("cryosparc.dataset", reason=reason)


def test_cryosparc_tools_reads_what_we_write(tmp_path: Path):
    tools = dataset()
    cryosparc.write_picks(tmp_path / "a.cs", example(), SHAPES, PIXELS)
    read = tools.Dataset.load(str(tmp_path / "a.cs"))
    table = np.load(tmp_path / "a.cs")
    assert list(read) == list(table.dtype.names)
    for field in read:
        values = table[field]
        expected = [v.decode() for v in values] if values.dtype.kind == "S" else values
        np.testing.assert_array_equal(np.array(read[field]), expected, err_msg=field)
    assert read["location/micrograph_path"].tolist() == example().names()


@pytest.mark.parametrize("form", ["NUMPY_FORMAT", "CSDAT_FORMAT"])
@pytest.mark.parametrize("rows", [3, 0])
def test_we_read_what_cryosparc_tools_writes(tmp_path: Path, form, rows):
    tools = dataset()
    path = tmp_path / "a.cs"
    save(path, picked())
    expected = cryosparc.read_picks(path).select(np.arange(rows))
    tools.Dataset(picked()[:rows]).save(str(path), format=getattr(tools, form))
    assert cryosparc.looks_like(path.read_bytes())
    back = cryosparc.read_picks(path)
    assert back.names() == expected.names()
    np.testing.assert_array_equal(back.xy_px, expected.xy_px)
    np.testing.assert_array_equal(back.score, expected.score)
    if rows:
        assert set(back.extra) == set(expected.extra)
        for key, values in expected.extra.items():
            np.testing.assert_array_equal(back.extra[key], values, err_msg=key)


@pytest.mark.parametrize("rows", [1, 40, 5000])
def test_we_unpack_what_cryosparc_tools_packs(tmp_path: Path, rows):
    """Long copies, copies that overlap themselves, and numbers with nothing to copy."""
    tools = dataset()
    random = np.random.default_rng(rows)
    table = np.resize(picked(), rows)
    table["uid"] = np.arange(rows)
    table["location/center_x_frac"] = random.random(rows)
    table["pick_stats/ncc_score"] = np.arange(rows) // 7
    table["pick_stats/template_idx"] = random.integers(0, 3, rows)
    tools.Dataset(table).save(str(tmp_path / "a.cs"), format=tools.CSDAT_FORMAT)
    back = cryosparc.read_picks(tmp_path / "a.cs")
    expected = cryosparc.read_picks(save(tmp_path / "b.cs", table))
    assert back.names() == expected.names()
    np.testing.assert_array_equal(back.xy_px, expected.xy_px)
    np.testing.assert_array_equal(back.score, expected.score)
    for key, values in expected.extra.items():
        np.testing.assert_array_equal(back.extra[key], values, err_msg=key)


def test_these_are_all_forms_of_cryosparc_tools():
    assert set(dataset().MAGIC_PREFIX_FORMATS) == {cryosparc.NUMPY_MAGIC, cryosparc.STREAM_MAGIC}


def test_a_compressed_file_that_breaks_off_is_refused(tmp_path: Path):
    tools = dataset()
    tools.Dataset(picked()).save(str(tmp_path / "a.cs"), format=tools.CSDAT_FORMAT)
    whole = (tmp_path / "a.cs").read_bytes()
    for length in range(len(cryosparc.STREAM_MAGIC), len(whole), 37):
        (tmp_path / "cut.cs").write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"cut\.cs cannot be read"):
            cryosparc.read_picks(tmp_path / "cut.cs")
