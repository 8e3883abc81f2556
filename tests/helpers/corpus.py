"""Small inputs as other programs, and people, leave them, and what is right for each.

Each row stands for a situation from public bug reports, or for the same situation in a neighboring
format or command. Its files are made here; `test_corpus` runs the command, and the fuzzer damages
the files.

Where the tests of a module already hold the right value of a situation, there is no row for it:

=====================================  =====================================================
original pixel size in optics tables   test_relion_star, test_convert
empty files in RELION's lists          test_relion_autopick, test_readers, test_jobs
labels in downsampled pixels           test_frame_detection
EMAN2 info files without boxes         test_eman2
one block name twice                   test_star, test_relion_star, test_tables
spelling of optics groups              test_relion_star
Python files in the current folder     test_import_path
unsigned pixels in signed modes        test_micrograph
recalibrated pixel size                test_convert
apostrophes and # in names             test_star, test_hostile_names
blank lines and comments               test_star, test_relion_star
full disk in training                  test_full_disk
refined shifts                         test_refined_shifts
same names in the current folder       test_sources, test_relion_autopick
``>`` before exported paths            test_cryosparc
suffixes of coordinate files           test_relion_suffix, test_relion_autopick, test_sources
linked STAR files                      test_sources
by-products of motion correction       test_sources
Latin-1 locale                         test_process_setup, test_console
streams that are gone                  test_process_setup, test_signals
=====================================  =====================================================
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from helpers.file_bytes import stream, written
from helpers.networks import discs, scattered

#: The micrographs M/a.mrc, M/b.mrc and M/c.mrc: dark discs on noise, and where they are.
SHAPE, PIXEL = (300, 400), 4.0
STEMS = ("a", "b", "c")

Content = str | bytes
Files = Mapping[str, Content]


@dataclass(frozen=True)
class Row:
    """An input, a command on it, and what is right."""

    #: The situation.
    kind: str
    #: The format and the command.
    name: str
    #: Files by their paths.
    files: Callable[[], Files]
    #: As typed in the folder of the files; ``topaz`` stands for ``heliodor-topaz``.
    command: str
    #: What must be said, and what must not.
    said: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    code: int = 0
    #: Micrograph, x and y of the rows of out.csv, in this order; not compared if there are none.
    rows: tuple[tuple[str, float, float], ...] = ()
    #: Symbolic links: path, and what it points to.
    links: Mapping[str, str] = field(default_factory=dict)
    #: The current folder.
    folder: str = "."
    #: Whether the micrographs of discs are there.
    has_micrographs: bool = True


# ---- how files look ----


@functools.cache
def centers(stem: str) -> Any:
    """Return the centers of the discs of a micrograph."""
    return scattered(SHAPE, 40, 14, STEMS.index(stem))


def mrc(data: Any, pixel_size: float = PIXEL) -> bytes:
    """Return a micrograph as the bytes of an MRC file."""

    def write(path: Path) -> None:
        with mrcfile.new(path) as file:
            file.set_data(data)
            file.voxel_size = pixel_size

    return written("a.mrc", write)


def as_unsigned_bytes(image: Any, imod: bool) -> bytes:
    """Return an image as unsigned bytes in mode 0, which is signed, with or without a stamp."""
    values = np.clip(image * 20 + 128, 0, 255).astype(np.uint8)
    raw = bytearray(mrc(values.view(np.int8)))
    struct.pack_into("<3f", raw, 76, values.min(), values.max(), values.mean())
    if imod:
        struct.pack_into("<2i", raw, 152, 1146047817, 0)
    return bytes(raw)


def as_unsigned_integers(image: Any) -> bytes:
    """Return an image as unsigned integers in mode 1, which is signed."""
    values = np.clip(image * 5120 + 32768, 0, 65535).astype(np.uint16)
    raw = bytearray(mrc(values.view(np.int16)))
    struct.pack_into("<3f", raw, 76, values.min(), values.max(), values.mean())
    return bytes(raw)


@functools.cache
def micrographs() -> Files:
    """Return the micrographs of discs."""
    return {
        f"M/{stem}.mrc": mrc(discs(SHAPE, centers(stem), 2.0, seed=STEMS.index(stem)))
        for stem in STEMS
    }


def lines(form: str, stems: tuple[str, ...] = STEMS, scale: float = 1.0, **more: Any) -> str:
    """Return a line for each disc."""
    return "".join(
        form.format(stem=stem, x=x * scale, y=y * scale, **more) + "\n"
        for stem in stems
        for x, y in centers(stem).tolist()
    )


def loop(labels: str, rows: str, block: str = "") -> str:
    """Return a table of a STAR file; labels are given without ``_rln``."""
    head = "".join(f"_rln{label} #{n}\n" for n, label in enumerate(labels.split(), 1))
    return f"data_{block}\n\nloop_\n{head}{rows}\n\n"


COORDINATES = "CoordinateX CoordinateY"
NAMED = "MicrographName CoordinateX CoordinateY"


def star(row: str = "M/{stem}.mrc {x} {y}", labels: str = NAMED, **more: Any) -> str:
    """Return a particle table of all discs."""
    return loop(labels, lines(row, **more))


def truth() -> Files:
    return {"truth.star": star()}


def optics(size: str, group: str = "1", label: str = "MicrographPixelSize") -> str:
    return loop(f"OpticsGroup {label}", f"{group} {size}\n", "optics")


CBOX = (
    "data_global\n\n_cbox_format_version 1.0\n\ndata_cryolo\n\nloop_\n_CoordinateX #1\n"
    "_CoordinateY #2\n_CoordinateZ #3\n_Width #4\n_Height #5\n_Depth #6\n_EstWidth #7\n"
    "_EstHeight #8\n_Confidence #9\n_NumBoxes #10\n_Angle #11\n"
)
SLICES = "\ndata_cryolo_include\n\nloop_\n_slice_index #1\n"


def cbox(stem: str, scale: float = 1.0) -> str:
    """Return the discs of a micrograph as crYOLO writes them: corners of boxes of 16 pixels."""
    rows = "".join(
        f"{x * scale - 8} {y * scale - 8} <NA> 16 16 <NA> 16 16 0.7 1 <NA>\n"
        for x, y in centers(stem).tolist()
    )
    return CBOX + rows + SLICES


def boxes(stem: str, scale: float = 1.0) -> str:
    """Return the discs of a micrograph as EMAN1 writes them: corners of boxes of 16 pixels."""
    return "".join(
        f"{x * scale - 8:g}\t{y * scale - 8:g}\t16\t16\n" for x, y in centers(stem).tolist()
    )


def info(stem: str, scale: float = 1.0, **more: Any) -> str:
    """Return the discs of a micrograph as EMAN2 writes them."""
    own = [[x * scale, y * scale, "manual"] for x, y in centers(stem).tolist()]
    return json.dumps({**more, "boxes": own})


def topaz(scale: float = 1.0) -> str:
    """Return Topaz's table of all discs."""
    return "image_name\tx_coord\ty_coord\n" + lines("{stem}\t{x}\t{y}", scale=scale)


