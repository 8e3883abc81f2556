"""Files that are wrong: made from small good ones by chance, the same for the same seed.

A good file of every kind that is read is written by the writers of this program, or by hand where
it has none. It is then changed: its bytes anywhere, and what they mean, such as sizes that lie,
numbers that are none, names that lead elsewhere. A reader may read what comes of it or refuse it
with `BadInput`; `unexplained` says what else happened.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import csv
import functools
import gzip
import io
import json
import math
import os
import pickle
import re
import struct
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import mrcfile
import numpy as np
import tifffile
import torch

from heliodor.data.coordinates import formats
from heliodor.data.coordinates.formats import (
    box,
    cbox,
    cryosparc,
    eman2,
    relion_star,
    via,
)
from heliodor.data.coordinates.formats import (
    tables as text,
)
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.writers import (
    FORMATS,
    WriteContext,
    write_picks,
)
from heliodor.data.cryosparc_table import read_header as read_cs_header
from heliodor.data.micrographs import cs_list, star_list
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.data.micrographs.working_images import is_plausible_pixel_size
from heliodor.data.star import stream_blocks
from heliodor.errors import BadInput
from heliodor.integrations import project_check
from heliodor.integrations.relion.jobs import _read_json as read_made_with
from heliodor.integrations.topaz import coordinate_reader, image_lists
from heliodor.integrations.topaz.coordinate_writer import render_via
from heliodor.integrations.topaz.flip_y import read_height
from heliodor.models.importers.topaz import read_topaz_model
from heliodor.models.model_file import load_model, save_model
from heliodor.picking.journal import NAME as JOURNAL
from heliodor.picking.journal import PARTICLES, Journal, MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.picking.settings import PickSettings
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.hashing import FileVersion, read_unchanged
from heliodor.workflows import train
from heliodor.workflows.convert import convert
from heliodor.workflows.models import describe_model, render_table
from heliodor.workflows.rerun import rerun
from heliodor.workflows.run_record import RunRecord, flatten_settings
from heliodor.workflows.settings import CheckSettings, ConversionSettings
from helpers import corpus, networks, projects
from helpers.file_bytes import stream, written
from helpers.topaz_files import (
    as_topaz,
    save,
    topaz_named,
)

#: What stands where a number is expected.
NUMBERS = (
    *("0", "-1", "1", "1e9", "-1e9", "1e308", "-1e308", "1e999", "nan", "inf", "-inf", "9" * 25),
    *("9" * 400, "9" * 5000, "1_0", "0x10", "abc", "", "''", '""', "٣", "1,5", "1e-320", "\0"),
    *("2147483647", "4294967295", "18446744073709551615", "-2147483648", "1000000000", "<NA>"),
)
#: What stands where a name is expected.
NAMES = (
    *("../../etc/passwd", "/etc/passwd", "..", ".", "/", "", " ", "a b.mrc", "a\tb.mrc", "a\nb"),
    *("a\r\nb.mrc", "\0", "a\0b.mrc", "ü.mrc", "е\u0301.mrc", "\u202ecrm.a", "a" * 300 + ".mrc"),
    *("a/" * 200 + "b.mrc", "\ud800.mrc", "'", '"', "#", "data_x", "_x", "loop_", "a#b.mrc"),
    *("-o", "*", "**/*", "[", "?", "~", "$HOME", "con", "\x1b[2J.mrc", "\u2028", "\x85.mrc"),
    *("good.mrc", "./good.mrc", "x/../good.mrc", "good", "@list.txt", "@deep0.txt", "@circle.txt"),
)
_FLOATS = (0.0, 1.0, -1.0, 2.5, 1e9, 1e308, -1e308, math.nan, math.inf, -math.inf, 5e-324)
_INTEGERS = (0, 1, -1, 2, 3, 255, 65535, 10**9, -(10**9), 2**31 - 1, -(2**31), 2**32 - 1, 40_000)


@dataclass(frozen=True)
class Kind:
    """A kind of file: how good ones are made, how they are changed and what reads them."""

    name: str
    #: Good files by their names.
    good: Callable[[], dict[str, bytes]]
    #: Changes what the bytes mean; takes the good bytes.
    change: Callable[[bytes, Random], bytes]
    #: Reads the file by each way that leads to it.
    readers: tuple[Callable[[Path], Any], ...]
    #: Whether other files are named, which a wrong file may have replaced.
    needs_others: bool = False
    #: More files by their names, which need not be good.
    more: Callable[[], dict[str, bytes]] = dict


# -------------------------------------------------------------------------- good files


def picks(names: tuple[str, ...] = ("good.mrc", "other.mrc")) -> Picks:
    """A few picks with scores on some micrographs."""
    index = np.arange(6) % len(names)
    xy = np.arange(12.0).reshape(6, 2) * 3 + 4.25
    return Picks(names, index, xy, np.linspace(2.5, -1, 6))


def _image(shape: tuple[int, int] = (40, 48)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).normal(100, 20, shape)


@functools.cache
def _mrc(dtype: str = "float32", extended: bytes = b"", stack: bool = False) -> bytes:
    def write(path: Path) -> None:
        with mrcfile.new(path) as mrc:
            mrc.set_data(_image().astype(dtype))
            mrc.voxel_size = 1.5
            if extended:
                mrc.set_extended_header(np.frombuffer(extended, "V1"))

    raw = bytearray(written("a.mrc", write))
    if stack:  # as no program should write it, so that mrcfile has to judge
        raw[208:212] = b"\0\0\0\0"
    return bytes(raw)


def _mrcs() -> dict[str, bytes]:
    return {
        "float.mrc": _mrc(),
        "short.mrc": _mrc("int16", b"x" * 64),
        "half.mrcs": _mrc("float16"),
        "unstamped.map": _mrc(stack=True),
    }


def _gzipped() -> dict[str, bytes]:
    return {"a.mrc.gz": _gzip(_mrc()), "b.mrc": _gzip(_mrc("int8"))}


def _gzip(raw: bytes, level: int = 9) -> bytes:
    """Pack without the time, so that the same seed makes the same bytes at any time."""
    return gzip.compress(raw, level, mtime=0)


def _bzipped() -> dict[str, bytes]:
    return {"a.mrc.bz2": bz2.compress(_mrc()), "b.mrc.bz2": bz2.compress(_mrc("uint16"))}


def _tiffs() -> dict[str, bytes]:
    image = _image((48, 64)).astype(np.uint16)
    forms: dict[str, dict[str, Any]] = {
        "plain.tif": {},
        "big.tif": {"bigtiff": True},
        "other.tif": {"byteorder": ">"},
        "strips.tiff": {"rowsperstrip": 8, "compression": "zlib"},
        "tiles.tif": {"tile": (16, 16), "compression": "zlib"},
        "ome.ome.tif": {"ome": True, "metadata": {"axes": "YX"}},
        "imagej.tif": {"imagej": True},
    }
    out = {}
    for name, options in forms.items():
        own = options

        def write(path: Path, own: dict[str, Any] = own) -> None:
            tifffile.imwrite(path, image, **own)

        out[name] = written(name, write)
    return out


_RELION = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
opticsGroup1 1 1.5


data_{block}

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnCoordinateX #3
_rlnCoordinateY #4
_rlnAutopickFigureOfMerit #5
good.mrc 1 10.5 12 0.7
other.mrc 1 30 12 nan
"Micro graphs/good.mrc" 1 7 8 1e-3
"""


