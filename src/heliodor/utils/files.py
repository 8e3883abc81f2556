"""Writing files so that nothing half-written ever has its final name."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliodor.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Bytes of a name and of a whole path that common file systems take.
_LONGEST_NAME, _LONGEST_PATH = 255, 4096
#: The names that `atomic_write` gives.
_PARTIAL = re.compile(r"\..+\.\d+\.part(\..+)?", re.DOTALL)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path` to write to, and rename it when the block ends well.

    Parameters
    ----------
    path
        The final name; its folder is made if need be.

    Yields
    ------
    Path
        A hidden name in the same folder with the same suffix. It is removed on an error.

    Raises
    ------
    BadInput
        If the folder cannot be made or written to.
    """
    path = Path(path)
    # Cut by bytes, of which a letter may be several: the name has room for no more than 255.
    start = os.fsencode(path.name)[:200].decode("utf-8", "ignore")
    aside = path.with_name(f".{start}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.chmod(aside, 0o666 & ~_umask())  # some libraries create files only their owner reads
        os.replace(aside, path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # as where the folder could not be made
            aside.unlink()


def remove_partial_files(folder: Path) -> None:
    """Remove what writers that were killed left beside its final name, in all of a folder.

    Only for who is alone in it; see `locking`.
    """
    for path in folder.rglob(".*.part*"):
        if _PARTIAL.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, keys in the order given, two spaces of indent; whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def create_output_folder(path: str | Path) -> Path:
    """Make a folder for results.

    Raises
    ------
    BadInput
        If the path is a file, or the folder cannot be made or written to.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise BadInput(f"the output {path} is a file, not a folder; give another name with -o")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"the output folder {path} cannot be made ({error.strerror})") from error
    if not os.access(path, os.W_OK):
        raise BadInput(f"the output folder {path} may not be written to; choose another with -o")
    return path


def fits_path_limits(path: Path) -> bool:
    """Tell whether a file of such a name can be: no part of it, nor all of it, is too long."""
    parts = [*map(os.fsencode, path.absolute().parts)]
    return max(map(len, parts)) <= _LONGEST_NAME and len(b"/".join(parts)) < _LONGEST_PATH


def find_referenced_file(name: str, table: Path) -> Path | None:
    """Find a file that a table names: from here, beside the table, or from any folder above it."""
    places = (Path(name), *(folder / name for folder in table.absolute().parents))
    # A name that no file can have is none; `Path.exists` would raise.
    return next((place for place in places if os.path.exists(place)), None)
