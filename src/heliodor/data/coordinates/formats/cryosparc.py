"""cryoSPARC's ``.cs`` files: one table of particles of many micrographs.

Positions are float32 fractions of the width and height of the micrograph, with rows in the order
of the image file: there is no flip. There are two forms: a NumPy file with a structured array,
which is read and written, and the compressed stream that cryoSPARC uses between its programs,
which is only read.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from heliodor.conventions import FloatArray, Shape
from heliodor.data.coordinates.formats.relion_star import OPTICS
from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import (
    HEIGHT,
    PIXEL_SIZE,
    WIDTH,
    Picks,
)
from heliodor.data.cryosparc_table import (
    NUMPY_MAGIC,
    STREAM_MAGIC,
    Column,
    decode_texts,
    load_table,
    strip_export_mark,
)
from heliodor.data.micrographs.names import _UID_PREFIX
from heliodor.data.micrographs.star_list import PIXEL_SIZE as STAR_PIXEL_SIZE
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping

UID = "uid"
MICROGRAPH_UID, GROUP = "location/micrograph_uid", "location/exp_group_id"
NAME, SHAPE = "location/micrograph_path", "location/micrograph_shape"
X, Y = "location/center_x_frac", "location/center_y_frac"
EXPOSURE = "micrograph_blob/path"
PSIZE, MIN_DISTANCE = "location/micrograph_psize_A", "location/min_dist_A"
SCORE = "pick_stats/ncc_score"
#: Fields that `Picks` holds in another form.
_OWN: Final = (NAME, SHAPE, X, Y, PSIZE, SCORE)
#: Fields that cryoSPARC requires, 0 where unknown: for all picks, and for those with a score.
_LOCATION: Final = {GROUP: np.uint32, MIN_DISTANCE: np.float32}
_STATISTICS: Final = {
    "pick_stats/power": np.float32,
    "pick_stats/template_idx": np.uint32,
    "pick_stats/angle_rad": np.float32,
}
_TYPES: Final = {UID: np.uint64, MICROGRAPH_UID: np.uint64} | _LOCATION | _STATISTICS
#: The kinds of the values of these fields, in NumPy's letters, and those with one value per row.
_KINDS: Final = {NAME: "SUO"} | dict.fromkeys((SHAPE, X, Y, PSIZE, SCORE), "iuf")
_FLAT: Final = (NAME, X, Y, PSIZE, SCORE)


def looks_like(head: bytes) -> bool:
    """Return whether the beginning of a file is that of a ``.cs`` file, in either form."""
    if head.startswith(STREAM_MAGIC):
        return True
    return head.startswith(NUMPY_MAGIC) and b"('uid', '<u8')" in head


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read the particles of all micrographs, which are named by their paths in the file.

    Sizes and pixel sizes of the micrographs are in the extra columns `micrograph_height_px`,
    `micrograph_width_px` and `pixel_size_angstrom`. The score is ``pick_stats/ncc_score``, if
    present: the correlation that the picker computed, not a log-odds. All other fields are kept
    under their names, those with several numbers per row with the shape (n, k).

    Raises
    ------
    BadInput
        If the file is not a table of positions, or cannot be read without running code in it.
    """
    path = Path(path)
    columns = load_table(path)
    missing = [field for field in (NAME, SHAPE, X, Y) if field not in columns]
    if missing:
        why = (
            "it lists exposures, not particles"
            if EXPOSURE in columns
            else "it contains no positions on micrographs; cryoSPARC may have put them in the"
            " passthrough file of the same job"
        )
        raise BadInput(f"{path} has no field {missing[0]}: {why}")
    for field, column in columns.items():
        kinds = _KINDS.get(field, "biufcSUO")
        if column.dtype.kind not in kinds or (field in _FLAT and column.ndim != 1):
            raise BadInput(f"the field {field} of {path} has an unexpected type; export it again")
    shape = columns[SHAPE].astype(np.float64)
    fraction = np.column_stack([columns[X], columns[Y]]).astype(np.float64).reshape(-1, 2)
    if shape.shape != fraction.shape:
        raise BadInput(f"{path} has no height and width in its field {SHAPE}; export it again")
    bad = np.flatnonzero(~(np.isfinite(fraction).all(axis=1) & (shape > 0).all(axis=1)))
    if len(bad):
        raise BadInput(
            f"{path} has no position, or a micrograph without size, in row {bad[0] + 1}; export"
            " it again from cryoSPARC"
        )
    if not len(fraction):
        return Picks.empty()
    extra = {key: decode_texts(column, path) for key, column in columns.items() if key not in _OWN}
    extra |= {HEIGHT: columns[SHAPE][:, 0], WIDTH: columns[SHAPE][:, 1]}
    if PSIZE in columns and (columns[PSIZE] > 0).any():
        sizes = [float(size) if size > 0 else None for size in columns[PSIZE]]
        extra[PIXEL_SIZE] = np.array(sizes, dtype=object)
    # The paths in an exported file are relative to that file.
    names = [strip_export_mark(name) for name in decode_texts(columns[NAME], path)]
    nameless = [row for row, name in enumerate(names) if not name]
    if nameless:
        raise BadInput(f"{path} names no micrograph in row {nameless[0] + 1}; export it again")
    return Picks.from_columns(names, fraction * shape[:, ::-1], columns.get(SCORE), extra)