def cs_table(path: str = "M/{stem}.mrc", stems: tuple[str, ...] = STEMS, **more: Any) -> Any:
    """Return the discs as cryoSPARC keeps them: fractions of the micrograph's sides."""
    own = [(stem, x, y) for stem in stems for x, y in centers(stem).tolist()]
    fields: list[tuple[Any, ...]] = [
        ("uid", "<u8"),
        ("location/micrograph_path", "S120"),
        ("location/micrograph_shape", "<u4", (2,)),
        ("location/center_x_frac", "<f4"),
        ("location/center_y_frac", "<f4"),
    ]
    for name, value in more.items():
        shape = np.shape(value)
        fields.append((name, "<f4", shape) if shape else (name, "<f4"))
    table = np.zeros(len(own), fields)
    table["uid"] = np.arange(len(own)) + 1
    table["location/micrograph_path"] = [path.format(stem=stem).encode() for stem, _, _ in own]
    table["location/micrograph_shape"] = SHAPE
    table["location/center_x_frac"] = [x / SHAPE[1] for _, x, _ in own]
    table["location/center_y_frac"] = [y / SHAPE[0] for _, _, y in own]
    for name, value in more.items():
        table[name] = value
    return table


def cs(table: Any) -> bytes:
    """Return a table as the bytes of a plain .cs file."""
    out = io.BytesIO()
    np.save(out, table, allow_pickle=False)
    return out.getvalue()


# ---- the rows ----

TRAIN = "train --micrographs M --diameter 24 --from scratch --threads 1 -o model --labels "
FROM_LIST = TRAIN.replace("M --diameter 24", "m.star --diameter 60") + "l.star"
#: Training itself is made to end so.
BEGINS = "the training begins"
ALL = ("120 picks on 3 micrographs",)
MATCHED = ("  1.000  1.000  1.000", "median 0.0 Å")
EVALUATE = "evaluate --truth truth.star --match-distance 20 --picks "


def _per_micrograph(form: str, last: Content, stems: str = "ab", folder: str = "own/") -> Files:
    """Return one file for each of two micrographs, and another one for the last."""
    suffix, write = PER_MICROGRAPH[form]
    files: dict[str, Content] = {f"{folder}{stem}{suffix}": write(stem) for stem in stems}
    return {**truth(), **files, f"{folder}c{suffix}": last}


def _manual(stem: str) -> str:
    return loop(COORDINATES, lines("{x} {y}", (stem,)))


PER_MICROGRAPH: dict[str, tuple[str, Callable[[str], str]]] = {
    "star": ("_manualpick.star", _manual),
    "box": (".box", boxes),
    "cbox": (".cbox", cbox),
    "eman2": ("_info.json", info),
    "table": ("_topaz.txt", lambda stem: "x_coord\ty_coord\n" + lines("{x}\t{y}", (stem,))),
}


def _list(last: Content, folder: str = "own/") -> Files:
    rows = "".join(f"M/{stem}.mrc {folder}{stem}_manualpick.star\n" for stem in STEMS)
    listed = loop("MicrographName MicrographCoordinates", rows, "coordinate_files")
    return {**_per_micrograph("star", last, folder=folder), "manualpick.star": listed}


def _particles() -> Files:
    """Return particles with the pixel sizes of the movies and of the extracted images."""
    head = loop("OpticsGroup MicrographOriginalPixelSize ImagePixelSize", "1 2.0 8.0\n", "optics")
    table = star("M/{stem}.mrc {x} {y} 1", f"{NAMED} OpticsGroup")
    return {**truth(), "particles.star": head + table.replace("data_", "data_particles", 1)}


def _shifted(label: str, shift: tuple[float, float], optics_table: str, more: str = "") -> Files:
    """Return particles 3 and -2 pixels beside the discs, with the shifts that say so."""
    rows = "".join(
        f"M/{stem}.mrc {x + 3} {y - 2} 1 {shift[0]} {shift[1]}{more}\n"
        for stem in STEMS
        for x, y in centers(stem).tolist()
    )
    labels = f"{NAMED} OpticsGroup {label}"
    return {**truth(), "shifted.star": optics_table + loop(labels, rows, "particles")}


def _shifted_cs() -> bytes:
    table = cs_table(
        **{
            "location/micrograph_psize_A": PIXEL,
            "alignments2D/shift": (1.5, -1.0),
            "alignments2D/psize_A": 8.0,
        }
    )
    table["location/center_x_frac"] += 3 / SHAPE[1]
    table["location/center_y_frac"] -= 2 / SHAPE[0]
    return cs(table)


EXPORTED = ">J2/motioncorrected/000000000123456789012_{stem}_patch_aligned_doseweighted.mrc"


def _projects(folders: str = "AB") -> Files:
    """Return two projects whose only micrographs have one name: a in A, and b in B."""
    files: dict[str, Content] = {}
    for folder, stem in zip(folders, "ab", strict=True):
        own = {
            "MC/m.mrc": micrographs()[f"M/{stem}.mrc"],
            "mics.star": loop("MicrographName", "MC/m.mrc\n"),
            "labels.star": loop(NAMED, lines("MC/m.mrc {x} {y}", (stem,))),
            "Pick/m_manualpick.star": _manual(stem),
            "manualpick.star": loop(
                "MicrographName MicrographCoordinates", "MC/m.mrc Pick/m_manualpick.star\n"
            ),
            "picked.cs": cs(cs_table("MC/m.mrc", (stem,))),
        }
        files |= {f"{folder}/{name}": content for name, content in own.items()}
    return files


def _grids(name: str, content: Content) -> Files:
    """Return coordinates of the micrograph grid_pick, beside one that is called grid."""
    own = micrographs()
    return {"nm/grid_pick.mrc": own["M/a.mrc"], "nm/grid.mrc": own["M/b.mrc"], name: content}


def _corrected() -> Files:
    """Return what motion correction leaves of two movies."""
    own = micrographs()
    return {
        **{f"MC/{stem}{end}.mrc": own[f"M/{stem}.mrc"] for stem in "ab" for end in ("", "_noDW")},
        **{f"MC/{stem}{end}.mrc": own["M/c.mrc"] for stem in "ab" for end in ("_PS", "_EVN")},
        "labels.txt": topaz().replace("\nc\t", "\nb\t"),
    }


def _listed(size: str) -> Files:
    """Return a list of one micrograph with a pixel size, and its labels."""
    table = loop("MicrographName OpticsGroup", "M/a.mrc 1\n", "micrographs")
    labels = loop(NAMED, lines("M/{stem}.mrc {x} {y}", ("a",)))
    return {"m.star": optics(size) + table, "l.star": labels}


def _in_mode(mode: int) -> bytes:
    """Return a micrograph whose header says that its pixels are of another kind."""
    raw = bytearray(micrographs()["M/a.mrc"])
    struct.pack_into("<i", raw, 12, mode)
    return bytes(raw)


def _one(name: str, content: Content) -> Callable[[], Files]:
    return lambda: {name: content}


def _with_truth(name: str, make: Callable[[], Content]) -> Callable[[], Files]:
    return lambda: {**truth(), name: make()}


TWO = (("a", 1.0, 2.0), ("b", 3.0, 4.0))
#: A helix of EMAN1's boxes and one of EMAN2's, with its ends alone.
HELIX_BOX = "20 30 16 16 -1\n200 40 16 16 -2\n"
HELICES = "#micrograph: M/a.mrc\n#segment width: 16\n#helix: (20.0, 30.5),(180.0, 190.0),16\n"
#: The columns of points of filaments, and a CBOX file without its rows.
TUBES = f"{NAMED} HelicalTubeID"
_COLUMNS = ("CoordinateX", "CoordinateY", "Width", "Height", "Confidence", "filamentid")
CBOX_TUBES = "data_cryolo\n\nloop_\n" + "".join(
    f"_{name} #{number}\n" for number, name in enumerate(_COLUMNS, 1)
)