@functools.cache
def _stars() -> dict[str, bytes]:
    return {
        "picks.star": relion_star.render_picks(picks()).encode(),
        "good_autopick.star": _RELION.format(block="particles").encode(),
        "simple.star": b"data_\n_rlnMicrographName good.mrc\n_rlnCoordinateX 3\n"
        b"_rlnCoordinateY 4\n",
    }


def _star_lists() -> dict[str, bytes]:
    return {
        "micrographs.star": _RELION.format(block="micrographs").encode(),
        "old.star": b"data_\nloop_\n_rlnMicrographName\n_rlnMagnification\n_rlnDetectorPixelSize\n"
        b"good.mrc 50000 5\nother.mrc 50000 5\n",
        "autopick.star": b"data_coordinate_files\nloop_\n_rlnMicrographName #1\n"
        b"_rlnMicrographCoordinates #2\ngood.mrc list_autopick.star\nother.mrc b.box\n",
    }


def _one() -> Picks:
    return picks(("good.mrc",))


@functools.cache
def _boxes() -> dict[str, bytes]:
    return {"good.box": written("good.box", lambda p: box.write_picks(p, _one(), 8))}


def _cboxes() -> dict[str, bytes]:
    return {"good.cbox": written("good.cbox", lambda p: cbox.write_picks(p, _one(), 8))}


def _infos() -> dict[str, bytes]:
    own = written("good_info.json", lambda p: eman2.write_picks(p, _one()))
    return {"good_info.json": own, "b.json": b'{"boxes": [[1, 2, "manual"], [3, 4.5, "auto", 1]]}'}


def _tables() -> dict[str, bytes]:
    sizes = dict.fromkeys(picks().micrographs, 1.5)
    tables = list(picks().split_by_micrograph())
    return {
        "picks.tsv": written("p.tsv", lambda p: text.write_picks(p, tables, 0.5, sizes)),
        "topaz.txt": written("t.txt", lambda p: text.write_topaz(p, picks())),
        "table.csv": written("t.csv", lambda p: text.write_table(p, picks(), ",")),
        "nameless.csv": b"x,y\n3,4\n5,6\n",
    }


def _vias() -> dict[str, bytes]:
    boxes = io.StringIO()
    writer = csv.writer(boxes, lineterminator="\n")
    writer.writerow(via.COLUMNS)
    shape = json.dumps({"name": "rect", "x": 1, "y": 2, "width": 8, "height": 9})
    writer.writerow(["good.png", -1, "{}", 1, 0, shape, json.dumps({"score": 0.5})])
    return {"via.csv": render_via(picks()).encode(), "boxes.csv": boxes.getvalue().encode()}


def _particles() -> np.ndarray[Any, Any]:
    def write(path: Path) -> None:
        names = picks().micrographs
        cryosparc.write_picks(
            path, picks(), dict.fromkeys(names, (64, 64)), dict.fromkeys(names, 1.5)
        )

    loaded: np.ndarray[Any, Any] = np.load(io.BytesIO(written("a.cs", write)))
    return loaded


def _npy(table: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, table, allow_pickle=False)
    return out.getvalue()


def _css() -> dict[str, bytes]:
    return {"picked.cs": _npy(_particles())}


def _exposures() -> dict[str, bytes]:
    table = projects.exposures([f">M/{stem}.mrc" for stem in corpus.STEMS], 1.5)
    return {"exposures.cs": corpus.cs(table), "stream.cs": stream(table)}


def _streams() -> dict[str, bytes]:
    return {"lz4.cs": stream(_particles()), "bare.cs": stream(_particles(), None)}


def _models() -> dict[str, bytes]:
    full = {"calibration": _CALIBRATION, "background": -3.0, "extra": {"novelty": _NOVELTY}}
    return {
        "model.safetensors": written("m.safetensors", lambda p: save_model(p, networks.model())),
        "full.safetensors": written(
            "m.safetensors", lambda p: save_model(p, networks.model(**full))
        ),
    }


_CALIBRATION = {
    **{"score": [-2.0, 0.0, 2.0], "log_odds": [-3.0, 0.0, 3.0], "particles": 12.0},
    **{"micrographs": 3, "labels": [1.0, 2.0], "clear_above": 1.5},
}
_NOVELTY = {
    **{"cell_px": 8, "weight": [0.25] * 4, "centre": [[0.0] * 6] * 4, "limit": 20.0},
    "covariance": [np.eye(6).tolist()] * 4,
}


def _savs() -> dict[str, bytes]:
    network = networks.scrambled("conv31", 2)
    with topaz_named() as classes, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = as_topaz(network, classes)
        made = {
            "module.sav": written("m.sav", lambda p: save(module, p)),
            "state.sav": written("m.sav", lambda p: save(module.state_dict(), p)),
        }
        # Numbers are called by where they lie in memory, and so all are made to lie in one place.
        values = [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]
        flat = torch.cat([value.detach().flatten() for value in values])
        for value, own in zip(values, flat.split([v.numel() for v in values]), strict=True):
            value.data = own.view(value.shape)
        for part in module.modules():
            if "num_batches_tracked" in part._buffers:
                part._buffers["num_batches_tracked"] = None
        old = written("m.sav", lambda p: save(module, p, legacy=True))
        made["old.sav"] = re.sub(rb"\d{13,16}", lambda found: b"1" * len(found[0]), old)
    return made


def _lists() -> dict[str, bytes]:
    return {"list.txt": b"# ours\ngood.mrc\nother.mrc\n@deep0.txt\n*.mrc\n"}


def _image_lists() -> dict[str, bytes]:
    return {
        "images.txt": b"image_name\tpath\tsource\ngood\tgood.mrc\t0\nother\tother.mrc\t0\n",
        "bare.txt": b"image_name\ngood.mrc\nother\n",
    }


