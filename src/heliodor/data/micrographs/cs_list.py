"""The micrographs in a ``.cs`` file of cryoSPARC, with their pixel sizes."""

from __future__ import annotations

from pathlib import Path

from heliodor.data.cryosparc_table import (
    Header,
    decode_texts,
    load_table,
    read_header,
    strip_export_mark,
)
from heliodor.errors import BadInput
from heliodor.utils.parsing import as_positive, refuse_damaged

#: The fields of paths and of pixel sizes: of exposures, and of particles on micrographs.
NAME, PIXEL_SIZE = "micrograph_blob/path", "micrograph_blob/psize_A"
OF_PARTICLES = ("location/micrograph_path", "location/micrograph_psize_A")


def lists_micrographs(header: Header) -> bool:
    """Return whether a table has exposures with micrographs, and not particles."""
    return NAME in header.fields and OF_PARTICLES[0] not in header.fields


@refuse_damaged
def read_micrographs(path: str | Path) -> list[tuple[str, float | None]]:
    """Read the micrographs of exposures, or those on which particles are, with pixel sizes.

    Returns
    -------
    list of (str, float or None)
        Name and angstrom per pixel, each name once, in the file's order.

    Raises
    ------
    BadInput
        If the table names no micrographs, or is empty.
    """
    path = Path(path)
    fields = read_header(path).fields
    name, size = (NAME, PIXEL_SIZE) if NAME in fields else OF_PARTICLES
    if name not in fields:
        raise BadInput(
            f"{path} has no field {NAME}: it lists no micrographs; cryoSPARC may have put them in"
            " the passthrough file of the same job"
        )
    table = load_table(path, (name, size))
    names = [strip_export_mark(str(one)) for one in decode_texts(table[name], path)]
    if not names:
        raise BadInput(f"{path} lists no micrographs: the table is empty")
    if "" in names:
        raise BadInput(f"{path} names no micrograph in row {names.index('') + 1}")
    sizes = [*map(as_positive, table[size])] if size in table else [None] * len(names)
    return list(dict(zip(names, sizes, strict=True)).items())
