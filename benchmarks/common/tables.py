"""Tables of the speed benchmarks: rows of measurements, and whether targets are met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.common.processes import Run

HEAD = [
    *("what", "{peer}, s", "heliodor, s", "ratio", "{peer}, MB", "heliodor, MB"),
    *("floor, s", "time / floor", "bars"),
]


@dataclass(frozen=True)
class Bar:
    """What is asked for, and what was measured."""

    words: str
    met: bool

    def __str__(self) -> str:
        return f"{self.words}: {'met' if self.met else '**not met**'}"


def at_least(value: float, bar: float, what: str) -> Bar:
    """Ask for a value no lower than the bar."""
    return Bar(f"{what} at least {bar:g} (is {value:.3g})", value >= bar)


def at_most(value: float, bar: float, what: str) -> Bar:
    """Ask for a value no higher than the bar."""
    return Bar(f"{what} at most {bar:g} (is {value:.3g})", value <= bar)


@dataclass(frozen=True)
class Row:
    """One thing that was measured."""

    what: str
    ours: Run
    theirs: Run | None = None
    floor: float | None = None
    bars: Sequence[Bar] = ()

    @property
    def ratio(self) -> float:
        """How many times faster than the peer; not a number without one."""
        return self.theirs.seconds / self.ours.seconds if self.theirs else float("nan")

    def cells(self) -> list[str]:
        """Return the row as text."""
        over = f"{self.ours.seconds / self.floor:.2f}" if self.floor else ""
        return [
            self.what,
            seconds(self.theirs.seconds) if self.theirs else "",
            seconds(self.ours.seconds),
            f"{self.ratio:.{1 if self.ratio >= 1 else 2}f}" if self.theirs else "",
            megabytes(self.theirs) if self.theirs else "",
            megabytes(self.ours),
            seconds(self.floor) if self.floor else "",
            over,
            "; ".join(map(str, self.bars)),
        ]


def seconds(value: float) -> str:
    """Return seconds with three digits that matter."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def megabytes(run: Run) -> str:
    """Return a peak, and behind it in brackets what the work itself took of it."""
    above = "" if run.above_mb is None else f" ({run.above_mb:.0f})"
    return f"{run.peak_mb:.0f}{above}"


def table(rows: Iterable[Row], peer: str = "Topaz") -> str:
    """Return rows as a Markdown table."""
    return markdown([cell.format(peer=peer) for cell in HEAD], [row.cells() for row in rows])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