def _pictures() -> dict[str, bytes]:
    from PIL import Image

    out = {}
    for name in ("a.png", "b.jpg"):
        raw = io.BytesIO()
        Image.fromarray(_image().clip(0, 255).astype(np.uint8)).save(
            raw, "PNG" if name.endswith("png") else "JPEG"
        )
        out[name] = raw.getvalue()
    return out


def _notes() -> dict[str, bytes]:
    return {"made_with.json": b'{"heliodor": "0.1", "micrographs": [["a", 1.5]], "labels": "ab"}'}


#: What made the journals.
_MADE_WITH = {"heliodor": "0.1", "model": "ab", "floor": -1.0, "pixel_size_angstrom": None}


def _micrographs() -> list[Source]:
    return [Source(name, Path(name), Path(name).stem) for name in ("good.mrc", "other.mrc")]


def _found(name: str) -> MicrographResult:
    xy = np.arange(12.0).reshape(6, 2) * 3 + 4.25
    own = Picks.on(name, xy, np.linspace(2.5, -1, 6))
    return MicrographResult(
        own, 1.5, np.array([0.5, -0.25]), 4e6, MicrographMeasurements(0.01, None)
    )


def version_of(path: Path) -> FileVersion | None:
    """Return the version of a file as it is now."""
    return read_unchanged(path, lambda: None)[1]


def _journals() -> dict[str, bytes]:
    return {JOURNAL: journal_of(_MADE_WITH, PARTICLES, _found)}


def journal_of(made_with: dict[str, Any], codec: Any, found: Callable[[str], Any]) -> bytes:
    """Return a journal with all kinds of lines: results, and micrographs that crashed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal: Journal[Any] = Journal(folder, made_with, codec)
        for source in _micrographs():
            (folder / source.name).write_bytes(_mrc())
            own = replace(source, path=folder / source.name)
            journal.mark_started(source.name, True)
            journal.add(own, found(source.name), version_of(own.path))
            journal.write(folder / f"{source.output_stem}.star", "data_\n")
        journal.mark_started("good.mrc", True)
        journal.record_crash([own])
        journal.mark_started("third.mrc", False)
        # The same each time: without the inodes and times of these files.
        text = re.sub(
            rb'"state": \[[^]]*\]', b'"state": [7, 8704, 9, 9]', (folder / JOURNAL).read_bytes()
        )
        return re.sub(rb'"at": [0-9.]+', b'"at": 1.0', text)


def records() -> dict[str, bytes]:
    """Return records of the commands that can be repeated."""
    data, recipe, picking = DataSettings(24.0), TrainingSettings(epochs=2), PickSettings()
    given: dict[str, dict[str, Any]] = {
        "train": {
            **{"micrographs": ["good.mrc", "other.mrc"], "labels": "labels.txt"},
            "negatives": None,
            **flatten_settings(data, recipe, ComputeSettings()),
        },
        "pick": {
            **{"model": "m.safetensors", "micrographs": "*.mrc", "pixel_size_angstrom": None},
            "diameter_angstrom": None,
            **flatten_settings(picking, ComputeSettings()),
        },
    }
    judged = {"pick": ["good.mrc"], "truth": "labels.txt", "match_distance_angstrom": 5.0}
    given["run"] = {**given["train"], **judged, **flatten_settings(picking)}
    made = {}
    for command, arguments in given.items():
        record = RunRecord(command, arguments).as_dict()
        record |= {"directory": ".", "threads": 1, "digests": {"picks.tsv": "ab"}}
        if command == "train":
            record["digests"] = {}
        made[f"{command}.json"] = json.dumps(record).encode()
    return made


# -------------------------------------------------------------------------- changes


def damaged(raw: bytes, random: Random) -> bytes:
    """Change some bytes, wherever they are."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        place = random.randrange(len(raw) + 1)
        if random.random() < 0.5:  # the beginning is where files say what they are
            place = min(place, random.randrange(256))
        size = random.choice((1, 2, 4, 8, 16, 64, 300))
        what = random.randrange(9)
        if what == 0:
            raw = raw[:place]
        elif what == 1:
            raw = raw[:place] + raw[place + size :]
        elif what == 2:
            raw = raw[:place] + raw[place : place + size] * random.choice((2, 3, 50)) + raw[place:]
        elif what == 3:
            raw = raw[:place] + random.randbytes(size) + raw[place:]
        elif what == 4:
            raw = raw[:place] + random.choice((b"\0", b"\xff", b"\n", b" ")) * size + raw[place:]
        elif what == 5 and raw:
            place = min(place, len(raw) - 1)
            raw = raw[:place] + bytes([raw[place] ^ 1 << random.randrange(8)]) + raw[place + 1 :]
        elif what == 6:
            number = random.choice(_INTEGERS)
            form = random.choice(("<q", ">q", "<i", ">i", "<h"))
            width = struct.calcsize(form)
            packed = (number % 2 ** (8 * width)).to_bytes(
                width, "little" if form[0] == "<" else "big"
            )
            place -= place % width
            raw = raw[:place] + packed + raw[place + width :]
        elif what == 7:
            other = random.randrange(len(raw) + 1)
            raw = raw[:place] + raw[other : other + size] + raw[place + size :]
        else:
            raw = raw[place:]
    return raw


def _recoded(raw: bytes, random: Random) -> bytes:
    """Put text into another encoding, with other ends of lines or bytes that are no text."""
    words = raw.decode("utf-8", "surrogateescape")
    return random.choice(
        (
            lambda: words.encode("utf-16", "replace"),
            lambda: words.encode("utf-16-le", "replace"),
            lambda: b"\xef\xbb\xbf" + raw,
            lambda: b"\xef\xbb\xbf" * 2 + raw,
            lambda: raw.replace(b"\n", b"\r\n"),
            lambda: raw.replace(b"\n", b"\r"),
            lambda: raw.replace(b"\n", b"\n\r\n \t\n"),
            lambda: raw.replace(b"o", "ö".encode("latin-1")),
            lambda: raw.replace(b" ", b"\0"),
            lambda: raw.replace(b"\n", b"\x0b"),
            lambda: raw + b"\n" * 30_000 + b"\xff",
            lambda: b"# -*- coding: " + random.choice((b"utf-16", b"idna", b"hex")) + b"\n" + raw,
            lambda: b"\n" * 40_000 + raw,
            lambda: raw + b" " * 40_000 + b"\n",
            lambda: raw + raw,
            lambda: raw.replace(b"\n", b"\n" * 3_000),
        )
    )()


