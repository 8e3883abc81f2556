"""STAR files as such: named blocks of columns, every value as it is spelt in the file.

Read and written through the starfile package, around what it stops on.
"""

from __future__ import annotations

import io
import linecache
import re
import tempfile
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heliodor import __version__
from heliodor.errors import BadInput
from heliodor.utils.files import write_text
from heliodor.utils.parsing import as_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

#: A row that begins with a name such as data_1/a.mrc, which starfile takes for a new block.
_ROW_LIKE_BLOCK = re.compile(rb"^[ \t]*(data_(?:\S*/\S*|\S+(?=[ \t]+[^\s#])))", re.MULTILINE)
#: A comment where the rows of a table should begin, on which starfile stops if there are none.
_COMMENT_FOR_ROWS = re.compile(rb"^([ \t]*_\S[^\n]*\n\s*)#[^\n]*", re.MULTILINE)
#: A comment that would tell Python the encoding of its source.
_CODING = re.compile(rb"^[ \t\f]*#[^\r\n]*coding[:=][^\r\n]*", re.MULTILINE)
#: The end of a line on old machines, at which starfile does not count lines.
_BARE_RETURN = re.compile(rb"\r(?!\n)")
#: Lines that say nothing, of which each takes memory.
_BLANK_LINES = re.compile(rb"\n[ \t\n]*\n")
#: Where a block begins.
_BLOCK = re.compile(rb"^[ \t]*data_", re.MULTILINE)
#: A STAR file has no more different columns than this, and no more blocks.
MOST_COLUMNS, MOST_BLOCKS = 1000, 1000
#: Bytes: a longer line may take any time and memory to be parted into cells.
LONGEST_LINE = 2**14
#: Rows of a longer file are read so many bytes at a time.
PART_BYTES = 2**19
#: The head of a table with rows: names of columns, and what may lie between them.
_LOOP_HEAD = re.compile(rb"[ \t]*data_[^\n]*\n\s*loop_[^\n]*\n(?:[ \t]*_[^\n]*\n)+")
#: Values that may be kept to be shared.
_MOST_SHARED = 10**6
#: What a column is called.
_LABEL = re.compile(rb"^[ \t]*_([^\s#]+)", re.MULTILINE)


