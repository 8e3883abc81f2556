"""cryoSPARC's compressed form of a table: columns compressed with LZ4, and a heap of texts.

Decoded here, as the decoder of cryosparc-tools does not check offsets into the heap and crashes
the process if they are wrong. The magic bytes are followed by the length of a header, the header
(JSON: the number of rows, the fields and their types, and which fields are compressed), each
field preceded by its length, and the texts, each terminated by a zero byte; a field of texts
holds the offset of each text in the heap. Source: the code of cryosparc-tools 5.0, and LZ4's
"Block Format".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x95CSDAT"
#: The types of a field of numbers, and that of a field of texts.
_NUMBERS, _TEXTS = re.compile(r"[<|=]?[iufc](1|2|4|8|16)"), "|O"
#: Bytes of a header that are read without the rest of a file.
_LONGEST_HEADER = 2**22
#: The largest number of bytes to which one byte of LZ4 expands.
_MOST_EXPANSION = 255


#: The name of a field, its type, the shape of a value, and whether it is a text.
_Field = tuple[str, np.dtype[Any], tuple[int, ...], bool]


def read_fields(path: Path) -> tuple[frozenset[str], int]:
    """Read the names of the fields and the number of rows, from the beginning of a file.

    Raises
    ------
    ValueError
        If the header is truncated or inconsistent. Other damage may raise other exceptions.
    """
    with path.open("rb") as stream:
        head = stream.read(len(MAGIC) + 4)
        size = int.from_bytes(head[len(MAGIC) :], "little")
        head += stream.read(min(size, _LONGEST_HEADER))
    fields, count, _ = _parse_header(_read_part(head, len(MAGIC))[0])
    return frozenset(name for name, *_ in fields), count


def _parse_header(header: bytes) -> tuple[list[_Field], int, Collection[str]]:
    """Return the fields, the number of rows, and the names of the compressed fields."""
    about = json.loads(header)
    count = about["length"]
    if type(count) is not int or count < 0:
        raise ValueError("its number of rows is invalid")
    return [_parse_field(*field) for field in about["dtype"]], count, about["compressed_fields"]


def read_stream(path: Path, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the fields, texts as objects; all of them, or only those with these names.

    Raises
    ------
    ValueError
        If the file is truncated or inconsistent. Other damage may raise other exceptions.
    """
    raw = path.read_bytes()
    header, at = _read_part(raw, len(MAGIC))
    fields, count, packed = _parse_header(header)
    claimed = sum(count * math.prod(shape) * dtype.itemsize for _, dtype, shape, _ in fields)
    if claimed > _MOST_EXPANSION * len(raw):
        raise ValueError("it is too short for its rows")
    columns: dict[str, NDArray[Any]] = {}
    texts: list[str] = []
    for name, dtype, shape, is_text in fields:
        size = count * math.prod(shape) * dtype.itemsize
        content = b""
        if count:
            content, at = _read_part(raw, at)
        if only is not None and name not in only:
            continue
        if content and name in packed:
            content = decompress_lz4(content, size)
        if len(content) != size:
            raise ValueError(f"its field {name} has the wrong length")
        columns[name] = np.frombuffer(content, dtype).reshape(count, *shape)
        texts += [name] if is_text else []
    heap = raw[at:]
    if not heap.endswith(b"\0"):
        raise ValueError("it is truncated")
    if MAGIC in heap:  # no text has these bytes
        raise ValueError("it has more behind its table")
    return columns | {name: _read_texts(columns[name], heap) for name in texts}


def _read_part(raw: bytes, at: int) -> tuple[bytes, int]:
    """Return a part that is preceded by its length, and the offset of its end."""
    start = at + 4
    end = start + int.from_bytes(raw[at:start], "little")
    if end > len(raw) or start > len(raw):
        raise ValueError("it is truncated")
    return raw[start:end], end


def _parse_field(name: str, kind: str, shape: Any = ()) -> _Field:
    if not (isinstance(name, str) and isinstance(kind, str) and isinstance(shape, list | tuple)):
        raise ValueError("its fields are not described correctly")
    if not all(type(side) is int and 0 < side < 2**16 for side in shape) or len(shape) > 3:
        raise ValueError(f"its field {name} has an invalid shape")
    if kind == _TEXTS:
        return name, np.dtype("<u8"), tuple(shape), True
    if not _NUMBERS.fullmatch(kind):
        raise ValueError(f"its field {name} has an unknown type")
    return name, np.dtype(kind), tuple(shape), False


def _read_texts(places: NDArray[Any], heap: bytes) -> NDArray[Any]:
    """Return the texts at offsets into the heap, which must be beginnings of texts."""
    starts, where = np.unique(places, return_inverse=True)
    if len(starts) and int(starts[-1]) >= len(heap):
        raise ValueError("it refers to texts that it does not contain")
    values = []
    for start in starts.tolist():
        if start and heap[start - 1]:
            raise ValueError("it refers to texts that it does not contain")
        values.append(heap[start : heap.index(0, start)].decode())
    return np.array(values, dtype=object)[where].reshape(places.shape)


def decompress_lz4(raw: bytes, size: int) -> bytes:
    """Decompress one block of LZ4.

    Parameters
    ----------
    raw
        The block: literals, and copies of previous bytes.
    size
        The number of decompressed bytes.

    Raises
    ------
    ValueError
        If there are more or fewer bytes, or the block is truncated.
    """
    out = bytearray()
    at = 0
    while at < len(raw):
        token = raw[at]
        count, at = _read_length(raw, at + 1, token >> 4)
        if at + count > len(raw):
            raise ValueError("one of its compressed fields is truncated")
        out += raw[at : at + count]
        at += count
        if at == len(raw):
            break  # no copy follows the last literals
        back = int.from_bytes(raw[at : at + 2], "little")
        count, at = _read_length(raw, at + 2, token & 15)
        count += 4
        if not 0 < back <= len(out) or len(out) + count > size:
            raise ValueError("one of its compressed fields is damaged")
        copied = out[-back:][:count]
        out += copied if back >= count else (copied * (count // back + 1))[:count]
    if len(out) != size:
        raise ValueError("one of its compressed fields is damaged")
    return bytes(out)


def _read_length(raw: bytes, at: int, length: int) -> tuple[int, int]:
    """Return a length whose first four bits are given, and the offset of its end."""
    if length < 15:
        return length, at
    while True:
        if at >= len(raw):
            raise ValueError("one of its compressed fields is truncated")
        length += raw[at]
        at += 1
        if raw[at - 1] < 255:
            return length, at
