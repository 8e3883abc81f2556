"""RELION STAR files: micrographs, coordinates, and the lists that join them.

Read through the starfile package. RELION 3.0 keeps everything in one block; 3.1 and later
put optics groups beside it. Coordinates are 0-based pixels of the micrograph, y growing with
the row index of the file.
"""

from __future__ import annotations

import linecache
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heliodor import __version__
from heliodor.conventions import probability
from heliodor.errors import BadInput
from heliodor.files import write_text
from heliodor.picks import Picks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

NAME = "rlnMicrographName"
X, Y = "rlnCoordinateX", "rlnCoordinateY"
SCORE = "rlnAutopickFigureOfMerit"
COORDINATE_FILE = "rlnMicrographCoordinates"
PIXEL_SIZE, ORIGINAL_PIXEL_SIZE = "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize"
DETECTOR = ("rlnDetectorPixelSize", "rlnMagnification")
#: Suffixes that picking programs put behind a micrograph's stem in per-micrograph files.
PICK_SUFFIXES = ("_autopick", "_manualpick", "_pick", "_picks", "_topazpicks", "_coords")

#: A row that begins with a name such as data_1/a.mrc, which starfile takes for a new block.
_ROW_LIKE_BLOCK = re.compile(rb"^[ \t]*(data_(?:\S*/\S*|\S+(?=[ \t]+[^\s#])))", re.MULTILINE)
#: A comment where the rows of a table should begin, on which starfile stops if there are none.
_COMMENT_FOR_ROWS = re.compile(rb"^([ \t]*_\S[^\n]*\n\s*)#[^\n]*", re.MULTILINE)


def read_blocks(path: str | Path) -> dict[str, pd.DataFrame]:
    """Read every table of a STAR file, by block name without ``data_``.

    Raises
    ------
    BadInput
        If the file is missing, empty, not text or holds no STAR block.
    """
    import pandas as pd
    import starfile

    path = Path(path)
    if not path.is_file():
        raise BadInput(f"the STAR file {path} does not exist; check the name")
    if path.stat().st_size == 0:
        raise BadInput(f"the STAR file {path} is empty (0 bytes); write it again")
    # starfile reads through this cache and empties it only after a file it could parse: what is
    # left from another one would be read in place of this file.
    linecache.clearcache()
    try:
        with _mended(path) as readable:
            blocks = starfile.read(
                readable, always_dict=True, parse_as_string=[NAME, COORDINATE_FILE]
            )
    except Exception as error:  # starfile and pandas raise many kinds, all meaning this
        raise BadInput(f"{path} cannot be read as a STAR file ({error})") from error
    tables = {
        name: block if isinstance(block, pd.DataFrame) else pd.DataFrame([block])
        for name, block in blocks.items()
    }
    if not tables:
        raise BadInput(f"{path} has no data_ block: it is not a STAR file")
    return tables


@contextmanager
def _mended(path: Path) -> Iterator[Path]:
    """Give a file in which nothing stops starfile, a copy where that is not the file itself."""
    raw = path.read_bytes()
    mended = _COMMENT_FOR_ROWS.sub(rb"\1", _ROW_LIKE_BLOCK.sub(rb'"\1"', raw))
    if mended == raw:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "mended.star"
        copy.write_bytes(mended)
        yield copy


def read_micrographs(path: str | Path) -> list[tuple[str, float | None]]:
    """Read the micrographs of a STAR file with the pixel size of each, where it is given.

    Returns
    -------
    list of (str, float or None)
        Name and angstrom per pixel, each name once, in the file's order.

    Raises
    ------
    BadInput
        If no block lists micrographs, or the list is empty.
    """
    blocks = read_blocks(path)
    table = next((blocks[k] for k in ("micrographs", "", "particles") if _has(blocks, k)), None)
    if table is None:
        table = next((b for b in blocks.values() if NAME in b.columns), None)
    if table is None:
        raise BadInput(f"{path} has no column _{NAME}: it does not list micrographs")
    if table.empty:
        raise BadInput(f"{path} lists no micrographs: the table is empty")
    sizes = _pixel_sizes(table, blocks.get("optics"), detector=True)
    rows = zip((str(name) for name in table[NAME]), sizes, strict=True)
    return list(dict(rows).items())


