"""What a file is that was given as coordinates, but has none of their formats."""

from __future__ import annotations

import re
from pathlib import Path

#: The first bytes of files that are often given as coordinates, what they are, and what to do.
_KINDS = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ\0", "is compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
    (b"PK\3\4", "is a workbook or an archive; save the table as CSV"),
    (b"IMOD", "is a model of IMOD; write its points as text with model2point, below a line x y z"),
    (b"\x93NUMPY", "is a NumPy file, but not a table of particles from cryoSPARC"),
    (b"\x89HDF", "is an HDF5 file; export the coordinates as text"),
)
_NUMBERS = re.compile(r"[\s\d.,;eE+-]*\d[\s\d.,;eE+-]*")


def describe_unknown(path: Path, head: bytes) -> str:
    """Return what is wrong with a file that no reader knows, as part of a sentence.

    Parameters
    ----------
    path
        The file.
    head
        Its first bytes.
    """
    known = next((what for magic, what in _KINDS if head.startswith(magic)), None)
    if known is not None:
        return known
    if b"\0" in head:
        return "is not a text file: it contains no coordinates"
    if path.suffix.lower() == ".csg":
        return "is a group of cryoSPARC; give the .cs file that it names (see `heliodor check`)"
    lines = head.decode(errors="replace").splitlines()
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if rows and all(_NUMBERS.fullmatch(row) for row in rows[:10]):
        return (
            "has numbers, but no header that says what they are; put a line with the names of the"
            " columns above them, such as 'x_coord y_coord' for centers in pixels"
        )
    return (
        "has an unknown coordinate format; give a RELION STAR file, an EMAN, CBOX or cryoSPARC"
        " file, or a table with the columns image_name, x_coord, y_coord"
    )
