"""The lists of micrographs and the coordinates in the jobs of a RELION project.

The layout: ``Type/jobNNN/`` for each job, with its tables in that folder; the jobs' states are in
``default_pipeline.star``, or in files named after them. Names in tables are relative to the
project's folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from heliodor.conventions import Shape
from heliodor.data.coordinates.formats import relion_suffix
from heliodor.data.coordinates.formats.filament_columns import TUBE
from heliodor.data.coordinates.formats.relion_star import COORDINATE_FILE, PICK_SUFFIXES, X, Y
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.star_list import (
    DETECTOR,
    NAME,
    OPTICS_GROUP,
    PIXEL_SIZE,
    OpticsGroups,
    pixel_sizes,
)
from heliodor.data.star import BlockRows, StarTable, stream_blocks
from heliodor.errors import BadInput
from heliodor.integrations.projects import (
    UNUSABLE,
    Budget,
    FileCache,
    FoundSet,
    Project,
    list_files,
    list_folders,
)
from heliodor.utils.parsing import parse_number

PIPELINE = "default_pipeline.star"
#: Folders of jobs, by their types.
JOB_FOLDERS = (
    *("Import", "MotionCorr", "CtfFind", "ManualPick", "AutoPick", "Extract", "Select"),
    *("Class2D", "InitialModel", "Class3D", "Refine3D", "CtfRefine", "Polish", "JoinStar"),
    *("Subtract", "MultiBody", "DynaMight", "External"),
)

_JOB = re.compile(r"job(\d+)")
#: The particles after an iteration, of which only the last are listed.
_ITERATION = re.compile(r"run(?:_ct(\d+))?_it(\d+)_data\.star")
_FINAL = "run_data.star"
#: Ends of the names of tables that list neither micrographs nor coordinates.
_OTHERS = (
    *("_model.star", "_optimiser.star", "_sampling.star", "_pipeline.star", "job.star"),
    *("summary.star", "RELION_OUTPUT_NODES.star"),
)
#: The numbers of the states in `default_pipeline.star` before RELION 4.
_STATES = ("running", "scheduled", "succeeded", "failed", "aborted")
#: Files in a job's folder that mark its end.
_MARKS = {"RELION_JOB_EXIT_FAILURE": "failed", "RELION_JOB_EXIT_ABORTED": "aborted"}
#: The table of candidates in the folder of a job of heliodor's.
_OWN = "picks.tsv"
#: Bytes of a table in which the labels of its columns are found.
_HEAD_BYTES = 2**18
_CTF = {"rlnDefocusU", "rlnCtfImage", "rlnCtfMaxResolution"}
_SIZES = (OPTICS_GROUP, PIXEL_SIZE, *DETECTOR)


def is_project(folder: Path) -> bool:
    """Return whether a folder is that of a project, and not of one of its jobs."""
    if not folder.is_dir() or _JOB.fullmatch(folder.resolve().name):
        return False
    return (folder / PIPELINE).is_file() or any(
        _JOB.fullmatch(job.name)
        for name in JOB_FOLDERS
        if (folder / name).is_dir()
        for job in list_folders(folder / name, [])
    )


def find_sets(folder: Path, progress: Callable[[int, int], None] | None = None) -> Project:
    """Find the tables of all jobs that list micrographs or coordinates.

    Tables that cannot be read are reported in the result, and stop no others.
    """
    unread: list[tuple[Path, str]] = []
    states = _read_states(folder / PIPELINE, unread)
    jobs = [
        job
        for name in JOB_FOLDERS
        if (folder / name).is_dir()
        for job in list_folders(folder / name, unread)
        if _JOB.fullmatch(job.name)
    ]
    reader = _Reader(folder, unread)
    sets: list[FoundSet] = []
    # The newest first, as what may be read is limited.
    for count, job in enumerate(sorted(jobs, key=_number, reverse=True), 1):
        name = f"{job.parent.name}/{job.name}"
        sets += reader.read_job(job, name, states.get(name))
        if progress is not None:
            progress(count, len(jobs))
    return Project(folder, "a RELION project", len(jobs), tuple(sets), tuple(unread))


def _number(job: Path) -> int:
    found = _JOB.fullmatch(job.name)
    return int(found[1]) if found else 0


def _read_states(pipeline: Path, unread: list[tuple[Path, str]]) -> dict[str, str]:
    """Return the states of jobs by their names, such as CtfFind/job003."""
    states: dict[str, str] = {}
    if not pipeline.is_file():
        return states
    name, state, number = (
        f"rlnPipeLineProcess{what}" for what in ("Name", "StatusLabel", "Status")
    )
    try:
        for block in stream_blocks(pipeline):
            state_label = state if state in block.labels else number
            if {name, state_label} <= {*block.labels}:
                for job, said in _select(block, (name, state_label)):
                    place = parse_number(said)
                    if 0 <= place < len(_STATES):
                        said = _STATES[int(place)]
                    states[job.rstrip("/")] = said.lower()
    except BadInput as error:
        unread.append((pipeline, str(error)))
    return states


def _select(block: BlockRows, labels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield some values of each row, those that it lacks as empty texts."""
    places = [block.labels.index(label) if label in block.labels else -1 for label in labels]
    for row in block.rows:
        count = len(row)
        yield tuple(row[place] if 0 <= place < count else "" for place in places)


