"""Write files atomically, and check paths."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliodor.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


#: Limits of common file systems for a name and a whole path, in bytes.
_LONGEST_NAME, _LONGEST_PATH = 255, 4096
#: Names of the temporary files of `atomic_write`.
_PARTIAL = re.compile(r"\..+\.(\d+)\.part(\..+)?", re.DOTALL)
#: Locked while a command works in its folder; see `locking`.
LOCK_FILE = ".heliodor.lock"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write to a temporary file beside `path`, and rename it when the block ends without an error.

    Parameters
    ----------
    path
        The final name; its folder is created if necessary.

    Yields
    ------
    Path
        A hidden name in the same folder with the same suffix; the file is removed on an error.

    Raises
    ------
    BadInput
        If the folder cannot be created or written to.
    """
    path = Path(path)
    # The limit of 255 is in bytes, and a character may take several.
    start = os.fsencode(path.name)[:180].decode("utf-8", "ignore")
    writer = f"{threading.get_ident()}.{os.getpid()}"  # several threads may write the same file
    aside = path.with_name(f".{start}.{writer}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.chmod(aside, 0o666 & ~_umask())  # some libraries create files only their owner reads
        os.replace(aside, path)
    except OSError as error:
        why = error.strerror or f"{error}; the disk may be full"  # NumPy gives no reason
        raise BadInput(f"{path} cannot be written ({why})") from error
    finally:
        with suppress(OSError):  # as where the folder could not be made
            aside.unlink()


def remove_partial_files(folder: Path) -> None:
    """Remove temporary files of killed writers from a folder and those in it.

    Files of processes that are running are kept, and so are folders that another command has
    locked: it removes its own. Call it only while holding the lock of the folder; see `locking`.
    """
    for place, folders, names in os.walk(folder):
        if LOCK_FILE in names and Path(place) != folder:
            folders.clear()
            continue
        for name in names:
            found = _PARTIAL.fullmatch(name)
            if found and not is_running(int(found[1])):
                Path(place, name).unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Return whether there is a process on this machine that may be writing."""
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def create_text(path: Path, text: str) -> bool:
    """Write a UTF-8 text file that must not exist; return whether it was this process that did.

    Of several processes on any hosts one succeeds, and the others see the whole file; without
    hard links they may see a part of it for a moment.

    Raises
    ------
    BadInput
        If it cannot be written.
    """
    # Not a name of `atomic_write`: another host's process would remove it.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        aside.write_text(text, encoding="utf-8")
        return link_or_copy(aside, path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror})") from error
    finally:
        aside.unlink(missing_ok=True)


def link_or_copy(own: Path, path: Path) -> bool:
    """Link a file to a new name, or copy it where there are no links; return whether it was new.

    Raises
    ------
    OSError
        If neither is possible.
    """
    try:
        os.link(own, path)
        return True
    except FileExistsError:
        # NFS may have made the link and lost the answer.
        with suppress(OSError):
            return os.path.samefile(own, path)
        return False
    except FileNotFoundError:
        raise
    except OSError:  # no hard links on this file system, or too many of them
        content = own.read_bytes()
        try:
            with path.open("xb") as stream:
                stream.write(content)
        except FileExistsError:
            return False
        return True


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, with an indent of two spaces and keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON that `write_json` could have written: all of it can be written again.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not such a file: numbers that are not finite, halves of characters, or lists
        within lists without end are none.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Return the value of a JSON text as `read_json` does.

    Raises
    ------
    ValueError
        If it is not JSON that could have been written.
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def create_output_folder(path: str | Path) -> Path:
    """Create a folder for results, if it does not exist, and return its path.

    Raises
    ------
    BadInput
        If the path is a file, or the folder cannot be created or written to.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise BadInput(f"the output {path} is a file, not a folder; give another name with -o")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"the output folder {path} cannot be created ({error.strerror})") from error
    if not os.access(path, os.W_OK):
        raise BadInput(f"the output folder {path} is not writable; choose another with -o")
    return path


def find_link(folder: Path, path: Path) -> Path | None:
    """Return the first part of a path below a folder that is a symbolic link, if there is one.

    What is written there would be outside of the folder.
    """
    parts = path.relative_to(folder).parts
    below = (folder.joinpath(*parts[: count + 1]) for count in range(len(parts)))
    return next((part for part in below if part.is_symlink()), None)


def create_subfolder(folder: Path, name: str) -> Path:
    """Create a folder below an output folder, if it does not exist, and return its path.

    Raises
    ------
    BadInput
        If it, or a folder that it is in, is a link or a file, or cannot be created.
    """
    path = folder / name
    if (link := find_link(folder, path)) is not None:
        raise BadInput(LINK.format(link=link))
    return create_output_folder(path)


def remove_subfolder(folder: Path, name: str) -> None:
    """Remove a folder of earlier results below an output folder, if there is one.

    Raises
    ------
    BadInput
        If it, or a folder that it is in, is a link or a file, or it cannot be removed.
    """
    if not os.path.lexists(folder / name):
        return
    path = create_subfolder(folder, name)
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be removed ({error.strerror})") from error


#: Why a folder of results is not used.
LINK = "{link} is a symbolic link, and results are not written through it; remove the link"


def refuse_to_replace(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to write over one of the input files, by whatever name or link it is given.

    Raises
    ------
    BadInput
        If an output is one of the inputs.
    """
    protected = {os.path.realpath(path) for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in protected:
            raise BadInput(
                f"the output {path} would replace an input file; give another output with -o"
            )


def fits_path_limits(path: Path) -> bool:
    """Return whether neither a path nor any of its parts is too long for a file."""
    parts = [*map(os.fsencode, path.absolute().parts)]
    return max(map(len, parts)) <= _LONGEST_NAME and len(b"/".join(parts)) < _LONGEST_PATH


def find_referenced_file(name: str, table: Path) -> Path | None:
    """Find a file named in a table.

    It is searched for in the table's folder and in each folder above it, where a table that is a
    link stands and where the file that it names stands, and then in the current folder. The path
    is relative to the current folder if the file is the one found from there.
    """
    here = Path(name)
    # `Path.exists` raises on an impossible name; os.path.exists returns False.
    found = next((path for path in _list_places(name, table) if os.path.exists(path)), None)
    if os.path.exists(here) and (found is None or os.path.samefile(here, found)):
        return here
    return found


def _list_places(name: str, table: Path) -> Iterator[Path]:
    for whole in (table.absolute, table.resolve):
        for folder in whole().parents:
            yield folder / name


def has_namesake_here(name: str, found: Path) -> bool:
    """Return whether the current folder has another file of this name than the one found."""
    return found != Path(name) and os.path.exists(name) and not os.path.samefile(name, found)


def refuse_other_content(path: Path, begins_with: bytes, what: str, parameter: str) -> None:
    """Refuse to append to a file that holds something else.

    Parameters
    ----------
    path
        The file; one that is missing or empty, or not a regular file, is accepted.
    begins_with
        A regular expression of how its content begins.
    what
        What it should hold, for the message.
    parameter
        The option with which it was named.

    Raises
    ------
    BadInput
        If it holds something else, or cannot be read.
    """
    try:
        if not path.is_file():
            return
        with path.open("rb") as stream:
            head = stream.read(256)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})", parameter=parameter) from error
    if head and re.match(begins_with, head) is None:
        raise BadInput(
            f"{path} exists and is not {what}, so nothing is appended to it; name another file",
            parameter=parameter,
        )