def table_changed(raw: bytes, random: Random) -> bytes:
    """Change rows, columns and cells of a table, whatever parts them."""
    if random.random() < 0.15:
        return _recoded(raw, random)
    rows = raw.decode("utf-8", "surrogateescape").split("\n")
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randrange(len(rows))
        row = rows[place]
        parts = re.split(r"([\t, ]+)", row)
        cell = 2 * random.randrange((len(parts) + 1) // 2)
        what = random.randrange(12)
        if what < 3:
            parts[cell] = random.choice(NUMBERS)
            rows[place] = "".join(parts)
        elif what < 5:
            name = random.choice(NAMES)
            parts[cell] = f'"{name}"' if random.random() < 0.5 else name
            rows[place] = "".join(parts)
        elif what == 5:  # the same everywhere: a column is lost, or is there twice
            gone = cell // 2
            twice = random.random() < 0.5
            rows = [_column(own, gone, twice) for own in rows]
        elif what == 6:
            rows.insert(place, row)
        elif what == 7:
            del rows[place]
            rows = rows or [""]
        elif what == 8:
            other = random.randrange(len(rows))
            rows[place], rows[other] = rows[other], row
        elif what == 9:
            most = -(-300_000 // max(1, len(parts[cell])))
            parts[cell] = (parts[cell] * min(random.choice((2, 500, 20_000)), most))[:300_000]
            rows[place] = "".join(parts)
        elif what == 10:
            rows[place : place + 1] = [row] * random.choice((2, 300))
        else:
            start, end = sorted((place, random.randrange(len(rows) + 1)))
            rows += rows[start:end][:1000]
    how = "surrogatepass" if random.random() < 0.5 else "replace"
    return "\n".join(rows).encode("utf-8", how)[: 2**20]


def _column(row: str, number: int, twice: bool) -> str:
    parts = re.split(r"([\t, ]+)", row)
    if len(parts) <= 2 * number:
        return row
    cell = parts[2 * number : 2 * number + 2]
    if twice:
        cell = cell if len(cell) > 1 else [*cell, " "]
        return "".join(parts[: 2 * number] + cell + parts[2 * number :])
    return "".join(parts[: 2 * number] + parts[2 * number + 2 :])


def star_changed(raw: bytes, random: Random) -> bytes:
    """Change a STAR file: as a table, or its blocks and labels."""
    if random.random() < 0.6:
        return table_changed(raw, random)
    labels = re.findall(rb"_[A-Za-z]\w+", raw) or [b"_x"]
    one, other = random.choice(labels), random.choice(labels)
    return random.choice(
        (
            lambda: raw.replace(one, other),
            lambda: raw.replace(one, b"_"),
            lambda: raw.replace(one + b" ", one + b"\n" + one + b" "),
            lambda: raw.replace(b"loop_", random.choice((b"", b"loop_\nloop_", b"loop_ # x"))),
            lambda: raw.replace(b"data_", random.choice((b"", b"data_\ndata_", b"save_"))),
            lambda: raw.replace(b"loop_\n", b"loop_\n" + _many_labels(4_000)),
            lambda: raw + raw.replace(b"data_", b"data_more"),
            lambda: raw + b"\nloop_\n" + one + b"\n1\n",
            lambda: b"data_x\n" * 3_000 + raw,
            lambda: raw.replace(b"\n", b"\n# x\n"),
            lambda: re.sub(rb"(?m)^[^_\n].*$", b"", raw),
            lambda: raw.replace(b"1", b'"1'),
        )
    )()


def _many_labels(number: int) -> bytes:
    return b"".join(b"_c%d\n" % n for n in range(number))


_HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 10**9, -(10**9), 2**63, 10**400, 1e308, -1e308, 1e-320),
    *(math.nan, math.inf, -math.inf, "", "abc", "1", "nan", [], {}, [[]], [1, 2, 3], {"a": 1}),
    *([0.0] * 5000, "x" * 5000, *NAMES),
)


