from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.data.coordinates import formats
from heliodor.data.coordinates.formats import eman2
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput

# As e2boxer.py and e2ctf.py leave it.
INFO = """{
"boxes":[[1018.5,212.0,"manual"],[640,388,"auto_ref"],[12.25,99.0,"auto_convnet",0.875]],
"ctf":[512,{"__class__":"EMAN2Ctf","apix":1.77,"background":[0.5,NaN,1e-07],"defocus":1.25},[256,256],5],
"quality":5
}"""

numbers = st.floats(-1e5, 1e5)
scores = st.floats(-1e3, 1e3) | st.just(float("nan"))
kinds = st.sampled_from(["manual", "auto_ref", "ü"])


def save(path: Path, contents: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path


@settings(max_examples=60)
@given(st.lists(st.tuples(numbers, numbers, scores, kinds), max_size=8))
def test_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "info" / "mic_info.json"
    xy = np.array([row[:2] for row in rows]).reshape(-1, 2)
    picks = Picks.on("mic", xy, np.array([row[2] for row in rows], dtype=float))
    picks = replace(picks, extra={eman2.TYPE: np.array([row[3] for row in rows], dtype=object)})
    eman2.write_picks(path, picks)
    assert eman2.looks_like(path.read_bytes())
    back = eman2.read_picks(path)
    assert back.micrographs == ("mic",)
    np.testing.assert_array_equal(back.xy_px, picks.xy_px)
    np.testing.assert_array_equal(back.score, picks.score)
    assert list(back.extra.get(eman2.TYPE, [])) == [row[3] for row in rows]


def test_an_info_file(tmp_path: Path):
    path = save(tmp_path / "info" / "mic.001_info.json", INFO)
    assert eman2.looks_like(path.read_bytes())
    picks = eman2.read_picks(path)
    assert picks.names() == ["mic.001"] * 3
    np.testing.assert_array_equal(picks.xy_px, [[1018.5, 212], [640, 388], [12.25, 99]])
    np.testing.assert_array_equal(picks.score, [np.nan, np.nan, 0.875])
    assert picks.extra[eman2.TYPE].tolist() == ["manual", "auto_ref", "auto_convnet"]


def test_what_else_a_file_knows_stays(tmp_path: Path):
    path = save(tmp_path / "mic_info.json", INFO)
    eman2.write_picks(path, Picks.on("mic", np.array([[1.5, 2.25]]), np.array([0.5])))
    content = json.loads(path.read_text())
    assert content["boxes"] == [[1.5, 2.25, "auto_heliodor", 0.5]]
    before = json.loads(INFO)
    assert json.dumps(content["ctf"]) == json.dumps(before["ctf"])  # nan is not equal to itself
    assert content["quality"] == before["quality"]
    assert list(content) == ["boxes", "ctf", "quality"]
    assert [p.name for p in tmp_path.iterdir()] == ["mic_info.json"]


def test_a_file_that_is_no_info_file_is_not_overwritten(tmp_path: Path):
    path = save(tmp_path / "mic_info.json", "[1, 2]")
    with pytest.raises(BadInput, match=r"mic_info\.json does not contain a JSON object"):
        eman2.write_picks(path, Picks.on("mic", np.ones((1, 2))))
    assert path.read_text() == "[1, 2]"


@pytest.mark.parametrize(
    ("micrograph", "info"),
    [
        ("micrographs/mic.mrc", "mic_info.json"),
        ("micrographs/mic__ctf_flip.hdf", "mic_info.json"),
        ("mic.001.mrc", "mic.001_info.json"),
        ("mic_info.mrc", "mic_info_info.json"),
        ("mic", "mic_info.json"),
        ("__mic.mrc", "__mic_info.json"),
    ],
)
def test_names(micrograph, info):
    assert eman2.info_file_name(micrograph) == info
    stem = info.removesuffix("_info.json")
    assert eman2.infer_micrograph(Path("info") / info) == stem
    if not stem.startswith("_"):
        assert eman2.infer_micrograph(Path(f"info/{stem}__goodali_info.json")) == stem


@pytest.mark.parametrize("contents", ["", "{}", '{"ctf": []}', '{"boxes": []}'])
def test_a_micrograph_that_nobody_picked(tmp_path: Path, contents):
    picks = eman2.read_picks(save(tmp_path / "mic_info.json", contents))
    assert picks.micrographs == ("mic",)
    assert len(picks) == 0


@pytest.mark.parametrize("unpicked", ["{}", '{"ctf": [1], "quality": 5}', '\n{"boxes": []}'])
def test_a_half_picked_project(tmp_path: Path, unpicked):
    """EMAN2 keeps an info file of each micrograph from its import on."""
    save(tmp_path / "info" / "a_info.json", INFO)
    alone = save(tmp_path / "info" / "b_info.json", unpicked)
    save(tmp_path / "info" / "project.json", '{"global.apix": 1.7}')
    for where in (tmp_path / "info", tmp_path / "info" / "*_info.json"):
        picks = formats.read_picks(where)
        assert picks.micrographs == ("a", "b")
        assert picks.counts().tolist() == [3, 0]
    assert formats.read_picks(alone).micrographs == ("b",)
    assert formats.describe_formats([alone]) == "EMAN2 info; centers"


def test_boxes_far_behind_the_beginning_are_found(tmp_path: Path):
    ctf = json.dumps({"ctf": [0.5] * 50_000, "boxes": [[1, 2, "manual"]]})
    picks = formats.read_picks(save(tmp_path / "a_info.json", ctf))
    assert picks.xy_px.tolist() == [[1, 2]]


@pytest.mark.parametrize("text", ["[1]", '{"boxes": [[1]]}', "{", "hello"])
def test_an_info_file_that_is_damaged_is_named(tmp_path: Path, text):
    save(tmp_path / "a_info.json", INFO)
    save(tmp_path / "b_info.json", text)
    with pytest.raises(BadInput, match=r"b_info\.json"):
        formats.read_picks(tmp_path)


def test_boxes_without_a_type_are_manual(tmp_path: Path):
    picks = eman2.read_picks(save(tmp_path / "a_info.json", '{"boxes": [[1, 2]]}'))
    assert picks.extra[eman2.TYPE].tolist() == ["manual"]


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("a_info.json", "{", "cannot be read as an info file"),
        ("a_info.json", b'{"boxes": "\xe4"}', "cannot be read as an info file"),
        ("a_info.json", "[" * 100_000, "cannot be read as an info file"),
        ("a_info.json", "[1]", "does not contain a JSON object"),
        ("a_info.json", '{"boxes": 1}', "is not a list"),
        ("a_info.json", '{"boxes": [[1, 2, "manual"], [1]]}', r"\[1\] as box 2"),
        ("a_info.json", '{"boxes": [["1", 2, "manual"]]}', "as box 1"),
        ("a_info.json", '{"boxes": [[true, 2, "manual"]]}', "as box 1"),
        ("a_info.json", '{"boxes": [[NaN, 2, "manual"]]}', "as box 1"),
        ("a_info.json", '{"boxes": [{"x": 1}]}', "as box 1"),
        ("run.json", '{"command": "pick"}', 'no "boxes"'),
    ],
)
def test_bad_files(tmp_path: Path, name, contents, words):
    path = save(tmp_path / name, contents)
    with pytest.raises(BadInput, match=words) as caught:
        eman2.read_picks(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(BadInput, match=r"none_info\.json cannot be read"):
        eman2.read_picks(tmp_path / "none_info.json")


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        ('{"boxes": []}', True),
        ('\n{ "boxes" : [ [ 1.5, -2e3, "manual"], [', True),
        ('{"boxes": [[1, 2, 3, 4]]}', False),  # corners and sizes, as object detectors write
        ('{"boxes": [{"x": 1}]}', False),
        ('[{"boxes": [[1, 2, "manual"]]}]', False),
        ('{"command": "pick", "seed": 1}', False),
        ("", False),
    ],
)
def test_told_by_the_content(head, is_one):
    assert eman2.looks_like(head.encode()) is is_one


def test_a_dot_in_a_name_without_suffix_stays():
    assert eman2.info_file_name("M/Falcon_1.5s") == "Falcon_1.5s_info.json"
    assert eman2.info_file_name("M/Falcon_1.5s.mrc") == "Falcon_1.5s_info.json"
    assert eman2.info_file_name("mic__ctf_flip.hdf") == "mic_info.json"


def test_info_files_of_one_name_in_two_folders_are_two_micrographs(tmp_path: Path):
    for folder in "AB":
        place = tmp_path / folder / "m_info.json"
        place.parent.mkdir()
        place.write_text('{"boxes": [[1, 2, "manual"]]}')
    picks = formats.read_picks([tmp_path / "A", tmp_path / "B"])
    assert picks.micrographs == (f"{tmp_path}/A/m", f"{tmp_path}/B/m")
