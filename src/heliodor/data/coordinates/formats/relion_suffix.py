"""RELION 3.1's ``coords_suffix_*.star``, which names all coordinate files of a job.

The file has one line, the STAR file of the micrographs. The coordinates are in files beside it,
one per micrograph: those of ``coords_suffix_autopick.star`` end with ``_autopick.star``.
"""

from __future__ import annotations

from pathlib import Path

from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import relion_output_stem
from heliodor.data.micrographs.star_list import read_micrographs
from heliodor.errors import BadInput
from heliodor.utils.files import find_referenced_file

#: The beginning of its name.
PREFIX = "coords_suffix"
#: Bytes that are read; a path is not longer.
_LONGEST = 8192


def has_its_name(path: Path) -> bool:
    """Return whether a file has the name of such a file."""
    return path.name.startswith(f"{PREFIX}_") and path.suffix.lower() == ".star"


def coordinate_file(path: Path, micrograph: str) -> Path:
    """Return where the coordinates of a micrograph would be."""
    return path.parent / f"{relion_output_stem(micrograph)}{path.name.removeprefix(PREFIX)}"


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read the coordinates of all micrographs; those without a file have no picks.

    Raises
    ------
    BadInput
        If the file does not name a STAR file of micrographs, or none of them has coordinates.
    """
    path = Path(path)
    with path.open("rb") as stream:
        lines = stream.read(_LONGEST).decode("utf-8", errors="replace").split("\n")
    named = lines[0].strip()
    micrographs = find_referenced_file(named, path) if named else None
    if micrographs is None:
        raise BadInput(
            f"{path} names the micrographs {named[:200]!r}, which do not exist; give the"
            " coordinate files beside it, or their folder, instead"
        )
    names = [name for name, _ in read_micrographs(micrographs)]
    files = {name: coordinate_file(path, name) for name in names}
    found = {name: file for name, file in files.items() if file.is_file()}
    if not found:
        raise BadInput(
            f"there is no coordinate file next to {path} for any micrograph in {micrographs}; give"
            " the coordinate files or their folder"
        )
    tables = [relion_star.read_listed_file(name, file) for name, file in found.items()]
    return Picks.concatenate([*tables, Picks.empty(names)])