def _json_changed(value: Any, random: Random, depth: int = 0) -> Any:
    """Change one place of a tree of lists and dictionaries."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        if random.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _json_changed(value[key], random, depth + 1)}
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        own = [*value]
        what = random.randrange(8)
        if what == 0:
            del own[place]
        elif what == 1:
            own.insert(place, own[place])
        else:
            own[place] = _json_changed(own[place], random, depth + 1)
        return own
    return random.choice(_HOSTILE)


def json_text(value: Any, random: Random) -> str:
    """Spell a tree, now and then so that it is no JSON, or very deep."""
    spelt = json.dumps(value, ensure_ascii=random.random() < 0.7)
    what = random.randrange(12)
    if what == 0:
        deep = random.choice((500, 2_000, 100_000))
        spot = random.choice([m.start() for m in re.finditer(r"[\d\"]", spelt)] or [0])
        spelt = spelt[:spot] + "[" * deep + "]" * deep + spelt[spot:]
    elif what == 1:
        deep = random.choice((500, 900, 2_000, 100_000))
        spot = random.choice(list(re.finditer(r"\d+", spelt)) or [None])
        if spot is not None:
            spelt = spelt[: spot.start()] + "[" * deep + "]" * deep + spelt[spot.end() :]
    elif what == 2:
        spelt = re.sub(r"\d+", random.choice(NUMBERS), spelt, count=random.choice((1, 0)))
    return spelt


def json_changed(raw: bytes, random: Random) -> bytes:
    """Change what a JSON file says."""
    if random.random() < 0.1:
        return _recoded(raw, random)
    value = json.loads(raw)
    for _ in range(random.choice((1, 1, 2))):
        value = _json_changed(value, random)
    return json_text(value, random).encode("utf-8", "surrogatepass")


def journal_changed(raw: bytes, random: Random) -> bytes:
    """Change a line of a journal, or which lines there are."""
    lines = raw.splitlines(keepends=True)
    for _ in range(random.choice((1, 1, 2))):
        place, what = random.randrange(len(lines)), random.randrange(8)
        if what == 0:
            lines.insert(place, random.choice(lines))
        elif what == 1 and len(lines) > 1:
            del lines[place]
        elif what == 2:
            random.shuffle(lines)
        elif what == 3:
            lines[place] = lines[place][: random.randrange(len(lines[place]))]
        else:
            with contextlib.suppress(ValueError):  # it was changed before
                value = json.loads(lines[place])
                numbers = [random.choice(_FLOATS) for _ in range(random.choice((2, 3, 6)))]
                if what == 4 and "candidates" in value:
                    packed = np.array(numbers, "<f8").tobytes()
                    value[random.choice(("candidates", "decoys"))] = base64.b64encode(
                        packed
                    ).decode()
                else:
                    value = _json_changed(value, random)
                lines[place] = json_text(value, random).encode("utf-8", "surrogatepass") + b"\n"
    return b"".join(lines)


def via_changed(raw: bytes, random: Random) -> bytes:
    """Change a VIA file: as a table, or the JSON in one of its cells."""
    if random.random() < 0.5:
        return table_changed(raw, random)
    rows = list(csv.reader(io.StringIO(raw.decode())))
    row = rows[random.randrange(1, len(rows))]
    cell = random.choice([i for i, one in enumerate(row) if one.startswith("{")])
    value = _json_changed(json.loads(row[cell]), random)
    row[cell] = json_text(value, random)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def mrc_changed(raw: bytes, random: Random) -> bytes:
    """Change fields of an MRC header."""
    own = bytearray(raw)
    places = (0, 4, 8, 12, 28, 32, 36, 40, 44, 88, 92, 104, 152, 156, 208, 212)
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.choice(places)
        number = random.choice((*_INTEGERS, 4, 6, 12, 101, 400, 1 << random.randrange(31)))
        form = random.choice(("<I", ">I"))
        own[place : place + 4] = struct.pack(form, number % 2**32)
    if random.random() < 0.2:
        own[40:52] = struct.pack("<3f", *random.choices((0, -1, math.nan, math.inf, 1e30), k=3))
    if random.random() < 0.1:
        own[1024:] = random.choice((b"", b"\0" * 10, b"\xff" * len(own)))
    return bytes(own)


def gzip_changed(raw: bytes, random: Random) -> bytes:
    """Change a compressed MRC file inside, or let it unpack to far more than it should."""
    return _packed_changed(raw, random, gzip.decompress, lambda own: _gzip(own, 1))


def bzip_changed(raw: bytes, random: Random) -> bytes:
    """As `gzip_changed`, for bzip2."""
    return _packed_changed(raw, random, bz2.decompress, lambda own: bz2.compress(own, 1))


@functools.cache
def _zeros(bzip: bool) -> bytes:
    """Four MiB of nothing, packed; packed parts may stand one behind another."""
    return (bz2.compress if bzip else _gzip)(bytes(2**22))


def _packed_changed(
    raw: bytes,
    random: Random,
    unpack: Callable[[bytes], bytes],
    pack: Callable[[bytes], bytes],
) -> bytes:
    inside = unpack(raw)
    what = random.random()
    if what < 0.03:  # a header that asks for it, and one that does not
        times = random.choice((4, 32))
        much = times * 2**22
        head = bytearray(inside[:1024])
        if random.random() < 0.5:
            head[:4] = head[4:8] = struct.pack("<i", math.isqrt(much // 4))
        return pack(bytes(head)) + _zeros(raw[:2] == b"BZ") * times
    if what < 0.2:
        return pack(damaged(inside, random))
    if what < 0.3:
        return raw + pack(inside)
    return pack(mrc_changed(inside, random))


def tiff_changed(raw: bytes, random: Random) -> bytes:
    """Change entries of a TIFF directory: its tags, types, counts and values."""
    order = "<" if raw[:2] == b"II" else ">"
    big = raw[2:3] == b"+" or raw[3:4] == b"+"
    own = bytearray(raw)
    start = struct.unpack_from(order + ("Q" if big else "I"), raw, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), raw, start)[0]
    first, size = start + (8 if big else 2), 20 if big else 12
    for _ in range(random.choice((1, 1, 2, 3))):
        entry = first + size * random.randrange(count)
        what = random.randrange(6)
        number = random.choice((*_INTEGERS, 8, 5, 32773, 34925, 50000, 1 << random.randrange(31)))
        if what == 0:
            struct.pack_into(order + "H", own, entry, number % 65536)
        elif what == 1:
            struct.pack_into(order + "H", own, entry + 2, random.randrange(20))
        elif what == 2:
            struct.pack_into(order + ("Q" if big else "I"), own, entry + 4, number % 2**32)
        elif what == 3:
            struct.pack_into(order + "H", own, entry + (12 if big else 8), number % 65536)
        elif what == 4:
            spot = entry + (12 if big else 8)
            struct.pack_into(order + ("Q" if big else "I"), own, spot, number % 2**32)
        else:  # the next directory is this one, or anywhere
            end = first + size * count
            struct.pack_into(
                order + ("Q" if big else "I"), own, end, random.choice((start, number % 2**32))
            )
    return bytes(own)


def cs_changed(raw: bytes, random: Random) -> bytes:
    """Change the header of a NumPy file, or the types and values of the table's fields."""
    if random.random() < 0.5:
        length = struct.unpack_from("<H", raw, 8)[0]
        header = raw[10 : 10 + length].decode("latin-1")
        header = random.choice(
            (
                lambda: re.sub(r"\(\d+,\)", random.choice(_SHAPES), header),
                lambda: re.sub(r"'<?\|?[a-zA-Z]\d+'", random.choice(_TYPES), header, count=1),
                lambda: re.sub(r"'[|<][a-zA-Z]\d+'", random.choice(_TYPES), header),
                lambda: header.replace("'descr':", random.choice(("'descr': [[", "'d':", ""))),
                lambda: "(" * 3_000 + header,
                lambda: "-" * 50_000 + header,
                lambda: header.replace("False", random.choice(("True", "1", "None"))),
                lambda: re.sub(r"'location/\w+'", random.choice(("'uid'", "1", "''")), header),
            )
        )()
        encoded = header.encode("latin-1", "replace")
        return raw[:6] + b"\2\0" + struct.pack("<I", len(encoded)) + encoded + raw[10 + length :]
    return _npy(_table_changed(np.load(io.BytesIO(raw)), random))


_SHAPES = ("(10**9,)", "(1000000000,)", "(-1,)", "()", "(3,2)", "(0,)", "(1,1,6)", "6", "(1e9,)")
_TYPES = (
    *("'|O'", "'<f8'", "'|S0'", "'|S1000000'", "'<U4'", "'|V8'", "'<c8'", "'<M8[s]'", "'?'"),
    *("'nope'", "[('x', '<f4')]", "'<f4', (2,)", "'<f4', (1000000,)", "'<f2'", "'|S2147483647'"),
)


