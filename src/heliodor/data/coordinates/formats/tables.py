"""Plain tables of coordinates: heliodor's ``picks.tsv``, Topaz's text, TSV and CSV files."""

from __future__ import annotations

import csv
import io
import logging
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.formats.relion_star import infer_micrograph
from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import is_micrograph_name, micrograph_stem
from heliodor.data.star import MOST_COLUMNS, format_values
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write
from heliodor.utils.parsing import detect_encoding, parse_number

log = logging.getLogger(__name__)

#: Accepted titles of each column, in lower case and without underscores before them.
NAMES = (
    *("micrograph", "image_name", "micrograph_name", "rlnmicrographname", "filename", "name"),
    *("image", "file_name", "file", "path", "micrograph_path", "image_path", "micrographname"),
)
XS = ("x_px", "x_coord", "x", "rlncoordinatex")
YS = ("y_px", "y_coord", "y", "rlncoordinatey")
#: Heights in a tomogram.
ZS = ("z", "z_px", "z_coord", "rlncoordinatez")
SCORES = ("log_odds", "score", "rlnautopickfigureofmerit")
#: Titles of the sides of boxes.
_BOX_SIDES = ({"w", "width", "box_width"}, {"h", "height", "box_height"})
OURS = (
    "micrograph",
    "x_px",
    "y_px",
    "log_odds",
    "probability",
    "selected",
    "pixel_size_angstrom",
)
#: Where spaces separate the columns, all titles must be known: a sentence may have x and y too.
_KNOWN = frozenset((*NAMES, *XS, *YS, *ZS, *SCORES, *OURS))
#: A number with a decimal comma, and the line with which Excel names the delimiter.
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
_EXCEL_DELIMITER = re.compile(r'"?sep=."?', re.IGNORECASE)


def looks_like(head: bytes) -> bool:
    """Return whether the beginning of a file has a header line with coordinates."""
    if b"\0" in head:
        return False
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    return _has_coordinates(next((line for line in lines if not _precedes_header(line)), ""))


def _has_coordinates(line: str) -> bool:
    """Return whether a line is a header with coordinates."""
    delimiter = _guess_delimiter(line)
    cells = line.lstrip(" #").split(None if delimiter == " " else delimiter)
    columns = [_normalize_title(cell.strip().strip('"')) for cell in cells]
    if delimiter == " " and not _KNOWN.issuperset(columns):
        return False
    return any(c in XS for c in columns) and any(c in YS for c in columns)


def _normalize_title(title: str) -> str:
    return title.lower().lstrip("_")


def _precedes_header(line: str) -> bool:
    """Return whether a line is blank or a comment; a header may begin with # as well."""
    line = line.strip()
    if not line or _EXCEL_DELIMITER.fullmatch(line):
        return True
    return line.startswith("#") and not _has_coordinates(line)