def write_picks(
    path: Path, picks: Picks, shapes: Mapping[str, Shape], pixel_sizes: Mapping[str, float]
) -> None:
    """Write the picks of all micrographs as a plain NumPy ``.cs`` file.

    Uids that the table carries are kept. Otherwise a micrograph's is the one its file's name
    begins with, and all others are hashes, so the same picks give the same bytes. Fields
    that the table carries from a ``.cs`` file are written back, unless some picks lack them.
    cryoSPARC's tables have no place for micrographs without picks.

    Parameters
    ----------
    path
        The file.
    picks
        The picks.
    shapes
        (height, width) of each micrograph in pixels.
    pixel_sizes
        Angstrom per pixel of each micrograph.

    Raises
    ------
    BadInput
        If the size or pixel size of a micrograph is unknown, or the file cannot be written.
    """
    names, n = picks.names(), len(picks)
    for name in dict.fromkeys(names):
        if name not in shapes or name not in pixel_sizes:
            what = "size" if name not in shapes else "pixel size"
            raise BadInput(
                f"{path} cannot be written, as the {what} of {name} is unknown; give the"
                " micrographs too"
            )
    shape = np.array([shapes[name] for name in names], dtype=np.uint32).reshape(-1, 2)
    fraction = picks.xy_px / shape[:, ::-1]
    packed = {key: _to_field(key, values) for key, values in picks.extra.items()}
    carried = {key: column for key, column in packed.items() if column is not None}
    if UID not in carried or len(np.unique(carried[UID])) < n:
        carried[UID] = _make_pick_uids(names, picks.xy_px)
    if MICROGRAPH_UID not in carried:
        uids = {name: _make_micrograph_uid(name) for name in picks.micrographs}
        carried[MICROGRAPH_UID] = np.array([uids[name] for name in names], dtype=np.uint64)
    scored = not np.isnan(picks.score).all()
    needed = [UID, MICROGRAPH_UID, *_LOCATION, *(_STATISTICS if scored else ())]
    columns: dict[str, Column] = {key: np.zeros(n, _TYPES[key]) for key in needed}
    columns |= carried | {
        NAME: np.array([name.encode() for name in names], dtype=bytes),
        SHAPE: shape,
        X: fraction[:, 0].astype(np.float32),
        Y: fraction[:, 1].astype(np.float32),
        PSIZE: np.array([pixel_sizes[name] for name in names], dtype=np.float32),
    }
    if scored:
        columns[SCORE] = picks.score.astype(np.float32)
    table = np.zeros(n, dtype=[(key, v.dtype, v.shape[1:]) for key, v in columns.items()])
    for key, values in columns.items():
        table[key] = values
    with atomic_write(path) as aside, aside.open("wb") as stream:
        np.save(stream, table, allow_pickle=False)


def can_store(key: str, values: Column) -> bool:
    """Return whether a ``.cs`` file can hold a column of picks, in some form."""
    known = (HEIGHT, WIDTH, PIXEL_SIZE, STAR_PIXEL_SIZE, OPTICS + STAR_PIXEL_SIZE)
    return key in known or _to_field(key, values) is not None


def _to_field(key: str, values: Column) -> Column | None:
    """Return a field in the form of a ``.cs`` file, or None if some rows have no value."""
    if key != UID and ("/" not in key or key.startswith(OPTICS)):
        return None
    values = np.asarray(values)
    if values.dtype.kind == "O":
        if any(value is None or value != value for value in values.flat):
            return None
        values = np.array(values.tolist())
    if values.dtype.kind == "U":
        values = _parse_numbers(values)
    if key in _TYPES:
        kinds = "iu" if np.issubdtype(_TYPES[key], np.integer) else "iuf"
        return values.astype(_TYPES[key]) if values.dtype.kind in kinds else None
    if values.dtype.kind == "U":
        return np.char.encode(values, "utf-8")
    return values if values.dtype.kind in "biufS" else None


def _parse_numbers(texts: Column) -> Column:
    """Return texts as numbers, if all of them are, or the texts themselves."""
    for kind in (np.int64, np.uint64, np.float64):
        with suppress(ValueError, OverflowError):
            return texts.astype(kind)
    return texts


def _make_pick_uids(names: list[str], xy_px: FloatArray) -> Column:
    """Return a uid for each pick, made from its position; picks at one position are counted."""
    counts: dict[bytes, int] = {}
    uids = []
    for name, place in zip(names, xy_px, strict=True):
        key = name.encode() + b"\0" + place.tobytes()
        counts[key] = counts.get(key, 0) + 1
        uids.append(_hash(key + bytes([0]) + str(counts[key]).encode()))
    return np.array(uids, dtype=np.uint64)


def _make_micrograph_uid(name: str) -> int:
    prefix = _UID_PREFIX.search(name)
    uid = int(prefix[1]) if prefix else 0
    return uid if 0 < uid < 2**64 else _hash(name.encode())


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