def _table_changed(table: np.ndarray[Any, Any], random: Random) -> np.ndarray[Any, Any]:
    names = list(table.dtype.names or ())
    columns = {name: table[name] for name in names}
    n = len(table)
    for _ in range(random.choice((1, 1, 2))):
        name = random.choice(names)
        columns[name] = random.choice(
            (
                lambda: np.full(n, random.choice((np.nan, np.inf, -np.inf, 1e308, -1, 0))),
                lambda: np.full((n, 2), random.choice((np.nan, np.inf, 0, 2**31))),
                lambda: np.full((n, 3, 2), 1.0),
                lambda: np.array([random.choice(NAMES).encode("utf-8", "replace")] * n, "S"),
                lambda: np.array([b"\xff\xfe"] * n, "S2"),
                lambda: np.full(n, 1 + 2j),
                lambda: np.zeros(n, "?"),
                lambda: np.zeros(n, "<M8[s]"),
                lambda: np.zeros(n, "<U3"),
                lambda: np.zeros(n, [("x", "<f4")]),
                lambda: np.full((n, 2), b"12"),
                lambda: np.arange(n, dtype=np.int64) - 3,
            )
        )()
    out = np.zeros(len(table), [(k, v.dtype, v.shape[1:]) for k, v in columns.items()])
    for key, values in columns.items():
        out[key] = values
    return out


def stream_changed(raw: bytes, random: Random) -> bytes:
    """Change the header of cryoSPARC's compressed form, its columns, texts or sizes."""
    compression = random.choice(("lz4", None))
    if random.random() < 0.4:
        table = _table_changed(_particles(), random)
        if all(table.dtype[name].kind in "iufS" for name in table.dtype.names or ()):
            return stream(table, compression)
    length = struct.unpack_from("<I", raw, 6)[0]
    header, body = json.loads(raw[10 : 10 + length]), raw[10 + length :]
    if random.random() < 0.7:
        header = _json_changed(header, random)
    else:
        body = damaged(body, random)
    encoded = json_text(header, random).encode("utf-8", "surrogatepass")
    return raw[:6] + struct.pack("<I", len(encoded)) + encoded + body