def _guess_delimiter(line: str) -> str:
    """Return what separates the columns of a header; a space stands for any number of spaces."""
    return next((mark for mark in "\t;," if mark in line), " ")


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read a table whose header names the columns; the header may be repeated.

    Columns are separated by tabs, semicolons, commas or spaces; numbers may have a decimal comma
    unless commas separate them. Blank lines and comments, which begin with #, are skipped.
    Coordinates are particle centers in pixels of the micrograph. A table without a micrograph
    column belongs to the micrograph that its file name indicates.

    Raises
    ------
    BadInput
        If the columns are missing, a coordinate is not a finite number, or the table belongs to a
        tomogram.
    """
    path = Path(path)
    try:
        with path.open("rb") as start:
            encoding = detect_encoding(start.read(2))
        with path.open(encoding=encoding, newline="") as stream:
            header, number = "", 0
            for number, header in enumerate(stream, 1):  # noqa: B007
                if not _precedes_header(header):
                    break
            delimiter = _guess_delimiter(header)
            rows: Iterator[list[str]]
            if delimiter == " ":
                rows = map(str.split, chain([header.lstrip(" #")], stream))
            else:
                rows = csv.reader(chain([header], stream), delimiter=delimiter)
            return _read_rows(rows, path, number + 1, decimal_commas=delimiter != ",")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a table ({error}); save it as UTF-8") from error


def _read_rows(
    rows: Iterator[list[str]], path: Path, first_line: int, decimal_commas: bool
) -> Picks:
    """Read the header and the rows below it, the first of which is in this line of the file."""
    titles = _read_titles(next(rows, []))
    header = [_normalize_title(title) for title in titles]
    x, y = _find_column(header, XS), _find_column(header, YS)
    if x is None or y is None:
        raise BadInput(f"{path} has no header with x and y columns (x_coord, y_coord)")
    if len(header) > MOST_COLUMNS:
        raise BadInput(f"{path} has {len(header)} columns, more than any table of particles")
    if repeated := next((one for one in titles if one and titles.count(one) > 1), None):
        raise BadInput(f"{path} has the column {repeated} twice; remove or rename one of them")
    name, score = _find_column(header, NAMES), _find_column(header, SCORES)
    known = {x, y, name, score, _find_column(header, ("probability",))}
    others = [c for c in range(len(header)) if c not in known]
    # Dense searches list millions of candidates: their numbers are packed row by row, and text
    # that rows share, such as the micrograph, is kept once.
    numbers, scores, names = array("d"), array("d"), list[str]()
    parse = _NumberParser(decimal_commas)
    kept: dict[str, str] = {}
    extra: list[list[str]] = [[] for _ in others]
    for line, row in enumerate(rows, first_line):
        if not any(cell.strip() for cell in row):
            continue
        if _read_titles(row) == titles:
            continue  # tables written one behind another
        if row[0].startswith("#") and (len(row) != len(header) or not _is_pick(row, x, y)):
            continue  # a comment, not a micrograph with such a name
        while len(row) > len(header) and not row[-1].strip():
            del row[-1]  # a delimiter at the end of a line
        if len(row) != len(header):
            raise BadInput(
                f"{path}, line {line}, has {len(row)} columns where the header has {len(header)}"
            )
        if name is None and not numbers:
            name = _find_micrographs(row, others, titles, path)
            others, extra = [c for c in others if c != name], [[] for c in others if c != name]
        if name is not None:
            if not row[name].strip():
                raise BadInput(f"{path}, line {line}, names no micrograph; fix or remove the line")
            names.append(kept.setdefault(row[name], row[name]))
        for coordinate in (x, y):
            value = parse(row[coordinate])
            if not np.isfinite(value):
                raise BadInput(
                    f"{path}, line {line}, has {row[coordinate][:80]!r} where a coordinate should"
                    " be"
                )
            numbers.append(value)
        if score is not None:
            scores.append(parse(row[score]))
        for column, c in zip(extra, others, strict=True):
            column.append(kept.setdefault(row[c], row[c]))
    xy = np.array(numbers).reshape(-1, 2)
    if parse.commas:
        extra = [[*map(_with_decimal_point, column)] for column in extra]
        log.warning(f"{path}: numbers such as {parse.commas} are read with a decimal comma")
    columns = {
        titles[c]: np.array(column, dtype=object) for column, c in zip(extra, others, strict=True)
    }
    _check_kind(header, dict(zip(map(header.__getitem__, others), extra, strict=True)), path)
    ranked = None if score is None else np.array(scores)
    if name is not None:
        return Picks.from_columns(names, xy, ranked, columns)
    stem = infer_micrograph(path)
    table = Picks.from_columns([stem] * len(xy), xy, ranked, columns)
    return table if len(table) else Picks.empty([stem])


def _read_titles(cells: list[str]) -> list[str]:
    """Return the titles of columns, without the # of a header that is written as a comment."""
    titles = [cell.strip() for cell in cells]
    return [titles[0].lstrip("#").strip() or titles[0], *titles[1:]] if titles else []


def _is_pick(row: list[str], x: int, y: int) -> bool:
    return bool(np.isfinite([parse_number(row[x]), parse_number(row[y])]).any())


def _find_column(header: list[str], accepted: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in accepted if name in header), None)


class _NumberParser:
    """Reads numbers, also those with a decimal comma if they may have one."""

    def __init__(self, decimal_commas: bool) -> None:
        self._decimal_commas = decimal_commas
        #: The first number with a decimal comma, if there was one.
        self.commas = ""

    def __call__(self, cell: str) -> float:
        if self._decimal_commas and "," in cell and _DECIMAL_COMMA.fullmatch(cell):
            self.commas = self.commas or cell.strip()
            cell = _with_decimal_point(cell)
        return parse_number(cell)


