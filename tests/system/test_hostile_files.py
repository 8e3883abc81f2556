"""No file brings a reader down: wrong files by chance, and those that ask for too much.

``benchmarks/reliability/fuzz.py`` reads many more of the first kind, each in a process that may
end."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import logging
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from heliodor.data.coordinates import formats
from heliodor.data.coordinates.formats import (
    cryosparc,
    eman2,
    relion_star,
)
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from heliodor.integrations.topaz.flip_y import read_height
from helpers import fuzz, fuzz_inputs
from helpers.cpu_time import at_most_reference_work
from helpers.file_bytes import stream

#: Files of each kind; those that take some 50 ms each are fewer.
COUNT, FEW = 200, 40
SLOW = ("star", "star lists", "cbox", "via", "table", "@list", "box", "eman2", "check", "convert")
SLOW += ("project", "filaments", "pairs", "convert filaments", "check filaments", "corrections")
SLOW += ("judged series", "judged record", "app labels", "filament model")
SEED = 11
HANG_SECONDS = 60


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # tifffile tells of all that it finds wrong
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, in one where nothing else is."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    fuzz.prepare(Path.cwd())
    return Path.cwd()


@pytest.mark.parametrize("kind", fuzz_inputs.KINDS)
def test_good_files_are_read(kind: str, work: Path) -> None:
    for name, raw in fuzz_inputs.KINDS[kind].good().items():
        fuzz.put(work / name, raw)
        assert fuzz.outcome(fuzz_inputs.KINDS[kind], work / name).said == fuzz.READ, name


@pytest.mark.parametrize("kind", fuzz_inputs.KINDS)
def test_wrong_files(kind: str, work: Path) -> None:
    own = fuzz_inputs.KINDS[kind]
    wrong = []
    for number, (name, raw) in enumerate(fuzz.mutants(own, SEED, FEW if kind in SLOW else COUNT)):
        if own.needs_others:
            fuzz.prepare(work)
        fuzz.put(work / name, raw)
        came = fuzz.outcome(own, work / name)
        if came.said not in (fuzz.READ, fuzz.REFUSED) or came.seconds > HANG_SECONDS:
            wrong.append((number, came))
    assert not wrong


def test_the_same_seed_makes_the_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1.7e9)  # packed files may hold the time
    monkeypatch.setattr(time, "time", lambda: next(clock))
    for kind in fuzz_inputs.KINDS.values():
        once = list(fuzz.mutants(kind, 3, 8))
        assert once == list(fuzz.mutants(kind, 3, 8))
        assert once[5:] == list(fuzz.mutants(kind, 3, 8, first=5))


# Files that ask for much more than they hold.


@pytest.fixture
def bounded(tmp_path: Path) -> Callable[[Callable[[Path], Any], str, bytes], BadInput]:
    """Return a function that insists on a refusal, in little time and memory."""

    def refused(reader: Callable[[Path], Any], name: str, raw: bytes) -> BadInput:
        path = tmp_path / name
        path.write_bytes(raw)
        with at_most_reference_work(150):
            tracemalloc.start()
            try:
                with pytest.raises(BadInput) as caught:
                    reader(path)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert peak < 4 * len(raw) + 64 * 2**20
        return caught.value

    return refused


def _header(side: int, extended: int = 0) -> bytes:
    raw = bytearray(fuzz._mrc()[:1024])
    raw[:8] = struct.pack("<2i", side, side)
    raw[92:96] = struct.pack("<i", extended)
    return bytes(raw)


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(("side", "extended"), [(100_000, 0), (64, 2**31 - 1), (64, -5)])
def test_compressed_headers_that_lie(bounded: Any, suffix: str, side: int, extended: int) -> None:
    raw = PACKERS[suffix](_header(side, extended) + bytes(64 * 64 * 4))
    bounded(read_micrograph, f"a.mrc{suffix}", raw)


@pytest.mark.parametrize("suffix", PACKERS)
def test_bombs(bounded: Any, suffix: str) -> None:
    """Some gigabytes behind a small image, and some that the header speaks of."""
    zeros = PACKERS[suffix](bytes(2**24)) * 200
    small = PACKERS[suffix](_header(64) + bytes(64 * 64 * 4)) + zeros
    bounded(read_micrograph, f"a.mrc{suffix}", small)
    large = PACKERS[suffix](_header(28_000)) + zeros
    bounded(read_micrograph, f"b.mrc{suffix}", large)
    assert read_header  # the header alone is read without them


@pytest.mark.parametrize("suffix", PACKERS)
def test_the_header_of_a_compressed_file_takes_no_more_than_its_beginning(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a.mrc{suffix}"
    pixels = bytearray(PACKERS[suffix](bytes(2**24)))
    pixels[-8:] = bytes(8)  # a wrong checksum: no one can read as far as this
    path.write_bytes(PACKERS[suffix](_header(28_000)) + pixels)
    assert read_header(path).shape == (28_000, 28_000)
    with pytest.raises(BadInput):
        read_micrograph(path)


@pytest.mark.parametrize("stamp", [b"DD\0\0", b"\x11\x11\0\0", b"\0\0\0\0"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_extended_headers_that_lie(bounded: Any, stamp: bytes, order: str) -> None:
    raw = bytearray(fuzz._mrc())
    raw[92:96] = struct.pack(order + "i", 2**31 - 2**20)
    raw[212:216] = stamp
    bounded(read_micrograph, "a.mrc", bytes(raw))


def _tiff(tmp_path: Path, image: Any, **options: Any) -> bytes:
    tifffile.imwrite(tmp_path / "made.tif", image, **options)
    return (tmp_path / "made.tif").read_bytes()


def test_tiff_sides_that_lie(bounded: Any, tmp_path: Path) -> None:
    for options in ({}, {"compression": "zlib"}):
        raw = bytearray(_tiff(tmp_path, np.ones((64, 64), np.float32), **options))
        with tifffile.TiffFile(tmp_path / "made.tif") as tiff:
            tags = tiff.pages[0].tags
            places = [tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
        for place in places:
            raw[place : place + 4] = struct.pack("<I", 60_000)
        bounded(read_micrograph, "a.tif", bytes(raw))


def test_a_tiff_strip_that_unpacks_to_far_more(bounded: Any, tmp_path: Path) -> None:
    raw = _tiff(tmp_path, np.ones((64, 64), np.float32), compression="zlib")
    with tifffile.TiffFile(tmp_path / "made.tif") as tiff:
        page = tiff.pages[0]
        counts = page.tags["StripByteCounts"].valueoffset
        offsets = page.tags["StripOffsets"].valueoffset
    bomb = zlib.compress(bytes(2**28), 1)
    own = bytearray(raw)
    own[counts : counts + 4] = struct.pack("<I", len(bomb))
    own[offsets : offsets + 4] = struct.pack("<I", len(raw))
    error = bounded(read_micrograph, "a.tif", bytes(own) + bomb)
    assert "decompresses to more" in str(error)


@pytest.mark.parametrize("pages", [50_000, -1])
def test_tiff_files_of_endless_pages(bounded: Any, tmp_path: Path, pages: int) -> None:
    raw = _tiff(tmp_path, np.ones((64, 64), np.float32))
    first = struct.unpack_from("<I", raw, 4)[0]
    count = struct.unpack_from("<H", raw, first)[0]
    end = first + 2 + 12 * count
    directory = raw[first:end]
    own = bytearray(raw)
    if pages < 0:  # two that are each other's next
        own[end : end + 4] = struct.pack("<I", len(raw))
        own += directory + struct.pack("<I", first)
    else:
        own[end : end + 4] = struct.pack("<I", len(raw))
        for number in range(1, pages + 1):
            own += directory + struct.pack("<I", len(raw) + number * (len(directory) + 4))
    bounded(read_micrograph, "a.tif", bytes(own))


@pytest.mark.parametrize("rows", ["(1000000000,)", "(-1,)", "(100000000,)"])
def test_rows_that_a_table_of_cryosparc_does_not_hold(bounded: Any, rows: str) -> None:
    raw = fuzz._css()["picked.cs"]
    length = struct.unpack_from("<H", raw, 8)[0]
    header = raw[10 : 10 + length].decode().rstrip().replace("(6,)", rows).encode() + b"\n"
    own = raw[:8] + struct.pack("<H", len(header)) + header + raw[10 + length :]
    bounded(cryosparc.read_picks, "a.cs", own)


@pytest.mark.parametrize("rows", [10**6, 10**9, 10**400, -1, 1.5, True])
def test_rows_that_a_stream_of_cryosparc_does_not_hold(bounded: Any, rows: Any) -> None:
    for compression in ("lz4", None):
        raw = stream(fuzz._particles(), compression, length=rows)
        bounded(cryosparc.read_picks, "a.cs", raw)


HEAD = b"data_\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "raw",
    [
        b"data_\nloop_\n" + fuzz._many_labels(50_000),
        b"data_a\nloop_\n_b\n1\n" * 50_000,
        HEAD + b"a.mrc 1 2\n" * 50_000 + b"\xff 1 2\n",
        b"\n" * 200_000 + b"data_x",
        b" " * 200_000 + b"data_x",
        HEAD + b"\0" * 1000,
        b"data_\n" * 50_000,
        HEAD + b"\n" * 200_000 + b"\xff",
        HEAD + b"1 2 " * 500_000,
        b"data_\n_rlnMicrographName " + b"x" * 1_000_000,
    ],
    ids=["columns", "blocks", "latin", "lines", "spaces", "zeros", "begins", "end", "row", "word"],
)
def test_star_files_that_take_for_ever(bounded: Any, raw: bytes) -> None:
    bounded(relion_star.read_picks, "a.star", raw)
    bounded(formats.read_picks, "a.star", raw)


def test_a_comment_is_no_encoding(tmp_path: Path) -> None:
    """Python's reader of source, through which STAR files are read, would take it for one."""
    path = tmp_path / "a.star"
    path.write_bytes(b"# -*- coding: utf-16 -*-\n" + HEAD + "ü.mrc 1 2\n".encode())
    assert relion_star.read_picks(path).micrographs == ("ü.mrc",)