def model_changed(raw: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file, or the card in it."""
    length = struct.unpack_from("<Q", raw)[0]
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    what = random.random()
    if what < 0.6:
        (key,) = header["__metadata__"]
        card = json.loads(header["__metadata__"][key])
        for _ in range(random.choice((1, 1, 3))):
            card = _json_changed(card, random)
        header["__metadata__"][key] = json_text(card, random)
    elif what < 0.9:
        header = _json_changed(header, random)
    else:
        kinds = ("F64", "F16", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "C64", "F4", "X")
        kind = random.choice(kinds)
        header = {k: {**v, "dtype": kind} if "dtype" in v else v for k, v in header.items()}
    encoded = json_text(header, random).encode("utf-8", "surrogatepass")
    size = len(encoded) if random.random() < 0.95 else random.choice(_INTEGERS) % 2**64
    return struct.pack("<Q", size) + encoded + body


def sav_changed(raw: bytes, random: Random) -> bytes:
    """Change the pickle in a file of torch, or the parts of the zip file around it."""
    if not raw.startswith(b"PK"):
        return _pickle_changed(raw, random)
    out = io.BytesIO()
    chosen = random.random()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl") and chosen < 0.8:
                content = _pickle_changed(content, random)
            elif chosen > 0.8 and random.random() < 0.1:
                content = damaged(content, random)
                name = random.choice((name, f"../{name}", "/etc/x", f"x/{name}"))
            with warnings.catch_warnings(action="ignore"):
                new.writestr(
                    zipfile.ZipInfo(name), content, random.choice((0, 0, 0, 0, 0, 0, 0, 0, 8))
                )
    return out.getvalue()


def _pickle_changed(raw: bytes, random: Random) -> bytes:
    if random.random() < 0.5:
        return damaged(raw, random)
    place = random.randrange(len(raw) + 1)
    bit = random.choice(
        (
            *(pickle.dumps(one, 2)[2:-1] for one in (-1, 10**9, 2**63, "x", b"y", (1,), [2], {})),
            *(b"(" * 200, b"0", b"1", b"t", b"R", b"b", b"u", b"s", b"e", b"Q", b"\x85" * 5_000),
            *(b"cos\nsystem\n", b"c__builtin__\neval\n", b"h\0", b"j\xff\xff\xff\xff", b"l" * 9),
            *(b"\x8a\x08" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"."),
        )
    )
    return raw[:place] + bit + raw[place + random.choice((0, 0, len(bit))) :]


# -------------------------------------------------------------------------- reading


def count_rows(path: Path) -> int:
    """Count the rows of a STAR file, read one at a time."""
    return sum(sum(1 for _ in block.rows) for block in stream_blocks(path))


def _as_listed(path: Path) -> Any:
    return find_sources(f"@{path}")


def _as_shown(path: Path) -> Any:
    return render_table(describe_model(path)).encode()


def _as_resumed(path: Path) -> Any:
    """Go on with a journal: what it says is of use, and it keeps what is added."""
    folder = path.parent
    journal = Journal(folder, _MADE_WITH, PARTICLES)
    sources = _micrographs()
    assert not journal.has_crashed(Source("third.mrc", folder / "third.mrc", "third"))
    assert all(isinstance(name, str) for name in journal.list_interrupted())
    for source in sources:
        journal.has_crashed(source)
        if journal.has(source):
            found = journal.get(source.name)
            assert np.isfinite(found.candidates.xy_px).all()
            assert (np.diff(found.candidates.score) <= 0).all()
            assert found.candidates.micrographs == (source.name,)
            assert found.decoys is None or np.isfinite(found.decoys).all()
            assert 0 <= found.area_angstrom2 < math.inf
            assert is_plausible_pixel_size(found.pixel_size_angstrom)
    journal.record_crash(sources)
    for source in sources:
        journal.mark_started(source.name, False)
        journal.add(source, _found(source.name), version_of(source.path))
        journal.write(folder / f"{source.output_stem}.star", "data_\n")
    again = Journal(folder, _MADE_WITH, PARTICLES)
    assert all(again.has(source) for source in sources)
    assert again.get("good.mrc").candidates.score[0] == 2.5
    assert again.list_interrupted().count("good.mrc") == 0
    return again


def _as_rerun(path: Path) -> Any:
    """Run a record again, but for the training: that would be as long as it says."""

    def enough(*_: Any, **__: Any) -> Any:
        raise BadInput("enough")

    kept, out = train.train_network, path.parent / "out"
    train.train_network = enough
    try:
        return rerun(path, out)
    except BadInput as error:
        if str(error) != "enough":
            raise
        return None
    finally:
        train.train_network = kept
        torch.set_num_threads(1)
        empty(out)


# -------------------------------------------------------------------------- seeds


@functools.cache
def _seeds() -> dict[str, dict[str, bytes]]:
    """Return the tables of the corpus by the format that they are read as."""
    by_format: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, raw in corpus.list_seeds().items():
            path = Path(folder, name)
            put(path, raw)
            by_format.setdefault(_format_of(path, raw), {})[name] = raw
    return by_format


def _format_of(path: Path, raw: bytes) -> str:
    if path.name.endswith(eman2.SUFFIX):
        return "eman2"
    if raw.startswith(cryosparc.STREAM_MAGIC):
        return "cs stream"
    if raw.startswith(b"data_") and (b"Coordinates #" in raw or b"_rlnCoordinateX" not in raw):
        return "cbox" if b"data_cryolo" in raw else "star lists"
    return next((reader.name for reader in formats.READERS if reader.looks_like(raw)), "@list")


def _of(name: str) -> Callable[[], dict[str, bytes]]:
    return lambda: _seeds().get(name, {})


def _unsigned() -> dict[str, bytes]:
    image = (_image() - 100) / 20
    return {
        "bytes.mrc": corpus.as_unsigned_bytes(image, False),
        "stamped.mrc": corpus.as_unsigned_bytes(image, True),
        "integers.mrc": corpus.as_unsigned_integers(image),
    }


def _coordinates() -> dict[str, bytes]:
    """Return coordinates in all formats."""
    made = (_stars, _boxes, _cboxes, _infos, _tables, _vias, _css, _streams)
    return {name: raw for make in made for name, raw in make().items()}


def _checked() -> dict[str, bytes]:
    return {**_coordinates(), **_star_lists(), **_exposures()}


def _corpus() -> dict[str, bytes]:
    return {name: raw for group in _seeds().values() for name, raw in group.items()}


def any_changed(raw: bytes, random: Random) -> bytes:
    """Change a file as one of the format that its beginning has."""
    beginnings: tuple[tuple[bytes, Callable[[bytes, Random], bytes]], ...] = (
        (cryosparc.NUMPY_MAGIC, cs_changed),
        (cryosparc.STREAM_MAGIC, stream_changed),
        (b"{", json_changed),
        (b"data_", star_changed),
        (b"#filename", via_changed),
    )
    change = next((own for start, own in beginnings if raw.startswith(start)), table_changed)
    return change(raw, random)


@functools.cache
def _projects() -> dict[str, bytes]:
    """Return the files of a RELION and of a cryoSPARC project, with small micrographs."""
    made = {
        **{f"P/{name}": content for name, content in projects.relion_project().items()},
        **{f"CS/{name}": content for name, content in projects.cryosparc_project().items()},
    }
    return {
        name: _mrc() if name.endswith(".mrc") else _encoded(content)
        for name, content in made.items()
    }


def _encoded(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _project_tables() -> dict[str, bytes]:
    return {name: raw for name, raw in _projects().items() if not name.endswith(".mrc")}


# -------------------------------------------------------------------------- commands


@contextlib.contextmanager
def writing_only(out: Path) -> Iterator[None]:
    """Notice what is written beside an output folder, or above the current folder."""
    around = Path.cwd().parent  # a folder that is of the test alone

    def listed() -> set[str]:
        return {
            os.path.join(place, name)
            for place, folders, files in os.walk(around)
            for name in (*folders, *files)
            if not os.path.join(place, name).startswith(str(out))
        }

    before = listed()
    yield
    new = listed() - before
    assert not new, f"wrote {min(new)}"


def _as_checked(path: Path) -> Any:
    """Check a file, with micrographs and without."""
    with writing_only(Path.cwd() / "out"):
        for micrographs in (None, ["M"]):
            found = project_check.check([path], micrographs, CheckSettings(headers_only=True))
            assert all(one.sentence and one.where for one in found)
    return None


def _as_converted(path: Path, micrographs: list[str] | None = None) -> Any:
    """Convert a file into another format."""
    out = Path.cwd() / "out"
    form = _FORMS[path.stat().st_size % len(_FORMS)]
    wanted = FORMATS[form]
    place = out / form if wanted.file_of else out / f"all{wanted.suffix}"
    settings = ConversionSettings(box_px=8 if form in ("box", "cbox") else None, trust=True)
    try:
        with writing_only(out):
            convert([path], place, form, settings, micrographs)
    finally:
        empty(out)
    return None


def _as_converted_for_micrographs(path: Path) -> Any:
    return _as_converted(path, ["M", "good.mrc", "other.mrc"])


def _as_project(path: Path) -> Any:
    """Check the project that a file is in."""
    folder = next(parent for parent in path.parents if parent.name in ("P", "CS"))
    for name, content in _projects().items():
        other = folder.parent / name
        if other != path and (not other.is_file() or other.read_bytes() != content):
            put(other, content)
    with writing_only(Path.cwd() / "out"):
        found = project_check.check([folder], None, CheckSettings(headers_only=True))
    assert any("project: " in one.sentence for one in found)
    return None


KINDS = {
    kind.name: kind
    for kind in (
        Kind("mrc", _mrcs, mrc_changed, (read_header, read_micrograph), more=_unsigned),
        Kind("mrc.gz", _gzipped, gzip_changed, (read_header, read_micrograph)),
        Kind("mrc.bz2", _bzipped, bzip_changed, (read_header, read_micrograph)),
        Kind("tiff", _tiffs, tiff_changed, (read_header, read_micrograph)),
        Kind("png, jpg", _pictures, damaged, (read_height,)),
        Kind(
            "star",
            _stars,
            star_changed,
            (relion_star.read_picks, formats.read_picks, coordinate_reader.read_coordinates),
            more=_of("star"),
        ),
        Kind(
            "star lists",
            _star_lists,
            star_changed,
            (star_list.read_micrographs, relion_star.read_picks, find_sources, count_rows),
            needs_others=True,
            more=_of("star lists"),
        ),
        Kind("box", _boxes, table_changed, (box.read_picks, formats.read_picks), more=_of("box")),
        Kind(
            "cbox", _cboxes, star_changed, (cbox.read_picks, formats.read_picks), more=_of("cbox")
        ),
        Kind(
            "eman2",
            _infos,
            json_changed,
            (eman2.read_picks, formats.read_picks),
            more=_of("eman2"),
        ),
        Kind(
            "table",
            _tables,
            table_changed,
            (text.read_picks, formats.read_picks, coordinate_reader.read_coordinates),
            more=_of("table"),
        ),
        Kind(
            "via",
            _vias,
            via_changed,
            (via.read_picks, formats.read_picks, coordinate_reader.read_coordinates),
            more=_of("via"),
        ),
        Kind(
            "cs",
            _css,
            cs_changed,
            (cryosparc.read_picks, formats.read_picks, read_cs_header),
            more=_of("cs"),
        ),
        Kind("exposures", _exposures, any_changed, (cs_list.read_micrographs, find_sources)),
        Kind(
            "cs stream",
            _streams,
            stream_changed,
            (cryosparc.read_picks, read_cs_header),
            more=_of("cs stream"),
        ),
        Kind("@list", _lists, table_changed, (_as_listed,), needs_others=True),
        Kind("topaz list", _image_lists, table_changed, (image_lists.read_images,)),
        Kind("model", _models, model_changed, (load_model, _as_shown)),
        Kind("sav", _savs, sav_changed, (read_topaz_model,)),
        Kind("journal", _journals, journal_changed, (_as_resumed,), needs_others=True),
        Kind("run.json", records, json_changed, (_as_rerun,), needs_others=True),
        Kind("made_with", _notes, json_changed, (read_made_with,)),
        Kind("check", _checked, any_changed, (_as_checked,), True, _corpus),
        Kind(
            "convert",
            _coordinates,
            any_changed,
            (_as_converted, _as_converted_for_micrographs),
            True,
            _corpus,
        ),
        Kind("project", _project_tables, any_changed, (_as_project,)),
    )
}


@functools.cache
def _prepared() -> dict[str, bytes]:
    """Return the contents of files that others name: micrographs, lists, coordinates."""
    named = {"good.mrc": _mrc(), "other.mrc": _mrc()}
    for number in range(18):  # read without memory, the last one would be read 2**18 times
        named[f"deep{number}.txt"] = f"@deep{number + 1}.txt\n".encode() * 2
    named["deep18.txt"] = b"other.mrc\n"
    named["circle.txt"] = b"other.mrc\n@x/../list.txt\n@./circle.txt\n" * 3
    labels = "image_name\tx_coord\ty_coord\ngood\t20\t20\ngood\t30\t12\nother\t24\t18\n"
    named["labels.txt"] = labels.encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        save_model(path, networks.model(diameter_angstrom=24.0, working_pixel_size_angstrom=1.5))
        named[path.name] = path.read_bytes()
    named |= {f"M/{stem}.mrc": _mrc() for stem in corpus.STEMS}
    named["list_autopick.star"] = _stars()["good_autopick.star"]
    listed = b"data_\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\n"
    named["list.star"] = listed + b"good.mrc list.star\n" * 2
    named["b.box"] = _boxes()["good.box"]
    return named


def prepare(folder: Path) -> None:
    """Write files that others name into a folder."""
    (folder / "x").mkdir(exist_ok=True)
    for name, content in _prepared().items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            put(path, content)


def put(path: Path, content: bytes) -> None:
    """Write a file, in a folder that is made if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def mutants(kind: Kind, seed: int, count: int, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of wrong files; the same for the same seed and number."""
    good, more = list(kind.good().items()), list(kind.more().items())
    for number in range(first, count):
        random = Random(f"{kind.name} {seed} {number}")
        own = more if more and number % 2 else good
        name, raw = own[number // (1 + bool(more)) % len(own)]
        if random.random() < 0.3:
            yield name, damaged(raw, random)
        else:
            yield name, _changed(kind, raw, random)


def _changed(kind: Kind, raw: bytes, random: Random) -> bytes:
    """Change what a file means, or its bytes where it has no meaning."""
    try:
        return kind.change(raw, random)
    except (ValueError, LookupError, RecursionError, struct.error, csv.Error):
        return damaged(raw, random)


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    #: "read", "refused", or what should not have happened.
    said: str
    seconds: float


READ, REFUSED = "read", "refused"
#: What is written of picks that were read, in turn.
_FORMS = ("star", "autopick", "box", "eman2", "cbox", "csv", "topaz")


def outcome(kind: Kind, path: Path) -> Outcome:
    """Read a file by each way, and tell how it went."""
    began = time.perf_counter()
    said = REFUSED
    for reader in kind.readers:
        try:
            value = reader(path)
            if isinstance(value, Picks):
                _check_picks(value, path)
            said = READ
        except BadInput as error:
            wrong = _misfit(error)
            if wrong:
                return Outcome(wrong, time.perf_counter() - began)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "heliodor" in f.filename] or frames
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            said = f"{type(error).__name__} at {where}: {str(error)[:120]}"
            return Outcome(said, time.perf_counter() - began)
    return Outcome(said, time.perf_counter() - began)


def _misfit(error: BadInput) -> str | None:
    """Say what is wrong with a refusal: no sentence, or one for want of memory."""
    sentence = str(error)
    if not sentence or len(sentence) > 2000 or any(ord(c) < 32 for c in sentence):
        return f"not a sentence: {sentence[:150]!a}"
    cause: BaseException | None = error
    while cause is not None:
        if _is_memory(cause):
            return f"asked for too much memory: {sentence[:150]!a}"
        cause = cause.__cause__ or cause.__context__
    return None


def _is_memory(error: BaseException) -> bool:
    if not isinstance(error, MemoryError):
        return "allocate memory" in str(error)
    # What is nested too deep is a MemoryError to Python's parser, without any memory.
    frames = traceback.extract_tb(error.__traceback__)
    return not (frames and Path(frames[-1].filename).name == "ast.py")


def _check_picks(value: Picks, path: Path) -> None:
    """What was read must be of use: places that are numbers, names that can be written."""
    assert np.isfinite(value.xy_px).all(), "a place that is no number"
    for name in value.micrographs:
        name.encode()
        assert name.strip(), "a name of nothing"
        assert not any(ord(c) < 32 for c in name), f"a name {name!r}"
    # Everything that can be read can be written, or is refused.
    if len(value) > 1000:
        return
    size = path.stat().st_size
    for form in {_FORMS[size % len(_FORMS)], _FORMS[size // 8 % len(_FORMS)]}:
        wanted = FORMATS[form]
        out = path.parent / "out"
        place = out / form if wanted.file_of else out / f"all{wanted.suffix}"
        try:
            write_picks(place, value, wanted, WriteContext(box_px=8))
        except BadInput:
            continue
        finally:
            empty(out)


def empty(folder: Path) -> None:
    """Remove a folder if it is there."""
    import shutil

    if folder.exists():
        shutil.rmtree(folder)


torch.set_num_threads(1)