def _steps(form: str) -> str:
    """Return rows along one line, and behind them rows along another far from it."""
    return "".join(form.format(x=20 + 10 * n, y=y) + "\n" for y in (50, 150) for n in range(4))


def _filaments_in_o() -> Files:
    return {"o/filaments.star": loop(TUBES, _steps("M/a.mrc {x} {y} 1"))}


CONVERT = "convert {} -o out.csv"
NO_MICROGRAPHS: Any = {"has_micrographs": False}

ROWS: tuple[Row, ...] = (
    # The optics table of particles has the movie's pixel size only.
    Row("original size", "train", _particles, TRAIN + "particles.star",
        ("at 4.00 Å/pixel on 120 labeled", BEGINS), code=2),
    Row("original size", "to cs", _particles, "convert particles.star -o o.cs --shape-px 400x300",
        ("the pixel size of M/a.mrc is unknown",), code=2),
    Row("original size", "evaluate", _particles, EVALUATE + "particles.star", MATCHED),
    Row("original size", "RELION 3.0",
        lambda: {"old.star": star("M/{stem}.mrc {x} {y} 8.0 10000",
                                  f"{NAMED} DetectorPixelSize Magnification")},
        "check old.star --micrographs M", ("match the images",), ("pixel size",)),
    Row("original size", "cs", lambda: {"e.cs": cs(cs_table(**{"blob/psize_A": 8.0}))},
        "check e.cs --micrographs M", ("match the images",), ("pixel size",)),
    # A micrograph without picks has an empty file.
    Row("empty file", "list, evaluate", lambda: _list(""), EVALUATE + "manualpick.star",
        ("80     120      80  1.000  0.667",)),
    Row("empty file", "list, train", lambda: _list(""), TRAIN + "manualpick.star",
        ("on 80 labeled particles", BEGINS), code=2),
    Row("empty file", "cbox, check", lambda: _per_micrograph("cbox", ""),
        "check own --micrographs M", ("80 picks on 3 micrographs", "match the images")),
    Row("empty file", "eman2, evaluate", lambda: _per_micrograph("eman2", ""),
        EVALUATE + "own --micrographs M", ("80     120      80  1.000  0.667",)),
    Row("empty file", "table, train", lambda: _per_micrograph("table", ""), TRAIN + "own",
        ("on 80 labeled particles", BEGINS), code=2),
    Row("empty file", "box, topaz convert", lambda: _per_micrograph("box", ""),
        "topaz convert own/a.box own/c.box -o out.csv --to coord"),
    Row("empty file", "all of a list, train",
        lambda: {**_list(""), "own/a_manualpick.star": "", "own/b_manualpick.star": ""},
        TRAIN + "manualpick.star", ("the labels contain no particles",), code=2),
    Row("empty file", "all of a list, evaluate",
        lambda: {**_list(""), "own/a_manualpick.star": "", "own/b_manualpick.star": ""},
        EVALUATE + "manualpick.star", ("no pick matches a particle",), ("nan Å",)),
    Row("empty file", "all of a list, check",
        lambda: {**_list(""), "own/a_manualpick.star": "", "own/b_manualpick.star": ""},
        "check manualpick.star", ("note: manualpick.star: 0 picks",)),
    Row("empty file", "list with a bare block, train",
        lambda: _list("# version 30001\n\ndata_\n"), TRAIN + "manualpick.star",
        ("on 80 labeled particles", BEGINS), code=2),
    Row("empty file", "blank lines, check", lambda: _per_micrograph("eman2", "\n"),
        "check own --micrographs M", ("80 picks on 3 micrographs",)),
    Row("empty file", "comments, check", lambda: _per_micrograph("box", "# none\n"),
        "check own --micrographs M", ("80 picks on 3 micrographs",)),
    Row("empty file", "null, check", lambda: _per_micrograph("eman2", '{"boxes": null}'),
        "check own --micrographs M", ("80 picks on 3 micrographs",)),
    # Labels in the pixels of downsampled micrographs.
    Row("downsampled", "topaz, check", lambda: {"t.txt": topaz(1 / 8)},
        "check t.txt --micrographs M", ("scaled by 8", "--scale 8"), code=2),
    Row("downsampled", "topaz, convert", lambda: {"t.txt": topaz(1 / 16)},
        "convert t.txt -o out.csv --fit --micrographs M", ("scaled by 16",)),
    Row("downsampled", "cbox, train",
        lambda: {f"own/{stem}.cbox": cbox(stem, 1 / 8) for stem in STEMS}, TRAIN + "own",
        ("scaled by 8", "--trust-labels"), (BEGINS,), code=2),
    Row("downsampled", "eman2, suggest",
        lambda: {f"own/{stem}_info.json": info(stem, 1 / 3) for stem in STEMS},
        "suggest --micrographs M --labels own", ("scaled by 3",), code=2),
    Row("downsampled", "star, train", lambda: {"s.star": star(scale=1 / 1.5)}, TRAIN + "s.star",
        ("scaled by 1.5",), (BEGINS,), code=2),
    Row("downsampled", "topaz by 2.5, check", lambda: {"t.txt": topaz(1 / 2.5)},
        "check t.txt --micrographs M", ("scaled by 2.5",), code=2),
    Row("downsampled", "cbox by 4/3, as cryoSPARC crops, train",
        lambda: {f"own/{stem}.cbox": cbox(stem, 3 / 4) for stem in STEMS}, TRAIN + "own",
        ("--scale 1.33333",), (BEGINS,), code=2),
    Row("downsampled", "star by 10, convert", lambda: {"s.star": star(scale=1 / 10)},
        "convert s.star -o out.csv --fit --micrographs M", ("scaled by 10",)),
    # A micrograph that nobody has picked.
    Row("no boxes", "eman2, train", lambda: _per_micrograph("eman2", '{"quality": 5}'),
        TRAIN + "own", ("on 80 labeled particles", BEGINS), code=2),
    Row("no boxes", "cbox, check", lambda: _per_micrograph("cbox", CBOX + SLICES),
        "check own --micrographs M", ("80 picks on 3 micrographs",)),
    Row("no boxes", "list, evaluate", lambda: _list(loop(COORDINATES, "")),
        EVALUATE + "manualpick.star", ("80     120      80  1.000  0.667",)),
    Row("no boxes", "cs, check", lambda: {"none.cs": cs(cs_table()[:0])}, "check none.cs",
        ("note: none.cs: 0 picks",)),
    Row("no boxes", "via, convert",
        _one("via.csv", "filename,file_size,file_attributes,region_count,region_id,"
             "region_shape_attributes,region_attributes\na.png,-1,{},0,0,{},{}\n"
             'b.png,-1,{},1,0,"{""name"":""point"",""cx"":3,""cy"":4}",{}\n'),
        CONVERT.format("via.csv"), ("1 picks on 2 micrographs",), rows=(("b.png", 3.0, 4.0),),
        **NO_MICROGRAPHS),
    # Files that were written one behind another.
    Row("one behind another", "star, train",
        lambda: {"all.star": "".join(loop(NAMED, lines("M/{stem}.mrc {x} {y}", (stem,)))
                                     for stem in STEMS)},
        TRAIN + "all.star", ("on 120 labeled particles", BEGINS), code=2),
    Row("one behind another", "micrographs, check",
        lambda: {"m.star": 2 * optics("4.0") + "".join(
            loop("MicrographName OpticsGroup", f"M/{stem}.mrc 1\n", "micrographs")
            for stem in "ab").replace("\n\ndata_mic", "\n\n\ndata_mic")},
        "check m.star", ("2 can be read",), ("contradictory",)),
    Row("one behind another", "cbox, convert", lambda: {"a.cbox": 2 * cbox("a")},
        CONVERT.format("a.cbox"), ("80 picks on 1 micrographs",), **NO_MICROGRAPHS),
    Row("one behind another", "box, convert", lambda: {"a.box": 2 * boxes("a")},
        CONVERT.format("a.box"), ("80 picks on 1 micrographs",), **NO_MICROGRAPHS),
    Row("one behind another", "topaz, topaz convert", lambda: {"t.txt": topaz() + topaz()},
        "topaz convert t.txt -o out.txt", **NO_MICROGRAPHS),
    Row("one behind another", "cs, convert", lambda: {"two.cs": 2 * cs(cs_table())},
        CONVERT.format("two.cs"), ("more behind its table",), code=2, **NO_MICROGRAPHS),
    Row("one behind another", "cs stream, check", lambda: {"two.cs": 2 * stream(cs_table())},
        "check two.cs", ("more behind its table",), code=2, **NO_MICROGRAPHS),
    Row("one behind another", "eman2, convert", lambda: {"a_info.json": 2 * info("a")},
        CONVERT.format("a_info.json"), ("a_info.json cannot be read",), code=2, **NO_MICROGRAPHS),
    # One optics group in two spellings.
    Row("optics group", "micrographs, check",
        lambda: {"m.star": optics("5.0") + loop("MicrographName OpticsGroup", "M/a.mrc 1.0\n",
                                                "micrographs")},
        "check m.star", ("4 in the header, 5 expected",)),
    Row("optics group", "star to cs, check",
        lambda: {"p.star": optics("5.0", "01") + star("M/{stem}.mrc {x} {y} 1.000000",
                                                      f"{NAMED} OpticsGroup")},
        "check p.star --micrographs M", ("picks 5, micrograph 4",), code=2),
    Row("optics group", "files of micrographs, train",
        lambda: {f"own/{stem}.star": optics("5.0") + loop(
            f"{COORDINATES} OpticsGroup", lines("{x} {y} 1.0", (stem,)), "particles")
            for stem in STEMS},
        TRAIN + "own", ("are at 5 Å/pixel",), (BEGINS,), code=2),
    Row("optics group", "evaluate",
        lambda: {**truth(), "p.star": optics("4.0", "1.0") + star(
            "M/{stem}.mrc {x} {y} 1", f"{NAMED} OpticsGroup")},
        EVALUATE + "p.star", MATCHED),
    # A pixel size that was calibrated again.
    Row("recalibrated", "star, train",
        lambda: {"p.star": optics("4.24") + star("M/{stem}.mrc {x} {y} 1",
                                                 f"{NAMED} OpticsGroup")},
        TRAIN + "p.star", ("are at 4.24 Å/pixel", BEGINS), code=2),
    Row("recalibrated", "cs, suggest",
        lambda: {"p.cs": cs(cs_table(**{"location/micrograph_psize_A": 4.24}))},
        "suggest --micrographs M --labels p.cs", ("are at 4.24 Å/pixel", "longest diameter")),
    Row("recalibrated", "table, check",
        lambda: {"p.csv": "micrograph,x_px,y_px,pixel_size_angstrom\n"
                 + lines("M/{stem}.mrc,{x},{y},4.24")},
        "check p.csv --micrographs M", ("different calibration", "match the images")),
    Row("recalibrated", "cs, evaluate",
        lambda: {**truth(), "p.cs": cs(cs_table(**{"location/micrograph_psize_A": 4.24}))},
        EVALUATE + "p.cs --micrographs M", MATCHED),
    # Names with characters that mean something in tables.
    Row("names", "list, check",
        lambda: {"O'Brien/a#1.mrc": micrographs()["M/a.mrc"],
                 "m.star": loop("MicrographName", "O'Brien/a#1.mrc\n")},
        "check m.star", ("1 can be read",)),
    Row("names", "star, convert", _one("p.star", loop(NAMED, "O'B/a#1.mrc 1 2\n\"nan\" 3 4\n")),
        CONVERT.format("p.star"), rows=(("O'B/a#1.mrc", 1.0, 2.0), ("nan", 3.0, 4.0)),
        **NO_MICROGRAPHS),
    Row("names", "table, convert",
        _one("p.csv", "micrograph,x_px,y_px\nO'B/#1,1,2\n#1,3,4\n<NA>,5,6\nnan,7,8\n"),
        CONVERT.format("p.csv"),
        rows=(("O'B/#1", 1.0, 2.0), ("#1", 3.0, 4.0), ("<NA>", 5.0, 6.0), ("nan", 7.0, 8.0)),
        **NO_MICROGRAPHS),
    Row("names", "cs, convert", lambda: {"p.cs": cs(cs_table("O'B/{stem}#1.mrc", ("a",))[:1])},
        CONVERT.format("p.cs"), ("1 picks on 1 micrographs",), **NO_MICROGRAPHS),
    Row("names", "star, a missing name", _one("m.star", loop("MicrographName", "nan\n")),
        "check m.star", ("no _rlnMicrographName in row 1",), code=2, **NO_MICROGRAPHS),
    # Blank lines and comments.
    Row("comments", "table", _one("t.csv", "# mine\n\nimage_name,x_coord,y_coord\n# one\na,1,2\n"
                                  "# x,y,z\n\nb,3,4\n"),
        CONVERT.format("t.csv"), rows=TWO, **NO_MICROGRAPHS),
    Row("comments", "topaz",
        _one("t.txt", "#image_name\tx_coord\ty_coord\n#c\na\t1\t2\n\nb\t3\t4"),
        CONVERT.format("t.txt"), rows=TWO, **NO_MICROGRAPHS),
    Row("comments", "topaz convert", _one("t.txt", "# c\nimage_name\tx_coord\ty_coord\na\t1\t2\n"),
        "topaz convert t.txt -o out.txt", **NO_MICROGRAPHS),
    Row("comments", "table, a bad row",
        _one("t.csv", "# c\n\nimage_name,x_coord,y_coord\na,1,b\n"),
        CONVERT.format("t.csv"), ("t.csv, line 4, has 'b'",), code=2, **NO_MICROGRAPHS),
    Row("comments", "box", _one("a.box", "\n0 1 2 2\n\n  \n2 3 2 2\n"), CONVERT.format("a.box"),
        rows=(("a", 1.0, 2.0), ("a", 3.0, 4.0)), **NO_MICROGRAPHS),
    Row("comments", "cbox",
        _one("a.cbox", CBOX.replace("loop_\n", "loop_\n# c\n\n")
             + "\n0 1 0 2 2 1 2 2 0.5 1 0\n# c\n\n2 3 0 2 2 1 2 2 0.5 1 0\n"),
        CONVERT.format("a.cbox"), rows=(("a", 1.0, 2.0), ("a", 3.0, 4.0)), **NO_MICROGRAPHS),
    Row("comments", "micrographs",
        _one("m.star", "data_\n\nloop_\n# c\n_rlnMicrographName #1\n\nM/a.mrc\n# c\n"
             "M/b.mrc # d\n"),
        "check m.star", ("2 can be read",)),
    Row("comments", "list of micrographs", _one("l.txt", "# c\n\nM/a.mrc\n \nM/b.mrc\n"),
        "check @l.txt", ("2 can be read",)),
    Row("comments", "eman2 with a byte order mark",
        _one("a_info.json", b"\xef\xbb\xbf" + b'{"boxes": [[1, 2, "manual"]]}'),
        CONVERT.format("a_info.json"), rows=(("a", 1.0, 2.0),), **NO_MICROGRAPHS),
    # Particles whose refined shifts say where they are.
    Row("shifts", "star, evaluate",
        lambda: _shifted("OriginXAngst OriginYAngst", (12, -8), optics("4.0")),
        EVALUATE + "shifted.star", MATCHED),
    Row("shifts", "star, train",
        lambda: _shifted("OriginXAngst OriginYAngst", (12, -8), optics("4.0")),
        TRAIN + "shifted.star", ("the refined shifts of 120 particles", BEGINS), code=2),
    Row("shifts", "RELION 3.0, check",
        lambda: _shifted("OriginX OriginY DetectorPixelSize Magnification", (1.5, -1), "",
                         " 8.0 10000"),
        "check shifted.star --micrographs M", ("refined shifts", "match the images")),
    Row("shifts", "cs, evaluate", lambda: {**truth(), "shifted.cs": _shifted_cs()},
        EVALUATE + "shifted.cs", MATCHED),
    Row("shifts", "cs, topaz convert", lambda: {"shifted.cs": _shifted_cs()},
        "topaz convert shifted.cs -o out.txt", ("the refined shifts of 120 particles",)),
    # Another project in the current folder has micrographs of the same names.
    Row("same names", "star, check", _projects, "check ../B/labels.star", ("match the images",),
        folder="A"),
    Row("same names", "list, check", _projects, "check ../B/manualpick.star",
        ("match the images", "those of the list's own project"), folder="A"),
    Row("same names", "cs, check", _projects, "check ../B/picked.cs", ("match the images",),
        folder="A"),
    Row("same names", "evaluate", _projects,
        "evaluate --picks ../B/picked.cs --truth ../B/manualpick.star --match-distance 20"
        " --micrographs ../B/mics.star", ("  1.000  1.000  1.000",), folder="A"),
    Row("same names", "labels of the other project, train", _projects,
        TRAIN.replace("--micrographs M ", "--micrographs mics.star ") + "../B/labels.star",
        ("its own project has another micrograph MC/m.mrc", BEGINS), code=2, folder="A"),
    Row("same names", "list of the other project, check", _projects,
        "check ../B/manualpick.star --micrographs mics.star",
        ("its own project has another micrograph MC/m.mrc",), code=0, folder="A"),
    # Paths in exported files begin with >.
    Row("exported paths", "cs, check", lambda: {"e.cs": cs(cs_table(EXPORTED))},
        "check e.cs --micrographs M", ALL, ("not found",)),
    Row("exported paths", "cs, train", lambda: {"e.cs": cs(cs_table(EXPORTED))}, TRAIN + "e.cs",
        ("on 120 labeled particles", BEGINS), code=2),
    Row("exported paths", "cs stream, convert",
        lambda: {"e.cs": stream(cs_table(">M/{stem}.mrc", ("a",))[:1])}, CONVERT.format("e.cs"),
        unsaid=(">",), **NO_MICROGRAPHS),
    Row("exported paths", "cs, evaluate",
        lambda: {**truth(), "e.cs": cs(cs_table(EXPORTED))}, EVALUATE + "e.cs --micrographs M",
        MATCHED),
    Row("exported paths", "of an exported group, in its project",
        lambda: {"P/J2/m/a.mrc": micrographs()["M/a.mrc"],
                 "P/exports/groups/J5_p/J5_p_exported.cs": cs(cs_table(">J2/m/a.mrc", ("a",)))},
        "check P/exports/groups/J5_p/J5_p_exported.cs", ("match the images",)),
    # What programs append to the names of coordinate files.
    Row("suffixes", "star", lambda: {"a_automatch.star": _manual("a")},
        "check a_automatch.star --micrographs M", ("match the images",)),
    Row("suffixes", "box", lambda: {"a_automatch.box": boxes("a")},
        "check a_automatch.box --micrographs M", ("match the images",)),
    Row("suffixes", "table",
        lambda: {"a_topaz.txt": "x_coord\ty_coord\n" + lines("{x}\t{y}", ("a",))},
        "check a_topaz.txt --micrographs M", ("match the images",)),
    Row("suffixes", "star of a micrograph so called",
        lambda: _grids("grid_pick.star", _manual("a")), "check grid_pick.star --micrographs nm",
        ("match the images",)),
    Row("suffixes", "cbox of a micrograph so called", lambda: _grids("grid_pick.cbox", cbox("a")),
        "check grid_pick.cbox --micrographs nm", ("match the images",)),
    Row("suffixes", "eman2 of a micrograph so called",
        lambda: _grids("grid_pick_info.json", info("a")),
        "check grid_pick_info.json --micrographs nm", ("match the images",)),
    Row("suffixes", "particles", lambda: {"a_particles.star": _manual("a")},
        "check a_particles.star --micrographs M", ("match the images",)),
    # Letters with accents are one character or two.
    Row("accents", "star, train",
        lambda: {"m/e\u0301.mrc": micrographs()["M/a.mrc"],
                 "l.star": loop(NAMED, lines("m/\u00e9.mrc {x} {y}", ("a",)))},
        TRAIN.replace("--micrographs M", "--micrographs m") + "l.star",
        ("on 40 labeled particles", BEGINS), code=2),
    Row("accents", "folders, check",
        lambda: {"e\u0301/a.mrc": micrographs()["M/a.mrc"], "f/a.mrc": micrographs()["M/b.mrc"],
                 "l.star": loop(NAMED, lines("\u00e9/a.mrc {x} {y}", ("a",)))},
        "check l.star --micrographs e\u0301 f", ("match the images",)),
    Row("accents", "box, check",
        lambda: {"m/\u00e9.mrc": micrographs()["M/a.mrc"], "e\u0301.box": boxes("a")},
        "check e\u0301.box --micrographs m", ("match the images",)),
    # The pixel size in a list and in the header differ.
    Row("list and header", "star, train", lambda: _listed("8.0"), FROM_LIST,
        ("gives 8 Å/pixel, but the header of M/a.mrc 4", BEGINS), code=2),
    Row("list and header", "set by the user", lambda: _listed("8.0"),
        FROM_LIST + " --pixel-size 4", (BEGINS,), ("but the header",), code=2),
    Row("list and header", "calibrated again", lambda: _listed("4.2"), FROM_LIST, (BEGINS,),
        ("but the header",), code=2),
    # Files given through a link.
    Row("links", "star", _projects, "check L/labels.star", ("match the images",),
        links={"L/labels.star": "../B/labels.star"}),
    Row("links", "list of coordinates", _projects, "check L/manualpick.star",
        ("match the images",), links={"L/manualpick.star": "../B/manualpick.star"}),
    Row("links", "cs, folder", _projects, "check job/picked.cs", ("match the images",),
        links={"job": "B"}),
    Row("links", "micrographs, evaluate", _projects,
        "evaluate --picks L/p.star --truth L/t.cs --micrographs L/m.star --match-distance 20",
        ("  1.000  1.000  1.000",),
        links={"L/p.star": "../B/labels.star", "L/t.cs": "../B/picked.cs",
               "L/m.star": "../B/mics.star"}),
    # What motion correction leaves beside each micrograph.
    Row("by-products", "check", _corrected, "check MC", ("2 can be read", "by-products")),
    Row("by-products", "pattern, check", _corrected, "check MC/*.mrc", ("2 can be read",)),
    Row("by-products", "convert", _corrected,
        "convert labels.txt -o out.cs --micrographs MC --trust", ("120 picks on 2 micrographs",)),
    Row("by-products", "train", _corrected,
        TRAIN.replace("--micrographs M ", "--micrographs MC ") + "labels.txt --trust-labels",
        ("on 2 micrographs", BEGINS), code=2),
    # Particles of tomograms: their x and y are no positions on a micrograph.
    Row("tomograms", "RELION 4",
        _one("p.star", loop("CoordinateX CoordinateY CoordinateZ TomoName",
                            "1 2 3 TS_1\n4 5 6 TS_1\n", "particles")),
        CONVERT.format("p.star"), ("tomograms (_rlnTomoName)",), code=2, **NO_MICROGRAPHS),
    Row("tomograms", "RELION 5",
        _one("p.star", loop("TomoName CenteredCoordinateXAngst CenteredCoordinateYAngst",
                            "TS_1 1 2\n", "particles")),
        CONVERT.format("p.star"), ("belongs to tomograms",), code=2, **NO_MICROGRAPHS),
    Row("tomograms", "star of Warp, check",
        lambda: {"p.star": star("M/{stem}.mrc {x} {y} {x}", f"{NAMED} CoordinateZ")},
        "check p.star --micrographs M", ("tomograms (_rlnCoordinateZ)",), ("match",), code=2),
    Row("tomograms", "eman2", _one("a_info.json", '{"boxes_3d": [[1, 2, 3, "tomo"]]}'),
        CONVERT.format("a_info.json"), ("belongs to a tomogram",), code=2, **NO_MICROGRAPHS),
    Row("tomograms", "table, train",
        lambda: {"p.csv": "micrograph,x,y,z\n" + lines("M/{stem}.mrc,{x},{y},{x}")},
        TRAIN + "p.csv", ("several heights (z)",), (BEGINS,), code=2),
    Row("tomograms", "one height",
        _one("p.csv", "micrograph,x,y,z\na,1,2,0\nb,3,4,0\n"), CONVERT.format("p.csv"),
        rows=TWO, **NO_MICROGRAPHS),
    # Tables as spreadsheets, and other programs than the writers' own, leave them.
    Row("spreadsheets", "semicolons and decimal commas",
        _one("t.csv", "micrograph;x;y;score\na;1,0;2;0,5\nb;3;4,0;-1\n"), CONVERT.format("t.csv"),
        ("numbers such as 1,0 are read with a decimal comma",), rows=TWO, **NO_MICROGRAPHS),
    Row("spreadsheets", "UTF-16", _one("t.txt", "micrograph\tx\ty\r\na\t1\t2\r\nb\t3\t4\r\n"
                                       .encode("utf-16")),
        CONVERT.format("t.txt"), rows=TWO, **NO_MICROGRAPHS),
    Row("spreadsheets", "the delimiter named, and more at the ends",
        _one("t.csv", "sep=,\nmicrograph,x,y\na,1,2,,\nb,3,4,\n"), CONVERT.format("t.csv"),
        rows=TWO, **NO_MICROGRAPHS),
    Row("spreadsheets", "spaces",
        _one("t.txt", "# image_name x_coord y_coord\na   1 2 \nb 3  4\n"),
        CONVERT.format("t.txt"), rows=TWO, **NO_MICROGRAPHS),
    Row("spreadsheets", "a sentence is no header", _one("t.txt", "picked by me at x y\n1 2\n"),
        CONVERT.format("t.txt"), ("unknown coordinate format",), code=2, **NO_MICROGRAPHS),
    Row("spreadsheets", "star in UTF-16",
        _one("p.star", loop(NAMED, "a 1 2\nb 3 4\n").encode("utf-16")), CONVERT.format("p.star"),
        rows=TWO, **NO_MICROGRAPHS),
    Row("spreadsheets", "micrographs in UTF-16",
        lambda: {"l.txt": "M/a.mrc\nM/b.mrc\n".encode("utf-16")}, "check @l.txt",
        ("2 can be read",)),
    Row("spreadsheets", "a column twice", _one("t.csv", "micrograph,x,y,x\na,1,2,3\n"),
        CONVERT.format("t.csv"), ("has the column x twice",), code=2, **NO_MICROGRAPHS),
    Row("spreadsheets", "titles of a STAR file",
        _one("t.csv", "_rlnMicrographName,_rlnCoordinateX,_rlnCoordinateY\na,1,2\nb,3,4\n"),
        CONVERT.format("t.csv"), rows=TWO, **NO_MICROGRAPHS),
    Row("spreadsheets", "micrographs in another column",
        _one("Results.csv", " ,Label,X,Y\n1,a.mrc,1,2\n2,b.mrc,3,4\n"),
        CONVERT.format("Results.csv"), ("the micrographs are those in the column Label",),
        rows=(("a.mrc", 1.0, 2.0), ("b.mrc", 3.0, 4.0)), **NO_MICROGRAPHS),
    Row("spreadsheets", "widths and heights",
        _one("t.csv", "micrograph,x,y,w,h\na,1,2,8,8\nb,3,4,8,8\n"), CONVERT.format("t.csv"),
        ("read as centers of particles",), rows=TWO, **NO_MICROGRAPHS),
    # Folders with more than the coordinates.
    Row("folders", "RELION job, train",
        lambda: {"own/particles.star": star(), "own/job.star": "data_job\n\n_rlnJobIsTomo 0\n"},
        TRAIN + "own", ("job.star", "on 120 labeled particles", BEGINS), code=2),
    Row("folders", "cryoSPARC job, convert",
        lambda: {"J5/picked.cs": cs(cs_table()),
                 "J5/a_exposures.cs": cs(cs_table()[["uid", "location/micrograph_path"]])},
        "convert J5 -o out.csv", ("a_exposures.cs", "120 picks on 3"), **NO_MICROGRAPHS),
    Row("folders", "notes beside boxes, check",
        lambda: {"own/README.txt": "mine\n", "own/a.box": boxes("a")},
        "check own --micrographs M", ("README.txt", "match the images")),
    Row("folders", "several formats",
        lambda: {"own/a.star": _manual("a"), "own/b.box": boxes("b")},
        "check own --micrographs M", ("40 picks", "such as a.star and b.box")),
    Row("folders", "damaged files count",
        lambda: {"own/a.star": _manual("a"), "own/b.star": b"data_\n\0\0"},
        "convert own -o out.csv",
        ("b.star",), ("wrote",), code=2, **NO_MICROGRAPHS),
    Row("folders", "subfolders", lambda: {"own/M/a.star": _manual("a")}, "check own",
        ("'own/**/*.star'",), code=2, **NO_MICROGRAPHS),
    # Other results of the same movies, and names as Windows has them.
    Row("movies' names", "star, train", lambda: {"p.star": star("Movies/{stem}_DW.mrc {x} {y}")},
        TRAIN + "p.star", ("others of the same movies", "on 120 labeled", BEGINS), code=2),
    Row("movies' names", "cs, check",
        lambda: {"p.cs": cs(cs_table("J9/{stem}_patch_aligned_doseweighted_denoised.mrc"))},
        "check p.cs --micrographs M", ("others of the same movies", "match the images")),
    Row("movies' names", "of Scipion's micrographs, evaluate",
        lambda: {"D/a_aligned_mic_DW.mrc": micrographs()["M/a.mrc"],
                 "a.star": loop(NAMED, lines("a.tif {x} {y}", ("a",)))},
        "evaluate --picks a.star --truth a.star --match-distance 20 --micrographs D", MATCHED),
    Row("movies' names", "two of one movie",
        lambda: {"D/a_DW.mrc": micrographs()["M/a.mrc"], "D/a_noDW.mrc": micrographs()["M/b.mrc"],
                 "a.star": loop(NAMED, lines("a.tif {x} {y}", ("a",)))},
        "check a.star --micrographs D/a_DW.mrc D/a_noDW.mrc", ("could be",), code=2),
    Row("movies' names", "Windows, check",
        lambda: {"p.star": star("D:\\data\\M\\{stem}.mrc {x} {y}")},
        "check p.star --micrographs M", ("match the images",)),
    Row("movies' names", "Windows, table, train",
        lambda: {"p.csv": "micrograph,x,y\n" + lines("M\\{stem}.mrc,{x},{y}")}, TRAIN + "p.csv",
        ("on 120 labeled particles", BEGINS), code=2),
    # Files that are something else.
    Row("something else", "movies",
        _one("m.star", loop("MicrographMovieName", "a.tif\n", "movies")),
        "check m.star", ("it lists movies",), code=2, **NO_MICROGRAPHS),
    Row("something else", "micrographs as labels, train",
        lambda: {"m.star": loop("MicrographName", "M/a.mrc\n")}, TRAIN + "m.star",
        ("lists micrographs, without coordinates",), code=2),
    Row("something else", "exposures as labels",
        lambda: {"e.cs": cs(np.zeros(1, [("uid", "<u8"), ("micrograph_blob/path", "S9")]))},
        CONVERT.format("e.cs"), ("it lists exposures",), code=2, **NO_MICROGRAPHS),
    Row("something else", "gzip", lambda: {"p.star.gz": gzip.compress(star().encode(), mtime=0)},
        CONVERT.format("p.star.gz"), ("compressed with gzip",), code=2, **NO_MICROGRAPHS),
    Row("something else", "workbook", _one("p.csv", b"PK\3\4" + bytes(99)),
        CONVERT.format("p.csv"), ("save the table as CSV",), code=2, **NO_MICROGRAPHS),
    Row("something else", "IMOD", _one("a.mod", b"IMODV1.2" + bytes(99)),
        CONVERT.format("a.mod"), ("model2point",), code=2, **NO_MICROGRAPHS),
    Row("something else", "numbers without header", _one("a.plt", "1 2\n3 4\n"),
        CONVERT.format("a.plt"), ("no header",), code=2, **NO_MICROGRAPHS),
    Row("something else", "EER", _one("a.eer", b"II*\0" + bytes(99)), "check a.eer",
        ("is a movie",), code=2, **NO_MICROGRAPHS),
    Row("something else", "folder of EER, pick", _one("m/a.eer", b"II*\0" + bytes(99)),
        "pick m --diameter 100", ("is a movie",), code=2, **NO_MICROGRAPHS),
    Row("something else", "folder of a job, pick",
        _one("J/micrographs_ctf.star", loop("MicrographName", "M/a.mrc\n")),
        "pick J --diameter 100", ("the list of micrographs in it, J/micrographs_ctf.star",),
        code=2),
    Row("something else", "list without @", lambda: {"l.txt": "M/a.mrc\n"},
        "pick l.txt --diameter 100", ("write @l.txt",), code=2),
    Row("something else", "group of cryoSPARC as micrographs", _one("e.csg", "group:\n"),
        "pick e.csg --diameter 100", ("give the .cs file",), code=2, **NO_MICROGRAPHS),
    Row("something else", "4-bit MRC", lambda: {"m.mrc": _in_mode(101)}, "check m.mrc",
        ("4-bit integers",), code=2, **NO_MICROGRAPHS),
    Row("something else", "picks written into a micrograph",
        lambda: {"l.star": loop(NAMED, "M/a.mrc 1 2\n")}, "convert l.star -o M/a.mrc --to star",
        ("has the name of a micrograph",), ("wrote",), code=2),
    # Particles that are there twice.
    Row("repeated", "star, train",
        lambda: {"p.star": loop(NAMED, 2 * lines("M/{stem}.mrc {x} {y}"))},
        TRAIN + "p.star", ("ignored 120 labels that repeat others", "on 120 labeled", BEGINS),
        code=2),
    Row("repeated", "topaz twice, suggest", lambda: {"t.txt": topaz() + topaz()},
        "suggest --micrographs M --labels t.txt", ("ignored 120 labels",)),
    Row("repeated", "ground truth, evaluate",
        lambda: {"p.star": star(), "truth.star": star() + star()}, EVALUATE + "p.star",
        ("120 particles of the ground truth are in the same pixel",)),
    # Candidates in place of particles.
    Row("low scores", "topaz, train",
        lambda: {"t.txt": "image_name\tx_coord\ty_coord\tscore\n" + lines("{stem}\t{x}\t{y}\t-5")},
        TRAIN + "t.txt", ("120 of the 120 labels have scores below 0", BEGINS), code=2),
    Row("low scores", "cbox, train",
        lambda: {"a.cbox": cbox("a").replace(" 0.7 1 ", " 0.05 1 ")}, TRAIN + "a.cbox",
        ("scores below 0 (down to -2.94)", BEGINS), code=2),
    Row("low scores", "picked by hand in RELION, train",
        lambda: {"p.star": star("M/{stem}.mrc {x} {y} -999.0", f"{NAMED} AutopickFigureOfMerit")},
        TRAIN + "p.star", ("on 120 labeled", BEGINS), ("scores below",), code=2),
    Row("low scores", "picked by hand in RELION, convert",
        lambda: {"p.star": loop(f"{NAMED} AutopickFigureOfMerit", "a 1 2 -999\nb 3 4 -999\n")},
        CONVERT.format("p.star") + " --threshold 0", ("the picks have no scores",), code=2,
        **NO_MICROGRAPHS),
    # What else is in a folder of micrographs.
    Row("beside micrographs", "gain reference",
        lambda: {"M/gain.mrc": micrographs()["M/a.mrc"], "M/CountRef_1.mrc": b"x"}, "check M",
        ("3 can be read", "2 files have the name of a gain reference")),
    Row("beside micrographs", "gain references alone",
        lambda: {"G/gain.mrc": micrographs()["M/a.mrc"]}, "check G", ("1 can be read",),
        ("left out",)),
    Row("beside micrographs", "spectra of CTF estimation",
        lambda: {"M/a_ctf.mrc": micrographs()["M/a.mrc"]}, "check M",
        ("3 can be read", "by-products")),
    Row("beside micrographs", "compressed copies",
        lambda: {"M/a.mrc.gz": gzip.compress(micrographs()["M/a.mrc"], mtime=0)}, "check M",
        ("4 can be read", "M/a.mrc and M/a.mrc.gz")),
    Row("beside micrographs", "links to files that are gone", dict, "check M",
        ("M/d.mrc does not exist", "3 can be read"), code=2, links={"M/d.mrc": "../gone.mrc"}),
    Row("beside micrographs", "a list and its files elsewhere",
        lambda: {"P/m/a.mrc": micrographs()["M/a.mrc"], "P/l.txt": "m/a.mrc\n"}, "check @P/l.txt",
        ("1 can be read",)),
    # Filaments whose files, numbers and ends can be taken for others.
    Row("files of filaments", "one name in two folders",
        lambda: {f"{folder}/a.box": HELIX_BOX for folder in ("one", "two")},
        "convert one/a.box two/a.box -o out.star --micrographs M",
        ("one/a and of two/a both match the micrograph M/a.mrc",), ("wrote",), code=2),
    Row("files of filaments", "the suffix belongs to the micrograph",
        lambda: {"M/a_pick.mrc": micrographs()["M/b.mrc"], "a_pick.box": HELIX_BOX},
        "evaluate --picks a_pick.box --truth a_pick.box --micrographs M --match-distance 9",
        ("M/a_pick.mrc                                   1",)),
    Row("files of filaments", "helices without points beside an empty file",
        lambda: {"H/a_helix_ptcl_coords.txt": HELICES, "H/b_helix_ptcl_coords.txt": ""},
        "check H --micrographs M", ("1 filaments on 2 micrographs",), ("left out",)),
    Row("files of filaments", "helices beside notes",
        lambda: {"H/a_helix_ptcl_coords.txt": HELICES, "H/notes.txt": "first day\n"},
        "convert H -o out.star --to filaments", ("read 1 filament on 1", "notes.txt"),
        ("such as a_helix",)),
    Row("files of filaments", "ends that are no places",
        lambda: {"a.txt": "4 nan\n30 14\n"}, "convert a.txt --start-end -o out.star",
        ("a.txt, line 1, has '4 nan'",), ("wrote",), code=2),
    Row("files of filaments", "longer than any micrograph",
        lambda: {"a.box": "0 2 16 16 -1\n900000000 4 16 16 -2\n"},
        "evaluate --picks a.box --truth a.box --match-distance 9 --pixel-size 4",
        ("9e+08 pixels long",), code=2),
    Row("numbers of filaments", "two with one, star",
        lambda: {"f.star": loop(TUBES, _steps("M/a.mrc {x} {y} 1"))}, "check f.star",
        ("1 filament with a long step aside", "number 1 on M/a.mrc")),
    Row("numbers of filaments", "two with one, cbox",
        lambda: {"a.cbox": CBOX_TUBES + _steps("{x} {y} 16 16 0.9 0")},
        "convert a.cbox -o out.star", ("1 filament with a long step aside",)),
    Row("numbers of filaments", "between two numbers",
        lambda: {"f.star": loop(TUBES, _steps("M/a.mrc {x} {y} 1.5"))},
        "convert f.star -o out.star", ("'1.5' for rlnHelicalTubeID",), ("wrote",), code=2),
    Row("numbers of filaments", "no place along one",
        lambda: {"f.star": loop(f"{TUBES} HelicalTrackLengthAngst",
                                _steps("M/a.mrc {x} {y} 1 {x}").replace(" 30\n", " <NA>\n", 1))},
        "convert f.star -o out.star", ("for rlnHelicalTrackLengthAngst in row",), ("wrote",),
        code=2),
    Row("folders of filaments", "pick", _filaments_in_o,
        "pick M --diameter 56 --threads 1 -o o", ("o holds filaments",), code=2),
    Row("folders of filaments", "watch", _filaments_in_o,
        "watch M --diameter 56 --threads 1 --until 0.01 -o o", ("o holds filaments",), code=2),
    Row("folders of filaments", "part", _filaments_in_o,
        "pick M --diameter 56 --threads 1 --part 1/2 -o o", ("o holds filaments",), code=2),
    Row("folders of filaments", "run",
        lambda: {**_filaments_in_o(), "p.star": star()},
        "run M --labels p.star --diameter 56 --threads 1 -o o", ("o holds filaments",),
        (BEGINS,), code=2),
    # Files to which something is appended.
    Row("appended", "log, micrograph", dict, "check M --log-file M/a.mrc",
        ("M/a.mrc exists and is not a log of heliodor",), code=2),
    Row("appended", "log, table", lambda: {"p.star": star()}, "check M --log-file p.star",
        ("p.star exists and is not a log",), code=2),
    Row("appended", "events, micrograph", dict,
        "watch M --diameter 56 --until 0.01 --threads 1 -o out --events M/a.mrc",
        ("M/a.mrc exists and is not a file of events",), code=2),
    # What a user says of picks contradicts itself, or concerns none.
    Row("contradictions", "labels that are negatives, train", lambda: {"p.star": star()},
        TRAIN + "p.star --negatives p.star", ("a particle cannot be a negative",), (BEGINS,),
        code=2),
    Row("contradictions", "labels that are negatives, pick", lambda: {"p.star": star()},
        "pick M --diameter 56 --threads 1 --labels p.star --negatives p.star",
        ("a particle cannot be a negative",), code=2),
    Row("contradictions", "two offsets", lambda: {"o.txt": "1 M/a.mrc\n2 M/a.mrc\n"},
        "pick M --diameter 56 --threads 1 --threshold-offsets o.txt",
        ("two offsets of M/a.mrc",), code=2),
    Row("names of none", "exclude", lambda: {"e.txt": "a\nM/a.mrc\nM/b.mrc\nM/c.mrc\n"},
        "pick M --diameter 56 --threads 1 --exclude e.txt",
        ("1 of the names in e.txt are of no micrograph given", "all micrographs are excluded"),
        code=2),
    Row("names of none", "exclude, filaments",
        lambda: {"e.txt": "a.mrc\nM/a.mrc\nM/b.mrc\nM/c.mrc\n"},
        "pick M --filaments --width 60 --threads 1 --exclude e.txt",
        ("names are like M/a.mrc", "all micrographs are excluded"), code=2),
    Row("names of none", "judge",
        lambda: {"p.tsv": "micrograph\tx_px\ty_px\tscore\n"
                 + "".join(f"{name}\t{100 + n}\t150\t{n}\n" for n in range(120)
                           for name in ("M/a.mrc", "M/z.mrc"))},
        "judge p.tsv --micrographs M --quick --diameter 56 --threads 1 -o out",
        ("120 of 240 picks in p.tsv are on 1 micrograph not given (such as M/z.mrc)",), code=2),
)  # fmt: skip


# ---- for the fuzzer ----


def list_seeds() -> dict[str, bytes]:
    """Return the different tables of all rows, each in a folder of its own."""
    seeds: dict[bytes, str] = {}
    for row in ROWS:
        for path, content in row.files().items():
            raw = content.encode() if isinstance(content, str) else content
            if not path.endswith(".mrc"):
                seeds.setdefault(raw, f"{len(seeds)}/{path.rpartition('/')[2]}")
    return {name: raw for raw, name in seeds.items()}
