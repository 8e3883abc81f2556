"""STAR files: named blocks of columns, with every value as it is written in the file.

Values are split by gemmi's CIF reader (Wojdyr 2022, J. Open Source Softw. 7, 4200). STAR files of
cryo-EM differ from CIF in three ways, which this module takes care of: a table has one row per
line, blocks may share a name, and values that CIF reserves need no quotes.
"""

from __future__ import annotations

import io
import math
import re
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from heliodor import __version__
from heliodor.errors import BadInput
from heliodor.utils.files import write_text
from heliodor.utils.parsing import detect_encoding, parse_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

#: More columns or blocks take long to read; no file of particles has as many.
MOST_COLUMNS, MOST_BLOCKS = 1000, 1000
#: Bytes. Longer lines take long to split into values; no row is as long.
LONGEST_LINE = 2**14
#: Bytes of rows that are split at a time: in memory, values take many times their size in a file.
CHUNK_BYTES = 2**19

#: The line that begins a block. A row may begin with a name such as data_1/a.mrc, too.
_BLOCK = re.compile(rb"^[ \t]*data_([^\s/]*)[ \t]*(?:#[^\n]*)?$", re.MULTILINE)
#: The head of a table with rows: loop_, then the labels of the columns.
_LOOP = re.compile(rb"(?:\s*+[#;][^\n]*+)*+\s*+loop_[^\n]*+((?:\s*+[#;_][^\n]*+)*+)")
_LABEL = re.compile(rb"^[ \t]*_(\S*)", re.MULTILINE)
#: Quoted values and comments, and then (in group 1) values that CIF reserves or does not allow.
_RESERVED = re.compile(
    rb"""(?<![^ \t\n])(?:
        "[^\n]*?"(?![^ \t\n]) | '[^\n]*?'(?![^ \t\n]) | \#[^\n]*
        | ((?:[_$;"']|(?i:data_|loop_|global_|save_|stop_))[^ \t\n]*
        | [^ \t\n]*[^ -~\t\n][^ \t\n]*)
    )""",
    re.VERBOSE,
)
#: RELION puts a BEL before a quotation mark that would end a quoted value. While values are split,
#: these characters for private use stand for such marks.
_STAND_INS = {'\a"': "\ue000", "\a'": "\ue001"}
#: Stands before a name in quotes that would mean a missing number without them.
_NAME_STAND_IN = "\ue002"
#: Beginnings of values that need quotes: of quoted values, comments, labels, blocks and tables.
_BEGINNINGS = ('"', "'", "#", ";", "_", "$", "data_", "loop_")
#: Written behind each row, as gemmi does not report where lines end.
_END_OF_ROW = "~end-of-row~"
#: A line that may stand in a file without content.
_EMPTY_LINE = re.compile(rb"\s*(?:#.*|data_\S*\s*|loop_\s*)?")
#: Values that stand for a missing number.
_MISSING = frozenset({"nan", "NaN", "<NA>"})
#: The column in which they are names, which are written in quotes.
_NAMES = "rlnMicrographName"


class StarTable:
    """The columns of a block by label, in the order of the file.

    A column is an array of the values as they are written: a number of twenty digits or with a
    leading zero may be a name. A missing number (``nan``, ``<NA>``) is a float nan, unless it is
    in quotes: then it is a name.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._columns = dict(columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Labels without their leading underscore."""
        return tuple(self._columns)

    def __contains__(self, label: object) -> bool:
        return label in self._columns

    def __getitem__(self, label: str) -> NDArray[Any]:
        return self._columns[label]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self._columns.values()), ()))


