"""Plain tables of coordinates: heliodor's ``picks.tsv``, Topaz's text, TSV and CSV files."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.formats.relion_star import infer_micrograph
from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import micrograph_stem
from heliodor.data.star import MOST_COLUMNS, format_values
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write
from heliodor.utils.parsing import parse_number

#: Accepted titles of each column, in lower case.
NAMES = ("micrograph", "image_name", "micrograph_name", "rlnmicrographname", "filename", "name")
XS = ("x_px", "x_coord", "x", "rlncoordinatex")
YS = ("y_px", "y_coord", "y", "rlncoordinatey")
SCORES = ("log_odds", "score", "rlnautopickfigureofmerit")
OURS = (
    "micrograph",
    "x_px",
    "y_px",
    "log_odds",
    "probability",
    "selected",
    "pixel_size_angstrom",
)


def looks_like(head: bytes) -> bool:
    """Return whether the beginning of a file has a header line with coordinates."""
    if b"\0" in head:
        return False
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    return _has_coordinates(next((line for line in lines if not _precedes_header(line)), ""))


def _has_coordinates(line: str) -> bool:
    """Return whether a line is a header with coordinates."""
    columns = [c.strip().strip('"').lower() for c in line.split(_guess_delimiter(line))]
    return any(c in XS for c in columns) and any(c in YS for c in columns)


def _precedes_header(line: str) -> bool:
    """Return whether a line is blank or a comment; a header may begin with # as well."""
    line = line.strip()
    return not line or (line.startswith("#") and not _has_coordinates(line))


def _guess_delimiter(line: str) -> str:
    return "\t" if "\t" in line else ","


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read a TSV or CSV table whose header names the columns; the header may be repeated.

    Blank lines and comments, which begin with #, are skipped.
    Coordinates are particle centers in pixels of the micrograph. A table without a micrograph
    column belongs to the micrograph that its file name indicates.

    Raises
    ------
    BadInput
        If the columns are missing or a coordinate is not a finite number.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, number = "", 0
            for number, header in enumerate(stream, 1):  # noqa: B007
                if not _precedes_header(header):
                    break
            rows = csv.reader(chain([header], stream), delimiter=_guess_delimiter(header))
            return _read_rows(rows, path, number + 1)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a table ({error}); save it as UTF-8") from error


def _read_rows(rows: Iterator[list[str]], path: Path, first_line: int) -> Picks:
    """Read the header and the rows below it, the first of which is in this line of the file."""
    titles = _read_titles(next(rows, []))
    header = [title.lower() for title in titles]
    x, y = _find_column(header, XS), _find_column(header, YS)
    if x is None or y is None:
        raise BadInput(f"{path} has no header with x and y columns (x_coord, y_coord)")
    if len(header) > MOST_COLUMNS:
        raise BadInput(f"{path} has {len(header)} columns, more than any table of particles")
    name, score = _find_column(header, NAMES), _find_column(header, SCORES)
    known = {x, y, name, score, _find_column(header, ("probability",))}
    others = [c for c in range(len(header)) if c not in known]
    # Dense searches list millions of candidates: their numbers are packed row by row, and text
    # that rows share, such as the micrograph, is kept once.
    numbers, scores, names = array("d"), array("d"), list[str]()
    kept: dict[str, str] = {}
    extra: list[list[str]] = [[] for _ in others]
    for line, row in enumerate(rows, first_line):
        if not any(cell.strip() for cell in row):
            continue
        if _read_titles(row) == titles:
            continue  # tables written one behind another
        if row[0].startswith("#") and (len(row) != len(header) or not _is_pick(row, x, y)):
            continue  # a comment, not a micrograph with such a name
        if len(row) != len(header):
            raise BadInput(
                f"{path}, line {line}, has {len(row)} columns where the header has {len(header)}"
            )
        if name is not None:
            if not row[name].strip():
                raise BadInput(f"{path}, line {line}, names no micrograph; fix or remove the line")
            names.append(kept.setdefault(row[name], row[name]))
        numbers.append(_parse_coordinate(row[x], path, line))
        numbers.append(_parse_coordinate(row[y], path, line))
        if score is not None:
            scores.append(parse_number(row[score]))
        for column, c in zip(extra, others, strict=True):
            column.append(kept.setdefault(row[c], row[c]))
    xy = np.array(numbers).reshape(-1, 2)
    columns = {
        titles[c]: np.array(column, dtype=object) for column, c in zip(extra, others, strict=True)
    }
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


def _parse_coordinate(cell: str, path: Path, line: int) -> float:
    value = parse_number(cell)
    if not np.isfinite(value):
        raise BadInput(f"{path}, line {line}, has {cell[:80]!r} where a coordinate should be")
    return value


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
