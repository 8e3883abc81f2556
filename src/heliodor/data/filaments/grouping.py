"""Turn rows of coordinate files into filaments: by their identities, or as pairs of ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.conventions import FloatArray, IndexArray
from heliodor.data.coordinates.formats import box
from heliodor.data.coordinates.formats.filament_columns import (
    CBOX_FILAMENT,
    CS_FILAMENT,
    TRACK_LENGTH,
    TUBE,
)
from heliodor.data.coordinates.picks import BOX, HEIGHT, PIXEL_SIZE, WIDTH, Picks
from heliodor.data.filaments.filament import (
    WIDTH_ANGSTROM,
    Filament,
    Filaments,
    make_tubes_different,
)
from heliodor.errors import BadInput
from heliodor.utils.parsing import parse_number

#: The columns with the identity of a filament, and with the place of a row along it.
_IDENTITIES = (TUBE, CBOX_FILAMENT, CS_FILAMENT)
_PLACES = (TRACK_LENGTH, "filament/position_A")


def group_points(picks: Picks, path: Path, start_end: bool = False) -> tuple[Filaments, int]:
    """Return the filaments whose points are the rows of a table.

    Rows with one identity are one filament, from the lowest to the highest place along it where
    the table has that, otherwise in the order of the rows. Of pairs of ends, one that begins at
    the very point where the pair before it ends continues the same filament.

    Parameters
    ----------
    picks
        Rows as `heliodor.data.coordinates.formats.read_picks` returns them.
    path
        The file, for messages.
    start_end
        Whether the rows are pairs of ends, whatever columns there are.

    Returns
    -------
    Filaments, int
        The filaments, and the number of those with one point, which have no axis.

    Raises
    ------
    BadInput
        If the rows have no identities and do not form pairs.
    """
    identity = next((column for column in _IDENTITIES if column in picks.extra), None)
    groups: list[tuple[int | None, IndexArray]] = []
    for _, rows in picks.rows():
        if start_end:
            groups += _pair_rows(picks, rows, path, identity)
        elif identity is not None:
            groups += _group_rows(picks, rows, path, identity)
        else:
            groups += [(None, own) for own in _chain(picks, _pair_tags(picks, rows, path))]
    filaments = []
    numbers: dict[str, itertools.count[int]] = {}
    for tube, rows in groups:
        name = picks.micrographs[picks.micrograph_index[rows[0]]]
        number = next(numbers.setdefault(name, itertools.count(1)))
        one = _make_filament(picks, rows, name, number if tube is None else tube)
        filaments += [] if one is None else [one]
    heights, widths = picks.first_positive_values(HEIGHT), picks.first_positive_values(WIDTH)
    table = Filaments(
        picks.micrographs,
        tuple(make_tubes_different(filaments)),
        picks.first_positive_values(PIXEL_SIZE),
        {name: (round(heights[name]), round(widths[name])) for name in heights if name in widths},
    )
    return table, len(groups) - len(filaments)


def _group_rows(
    picks: Picks, rows: IndexArray, path: Path, identity: str
) -> list[tuple[int | None, IndexArray]]:
    """Return the rows of each filament of one micrograph, in the order along it."""
    tubes: dict[int, list[int]] = {}
    for row in rows.tolist():
        tubes.setdefault(_read_identity(picks, row, path, identity), []).append(row)
    place = next((column for column in _PLACES if column in picks.extra), None)
    groups: list[tuple[int | None, IndexArray]] = []
    for tube, own in tubes.items():
        order = np.array(own)
        if place is not None:
            along = np.array([_read_place(picks.extra[place][row]) for row in own])
            unknown = np.isnan(along)
            if unknown.any() and not unknown.all():
                row = own[int(np.argmax(unknown))]
                raise BadInput(
                    f"{path} has {str(picks.extra[place][row])[:80]!r} for {place} in row"
                    f" {row + 1}, where a distance is expected; fix or remove the row"
                )
            order = order[np.argsort(along, kind="stable")]
        groups.append((tube, order))
    return groups


def _read_identity(picks: Picks, row: int, path: Path, identity: str) -> int:
    value = picks.extra[identity][row]
    if isinstance(value, int | np.integer):
        return int(value)
    try:
        return int(str(value))  # exact, however large
    except ValueError:
        number = _read_place(value)
    if not number.is_integer():
        raise BadInput(
            f"{path} has {str(value)[:80]!r} for {identity} in row {row + 1}, which is not the"
            " number of a filament; fix or remove the row"
        )
    return int(number)


def _read_place(value: Any) -> float:
    """Return a number; nan for anything else, among it numbers that are not real."""
    return math.nan if isinstance(value, complex | np.complexfloating) else parse_number(value)


def _pair_rows(
    picks: Picks, rows: IndexArray, path: Path, identity: str | None
) -> list[tuple[int | None, IndexArray]]:
    """Return the rows of each filament of one micrograph, whose rows are pairs of ends."""
    if len(rows) % 2:
        name = picks.micrographs[picks.micrograph_index[rows[0]]]
        raise BadInput(
            f"{path} has {len(rows)} points on {name}, which are not pairs of starts and ends;"
            " add the missing point, or leave out --start-end"
        )
    chains = _chain(picks, rows.reshape(-1, 2))
    if identity is None:
        return [(None, own) for own in chains]
    return [(_read_identity(picks, int(own[0]), path, identity), own) for own in chains]


def _pair_tags(picks: Picks, rows: IndexArray, path: Path) -> IndexArray:
    """Return the rows with the tags -1 and -2 as pairs, shape (n, 2)."""
    tags = picks.extra.get(box.TAG)
    if tags is None:
        raise BadInput(
            f"{path} does not say which rows belong to one filament; if they are pairs of starts"
            " and ends, give --start-end"
        )
    ends = np.array([row for row in rows.tolist() if tags[row] in (-1, -2)], dtype=np.intp)
    if len(ends) % 2 or any(tags[row] != (-1, -2)[n % 2] for n, row in enumerate(ends.tolist())):
        raise BadInput(
            f"the tags -1 (start) and -2 (end) of the boxes in {path} do not alternate; fix or"
            " remove the box without its other end"
        )
    if len(ends) < len(rows):
        raise BadInput(
            f"{path} has boxes of particles beside the ends of helices, which have the tags -1 and"
            " -2; put them into different files"
        )
    return ends.reshape(-1, 2)


def _chain(picks: Picks, pairs: IndexArray) -> list[IndexArray]:
    """Join each pair that begins where the pair before it ends."""
    chains: list[list[int]] = []
    for start, end in pairs.tolist():
        if chains and np.array_equal(picks.xy_px[chains[-1][-1]], picks.xy_px[start]):
            chains[-1].append(end)
        else:
            chains.append([start, end])
    return [np.array(chain, dtype=np.intp) for chain in chains]


def _make_filament(picks: Picks, rows: IndexArray, name: str, tube: int) -> Filament | None:
    """Return a filament through some rows, None if they are all at one point."""
    changed = np.any(np.diff(picks.xy_px[rows], axis=0) != 0.0, axis=1)
    rows = rows[np.concatenate([[True], changed])]
    if len(rows) < 2:
        return None
    scores: FloatArray = picks.score[rows]
    return Filament(
        name,
        picks.xy_px[rows],
        tube,
        _first_number(picks, WIDTH_ANGSTROM, rows.tolist()),
        None if np.isnan(scores).all() else scores,
        _first_number(picks, BOX, rows.tolist()),
    )


def _first_number(picks: Picks, column: str, rows: Sequence[int]) -> float:
    return parse_number(picks.extra[column][rows[0]]) if column in picks.extra else math.nan