def read_blocks(path: str | Path, numbers: Sequence[str] = ()) -> dict[str, StarTable]:
    """Read every table of a STAR file, by block name without ``data_``.

    Tables of blocks with the same name, as in files written one behind another, are joined.

    Parameters
    ----------
    path
        The file.
    numbers
        Columns that are only used as numbers: they are float64 where all their values are
        finite.

    Raises
    ------
    BadInput
        If the file is missing, empty, not text or holds no STAR block, or if blocks of the same
        name have different columns.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"the STAR file {path} does not exist; check the name")
    if path.stat().st_size == 0:
        raise BadInput(f"the STAR file {path} is empty (0 bytes); write it again")
    try:
        text = _check_text(path.read_bytes())
        heads = list(_BLOCK.finditer(text))
        if len(heads) > MOST_BLOCKS:
            raise ValueError(f"it has {len(heads)} blocks, more than any file of particles")
        parts: dict[str, list[StarTable]] = {}
        for head, following in zip_longest(heads, heads[1:]):
            end = following.start() if following else len(text)
            columns = _read_block(text, head.end(), end, numbers)
            if columns:
                parts.setdefault(head[1].decode(), []).append(StarTable(columns))
        tables = {name: _join(name, same) for name, same in parts.items()}
        if heads and not tables:
            raise ValueError("its blocks are empty")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} cannot be read as a STAR file ({error}); save it as UTF-8"
        ) from error
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be read as a STAR file ({error})") from error
    if not tables:
        raise BadInput(f"{path} has no data_ block: it is not a STAR file")
    return tables


class BlockRows(NamedTuple):
    """A block whose rows are read one at a time."""

    name: str
    #: Labels without their leading underscore.
    labels: tuple[str, ...]
    #: The values of each row, as they are written; rows may lack their last values.
    rows: Iterator[list[str]]


def stream_blocks(path: str | Path) -> Iterator[BlockRows]:
    """Read the blocks of a STAR file one row at a time, in little memory.

    For counting: many times as fast as `read_blocks`, which also checks what it reads. The rows
    of a block must be read before the next block is.

    Raises
    ------
    BadInput
        While reading, if the file cannot be read or is not text.
    """
    with _refuse_damaged_star(path), Path(path).open("rb") as stream:
        lines = _Lines(stream)
        for line in lines:
            found = _BLOCK.match(line)
            if found:
                yield from _stream_block(path, found[1].decode(), lines)


@contextmanager
def _refuse_damaged_star(path: str | Path) -> Iterator[None]:
    """Raise `BadInput` for what is wrong with a STAR file."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be read as a STAR file ({error})") from error


