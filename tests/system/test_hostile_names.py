"""Names in tables lead nowhere: what is written is in the output folder, one file a name.

A small tree of folders is made, commands are run from within it with names that lead out of the
output folder, and the tree around that folder is compared with what it was.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.output_names import RESULT_FILES
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.star import write_blocks
from heliodor.integrations.topaz.main import main as topaz
from heliodor.models.model_file import save_model
from helpers import networks
from helpers.cli import call, done

PIXEL, SIDE = 4.0, 96
#: Where names of micrographs in tables may lead; none of them may get there.
LEADING = (
    *("../../outside/a.mrc", "/outside/b.mrc", "out/../../c", "./../d.mrc"),
    *(
        "x/../../../e.mrc",
        "~/f.mrc",
        "$HOME/g.mrc",
        "-o",
        "h h.mrc",
        "ü/é.mrc",
        "*.mrc",
        "a;b.mrc",
    ),
    *("series/1/i.mrc", "i.mrc", "j/i.mrc", ".hidden.mrc", "...", "n" * 240 + ".mrc", "k'.mrc"),
)
#: Names that no file can have, or that no table can hold.
IMPOSSIBLE = (
    "a\nb.mrc",
    "a\tb.mrc",
    "\x1b[2J.mrc",
    "n" * 300,
    "a\u2028b",
    "a\x85b",
    "..",
    "/",
    "a/",
    ".",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, some folders down, and files around it that stay as they are."""
    project = tmp_path / "home" / "user" / "project"
    project.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name in ("a.box", "c_autopick.star", "d.mrc", "home/e_info.json", "home/user/c.box"):
        (tmp_path / name).write_text("precious")
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return project


def tree(folder: Path, but: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below a folder, with its size and time, but for one folder."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if but not in (path, *path.parents) and path.is_file()
    }


