"""cryoSPARC's ``.cs`` files as tables: their fields by name, without a meaning.

There are two forms: a NumPy file with a structured array, and the compressed stream that
cryoSPARC uses between its programs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from heliodor.data import cryosparc_stream
from heliodor.errors import BadInput

Column = NDArray[Any]
Loaded = TypeVar("Loaded")

NUMPY_MAGIC, STREAM_MAGIC = b"\x93NUMPY", cryosparc_stream.MAGIC
#: Bytes. Tables of refined particles have longer headers than NumPy allows by default.
_MAX_HEADER = 1_000_000


@dataclass(frozen=True)
class Header:
    """What the beginning of a ``.cs`` file says."""

    #: Names of the fields.
    fields: frozenset[str]
    #: Number of rows.
    rows: int


def load_table(path: Path, only: Collection[str] | None = None) -> dict[str, Column]:
    """Read the fields of either form, without ever unpickling.

    Parameters
    ----------
    only
        Names of the fields to read, those that the file has; all by default.

    Raises
    ------
    BadInput
        If the file is not such a table, or cannot be read without running code in it.
    """
    return _read_either(
        path,
        lambda: cryosparc_stream.read_stream(path, only),
        lambda: {
            field: np.array(column)
            for field, column in _map_fields(path).items()
            if only is None or field in only
        },
    )


def read_header(path: Path) -> Header:
    """Read which fields a file has, and how many rows.

    Raises
    ------
    BadInput
        If the file is not a table of cryoSPARC.
    """

    def read_numpy() -> Header:
        columns = _map_fields(path)
        return Header(frozenset(columns), len(next(iter(columns.values()), ())))

    return _read_either(path, lambda: Header(*cryosparc_stream.read_fields(path)), read_numpy)


def _read_either(
    path: Path, read_stream: Callable[[], Loaded], read_numpy: Callable[[], Loaded]
) -> Loaded:
    """Read a file with the reader of its form."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(NUMPY_MAGIC))
        if magic == STREAM_MAGIC:
            return read_stream()
        if magic != NUMPY_MAGIC:
            raise BadInput(f"{path} is not a .cs file of cryoSPARC; check the name")
        return read_numpy()
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # NumPy raises many kinds for a damaged header
        if "Python objects" in str(error):
            raise BadInput(
                f"{path} holds pickled Python objects, which can run code when they are read;"
                " export it again from cryoSPARC"
            ) from error
        raise BadInput(f"{path} cannot be read as a .cs file ({error}); copy it again") from error


def _map_fields(path: Path) -> dict[str, Column]:
    """Return the fields of a NumPy file, which are read where they are used."""
    # Mapped, as the header may claim more rows than fit the file or the memory.
    table = np.load(path, "r", allow_pickle=False, max_header_size=_MAX_HEADER)
    if table.dtype.names is None or table.ndim != 1:
        raise BadInput(f"{path} is a NumPy file, but not a table of cryoSPARC; check the name")
    # Of files that were written one behind another, NumPy would read only the first.
    if isinstance(table, np.memmap) and table.offset + table.nbytes < path.stat().st_size:
        raise ValueError("it has more behind its table")
    return {field: table[field] for field in table.dtype.names}


def decode_texts(column: Column, path: Path) -> Column:
    """Return a column with its bytes decoded; rows with the same text share it.

    Raises
    ------
    BadInput
        If a text is not UTF-8.
    """
    if column.dtype.kind not in "SO":
        return column
    try:
        values, where = np.unique(column, return_inverse=True)
        texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} has text that is not UTF-8 ({error}); rename the file") from error
    return np.array(texts, dtype=object)[where].reshape(column.shape)


def strip_export_mark(name: str) -> str:
    """Return a path without the > that cryoSPARC puts before those in exported files."""
    return name.removeprefix(">")