class _Lines:
    """The lines of a file without blank ones and comments; the last one can be put back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        #: The next lines, in reverse.
        self._next: list[bytes] = []
        self._is_first = True

    def __iter__(self) -> Iterator[bytes]:
        while True:
            if not self._next:
                raw = self._stream.readline(LONGEST_LINE + 1)
                if not raw:
                    return
                if len(raw) > LONGEST_LINE:
                    raise ValueError("it has a line that is longer than any row")
                if b"\0" in raw:
                    raise ValueError("it holds zero bytes, so it is not text")
                if self._is_first:
                    raw, self._is_first = raw.removeprefix(b"\xef\xbb\xbf"), False
                # Old files have carriage returns at the ends of lines.
                self._next = raw.splitlines()[::-1]
                continue
            line = self._next.pop().strip(b" \t")
            if line and not line.startswith((b"#", b";")):
                yield line

    def put_back(self, line: bytes) -> None:
        self._next.append(line)


def _stream_block(path: str | Path, name: str, lines: _Lines) -> Iterator[BlockRows]:
    """Yield a block, unless it is empty, and leave its end to the next one."""
    labels: list[str] = []
    pairs: list[str] = []
    is_loop = False
    for line in lines:
        if line.startswith(b"_"):
            values = line.decode().split(None, 1)
            labels.append(values[0][1:])
            pairs.append("" if len(values) < 2 or values[1].startswith("#") else values[1])
        elif line.startswith(b"loop_"):
            is_loop = True
            if labels:
                raise ValueError("it has two tables in one block")
        else:
            lines.put_back(line)
            break
    if len(labels) > MOST_COLUMNS:
        raise ValueError(f"it has {len(labels)} columns, more than any table of particles")
    rows = _stream_rows(path, lines)
    if labels and not is_loop:
        first = [next(iter(_split_line(pair.encode())), "") for pair in pairs]
        yield BlockRows(name, tuple(labels), iter([first]))
    elif labels:
        yield BlockRows(name, tuple(labels), rows)
    for _ in rows:
        pass


def _stream_rows(path: str | Path, lines: _Lines) -> Iterator[list[str]]:
    with _refuse_damaged_star(path):
        for line in lines:
            if line.startswith(b"data_") and _BLOCK.match(line):
                lines.put_back(line)
                return
            if any(mark in line for mark in (b'"', b"'", b" #", b"\t#")):
                values = _split_line(_mark_stand_ins(line))
                yield [value.removeprefix(_NAME_STAND_IN) for value in values]
            else:
                yield line.decode().split()


def is_blank(path: Path) -> bool:
    """Return whether a file has no labels and values: blank lines, comments, a block's beginning.

    Of a table without rows RELION writes nothing, and other programs only ``data_`` or ``loop_``.
    """
    if path.stat().st_size > LONGEST_LINE:
        return False
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    return all(_EMPTY_LINE.fullmatch(line) for line in lines)


def _join(name: str, tables: Sequence[StarTable]) -> StarTable:
    """Return the tables of blocks with one name, one behind another."""
    for table in tables[1:]:
        different = {*table.columns} ^ {*tables[0].columns}
        if different:
            raise ValueError(
                f"it has {len(tables)} blocks data_{name} with different columns, as only some"
                f" have _{min(different)}; write their tables to different files"
            )
    return join_tables(tables)


def join_tables(tables: Sequence[StarTable]) -> StarTable:
    """Return the rows of tables with the same columns, one table behind another."""
    if len(tables) == 1:
        return tables[0]
    return StarTable(
        {label: np.concatenate([t[label] for t in tables]) for label in tables[0].columns}
    )


def find_tables(
    blocks: Mapping[str, StarTable], labels: Sequence[str], preferred: Sequence[str] = ()
) -> tuple[StarTable | None, str | None]:
    """Return the rows that have some columns, and which blocks they are from if that is a choice.

    Parameters
    ----------
    labels
        The columns.
    preferred
        Names of blocks, the first of which is taken if blocks with rows have different columns;
        blocks with the same columns are joined.

    Returns
    -------
    StarTable or None, str or None
        The table; and the end of a sentence about the file, if several blocks have the columns.
    """
    found = {name: table for name, table in blocks.items() if {*labels} <= {*table.columns}}
    found = {name: table for name, table in found.items() if len(table)} or found
    if not found:
        return None, None
    names = " and ".join(f"data_{name}" for name in found)
    if len({frozenset(table.columns) for table in found.values()}) == 1:
        note = f"the blocks {names} of the file are read together" if len(found) > 1 else None
        return join_tables([*found.values()]), note
    first = next((name for name in preferred if name in found), next(iter(found)))
    return found[first], f"of the blocks {names} of the file only data_{first} is read"


def _check_text(raw: bytes) -> bytes:
    """Return a file's text with line feeds at the ends of lines, if it is text."""
    if detect_encoding(raw) == "utf-16":
        raw = raw.decode("utf-16").encode()
    if b"\0" in raw:
        raise ValueError("it holds zero bytes, so it is not text")
    if not raw.isascii():
        raw.decode()
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    raw = _mark_stand_ins(raw)
    if max(map(len, io.BytesIO(raw)), default=0) > LONGEST_LINE:
        raise ValueError("it has a line that is longer than any row")
    return raw


def _mark_stand_ins(raw: bytes) -> bytes:
    """Return text with stand-ins for the marks within quoted values."""
    if b"\a" in raw:
        for mark, stand_in in _STAND_INS.items():
            raw = raw.replace(mark.encode(), stand_in.encode())
    return raw


