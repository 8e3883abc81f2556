"""The table of coordinates that all readers, writers and commands share."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray, IndexArray, score_to_probability
from heliodor.errors import HeliodorError
from heliodor.utils.parsing import parse_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd


#: Columns of `Picks.extra` with the same meaning in all file formats.
PIXEL_SIZE = "pixel_size_angstrom"
#: Height and width of the micrograph, needed by formats with fractional coordinates.
HEIGHT, WIDTH = "micrograph_height_px", "micrograph_width_px"
#: The side of the square box that a format draws around each particle.
BOX = "box_px"
#: The calibrated probability of being a particle, if known.
PROBABILITY = "probability"
#: Rows of the table that a notebook shows.
SHOWN_ROWS = 10


@dataclass(frozen=True, repr=False)
class Picks:
    """Particle centers on micrographs, in the pixels of the original files.

    Micrographs are stored as names plus an index, so that a micrograph without particles can be
    listed, and a million picks do not repeat a long path a million times.
    """

    #: Names of the micrographs, without repetition.
    micrographs: tuple[str, ...]
    #: For each pick, the position of its micrograph in `micrographs`, shape (n,).
    micrograph_index: IndexArray
    #: Particle centers (x, y), 0-based, shape (n, 2).
    xy_px: FloatArray
    #: Log-odds of being a particle, nan where not known, shape (n,).
    score: FloatArray
    #: Other columns, which are kept but not interpreted, of shape (n,), or (n, k) if a value is
    #: several numbers.
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    #: Of micrographs that are named after their coordinate files: the whole stems of the files.
    file_stems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.xy_px)
        if self.xy_px.shape != (n, 2) or self.score.shape != (n,):
            raise ValueError(f"picks need (n, 2) coordinates and (n,) scores, n = {n}")
        if self.micrograph_index.shape != (n,) or any(len(v) != n for v in self.extra.values()):
            raise ValueError("every column of a table of picks needs the same length")
        if n and not 0 <= self.micrograph_index.min() <= self.micrograph_index.max() < len(
            self.micrographs
        ):
            raise ValueError("a pick is on a micrograph that its table does not list")
        if len(set(self.micrographs)) != len(self.micrographs):
            raise ValueError("a micrograph is listed twice in a table of picks")

    def __len__(self) -> int:
        return len(self.xy_px)

    @classmethod
    def empty(cls, micrographs: Iterable[str] = ()) -> Picks:
        """Return a table without picks that lists the given micrographs."""
        return cls(tuple(micrographs), np.zeros(0, np.intp), np.zeros((0, 2)), np.zeros(0))

    @classmethod
    def from_columns(
        cls,
        names: Sequence[str] | NDArray[Any],
        xy_px: FloatArray,
        score: FloatArray | None = None,
        extra: Mapping[str, NDArray[Any]] | None = None,
    ) -> Picks:
        """Return a table from one micrograph name per pick, in order of first appearance."""
        order: dict[str, int] = {}
        index = [order.setdefault(str(name), len(order)) for name in names]
        xy = np.asarray(xy_px, dtype=np.float64).reshape(-1, 2)
        if score is None:
            score = np.full(len(xy), np.nan)
        return cls(
            tuple(order),
            np.asarray(index, dtype=np.intp),
            xy,
            np.asarray(score, dtype=np.float64),
            dict(extra or {}),
        )

    @classmethod
    def on(cls, micrograph: str, xy_px: FloatArray, score: FloatArray | None = None) -> Picks:
        """Return the table of one micrograph, which may have no picks."""
        xy = np.asarray(xy_px, dtype=np.float64).reshape(-1, 2)
        scores = np.full(len(xy), np.nan) if score is None else np.asarray(score, np.float64)
        return cls((micrograph,), np.zeros(len(xy), np.intp), xy, scores)

    @classmethod
    def concatenate(cls, tables: Iterable[Picks]) -> Picks:
        """Join tables; a column that is missing in some is filled with None there."""
        tables = list(tables)
        order: dict[str, int] = {}
        indices = []
        for table in tables:
            place = [order.setdefault(name, len(order)) for name in table.micrographs]
            indices.append(np.asarray(place, dtype=np.intp)[table.micrograph_index])
        if not tables:
            return cls.empty()
        # Tables without picks have no values, so they must not decide on the types of columns.
        filled = [t for t in tables if len(t)] or tables
        keys = list(dict.fromkeys(key for table in filled for key in table.extra))
        extra = {
            key: np.concatenate([_fill_column(t, key, filled) for t in filled]) for key in keys
        }
        return cls(
            tuple(order),
            np.concatenate(indices),
            np.concatenate([t.xy_px for t in tables]),
            np.concatenate([t.score for t in tables]),
            extra,
            join_stems(pair for table in tables for pair in table.file_stems.items()),
        )

    def rename_micrographs(self, names: Sequence[str]) -> Picks:
        """Return the picks with new names of their micrographs, in the same order.

        Micrographs that then share a name are merged.
        """
        order: dict[str, int] = {}
        place = np.array([order.setdefault(name, len(order)) for name in names], dtype=np.intp)
        index = place[self.micrograph_index]
        pairs = zip(self.micrographs, names, strict=True)
        stems = join_stems((new, self.file_stems.get(old, ())) for old, new in pairs)
        return Picks(tuple(order), index, self.xy_px, self.score, self.extra, stems)

    def select(self, choice: NDArray[np.bool_] | IndexArray) -> Picks:
        """Return the chosen picks (by mask or index); all micrographs stay listed."""
        return Picks(
            self.micrographs,
            self.micrograph_index[choice],
            self.xy_px[choice],
            self.score[choice],
            {key: value[choice] for key, value in self.extra.items()},
            self.file_stems,
        )

    @property
    def probability(self) -> FloatArray:
        """Probability of being a particle: calibrated if known, otherwise that of the score."""
        known = self.extra.get(PROBABILITY)
        return (
            score_to_probability(self.score)
            if known is None
            else np.asarray(known, dtype=np.float64)
        )

    def round_values(self) -> Picks:
        """Return the picks rounded to the digits that are written to files."""
        xy, score = np.round(self.xy_px, 3), np.round(self.score, 6)
        return Picks(self.micrographs, self.micrograph_index, xy, score, self.extra)

    def names(self) -> list[str]:
        """Return the name of the micrograph of each pick."""
        return [self.micrographs[i] for i in self.micrograph_index]

    def counts(self) -> IndexArray:
        """Return the number of picks of each micrograph, in the order of `micrographs`."""
        return np.bincount(self.micrograph_index, minlength=len(self.micrographs))

    def first_positive_values(self, column: str) -> dict[str, float]:
        """Return the first positive number in a column of `extra` for each micrograph."""
        found: dict[str, float] = {}
        for index, value in zip(self.micrograph_index, self.extra.get(column, ()), strict=False):
            name = self.micrographs[index]
            if name not in found and 0 < (number := parse_number(value)) < np.inf:
                found[name] = number
        return found

    def rows(self) -> Iterator[tuple[str, IndexArray]]:
        """Yield the name of each micrograph with the indices of its picks, in stable order."""
        order = np.argsort(self.micrograph_index, kind="stable")
        ends = np.cumsum(self.counts())
        for position, name in enumerate(self.micrographs):
            yield name, order[ends[position - 1] if position else 0 : ends[position]]

    def split_by_micrograph(self) -> Iterator[tuple[str, Picks]]:
        """Yield the name of each micrograph with a table of its picks, in stable order."""
        for name, own in self.rows():
            yield (
                name,
                Picks(
                    (name,),
                    np.zeros(len(own), np.intp),
                    self.xy_px[own],
                    self.score[own],
                    {key: value[own] for key, value in self.extra.items()},
                ),
            )

    @property
    def x(self) -> FloatArray:
        """The x of each center in pixels of the original file, shape (n,)."""
        return self.xy_px[:, 0]

    @property
    def y(self) -> FloatArray:
        """The y of each center in pixels of the original file, shape (n,)."""
        return self.xy_px[:, 1]

    @property
    def micrograph(self) -> NDArray[np.str_]:
        """The name of each pick's micrograph, shape (n,)."""
        return np.array(self.micrographs, dtype=np.str_)[self.micrograph_index]

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas table: micrograph, x, y, score, probability, and any other column.

        Raises
        ------
        HeliodorError
            If pandas is not installed; heliodor itself does not need it.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise HeliodorError("to_dataframe needs pandas: pip install pandas") from error
        columns: dict[str, Any] = {
            "micrograph": self.micrograph,
            "x": self.x,
            "y": self.y,
            "score": self.score,
            "probability": self.probability,
        }
        others = {key: list(value) for key, value in self.extra.items() if key not in columns}
        return pd.DataFrame(columns | others)

    def write(self, path: str | Path, format: str | None = None) -> list[Path]:
        """Write the picks for another program; see `heliodor convert` for the formats.

        Parameters
        ----------
        path
            A file, or a folder for formats with one file per micrograph.
        format
            The name of the format; by default that of the path's suffix.

        Returns
        -------
        list of Path
            The files written.
        """
        from heliodor.data.coordinates.writers import choose_format, write_picks

        out = Path(path)
        return write_picks(out, self, choose_format(format, out))

    def __repr__(self) -> str:
        """Return one line, however many picks there are."""
        count = len(self.micrographs)
        return f"<{len(self):,} picks on {count:,} micrograph{'s' * (count != 1)}>"

    def _repr_html_(self) -> str:
        """Return a table of the first rows, for notebooks."""
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{x:.1f}</td><td>{y:.1f}</td>"
            f"<td>{score:.2f}</td><td>{chance:.2f}</td></tr>"
            for name, x, y, score, chance in zip(
                *(
                    column[:SHOWN_ROWS]
                    for column in (self.micrograph, self.x, self.y, self.score, self.probability)
                ),
                strict=True,
            )
        )
        more = f"<p>… and {len(self) - SHOWN_ROWS:,} more</p>" if len(self) > SHOWN_ROWS else ""
        head = "".join(f"<th>{c}</th>" for c in ("micrograph", "x", "y", "score", "probability"))
        return f"<p>{html.escape(repr(self))}</p><table><tr>{head}</tr>{rows}</table>{more}"


def join_stems(pairs: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Return all file stems of each micrograph that has some."""
    joined: dict[str, tuple[str, ...]] = {}
    for name, stems in pairs:
        if stems:
            joined[name] = tuple(dict.fromkeys([*joined.get(name, ()), *stems]))
    return joined


def _fill_column(table: Picks, key: str, tables: Sequence[Picks]) -> NDArray[Any]:
    """Return a column of a table, filled with None if only other tables have it."""
    if key in table.extra:
        return np.asarray(table.extra[key])
    other = next(np.asarray(t.extra[key]) for t in tables if key in t.extra)
    return np.full((len(table), *other.shape[1:]), None, dtype=object)