def table(path: Path, names: tuple[str, ...]) -> Path:
    """A CSV table with a pick of its own on each micrograph."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image_name", "x_coord", "y_coord", "score"])
        writer.writerows([name, 30 + i, 40, i] for i, name in enumerate(names))
    return path


def written(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.parametrize("to", ["autopick", "box", "eman2", "cbox"])
@pytest.mark.parametrize("name", LEADING)
def test_convert(here: Path, tmp_path: Path, to: str, name: str) -> None:
    picks = table(here / "picks.csv", (name, "good.mrc"))
    out = here / "out"
    before = tree(tmp_path, out)
    box = ("--box-px", 20) if to in ("box", "cbox") else ()
    result = call("convert", picks, "-o", out, "--to", to, *box)
    assert tree(tmp_path, out) == before
    if result.code == 0:
        own = [path for path in written(out) if path.name != "autopick.star"]
        assert len(own) == 2
        assert sorted(read_picks(own).xy_px[:, 0].round()) == [30, 31]
    else:
        assert len(name) > 200, result.err  # with what is put behind it, no file's name
        assert "cannot be written" in result.sentence


@pytest.mark.parametrize("to", ["autopick", "box", "eman2", "cbox"])
@pytest.mark.parametrize(
    ("one", "other"), [("a/../b.mrc", "a/b.mrc"), ("/b.mrc", "b.mrc"), ("b", "b.mrc")]
)
def test_convert_two_names_of_one_file(here: Path, to: str, one: str, other: str) -> None:
    picks = table(here / "picks.csv", (one, other))
    box = ("--box-px", 20) if to in ("box", "cbox") else ()
    result = call("convert", picks, "-o", here / "out", "--to", to, *box)
    if result.code == 0:
        assert len([p for p in written(here / "out") if p.name != "autopick.star"]) == 2
    else:
        assert "would both be in" in result.sentence
        assert not written(here / "out")


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("to", ["star", "autopick", "box", "eman2", "csv"])
def test_names_that_no_file_has(here: Path, tmp_path: Path, to: str, name: str) -> None:
    picks = table(here / "picks.csv", (name, "good.mrc"))
    before = tree(tmp_path, here / "out")
    result = call("convert", picks, "-o", here / "out", "--to", to)
    assert result.code == 2
    assert "calls a micrograph" in result.sentence
    assert result.sentence.isprintable()
    assert tree(tmp_path, here / "out") == before
    assert not (here / "out").exists()


@pytest.mark.parametrize("value", ["a\nb", "a\tb", "\u2028", "x\x0bdata_y"])
def test_cells_that_would_break_a_star_file(here: Path, value: str) -> None:
    with (here / "p.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["name", "x", "y", "note"], ["a", 1, 2, value]])
    result = call("convert", here / "p.csv", "-o", here / "p.star")
    assert result.code == 2
    assert "a STAR file cannot hold" in result.sentence
    assert call("convert", here / "p.csv", "-o", here / "q.csv").code == 0
    assert read_picks(here / "q.csv").extra["note"].tolist() == [value]


@pytest.mark.parametrize("to", ["box", "json"])
@pytest.mark.parametrize("name", LEADING)
def test_topaz_convert(here: Path, tmp_path: Path, to: str, name: str) -> None:
    picks = table(here / "picks.csv", (name, "good.mrc"))
    before = tree(tmp_path, here / "out")
    words = ["convert", picks, "-o", here / "out", "--to", to, "--boxsize", 20]
    code = _topaz(*words)
    assert tree(tmp_path, here / "out") == before
    assert code == (2 if len(name) > 255 else 0) or len(name) > 200
    if code == 0:
        assert len(written(here / "out")) == 2


@pytest.mark.parametrize("to", ["box", "json"])
def test_topaz_convert_two_names_of_one_file(here: Path, to: str) -> None:
    picks = table(here / "picks.csv", ("a/../b.mrc", "a/b.mrc"))
    assert _topaz("convert", picks, "-o", here / "out", "--to", to, "--boxsize", 20) == 2
    assert not written(here / "out")


@pytest.mark.parametrize("name", LEADING)
def test_topaz_split(here: Path, tmp_path: Path, name: str) -> None:
    picks = table(here / "picks.txt", (name, "good.mrc"))
    before = tree(tmp_path, here / "out")
    _topaz("split", picks, "-o", here / "out")
    assert tree(tmp_path, here / "out") == before


def _topaz(*words: object) -> int:
    import sys
    from unittest import mock

    with mock.patch.object(sys, "argv", ["heliodor-topaz", *map(str, words)]):
        try:
            return int(topaz() or 0)
        except SystemExit as end:
            return int(end.code or 0)


@pytest.fixture
def micrographs(here: Path, tmp_path: Path) -> Path:
    """A STAR file of micrographs that are there, by names that lead out of the project."""
    names = [
        *("../../../outside/a.mrc", str(tmp_path / "outside" / "b.mrc"), "x/../../c.mrc"),
        *("series/1/a.mrc", "one/a.mrc", "two/a.mrc", "h h.mrc", "ü/é.mrc", "-o.mrc", "d.mrc"),
    ]
    (here / "x").mkdir()
    xy = np.array([[30.0, 40], [60, 50]])
    for seed, name in enumerate(names):
        networks.write_mrc(Path(name), networks.discs((SIDE, SIDE), xy, seed=seed), PIXEL)
    names += ["../../../outside/gone.mrc", "m" * 250 + "/gone.mrc"]
    path = here / "micrographs.star"
    write_blocks(path, {"micrographs": {"rlnMicrographName": names}})
    return path


def test_preprocess(here: Path, tmp_path: Path, micrographs: Path) -> None:
    before = tree(tmp_path, here / "out")
    result = call(
        *(
            "preprocess",
            "--micrographs",
            micrographs,
            "-o",
            here / "out",
            "--working-pixel-size",
            8,
        ),
        *("--threads", 1),
    )
    assert result.code == 3, result.err
    assert tree(tmp_path, here / "out") == before
    assert len([path for path in written(here / "out") if path.suffix == ".mrc"]) == 10


@pytest.mark.parametrize("series", [0, 3])
def test_pick(here: Path, tmp_path: Path, micrographs: Path, series: int) -> None:
    model = here / "model.safetensors"
    scale = {"working_pixel_size_angstrom": PIXEL, "diameter_angstrom": 40.0, "threshold": 0.0}
    save_model(model, networks.model(**scale))
    before = tree(tmp_path, here / "out")
    words = [
        "pick",
        "--model",
        model,
        "--micrographs",
        micrographs,
        "-o",
        here / "out",
        "--threads",
        1,
    ]
    for _ in range(2):  # the second time over what the first one wrote
        result = call(*words, *(("--threshold-series", series) if series else ()))
        assert tree(tmp_path, here / "out") == before
        assert result.code == 3, result.err
        # A micrograph in a folder series/1 would lie among the picks of the first set.
        in_series = "would be in the folder of the threshold series" in result.err
        assert in_series == bool(series)
        stars = [p for p in written(here / "out") if p.name.endswith("_autopick.star")]
        own = [p for p in stars if "series" not in p.relative_to(here / "out").parts]
        assert len(own) == 9
        # Each folder of the series has RELION's coords_suffix_autopick.star as well.
        assert len(stars) == 9 + (10 * series if series else 1)


@pytest.mark.parametrize("letter", ["n", "\u7c92"])  # of one byte and of three
def test_names_that_leave_no_room_for_more_fail_alone(here: Path, letter: str) -> None:
    size = len(letter.encode())
    long, fits = (letter * (most // size) + ".mrc" for most in (250, 240))
    scale = {"working_pixel_size_angstrom": PIXEL, "diameter_angstrom": 40.0, "threshold": 0.0}
    save_model(here / "m.safetensors", networks.model(**scale))
    for name in (long, fits, "short.mrc"):
        networks.write_mrc(here / "mics" / name, networks.noise((SIDE, SIDE)), PIXEL)
    words = ("pick", "--model", "m.safetensors", "--micrographs", "mics", "-o", "out")
    for _ in range(2):
        result = call(*words, "--threshold-series", 2, "--threads", 1)
        assert result.code == 3, result.err
        _head, failed = (here / "out/failed.tsv").read_text().splitlines()
        assert failed.startswith(f"mics/{long}\t")
        assert "is too long; rename the micrograph" in failed
        stars = {p.name for p in (here / "out").glob("*_autopick.star")}
        assert stars == {f"{Path(name).stem}_autopick.star" for name in (fits, "short.mrc")}


def test_sets_of_a_series_keep_micrographs_of_one_name_apart(here: Path) -> None:
    model = here / "model.safetensors"
    scale = {"working_pixel_size_angstrom": PIXEL, "diameter_angstrom": 40.0, "threshold": 0.0}
    save_model(model, networks.model(**scale))
    xy = np.array([[30.0, 40], [60, 50], [70, 70]])
    names = ["one/a.mrc", "two/a.mrc"]
    for seed, name in enumerate(names):
        networks.write_mrc(
            Path(name), networks.discs((SIDE, SIDE), xy[: seed + 2], seed=seed), PIXEL
        )
    write_blocks(here / "m.star", {"micrographs": {"rlnMicrographName": names}})
    words = [
        "pick",
        "--model",
        model,
        "--micrographs",
        here / "m.star",
        "-o",
        here / "out",
        "--threads",
        1,
    ]
    assert call(*words, "--threshold-series", 2).code == 0
    sets = sorted((here / "out" / "series").iterdir())
    assert [path.name for path in sets] == ["1", "2"]
    last = read_picks(sets[-1])
    everything = read_picks(here / "out" / "picks.tsv", candidates=True)
    lowest = last.score.min()
    assert len(last) > 2
    for name, own in everything.split_by_micrograph():
        found = dict(last.split_by_micrograph())[name]
        assert len(found) == np.count_nonzero(own.score >= lowest - 1e-9), name
    # Without a series none is left of the older one.
    assert call(*words).code == 0
    assert not (here / "out" / "series").exists()


def test_lists_of_hostile_names(here: Path) -> None:
    image = networks.noise((SIDE, SIDE))
    for name in ("good.mrc", "a b.mrc"):
        networks.write_mrc(here / name, image, PIXEL)
    (here / "list.txt").write_text("good.mrc\na b.mrc\n")
    assert [s.output_stem for s in find_sources("@list.txt")] == ["good", "a b"]
    assert os.listdir(here)


def picking(here: Path) -> tuple[object, ...]:
    """A command that picks with a small model."""
    scale = {"working_pixel_size_angstrom": PIXEL, "diameter_angstrom": 40.0, "threshold": 0.0}
    save_model(here / "m.safetensors", networks.model(**scale))
    return ("pick", "--model", "m.safetensors", "--threads", 1, "-o", "out", "--micrographs")


def star_of(here: Path, names: tuple[str, ...]) -> str:
    """A list of micrographs, which are made."""
    for name in names:
        networks.write_mrc(here / name, networks.noise((SIDE, SIDE)), PIXEL)
    write_blocks(here / "m.star", {"micrographs": {"rlnMicrographName": [*names]}})
    return "m.star"


@pytest.mark.parametrize("command", ["pick", "preprocess"])
def test_micrographs_in_folders_named_like_a_result_fail_alone(here: Path, command: str) -> None:
    good = ("Movies/a.mrc", "Movies/b.mrc", "Movies/picks.tsv/c.mrc")
    folders = sorted(RESULT_FILES) + (
        ["Movies/a_autopick.star"] if command == "pick" else ["Movies/a.mrc"]
    )
    bad = tuple(f"in/{folder}/x.mrc" for folder in folders)
    names = star_of(here, (*good, *bad))
    write_blocks(
        here / "m.star",
        {"micrographs": {"rlnMicrographName": [*good, *(name[3:] for name in bad)]}},
    )
    words = picking(here)
    if command == "preprocess":
        words = ("preprocess", "--working-pixel-size", PIXEL, "-o", "out", "--micrographs")
    with pytest.MonkeyPatch.context() as patch:
        # The folders of the micrographs themselves are not those of the results.
        patch.setattr(
            "heliodor.data.micrographs.sources.find_referenced_file",
            lambda name, _: next((p for p in (Path(name), Path("in", name)) if p.is_file()), None),
        )
        for _ in range(2):
            result = call(*words, names)
            assert result.code == 3, result.err
            _head, *failed = (here / "out/failed.tsv").read_text().splitlines()
            assert {row.split("\t")[0] for row in failed} == {name[3:] for name in bad}
            assert all("rename the micrograph's folder" in row for row in failed)
            ending = "_autopick.star" if command == "pick" else ".mrc"
            made = [path for path in written(here / "out") if path.name.endswith(ending)]
            assert len([path for path in made if path.parent != here / "out"]) == len(good)


def test_every_result_of_a_command_is_reserved(here: Path) -> None:
    names = star_of(here, ("Movies/a.mrc",))
    done(*picking(here), names, "--report", "--threshold-series", 2)
    made = {path.name for path in (here / "out").iterdir() if path.is_file()}
    assert made <= RESULT_FILES
    assert {"report.html", "series.tsv", ".picking.jsonl"} <= made


@pytest.mark.parametrize("link", ["Movies", "series", "series/1", ".picking.jsonl"])
def test_nothing_is_written_through_a_link_in_the_output_folder(
    here: Path, tmp_path: Path, link: str
) -> None:
    words = (*picking(here), star_of(here, ("Movies/a.mrc", "b.mrc")), "--threshold-series", 2)
    done(*words)
    outside = here / "elsewhere"
    (here / "out" / link).rename(outside)
    (here / "out" / link).symlink_to(outside)
    before = tree(here, here / "out")
    result = call(*words)
    assert tree(here, here / "out") == before
    if link == "Movies":
        assert result.code == 3
        assert "Movies/a.mrc\t" in (here / "out/failed.tsv").read_text()
        assert (here / "out/b_autopick.star").is_file()
    elif link == ".picking.jsonl":
        assert result.code == 0
        assert not (here / "out" / link).is_symlink()
    else:
        assert result.code == 2
        assert f"out/{link} is a symbolic link" in result.sentence