def _read_block(text: bytes, start: int, end: int, numbers: Sequence[str]) -> dict[str, Any]:
    """Return the columns of the block whose content lies between two positions of a file."""
    loop = _LOOP.match(text, start, end)
    if loop is None:
        pairs = _read_pairs(text[start:end])
        labels = list(pairs)
        chunks: Iterator[list[list[str]]] = iter([[[value] for value in pairs.values()]])
    else:
        labels = [label.decode() for label in _LABEL.findall(loop[1])]
        if not labels:
            raise ValueError("it has a table without labels")
        chunks = _split_rows(text, loop.end(), end, len(labels))
    if len(labels) > MOST_COLUMNS:
        raise ValueError(f"it has {len(labels)} columns, more than any table of particles")
    if len(set(labels)) < len(labels):
        label = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"it has the column _{label} twice in one block")
    parts: dict[str, list[NDArray[Any]]] = {label: [] for label in labels}
    shared: dict[str, str] = {}
    for columns in chunks:
        for label, values in zip(labels, columns, strict=True):
            parts[label].append(_pack(values, label in numbers, shared))
    return {label: np.concatenate(parts.pop(label)) for label in labels}


def _read_pairs(text: bytes) -> dict[str, str]:
    """Return the values of a block without a table by label."""
    pairs = {}
    for line in text.split(b"\n"):
        if line.lstrip().startswith(b"_"):
            values = _split_line(line)
            if len(values) != 2:
                raise ValueError(f"the label {values[0]} needs one value, or loop_ before it")
            pairs[values[0][1:]] = values[1]
    return pairs


def _split_rows(text: bytes, start: int, end: int, width: int) -> Iterator[list[list[str]]]:
    """Yield the values of each column, one chunk of rows at a time and at least one chunk."""
    count = 0
    while True:
        cut = text.find(b"\n", start + CHUNK_BYTES, end) + 1 or end
        columns = _split_chunk(text[start:cut].strip(b" \t\n"), width, count)
        yield columns
        count += len(columns[0])
        start = cut
        if start >= end:
            return


def _split_chunk(rows: bytes, width: int, count: int) -> list[list[str]]:
    """Return the values of each column of whole rows, which `count` others precede."""
    if not rows:
        return [[] for _ in range(width)]
    while b"\n\n" in rows:  # each blank line would be a row in memory
        rows = rows.replace(b"\n\n", b"\n")
    end = f" {_END_OF_ROW}\n".encode()
    for prepare in (bytes, _quote_reserved):
        try:
            values = _split_values(prepare(rows).replace(b"\n", end) + end, width + 1)
        except ValueError:
            continue
        if all(value == _END_OF_ROW for value in values[width :: width + 1]):
            return [values[column :: width + 1] for column in range(width)]
    # Blank lines, comments behind values, or rows that lack their last values.
    columns: list[list[str]] = [[] for _ in range(width)]
    for line in rows.split(b"\n"):
        values = _split_line(line)
        count += bool(values)
        if len(values) > width or (count == 1 and 0 < len(values) < width):
            raise ValueError(f"row {count} has {len(values)} values for {width} columns")
        if values:
            values += [""] * (width - len(values))
            for column, value in zip(columns, values, strict=True):
                column.append(value)
    return columns


def _split_line(line: bytes) -> list[str]:
    """Return the values of a line, none if it is blank or a comment."""
    try:
        return _split_values(_quote_reserved(line) + b"\n", 1) if line.strip() else []
    except ValueError as error:
        raise ValueError(
            f"the line {line[:80].decode(errors='replace')!r} is not valid"
        ) from error


def _quote_reserved(text: bytes) -> bytes:
    """Return text with quotes around the values that CIF reserves or does not allow."""
    return _RESERVED.sub(lambda found: b'"%s"' % found[1] if found[1] else found[0], text)


def _split_values(text: bytes, width: int) -> list[str]:
    """Return the values of a table with so many columns, row by row and without quotes."""
    from gemmi import cif

    document = cif.read_string(b"data_\nloop_\n" + b"_v\n" * width + text, 0)
    items = list(document[0])
    if len(document) != 1 or len(items) != 1 or items[0].loop is None:
        raise ValueError("the rows hold something that is not a value")
    values = items[0].loop.values
    if b'"' in text or b"'" in text:
        values = [_unquote(value) if value[0] in "\"'" else value for value in values]
    for mark, stand_in in _STAND_INS.items():
        if stand_in.encode() in text:
            values = [value.replace(stand_in, mark[1]) for value in values]
    return values


def _unquote(value: str) -> str:
    from gemmi import cif

    text: str = cif.as_string(value)
    return _NAME_STAND_IN + text if text in _MISSING else text