def _with_decimal_point(cell: str) -> str:
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


def _find_micrographs(
    row: list[str], others: Sequence[int], titles: Sequence[str], path: Path
) -> int | None:
    """Return the column, of those without a known title, that names a micrograph in a row."""
    cells = ((c, row[c].strip()) for c in others)
    found = next((c for c, cell in cells if is_micrograph_name(cell) and "@" not in cell), None)
    if found is not None:
        log.warning(f"{path}: the micrographs are those in the column {titles[found]}")
    return found


def _check_kind(header: Sequence[str], extra: Mapping[str, list[str]], path: Path) -> None:
    """Refuse tables of tomograms, and mention that those of boxes are read as centers."""
    heights = next((extra[title] for title in ZS if title in extra), [])
    if len({number for number in map(parse_number, heights) if number == number}) > 1:
        raise BadInput(
            f"{path} has positions at several heights (z): it belongs to a tomogram; give"
            " coordinates of micrographs, or remove that column"
        )
    if all(sides.intersection(header) for sides in _BOX_SIDES):
        log.warning(
            f"{path}: x and y are read as centers of particles, although the table has widths and"
            " heights; if they are corners, add half a box with `heliodor convert --shift-px`"
        )


def write_topaz(path: Path, picks: Picks) -> None:
    """Write Topaz's table: stems of micrographs, centers, scores, and all other columns.

    Raises
    ------
    BadInput
        If two micrographs have the same stem, which Topaz would treat as one.
    """
    stems = [micrograph_stem(name) for name in picks.micrographs]
    if len(set(stems)) < len(stems):
        stem = next(s for s in stems if stems.count(s) > 1)
        raise BadInput(
            f"{path} cannot be written, as two micrographs would be called {stem}; convert the"
            " folders separately"
        )
    named = replace(picks, micrographs=tuple(stems))
    _write_columns(path, named, ("image_name", "x_coord", "y_coord", "score"), "\t")


def write_table(path: Path, picks: Picks, delimiter: str) -> None:
    """Write a table with a header: micrograph, center, score, and all other columns."""
    _write_columns(path, picks, ("micrograph", "x_px", "y_px", "score"), delimiter)


def _write_columns(
    path: Path, picks: Picks, titles: tuple[str, str, str, str], delimiter: str
) -> None:
    columns: dict[str, list[str]] = {
        titles[0]: picks.names(),
        titles[1]: format_values(picks.xy_px[:, 0]),
        titles[2]: format_values(picks.xy_px[:, 1]),
    }
    if not np.isnan(picks.score).all():
        columns[titles[3]] = format_values(picks.score)
    for name, values in picks.extra.items():
        if np.asarray(values).ndim == 1:
            columns.setdefault(name, format_values(values))
    with atomic_write(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_picks(
    path: Path,
    tables: Iterable[tuple[str, Picks]],
    threshold: float,
    pixel_sizes: Mapping[str, float],
    columns: Sequence[str] = (),
) -> None:
    """Write ``picks.tsv``: all candidates, best first within each micrograph.

    The column `selected` is 1 for the picks, that is, the candidates at or above the threshold;
    the others are kept so that the threshold can be changed and accuracy be measured later.
    The column `probability` is the calibrated probability, where the picks have one.

    Parameters
    ----------
    tables
        The name and the candidates of each micrograph; one micrograph is in memory at a time.
    threshold
        Log-odds.
    pixel_sizes
        Angstrom per pixel of each micrograph.
    columns
        Further columns of numbers, which all tables must have.
    """
    with atomic_write(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow((*OURS, *columns))
        for name, picks in tables:
            # Only the name may need quotes; there may be millions of rows.
            line = io.StringIO()
            csv.writer(line, delimiter="\t", lineterminator="").writerow((name, ""))
            start, size = line.getvalue(), f"{pixel_sizes[name]:g}"
            numbers = [*picks.xy_px.T, picks.score, picks.probability, picks.score >= threshold]
            numbers += [picks.extra[column] for column in columns]
            row = "%.3f\t%.3f\t%.6f\t%.6f\t%d\t" + size + "\t%.1f" * len(columns) + "\n"
            stream.writelines(
                start + row % values
                for values in zip(*(column.tolist() for column in numbers), strict=True)
            )
