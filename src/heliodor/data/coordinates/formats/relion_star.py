"""RELION STAR files: micrographs, coordinates, and the lists that join them.

RELION 3.0 keeps everything in one block; 3.1 and later
put optics groups beside it. Coordinates are 0-based pixels of the micrograph, y growing with
the row index of the file.
"""

from __future__ import annotations

import itertools
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import PIXEL_SIZE as OUR_PIXEL_SIZE
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.star_list import (
    NAME,
    OPTICS_GROUP,
    PIXEL_SIZE,
    TOMOGRAM_PREFIXES,
    OpticsGroups,
    describe_other_tables,
    pixel_sizes,
    spell_group,
)
from heliodor.data.star import (
    StarTable,
    find_tables,
    format_values,
    is_blank,
    read_blocks,
    render_blocks,
)
from heliodor.errors import BadInput
from heliodor.utils.files import find_referenced_file, has_namesake_here, write_text
from heliodor.utils.parsing import parse_number

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

X, Y, Z = "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"
SCORE = "rlnAutopickFigureOfMerit"
#: The score of particles that were picked by hand, which RELION writes in place of none.
UNSET = -999.0
COORDINATE_FILE = "rlnMicrographCoordinates"
#: Prefix of the columns of the optics table, where they are kept for each pick.
OPTICS = "optics/"
#: Suffixes that picking programs append to the stem of a micrograph in per-micrograph files.
PICK_SUFFIXES = (
    *("_autopick", "_manualpick", "_extract"),  # RELION
    *("_pick", "_picks", "_topazpicks", "_topaz", "_coords", "_coordinates", "_checked"),
    *("_picked", "_particles", "_ptcls", "_boxes", "_coord", "_cryolo"),
    *("_automatch", "_nonunique"),  # Gautomatch
)

_BLOCK = re.compile(rb"^(?:\xef\xbb\xbf)?[ \t]*data_", re.MULTILINE)


def looks_like(head: bytes) -> bool:
    """Return whether the beginning of a file has a block of a STAR file."""
    return b"\0" not in head and _BLOCK.search(head) is not None