def test_ends_of_lines_of_old_machines(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    path.write_bytes((HEAD + b"a.mrc 1 2\nb.mrc 3 4\n").replace(b"\n", b"\r"))
    assert relion_star.read_picks(path).names() == ["a.mrc", "b.mrc"]


@pytest.mark.parametrize("rows", ["a.mrc list.star", "a.mrc p.star\nb.mrc p.star"])
def test_lists_of_coordinates_that_go_round(
    bounded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.star").write_bytes(HEAD + b"a.mrc 1 2\n")
    head = "data_\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\n"
    bounded(relion_star.read_picks, "list.star", f"{head}{rows}\n".encode())


def test_columns_that_are_there_twice(bounded: Any) -> None:
    twice = HEAD.replace(b"_rlnCoordinateY", b"_rlnCoordinateX")
    error = bounded(relion_star.read_picks, "a.star", twice + b"a.mrc 1 2\n")
    assert "_rlnCoordinateX twice" in str(error)


def test_lists_of_micrographs_that_name_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fuzz.prepare(tmp_path)
    # 18 lists that each name the next one twice.
    assert [s.name for s in find_sources("@deep0.txt")] == ["other.mrc"]
    assert [s.name for s in find_sources(["@deep0.txt", "@deep17.txt"])] == ["other.mrc"]
    for number in range(19, 40):
        (tmp_path / f"deep{number - 1}.txt").write_text(f"@deep{number}.txt\n")
    (tmp_path / "deep39.txt").write_text("good.mrc\n")
    with pytest.raises(BadInput, match="nested in more than"):
        find_sources("@deep0.txt")
    (tmp_path / "list.txt").write_text("@x/../circle.txt\n")
    for text in ("@circle.txt", "@x/../circle.txt", "@list.txt"):
        with pytest.raises(BadInput, match="names itself"):
            find_sources(text)


@pytest.mark.parametrize("pattern", ["*.mrc" * 20_000, "**/" * 30 + "*.mrc", "a\0*.mrc"])
def test_patterns_that_take_for_ever(
    bounded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "/".join("abcdefghijkl")).mkdir(parents=True)
    bounded(lambda path: find_sources(f"@{path}"), "list.txt", pattern.encode())


@pytest.mark.parametrize("place", ["1e10", "-1e300", "1e999", "nan"])
def test_places_where_no_pixel_is(bounded: Any, place: str) -> None:
    bounded(formats.read_picks, "a.box", f"{place} 2 8 8\n".encode())
    bounded(formats.read_picks, "a.csv", f"name,x,y\na,1,{place}\n".encode())


def test_tables_that_are_too_wide(bounded: Any) -> None:
    wide = b",a" * 200_000 + b"\n"
    bounded(formats.read_picks, "a.csv", b"name,x,y" + wide)
    # Rows that lack their last cells must not be filled up to the header.
    rows = b"a.png,[\n" * 100_000
    bounded(formats.read_picks, "v.csv", b"filename,region_shape_attributes" + wide + rows)


@pytest.mark.parametrize("number", ["9" * 400, "9" * 4000, "9" * 9000, "NaN", "1e999", "[" * 9999])
def test_numbers_that_are_none(bounded: Any, number: str) -> None:
    bounded(eman2.read_picks, "a_info.json", f'{{"boxes": [[{number}, 2, "manual"]]}}'.encode())
    shape = json.dumps({"cx": "NUMBER", "cy": 1}).replace('"NUMBER"', number)
    cell = shape.replace('"', '""')
    via = f'filename,region_shape_attributes\na.png,"{cell}"\n'
    bounded(formats.read_picks, "a.csv", via.encode())


def test_pictures_with_sides_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(path)
    raw = bytearray(path.read_bytes())
    raw[16:24] = struct.pack(">2I", 2**30, 2**30)
    raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
    path.write_bytes(raw)
    with pytest.raises(BadInput, match=r"a\.png"):
        read_height(path)


def test_sentences_are_of_one_line() -> None:
    said = str(BadInput("a\nb\x1b[2J\u2028c\ud800" + "x" * 10**6))
    assert said.isprintable()
    assert said.startswith("a b\\x1b[2J c\\ud800xx")
    assert len(said) < 1100