class _Reader:
    """Reads the tables of jobs."""

    def __init__(self, folder: Path, unread: list[tuple[Path, str]]) -> None:
        self._folder = folder
        self._unread = unread
        self._files = FileCache(folder)
        self._budget = Budget()
        self._shapes: dict[str, Shape | None] = {}

    def read_job(self, job: Path, name: str, state: str | None) -> list[FoundSet]:
        """Return the sets of one job."""
        marks = [end for mark, end in _MARKS.items() if (job / mark).exists()]
        state = state or next(iter(marks), None)
        unused = state if state in UNUSABLE else None
        if state == "running":
            name += " (running)"
        found = []
        for path in _select_tables(list_files(job, (".star",), self._unread)):
            try:
                table = self._read_table(path)
                if table is not None and table.kind is not None:
                    found.append(self._describe(table, path, name, unused))
            except (BadInput, OSError) as error:
                self._unread.append((path, str(error)))
        return found

    def _read_table(self, path: Path) -> _Table | None:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        table = _Table()
        is_list = f"_{COORDINATE_FILE}".encode() in head
        if is_list or f"_{X}".encode() in head:
            table.kind = "coordinates"
        elif f"_{NAME}".encode() not in head and not relion_suffix.has_its_name(path):
            return None
        if relion_suffix.has_its_name(path) and b"data_" not in head:
            table.kind = "coordinates"
            table.is_counted = self._budget.take(path)
            if table.is_counted and head.strip():
                table.add_picks(relion_suffix.read_picks(path))
                self._budget.files -= len(table.names)
        elif table.kind == "coordinates" and not self._budget.take(path):
            table.is_counted = False
        else:
            table.read(path, self._folder, self._budget)
        return table

    def _describe(self, table: _Table, path: Path, job: str, unused: str | None) -> FoundSet:
        assert table.kind is not None
        if unused is None and table.kind == "coordinates" and (path.parent / _OWN).is_file():
            unused = "picks of heliodor"
        if unused is None and table.holds_filaments:
            unused = "filaments"
        return FoundSet(
            table.kind,
            path,
            job,
            _number(path.parent),
            path.stat().st_mtime,
            table.particles if table.is_counted else None,
            tuple(table.names),
            self._files.find_missing(table.names),
            table.find_pixel_sizes(path),
            table.has_ctf,
            unused,
            self._find_extent(table),
        )

    def _find_extent(self, table: _Table) -> tuple[float, float] | None:
        """Compare the farthest coordinates with the size of one of their micrographs."""
        if not table.particles:
            return None
        name = next((name for name in table.names if self._files.exists(name)), None)
        if name is None:
            return None
        if name not in self._shapes:
            try:
                self._shapes[name] = read_header(self._folder / name).shape
            except BadInput:  # the checks of the micrographs say so
                self._shapes[name] = None
        shape = self._shapes[name]
        return (table.farthest[0] / shape[1], table.farthest[1] / shape[0]) if shape else None