def read_blocks(path: str | Path, numbers: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Read every table of a STAR file, by block name without ``data_``.

    Values are strings, as they are spelt: a number of twenty digits or with a leading zero may
    be a name. What stands for no number (nan) is a float NaN.

    Parameters
    ----------
    path
        The file.
    numbers
        Columns that are of use as numbers only: in a long table they may be float64.

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
        raw = path.read_bytes()
        mended = _mended(raw)
        labels = sorted({name.decode() for name in _LABEL.findall(mended)})
        # Each column and block takes its time, and no table has as many.
        if len(labels) > MOST_COLUMNS or len(_BLOCK.findall(mended)) > MOST_BLOCKS:
            raise ValueError("it has more columns or blocks than any that lists particles")
        if max(map(len, io.BytesIO(mended)), default=0) > LONGEST_LINE:
            raise ValueError("it has a line that is longer than any row")
        blocks = _by_parts(mended, labels, numbers)
        if blocks is None:
            with _file_of(mended, path, mended == raw) as readable:
                blocks = starfile.read(readable, always_dict=True, parse_as_string=labels)
    except Exception as error:  # starfile and pandas raise many kinds, all meaning this
        raise BadInput(f"{path} cannot be read as a STAR file ({error})") from error
    tables = {
        name: block if isinstance(block, pd.DataFrame) else pd.DataFrame([block])
        for name, block in blocks.items()
    }
    if not tables:
        raise BadInput(f"{path} has no data_ block: it is not a STAR file")
    for name, table in tables.items():
        twice = table.columns[table.columns.duplicated()]
        if len(twice):
            raise BadInput(f"{path} has the column _{twice[0]} twice in its block data_{name}")
    return tables


def _mended(raw: bytes) -> bytes:
    """Return what a file holds without that on which starfile stops."""
    if b"\0" in raw:
        raise ValueError("it holds zero bytes, and so is no text")
    # starfile takes a file for empty that it cannot decode, and reads it again for every line.
    raw.decode()
    mended = _CODING.sub(b"#", raw, count=2)
    mended = _BLANK_LINES.sub(b"\n\n", _BARE_RETURN.sub(b"\n", mended))
    return _COMMENT_FOR_ROWS.sub(rb"\1", _ROW_LIKE_BLOCK.sub(rb'"\1"', mended))


def _by_parts(mended: bytes, labels: list[str], numbers: Sequence[str]) -> dict[str, Any] | None:
    """Read a long file a part of its rows at a time, as starfile takes many times its size.

    Each part is read by starfile under the block's own head, so that it means what it means in the
    whole.

    Returns
    -------
    dict or None
        Blocks as starfile returns them, with one object for values that are spelt the same; None
        where the file is short, or can only be read as a whole.
    """
    if len(mended) <= PART_BYTES:
        return None
    import pandas as pd
    import starfile

    begins = [found.start() for found in _BLOCK.finditer(mended)]
    blocks: dict[str, Any] = {}
    memo: dict[Any, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.star"
        for begin, end in pairwise([*begins, len(mended)]):
            head, firsts = _parted(mended, begin, end)
            columns: dict[str, list[NDArray[Any]]] = {}
            for first, last in pairwise([*firsts, end]):
                with part.open("wb") as stream:
                    stream.write(head)
                    stream.write(memoryview(mended)[first:last])
                linecache.clearcache()
                try:
                    found = starfile.read(part, always_dict=True, parse_as_string=labels)
                except Exception:
                    return None  # what is wrong with it is said of the whole
                if len(found) != 1:
                    return None
                ((name, block),) = found.items()
                if len(firsts) == 1:
                    blocks[name] = block
                    continue
                if not isinstance(block, pd.DataFrame) or block.columns.has_duplicates:
                    return None
                for column, values in block.items():
                    own = _shared(values, memo, column in numbers)
                    columns.setdefault(str(column), []).append(own)
            if columns:
                joined = {column: np.concatenate(columns.pop(column)) for column in [*columns]}
                blocks[name] = pd.DataFrame(
                    {column: pd.Series(own, dtype=own.dtype) for column, own in joined.items()}
                )
    return blocks


def _parted(mended: bytes, begin: int, end: int) -> tuple[bytes, list[int]]:
    """Return the head of a block, and where parts of its rows begin."""
    found = _LOOP_HEAD.match(mended, begin, end)
    if found is None or end - begin <= PART_BYTES:
        return b"", [begin]
    firsts = [found.end()]
    while end - firsts[-1] > PART_BYTES:
        cut = mended.find(b"\n", firsts[-1] + PART_BYTES, end)
        if cut < 0:
            break
        firsts.append(cut + 1)
    if not mended[firsts[-1] : end].strip():
        firsts.pop()
    return found[0], firsts


def _shared(values: Any, memo: dict[Any, Any], number: bool) -> NDArray[Any]:
    """Return a column's values, those that are spelt the same as one object, or its numbers."""
    own: NDArray[Any] = values.to_numpy(dtype=object)
    if number:
        read = np.array([as_number(value) for value in own], dtype=np.float64)
        if np.isfinite(read).all():  # else what is wrong is to be told as it is spelt
            return read
    different = dict.fromkeys(own)
    if len(different) <= len(own) // 4 and len(memo) < _MOST_SHARED:
        own[:] = [memo.setdefault(value, value) for value in own]
    return own


@contextmanager
def _file_of(mended: bytes, path: Path, is_same: bool) -> Iterator[Path]:
    """Give a file that holds what was mended: the file itself where it is the same."""
    if is_same:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "mended.star"
        copy.write_bytes(mended)
        yield copy


def write_blocks(
    path: Path, blocks: Mapping[str, Mapping[str, Any]], comments: Sequence[str] = ()
) -> None:
    """Write tables as the blocks of one STAR file; see `blocks_text`."""
    write_text(path, blocks_text(blocks, comments))


def blocks_text(blocks: Mapping[str, Mapping[str, Any]], comments: Sequence[str] = ()) -> str:
    """Return tables as the blocks of one STAR file; the same tables give the same bytes.

    Parameters
    ----------
    blocks
        Columns by label, all of one length within a block. Floats are written with six digits
        behind the point, with more where it takes more to read the same number back.
    comments
        Lines for the file's head.
    """
    import pandas as pd
    import starfile

    tables = {
        name: pd.DataFrame(
            {label: _in_a_row(label, spelt(values)) for label, values in block.items()},
            dtype=object,
        )
        for name, block in blocks.items()
    }
    text = starfile.to_string(tables)
    # starfile notes the time in its first line, which would make every run's files differ.
    body = text[text.index("data_") :]
    head = [f"Written by heliodor {__version__}", *comments]
    return "".join(f"# {line}\n" for line in head) + f"\n{body}"


def _in_a_row(label: str, values: list[str]) -> list[str]:
    """Return values that stand in a row of a table; one that would end it is refused."""
    for value in values:
        if not value.isprintable() and ("\t" in value or value.splitlines() != [value]):
            raise BadInput(
                f"a STAR file cannot hold {value[:80]!a} in its column _{label}, as it has a"
                " tab or a line break in it; write a CSV file"
            )
    return values


def spelt(values: Any) -> list[str]:
    """Return a column's values as text from which the same values are read back."""
    return [_spelt(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]


def _spelt(value: Any) -> str:
    if isinstance(value, float):
        short = f"{value:.6f}"
        return short if float(short) == value or value != value else repr(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "nan" if value is None else str(value)
