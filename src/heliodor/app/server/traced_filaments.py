"""The filaments that were traced in a project, without those that the user rejected."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from heliodor.app.server.filament_labels import FilamentLabels
from heliodor.app.server.project import Project
from heliodor.app.server.tiles import MicrographTiles
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.geometry import project_on_axis
from heliodor.data.filaments.readers import read_filaments

#: A traced filament is the same as one that was drawn or rejected if this share of its points is
#: within half a width.
SAME_SHARE = 0.5
#: The default of the shortest filament in widths, as in `heliodor.picking.filaments.settings`.
LEAST_WIDTHS = 3.0


@dataclass(frozen=True)
class SortedFilament:
    """A traced filament, or a part of it, and what the user said about it."""

    filament: Filament
    state: Literal["kept", "rejected", "drawn"]


@dataclass(frozen=True)
class _Sorted:
    """The filaments of a micrograph as they were sorted last, and what that depended on."""

    key: tuple[object, ...]
    found: tuple[SortedFilament, ...]


class TracedFilaments:
    """What was traced, sorted by what the user drew and rejected; any thread may call.

    Parameters
    ----------
    project, tiles, labels
        Those of the project.
    width_angstrom
        Of the filaments.
    files
        Where filaments are written when they are traced; the newest one counts.
    """

    def __init__(
        self,
        project: Project,
        tiles: MicrographTiles,
        labels: FilamentLabels,
        width_angstrom: float,
        files: Sequence[Path],
    ) -> None:
        self._project, self._tiles, self._labels = project, tiles, labels
        self._width_angstrom, self._files = width_angstrom, files
        self._lock = threading.RLock()
        self._state: tuple[str, int, int] | None = None
        self._by_name: dict[str, list[Filament]] = {}
        self._pixel_sizes: dict[str, float] = {}
        self._sorted: dict[int, _Sorted] = {}

    @property
    def version(self) -> str | None:
        """What differs after each tracing; None before the first one."""
        with self._lock:
            self._read()
            return None if self._state is None else f"{self._state[0]}:{self._state[1]}"

    @property
    def folder(self) -> Path | None:
        """The folder of what was traced last; None before anything was."""
        with self._lock:
            self._read()
            return None if self._state is None else Path(self._state[0]).parent

    def radius_px(self, number: int) -> float:
        """Return half the width of the filaments in pixels of a micrograph.

        Raises
        ------
        BadInput
            If the micrograph cannot be read, or its pixel size is not known.
        """
        return 0.5 * self._width_angstrom / self._tiles.pixel_size(number)

    def of(self, number: int) -> tuple[SortedFilament, ...] | None:
        """Return what was traced on a micrograph; None before anything was.

        Of a traced filament that contains one that was rejected, what is left.

        Raises
        ------
        BadInput
            If the micrograph, or the file of what was traced, cannot be read.
        """
        with self._lock:
            self._read()
            if self._state is None:
                return None
            name = self._project.sources[number].name
            traced = self._by_name.get(name, [])
            if not traced:
                return ()
            key = (self._state, name, self._labels.version(name))
            before = self._sorted.get(number)
            if before is None or before.key != key:
                before = self._sorted[number] = _Sorted(key, self._sort(number, name, traced))
            return before.found

    def measure(self, number: int) -> tuple[int, float | None]:
        """Return how many traced filaments are kept on a micrograph, and their length (Å).

        The length is None where the pixel size is not known.

        Raises
        ------
        BadInput
            If the micrograph, or the file of what was traced, cannot be read.
        """
        kept = [one.filament for one in self.of(number) or () if one.state == "kept"]
        if not kept:
            return 0, 0.0
        size = self._pixel_sizes.get(kept[0].micrograph)
        length = sum(one.length_px for one in kept)
        return len(kept), None if size is None else round(length * size, 1)

    def gather(self, numbers: Sequence[int]) -> Filaments:
        """Return the filaments of some micrographs: those drawn, and those traced and kept.

        Raises
        ------
        BadInput
            If a micrograph or the file of what was traced cannot be read.
        """
        found: list[Filament] = []
        sizes: dict[str, float] = {}
        shapes: dict[str, tuple[int, int]] = {}
        for number in numbers:
            name = self._project.sources[number].name
            own = self._labels.of_micrograph("label", name)
            own += [one.filament for one in self.of(number) or () if one.state == "kept"]
            if not own:
                continue
            found += [replace(one, tube_id=place) for place, one in enumerate(own, 1)]
            shapes[name] = self._tiles.header(number).shape
            sizes[name] = self._tiles.pixel_size(number)
        return Filaments(tuple(shapes), tuple(found), sizes, shapes)

    def _read(self) -> None:
        """Read the newest file again if it changed; the caller holds the lock."""
        there = []
        for path in self._files:
            try:
                status = path.stat()
            except OSError:
                continue
            there.append((status.st_mtime_ns, status.st_size, path))
        if not there:
            self._state, self._by_name, self._pixel_sizes = None, {}, {}
            return
        when, size, path = max(there)
        state = (str(path), when, size)
        if state == self._state:
            return
        table = read_filaments(path)
        self._by_name = {}
        for one in table:
            self._by_name.setdefault(one.micrograph, []).append(one)
        self._pixel_sizes, self._state = dict(table.pixel_sizes), state
        self._sorted.clear()

    def _sort(
        self, number: int, name: str, traced: Sequence[Filament]
    ) -> tuple[SortedFilament, ...]:
        drawn = self._labels.of_micrograph("label", name)
        rejected = self._labels.of_micrograph("rejected", name)
        if not drawn and not rejected:
            return tuple(SortedFilament(one, "kept") for one in traced)
        radius = self.radius_px(number)
        found = []
        for one in traced:
            pieces = leave_rejected_out(one, rejected, radius)
            if not pieces:
                found.append(SortedFilament(one, "rejected"))
            for piece in pieces:
                is_drawn = any(_is_near(piece, other, radius).mean() >= SAME_SHARE
                               for other in drawn)  # fmt: skip
                found.append(SortedFilament(piece, "drawn" if is_drawn else "kept"))
        return tuple(found)


def leave_rejected_out(
    traced: Filament, rejected: Sequence[Filament], radius_px: float
) -> list[Filament]:
    """Return what is left of a traced filament without what was rejected.

    Nothing is left if half of its points lie on rejected filaments. If it contains half of a
    rejected one or more, as when two parts are joined that were apart before, that part is cut
    out; what is then shorter than the default of the shortest filament is left out.

    Parameters
    ----------
    radius_px
        Half the width of the filaments.
    """
    covered = np.zeros(len(traced.axis_px), bool)
    contained = covered.copy()
    for other in rejected:
        near = _is_near(traced, other, radius_px)
        covered |= near
        if _is_near(other, traced, radius_px).mean() >= SAME_SHARE:
            contained |= near
    if covered.mean() >= SAME_SHARE:
        return []
    if not contained.any():
        return [traced]
    edges = np.flatnonzero(np.diff(np.concatenate([[True], contained, [True]])))
    least = 2.0 * radius_px * LEAST_WIDTHS
    pieces = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if last - first < 2:
            continue
        scores = traced.point_scores
        piece = replace(
            traced,
            axis_px=traced.axis_px[first:last],
            point_scores=None if scores is None else scores[first:last],
        )
        if piece.length_px >= least:
            pieces.append(piece)
    return pieces


def _is_near(one: Filament, other: Filament, radius_px: float) -> NDArray[np.bool_]:
    """Return which points of a filament lie near the axis of another one."""
    return np.asarray(project_on_axis(one.axis_px, other.axis_px).distance_px <= radius_px)