def _has(blocks: Mapping[str, pd.DataFrame], key: str) -> bool:
    return key in blocks and NAME in blocks[key].columns


def _pixel_sizes(
    table: pd.DataFrame, optics: pd.DataFrame | None, detector: bool = False
) -> list[float | None]:
    """Return each row's pixel size: its optics group's, else its own, else the original's.

    Parameters
    ----------
    detector
        Whether RELION 3.0's detector pixel size and magnification may tell too. In tables of
        extracted particles they are those of the rescaled particles.
    """
    columns = [_of_rows(table, optics, PIXEL_SIZE)]
    if detector and {*DETECTOR} <= {*table.columns}:
        pairs = zip(*(map(_positive, table[name]) for name in DETECTOR), strict=True)
        columns.append([1e4 * size / times if size and times else None for size, times in pairs])
    columns.append(_of_rows(table, optics, ORIGINAL_PIXEL_SIZE))
    return [next((size for size in said if size), None) for said in zip(*columns, strict=True)]


def _of_rows(table: pd.DataFrame, optics: pd.DataFrame | None, column: str) -> list[float | None]:
    if optics is not None and column in optics.columns:
        if "rlnOpticsGroup" in table.columns:
            groups = dict(zip(optics["rlnOpticsGroup"], optics[column], strict=True))
            return [_positive(groups.get(group)) for group in table["rlnOpticsGroup"]]
        if len(optics) == 1:
            return [_positive(optics[column].iloc[0])] * len(table)
    if column in table.columns:
        return [_positive(value) for value in table[column]]
    return [None] * len(table)


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def read_picks(path: str | Path) -> Picks:
    """Read coordinates: a combined table, a list of coordinate files, or one micrograph's.

    A table without micrograph names is taken to be of the micrograph that its own file name
    says (``stem_autopick.star`` and the like).

    Raises
    ------
    BadInput
        If there are no coordinate columns, or a coordinate is not a number.
    """
    path = Path(path)
    blocks = read_blocks(path)
    listed = next((b for b in blocks.values() if COORDINATE_FILE in b.columns), None)
    if listed is not None and NAME not in listed.columns:
        raise BadInput(f"{path} lists coordinate files, but has no column _{NAME} beside them")
    if listed is not None:
        return _read_listed(path, listed)
    table = next((b for b in blocks.values() if X in b.columns and Y in b.columns), None)
    if table is None:
        raise BadInput(f"{path} has no columns _{X} and _{Y}: it holds no coordinates")
    xy = np.column_stack([_numbers(table, X, path), _numbers(table, Y, path)]).reshape(-1, 2)
    score = _numbers(table, SCORE, path, finite=False) if SCORE in table.columns else None
    own = {NAME, X, Y, SCORE}
    extra = {c: table[c].to_numpy() for c in table.columns if c not in own}
    sizes = _pixel_sizes(table, blocks.get("optics"))
    if any(size is not None for size in sizes):
        extra["pixel_size_angstrom"] = np.array(sizes, dtype=object)
    if NAME not in table.columns:
        name = micrograph_of(path)
        picks = Picks.from_columns([name] * len(xy), xy, score, extra)
        return picks if len(picks) else Picks.empty([name])
    names = table[NAME].fillna("").astype(str).to_numpy()
    nameless = np.flatnonzero(names == "")
    if len(nameless):
        raise BadInput(
            f"{path} has no _{NAME} in row {nameless[0] + 1} of its table; mend or remove the row"
        )
    return Picks.from_columns(names, xy, score, extra)