def _expand_optics(groups: OpticsGroups) -> dict[str, Any]:
    """Return the columns of the optics groups, with one value per row of the table."""
    optics = groups.optics
    if optics is None:
        return {}
    return {
        OPTICS + label: np.array(
            [None if row is None else values[row] for row in groups.rows], dtype=object
        )
        for label, values in ((c, optics[c]) for c in optics.columns)
        if label != OPTICS_GROUP
    }


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read coordinates: a combined table, a list of coordinate files, or those of one micrograph.

    A table without micrograph names belongs to the micrograph that its file name indicates
    (``stem_autopick.star`` and the like). All other columns are kept as they are written, those
    of the optics groups under names that begin with ``optics/``.

    Raises
    ------
    BadInput
        If there are no coordinate columns, or a coordinate is not a number.
    """
    path = Path(path)
    return _parse_blocks(path, read_blocks(path, (X, Y, SCORE)))


def _parse_blocks(path: Path, blocks: Mapping[str, StarTable], listing: bool = True) -> Picks:
    """Read coordinates from blocks, which may list other files only if `listing` is true."""
    listed, note = find_tables(blocks, (COORDINATE_FILE,), ("coordinate_files",))
    if listed is not None and NAME not in listed:
        raise BadInput(f"{path} lists coordinate files, but has no column _{NAME} beside them")
    if listed is not None and not listing:
        raise BadInput(
            f"{path} is a list of coordinate files that another list names; lists cannot be nested"
        )
    if listed is not None:
        _log(path, note)
        return _read_listed_files(path, listed)
    table, note = find_tables(blocks, (X, Y), ("particles",))
    _log(path, note)
    if table is None:
        why = describe_other_tables(blocks)
        if why is None and any(NAME in one for one in blocks.values()):
            why = "it lists micrographs, without coordinates"
        why = why or "it contains no coordinates"
        raise BadInput(f"{path} has no columns _{X} and _{Y}: {why}")
    _refuse_tomograms(table, path)
    xy = np.column_stack([parse_numbers(table, X, path), parse_numbers(table, Y, path)]).reshape(
        -1, 2
    )
    score = parse_numbers(table, SCORE, path, finite=False) if SCORE in table else None
    if score is not None and (score == UNSET).all():
        score = None
    own = {NAME, X, Y, SCORE}
    extra = {c: table[c] for c in table.columns if c not in own}
    groups = OpticsGroups.find(table, blocks.get("optics"), path)
    extra |= _expand_optics(groups)
    if OPTICS_GROUP in extra:
        extra[OPTICS_GROUP] = np.array([*map(spell_group, extra[OPTICS_GROUP])], dtype=object)
    sizes = pixel_sizes(table, groups)
    if any(size is not None for size in sizes):
        extra[OUR_PIXEL_SIZE] = np.array(sizes, dtype=object)
    if NAME not in table:
        name = infer_micrograph(path)
        picks = Picks.from_columns([name] * len(xy), xy, score, extra)
        return picks if len(picks) else Picks.empty([name])
    names = ["" if name != name else str(name) for name in table[NAME]]
    if "" in names:
        raise BadInput(
            f"{path} has no _{NAME} in row {names.index('') + 1} of its table; fix or remove the"
            " row"
        )
    return Picks.from_columns(names, xy, score, extra)


def _refuse_tomograms(table: StarTable, path: Path) -> None:
    """Refuse particles of tomograms, whose x and y are not positions on a micrograph."""
    why = next((c for c in table.columns if c.startswith(TOMOGRAM_PREFIXES)), None)
    if why is None and Z in table:
        heights = {number for number in map(parse_number, table[Z]) if number == number}
        why = Z if len(heights) > 1 else None
    if why is None:
        return
    raise BadInput(
        f"{path} has the particles of tomograms (_{why}); give coordinates of micrographs, or"
        " remove that column"
    )


def _log(path: Path, note: str | None) -> None:
    if note is not None:
        log.warning(f"{path}: {note}")


def _read_listed_files(path: Path, table: StarTable) -> Picks:
    tables: dict[Path, Picks] = {}
    missing: dict[str, str] = {}
    namesakes: list[Path] = []
    for name, file in zip(map(str, table[NAME]), map(str, table[COORDINATE_FILE]), strict=True):
        found = find_referenced_file(file, path)
        if found is None:
            missing[file] = name
            continue
        namesakes += [found] if has_namesake_here(file, found) else []
        if found in tables:
            raise BadInput(
                f"{path} lists the coordinate file {file} twice; remove one of the rows"
            )
        tables[found] = read_listed_file(name, found)
    if namesakes:
        log.warning(
            f"{len(namesakes)} of the coordinate files in {path} are also in the current folder by"
            f" name; those of the list's own project are used (such as {namesakes[0]})"
        )
    if missing:
        first = next(iter(missing))
        if not tables:
            raise BadInput(
                f"{path} lists the coordinate file {first}, which does not exist; run from the"
                " RELION project's folder"
            )
        log.warning(
            f"{path} lists {len(missing)} coordinate files that do not exist (such as {first}):"
            " their micrographs count as without picks"
        )
    return Picks.concatenate([*tables.values(), Picks.empty(dict.fromkeys(missing.values()))])


def read_listed_file(micrograph: str, path: Path) -> Picks:
    """Read the coordinates of one micrograph; RELION leaves an empty file if there are none.

    Raises
    ------
    BadInput
        If the file is not such a file.
    """
    if is_blank(path):
        return Picks.empty([micrograph])
    own = _parse_blocks(path, read_blocks(path, (X, Y, SCORE)), listing=False)
    index = np.zeros(len(own), np.intp)
    return Picks((micrograph,), index, own.xy_px, own.score, own.extra)


def infer_micrograph(path: Path) -> str:
    """Return the stem of the micrograph to which a per-micrograph file belongs."""
    stem = path.stem
    for suffix in PICK_SUFFIXES:
        if stem.endswith(suffix):
            return stem.removesuffix(suffix)
    return stem


def parse_numbers(table: StarTable, column: str, path: Path, finite: bool = True) -> FloatArray:
    """Return the numbers of a column, with nan for other values unless `finite` refuses them."""
    values = np.array([parse_number(value) for value in table[column]], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if finite and len(bad):
        raise BadInput(
            f"{path} has {str(table[column][bad[0]])!r} for _{column} in row {bad[0] + 1} of"
            " its table, which is not a number; fix or remove the row"
        )
    return values


def write_picks(path: Path, picks: Picks) -> None:
    """Write one combined table of coordinates; see `render_picks`."""
    write_text(path, render_picks(picks, path))


def render_picks(picks: Picks, path: str | Path | None = None) -> str:
    """Return one combined table of coordinates, with micrograph names and optics groups.

    Columns with more than one number per pick are dropped; all others are written.

    Raises
    ------
    BadInput
        If some picks have an optics group and others have none; the message names the path.
    """
    # A number comes first: programs take a row that begins with data_1/a.mrc for a block, and
    # one that begins with _a.mrc for a label.
    columns: dict[str, Any] = {X: picks.xy_px[:, 0], Y: picks.xy_px[:, 1], NAME: picks.names()}
    if not np.isnan(picks.score).all():
        columns[SCORE] = picks.score
    optics: dict[str, Any] = {}
    for name, values in picks.extra.items():
        if name.startswith(OPTICS):
            optics[name.removeprefix(OPTICS)] = values
        elif values.ndim == 1 and name != OUR_PIXEL_SIZE:
            columns["_".join(name.split())] = values
    sizes = picks.extra.get(OUR_PIXEL_SIZE)
    if sizes is not None and PIXEL_SIZE not in {*columns, *optics}:
        # RELION looks for it among the optics, where there are some.
        (optics or columns)[PIXEL_SIZE] = sizes
    if not optics or not len(picks):
        return render_blocks({"": columns})
    groups, table = _assign_optics_groups(optics, columns.get(OPTICS_GROUP), path or "the table")
    columns[OPTICS_GROUP] = groups
    return render_blocks({"optics": table, "particles": columns})


def _assign_optics_groups(
    optics: Mapping[str, Any], numbers: Any, path: str | Path
) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the optics group of each pick, and the groups' table.

    Groups keep their numbers unless two files use one number for different groups.
    """
    rows = list(zip(*(format_values(values) for values in optics.values()), strict=True))
    wanted = format_values(numbers) if numbers is not None else ["1"] * len(rows)
    if "nan" in wanted:
        raise BadInput(
            f"{path} cannot be written: some particles have an optics group and others have none;"
            " convert the files separately"
        )
    found: dict[tuple[str, tuple[str, ...]], str] = {}
    for key in zip(wanted, rows, strict=True):
        if key not in found:
            taken = set(found.values())
            free = (str(n) for n in itertools.count(1) if str(n) not in taken)
            found[key] = key[0] if key[0] not in taken else next(free)
    table: dict[str, list[Any]] = {OPTICS_GROUP: list(found.values())}
    for place, label in enumerate(optics):
        table[label] = [row[place] for _, row in found]
    return [found[key] for key in zip(wanted, rows, strict=True)], table
