"""The elements that a section of the report consists of; the templates render them as HTML."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Tables longer than this are cut; the files beside the report hold every row.
MOST_ROWS: Final = 200
#: Tables longer than this are folded.
MOST_ROWS_UNFOLDED: Final = 12


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text."""

    kind: ClassVar = "paragraph"
    text: str


@dataclass(frozen=True)
class Figure:
    """An image with a caption.

    Attributes
    ----------
    image
        PNG as bytes, or SVG as text.
    alt
        What the image shows, for readers who cannot see it.
    """

    kind: ClassVar = "figure"
    image: bytes | str
    alt: str
    caption: str = ""

    @property
    def source(self) -> str:
        """The image as a data URI."""
        is_svg = isinstance(self.image, str)
        data = self.image.encode("utf-8") if isinstance(self.image, str) else self.image
        media_type = "image/svg+xml" if is_svg else "image/png"
        return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    columns
        The headings.
    rows
        The cells, as text.
    text_columns
        The first columns are text, aligned left; the others are numbers, aligned right.
    bars
        Length of a bar at the end of each row, in percent; empty for no bars.
    fold
        The line that unfolds the table; empty if it is always open.
    """

    kind: ClassVar = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    bars: Sequence[float] = ()
    fold: str = ""


@dataclass(frozen=True)
class Code:
    """Text as it is typed in a terminal."""

    kind: ClassVar = "code"
    text: str


@dataclass(frozen=True)
class Columns:
    """Elements side by side where there is room, otherwise below each other."""

    kind: ClassVar = "columns"
    elements: Sequence[Figure | Facts]


@dataclass(frozen=True)
class MicrographImages:
    """A micrograph and its enlarged part, under its name and a line about it."""

    kind: ClassVar = "micrograph"
    name: str
    note: str
    whole: Figure
    detail: Figure


Element = Paragraph | Figure | Facts | Table | Code | Columns | MicrographImages


@dataclass(frozen=True)
class Section:
    """A section of the report; a folded one shows only its heading until it is opened."""

    heading: str
    elements: Sequence[Element]
    folded: bool = False


def table_of(
    heading: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    text_columns: int = 1,
    bars: Sequence[float] = (),
) -> list[Element]:
    """Return a table: as it is if it is short, folded if it is long, cut if it is very long.

    No rows give no table. Parameters as of `Table`; `heading` is the line that unfolds it.
    """
    if not rows:
        return []
    fold = heading if len(rows) > MOST_ROWS_UNFOLDED else ""
    if len(rows) > MOST_ROWS:
        fold = f"{heading}: the first {MOST_ROWS} of {len(rows):,}"
    return [Table(columns, rows[:MOST_ROWS], text_columns, bars[:MOST_ROWS], fold)]