def _read_listed(path: Path, table: pd.DataFrame) -> Picks:
    tables = []
    for name, file in zip(
        table[NAME].astype(str), table[COORDINATE_FILE].astype(str), strict=True
    ):
        places = [Path(file), *(folder / file for folder in path.absolute().parents)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise BadInput(
                f"{path} lists the coordinate file {file}, which does not exist; run from the"
                " RELION project's folder"
            )
        own = read_picks(found)
        index = np.zeros(len(own), np.intp)
        tables.append(Picks((name,), index, own.xy_px, own.score, own.extra))
    return Picks.concatenate(tables)


def micrograph_of(path: Path) -> str:
    """Return the stem of the micrograph whose picks a per-micrograph file holds."""
    stem = path.stem
    for suffix in PICK_SUFFIXES:
        if stem.endswith(suffix):
            return stem.removesuffix(suffix)
    return stem


def _numbers(table: pd.DataFrame, column: str, path: Path, finite: bool = True) -> Any:
    import pandas as pd

    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if finite and len(bad):
        raise BadInput(
            f"{path} has {str(table[column].iloc[bad[0]])!r} for _{column} in row {bad[0] + 1} of"
            " its table: that is not a number; mend or remove the row"
        )
    return values


def write_picks(path: Path, picks: Picks) -> None:
    """Write one combined table of coordinates, with micrograph names."""
    import pandas as pd

    # A number comes first: a row that begins with the name of a micrograph such as
    # data_1/a.mrc reads as the begin of a block, one with _a.mrc as a column.
    columns: dict[str, Any] = {X: picks.xy_px[:, 0], Y: picks.xy_px[:, 1], NAME: picks.names()}
    if not np.isnan(picks.score).all():
        columns[SCORE] = picks.score
    write_blocks(path, {"": pd.DataFrame(columns | dict(picks.extra))})


def write_autopick_list(folder: Path, picks: Picks, files: Mapping[str, Path]) -> None:
    """Write ``autopick.star``, RELION's list of micrographs and their coordinate files.

    Micrographs without picks are left out, as RELION does. Paths are as seen from the current
    folder, which for RELION is the project's.

    Parameters
    ----------
    folder
        Where the list goes.
    picks
        The picks.
    files
        The coordinate file of each micrograph.
    """
    names = [name for name, count in zip(picks.micrographs, picks.counts(), strict=True) if count]
    write_coordinate_files(
        folder / "autopick.star", names, [_as_seen_from_here(files[name]) for name in names]
    )


def write_one_autopick(path: Path, picks: Picks) -> None:
    """Write the picks of one micrograph as RELION's auto-picker does."""
    import pandas as pd

    table = pd.DataFrame(
        {
            X: np.round(picks.xy_px[:, 0], 3),
            Y: np.round(picks.xy_px[:, 1], 3),
            SCORE: picks.score,
            "rlnClassNumber": np.zeros(len(picks), dtype=int),
            "rlnAnglePsi": np.zeros(len(picks)),
            "rlnParticleFigureOfMerit": probability(picks.score),
        }
    )
    write_blocks(path, {"": table})


def write_coordinate_files(path: Path, names: Sequence[str], files: Sequence[str]) -> None:
    """Write the list that pairs micrographs with their coordinate files."""
    import pandas as pd

    write_blocks(path, {"coordinate_files": pd.DataFrame({NAME: names, COORDINATE_FILE: files})})


def _as_seen_from_here(path: Path) -> str:
    """RELION runs in its project's folder and wants paths relative to that."""
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative


def write_blocks(path: Path, blocks: Mapping[str, pd.DataFrame]) -> None:
    """Write tables as the blocks of one STAR file; the same tables give the same bytes."""
    import starfile

    text = starfile.to_string(dict(blocks), float_format="%.6f")
    # starfile notes the time in its first line, which would make every run's files differ.
    body = text[text.index("data_") :]
    write_text(path, f"# Written by heliodor {__version__}\n\n{body}")
