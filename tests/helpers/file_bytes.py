"""The bytes of files that are written for the tests."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data import cryosparc_table


def written(name: str, write: Callable[[Path], object]) -> bytes:
    """Return the bytes of a file that is written under this name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def stream(table: np.ndarray[Any, Any], compression: str | None = "lz4", **changes: Any) -> bytes:
    """Write cryoSPARC's compressed form: every field is put down as literals of LZ4."""
    heap, places = bytearray(b"\0"), dict[bytes, int]()
    descr, columns = [], []
    for name in table.dtype.names or ():
        column, kind = table[name], table.dtype[name]
        if kind.kind == "S":
            for value in column:
                if bytes(value) not in places:
                    places[bytes(value)] = len(heap)
                    heap += value + b"\0"
            column = np.array([places[bytes(value)] for value in column], "<u8")
            descr.append([name, "|O"])
        else:
            descr.append([name, kind.base.str, *([list(kind.shape)] if kind.shape else [])])
        raw = column.tobytes()
        columns.append(_lz4(raw) if compression else raw)
    fields = [name for name, *_ in descr] if compression else []
    head = {"length": len(table), "dtype": descr, "compression": compression}
    header = json.dumps({**head, "compressed_fields": fields, **changes}).encode()
    body = b"".join(struct.pack("<I", len(raw)) + raw for raw in columns if len(table))
    magic = cryosparc_table.STREAM_MAGIC
    return magic + struct.pack("<I", len(header)) + header + body + bytes(heap)


def _lz4(raw: bytes) -> bytes:
    count, more = len(raw), b""
    if count >= 15:
        more = b"\xff" * ((count - 15) // 255) + bytes([(count - 15) % 255])
    return bytes([min(count, 15) << 4]) + more + raw