def _pack(values: list[str], is_number: bool, shared: dict[str, str]) -> NDArray[Any]:
    """Return a column as an array of numbers, or of values that share equal strings."""
    if is_number:
        read = np.fromiter(map(parse_number, values), np.float64, len(values))
        if np.isfinite(read).all():  # otherwise a message has to quote the value
            return read
    different = set(values)
    if len(different) <= len(values) // 4:
        values = [shared.setdefault(value, value) for value in values]
    column = np.array(values, dtype=object)
    if not different.isdisjoint(_MISSING):
        column[[value in _MISSING for value in values]] = math.nan
    for name in different & {_NAME_STAND_IN + name for name in _MISSING}:
        column[[value == name for value in values]] = name.removeprefix(_NAME_STAND_IN)
    return column


def write_blocks(
    path: Path, blocks: Mapping[str, Mapping[str, Any]], comments: Sequence[str] = ()
) -> None:
    """Write tables as the blocks of one STAR file; see `render_blocks`."""
    write_text(path, render_blocks(blocks, comments))


def render_blocks(blocks: Mapping[str, Mapping[str, Any]], comments: Sequence[str] = ()) -> str:
    """Return tables as the text of one STAR file; the same tables give the same bytes.

    Parameters
    ----------
    blocks
        Columns by label, all with the same length within a block. Floats are written with six
        decimals, or with more if the same number could not be read back otherwise.
    comments
        Lines for the beginning of the file.

    Raises
    ------
    BadInput
        If a value has a tab or a line break.
    """
    lines = [f"# {line}" for line in (f"Written by heliodor {__version__}", *comments)]
    lines.append("")
    for name, block in blocks.items():
        columns = [_column_texts(label, values) for label, values in block.items()]
        lines += [f"data_{name}", "", "loop_"]
        lines += [f"_{label} #{number}" for number, label in enumerate(block, 1)]
        lines += ["\t".join(row) for row in zip(*columns, strict=True)]
        lines += ["", ""]
    return "".join(f"{line}\n" for line in lines)


def _column_texts(label: str, values: Any) -> list[str]:
    """Return the values of a column as they stand in a row; numbers need no quotes."""
    texts = format_values(values)
    is_numeric = isinstance(values, np.ndarray) and values.dtype.kind in "fiu"
    return texts if is_numeric else quote_column(label, texts)


def quote_column(label: str, values: list[str]) -> list[str]:
    """Return the values of a column as they stand in a row, in quotes if they need them.

    Raises
    ------
    BadInput
        If a value has a tab or a line break.
    """
    for value in values:
        if not value.isprintable() and ("\t" in value or value.splitlines() != [value]):
            raise BadInput(
                f"a STAR file cannot hold {value[:80]!a} in its column _{label}, as it has a"
                " tab or a line break; write a CSV file instead"
            )
    missing = _MISSING if label == _NAMES else frozenset()
    return [f'"{value}"' if value in missing else _quote(value) for value in values]


def _quote(value: str) -> str:
    """Return a value as RELION reads it: in quotes if it would not be one value without them."""
    if value and " " not in value and not value.startswith(_BEGINNINGS):
        return value
    for mark in ('"', "'"):
        # RELION ends a value at a mark before a space, and gemmi at one before # as well.
        if f"{mark} " not in f"{value} " and f"{mark}#" not in value:
            return f"{mark}{value}{mark}"
    marked = value.replace('"', '\a"')
    return f'"{marked}"'


def format_values(values: Any) -> list[str]:
    """Return the values of a column as text from which the same values are read back."""
    listed = values.tolist() if hasattr(values, "tolist") else values
    return [_format_value(value) for value in listed]


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        short = f"{value:.6f}"
        return short if float(short) == value or value != value else repr(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "nan" if value is None else str(value)


def format_cell(label: str, value: str) -> str:
    """Return a text as it stands in a row, as `render_blocks` writes it.

    Parameters
    ----------
    label
        Of its column.

    Raises
    ------
    BadInput
        If a STAR file cannot hold it.
    """
    return quote_column(label, [value])[0]
