"""STAR to STAR: every column stays, and so do the other blocks, such as RELION's optics groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from heliodor.errors import BadInput
from heliodor.formats.blocks import read_blocks
from heliodor.formats.star import NAME, SCORE, X, Y
from heliodor.hosts.topaz.writing import numbers, star_block

if TYPE_CHECKING:
    import pandas as pd

_OLD_SCORE = "rlnParticleScore"


class StarTable:
    """The table of coordinates of a STAR file, with the blocks beside it."""

    def __init__(self, path: str) -> None:
        blocks = read_blocks(path)
        name = next((k for k, b in blocks.items() if {X, Y, NAME} <= set(b.columns)), None)
        if name is None:
            raise BadInput(f"{path} has no table with the columns _{NAME}, _{X} and _{Y}")
        self.table = blocks.pop(name)
        if _OLD_SCORE in self.table.columns and SCORE not in self.table.columns:
            self.table = self.table.rename(columns={_OLD_SCORE: SCORE})
        self.beside = blocks
        #: A table alone is called as Topaz does; RELION knows one beside others by its name.
        self.name = name if blocks else "images"

    @staticmethod
    def has_names(path: str) -> bool:
        """Tell whether a STAR file has a table of coordinates that names the micrographs."""
        return any({X, Y, NAME} <= set(b.columns) for b in read_blocks(path).values())

    def join(self, other: StarTable) -> None:
        """Add another file's rows.

        Raises
        ------
        BadInput
            If the blocks beside the table are not the same.
        """
        import pandas as pd

        same = self.beside.keys() == other.beside.keys() and all(
            block.equals(other.beside[name]) for name, block in self.beside.items()
        )
        if not same:
            raise BadInput(
                "STAR files of different optics groups cannot be joined; convert them one by one"
            )
        self.table = pd.concat([self.table, other.table], ignore_index=True)

    def keep(self, threshold: float) -> None:
        """Drop the rows that score less than the threshold, if there are scores."""
        if SCORE in self.table.columns and threshold > -np.inf:
            import pandas as pd

            scores = pd.to_numeric(self.table[SCORE], errors="coerce")
            self.table = self.table[scores >= threshold]

    def scale(self, factor: float) -> None:
        """Multiply coordinates; fractions stay, as STAR files have them."""
        if factor != 1:
            self.table = self.table.assign(
                **{c: np.asarray(self.table[c], dtype=np.float64) * factor for c in (X, Y)}
            )

    def set(self, values: Mapping[str, float]) -> None:
        """Set columns, by name without ``rln``, to one value."""
        self.table = self.table.assign(**{f"rln{name}": v for name, v in values.items()})

    def text(self, table: pd.DataFrame | None = None) -> str:
        """Return the file, or that of some rows of its table."""
        table = self.table if table is None else table
        blocks = [star_block(name, _cells(block)) for name, block in self.beside.items()]
        return "\n".join([*blocks, star_block(self.name, _cells(table))])


def _cells(table: pd.DataFrame) -> dict[str, list[str]]:
    return {
        str(name): numbers(table[name])
        if name in (X, Y)
        else [_text(value) for value in table[name].tolist()]
        for name in table.columns
    }


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