class _Table:
    """What is counted in one table."""

    def __init__(self) -> None:
        self.kind: Literal["micrographs", "coordinates"] | None = None
        self.particles = 0
        self.is_counted = True
        self.has_ctf = False
        self.holds_filaments = False
        #: The micrographs, in the order of the table.
        self.names: dict[str, None] = {}
        #: The largest x and y.
        self.farthest = (0.0, 0.0)
        self._optics: StarTable | None = None
        #: The different values of the columns with pixel sizes.
        self._sizes: set[tuple[str, ...]] = set()
        self._size_labels: tuple[str, ...] = ()

    def read(self, path: Path, folder: Path, budget: Budget) -> None:
        """Read a table, and the coordinate files that it lists, relative to a folder.

        Raises
        ------
        BadInput
            If no block has the columns of micrographs or coordinates.
        """
        is_found = False
        for block in stream_blocks(path):
            labels = {*block.labels}
            is_found |= NAME in labels or {X, Y} <= labels
            if block.name == "optics":
                rows = [*_select(block, block.labels)]
                columns = zip(*rows, strict=True) if rows else iter([()] * len(block.labels))
                self._optics = StarTable(
                    {k: np.array(v, object) for k, v in zip(block.labels, columns, strict=True)}
                )
            elif {NAME, COORDINATE_FILE} <= labels:
                self._add_listed(_select(block, (NAME, COORDINATE_FILE)), folder, budget)
            elif {X, Y} <= labels:
                self._add_particles(block)
            elif NAME in labels and self.kind != "coordinates":
                self.kind = "micrographs"
                self.has_ctf |= bool(_CTF & labels)
                self._add_names(block)
        if not is_found:
            raise BadInput(f"{path} has no table of micrographs or coordinates; it is incomplete")

    def _add_names(self, block: BlockRows) -> None:
        self._size_labels = tuple(label for label in _SIZES if label in block.labels)
        for name, *sizes in _select(block, (NAME, *self._size_labels)):
            self.names[name] = None
            self._sizes.add(tuple(sizes))

    def _add_particles(self, block: BlockRows) -> None:
        self.holds_filaments |= TUBE in block.labels
        # The detector's pixel size is that of the extracted particles here.
        self._size_labels = tuple(label for label in _SIZES[:2] if label in block.labels)
        for name, x, y, *sizes in _select(block, (NAME, X, Y, *self._size_labels)):
            self.particles += 1
            if name:
                self.names[name] = None
            self._sizes.add(tuple(sizes))
            self._extend(parse_number(x), parse_number(y))

    def _add_listed(self, rows: Iterable[tuple[str, ...]], folder: Path, budget: Budget) -> None:
        for name, file in rows:
            self.names[name] = None
            path = folder / file
            if not os.path.isfile(path):
                continue
            self.is_counted = self.is_counted and budget.take(path)
            if self.is_counted:
                for block in stream_blocks(path):
                    self.holds_filaments |= TUBE in block.labels
                    for x, y in _select(block, (X, Y)) if {X, Y} <= {*block.labels} else ():
                        self.particles += 1
                        self._extend(parse_number(x), parse_number(y))

    def add_picks(self, picks: Picks) -> None:
        """Add coordinates that were read."""
        self.particles += len(picks)
        self.names |= dict.fromkeys(picks.micrographs)
        if len(picks):
            self._extend(*picks.xy_px.max(axis=0).tolist())

    def _extend(self, x: float, y: float) -> None:
        self.farthest = (max(self.farthest[0], x), max(self.farthest[1], y))

    def find_pixel_sizes(self, path: Path) -> tuple[float, ...]:
        """Return the different pixel sizes of the micrographs."""
        rows = sorted(self._sizes)
        if not rows:
            return ()
        columns = [np.array(column, object) for column in zip(*rows, strict=True)]
        table = StarTable(
            dict(zip(self._size_labels, columns, strict=True)) or {"": np.array([""], object)}
        )
        sizes = pixel_sizes(table, OpticsGroups.find(table, self._optics, path), detector=True)
        return tuple(sorted({size for size in sizes if size is not None}))


def _select_tables(files: Sequence[Path]) -> list[Path]:
    """Return the tables that may list micrographs or coordinates, of iterations the last."""
    last: tuple[tuple[int, int], Path] | None = None
    chosen = []
    for path in files:
        iteration = _ITERATION.fullmatch(path.name)
        if iteration:
            place = (int(iteration[2]), int(iteration[1] or 0))
            last = (place, path) if last is None or place > last[0] else last
        elif relion_suffix.has_its_name(path) or not path.stem.endswith(PICK_SUFFIXES):
            chosen += [] if path.name.endswith(_OTHERS) else [path]
    has_final = any(path.name == _FINAL for path in chosen)
    return chosen if last is None or has_final else [*chosen, last[1]]
