"""The exposures and the particles in the jobs of a cryoSPARC project.

The layout: ``J12/`` for each job, with its tables (``.cs``) and ``job.json``; exported groups are
in ``exports``, each described by a ``.csg`` file beside its tables. Names of micrographs are
relative to the project's folder, or to the table.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data.coordinates.formats import cryosparc
from heliodor.data.coordinates.formats.filament_columns import CS_FILAMENT
from heliodor.data.cryosparc_table import Header, decode_texts, load_table, read_header
from heliodor.data.cryosparc_table import strip_export_mark as strip_mark
from heliodor.data.micrographs import cs_list
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
from heliodor.utils.files import find_referenced_file
from heliodor.utils.parsing import as_positive

JOB_FILE = "job.json"
#: Bytes. The descriptions of jobs and of groups are shorter.
_LONGEST_JOB_FILE, _LONGEST_GROUP_FILE = 2**26, 2**20
_JOB = re.compile(r"J(\d+)")
#: Exported groups and jobs, below the project's folder.
_EXPORTS = ("exports/groups", "exports/jobs")
#: The tables after an iteration, such as J12_005_particles.cs, of which only the last are listed.
_ITERATION = re.compile(r"(.*_)(\d{3,5})(_.+)")
#: Names of tables with what a job did not select.
_REJECTED = re.compile(r"excluded|rejected|unselected|unused|uncategorized|discarded|remaining")
_CTF = "ctf/df1_A"
#: Micrographs that are searched for to find the folder to which all are relative.
_TRIED = 3
#: The key in a .csg file, which is YAML, of the name of a table.
_TABLE = "metafile:"


def is_project(folder: Path) -> bool:
    """Return whether a folder is that of a project, of one of its jobs, or of an export."""
    if not folder.is_dir():
        return False
    return (
        _is_job(folder)
        or bool(list_files(folder, (".csg",), []))
        or any((folder / exports).is_dir() for exports in _EXPORTS)
        or any(_JOB.fullmatch(job.name) and _is_job(job) for job in list_folders(folder, []))
    )


def _is_job(folder: Path) -> bool:
    has_name = _JOB.fullmatch(folder.resolve().name) is not None
    described = (folder / JOB_FILE).is_file()
    has_tables = bool(list_files(folder, (".cs",), []))
    return sum((has_name, described, has_tables)) >= 2


def find_sets(folder: Path, progress: Callable[[int, int], None] | None = None) -> Project:
    """Find the tables of all jobs and exports that list micrographs or coordinates.

    Tables that cannot be read are reported in the result, and stop no others.
    """
    unread: list[tuple[Path, str]] = []
    what = "a cryoSPARC project"
    if _is_job(folder):
        what, jobs = "a cryoSPARC job", [folder]
    elif list_files(folder, (".csg",), unread):
        what, jobs = "a group exported from cryoSPARC", [folder]
    else:
        jobs = [job for job in list_folders(folder, unread) if _JOB.fullmatch(job.name)]
    exports = [
        export
        for name in _EXPORTS
        if (folder / name).is_dir()
        for group in list_folders(folder / name, unread)
        for export in (group, *list_folders(group, unread))
    ]
    reader = _Reader(unread)
    places = sorted([*jobs, *exports], key=_find_number, reverse=True)
    sets: list[FoundSet] = []
    for count, place in enumerate(places, 1):
        sets += reader.read_folder(place)
        if progress is not None:
            progress(count, len(places))
    return Project(folder, what, len(jobs), tuple(sets), tuple(unread))


def _find_number(folder: Path) -> int:
    """Return the number of the job that a folder is of, or was exported from."""
    for name in (folder.resolve().name, folder.resolve().parent.name):
        found = re.search(r"(?:^|_)J(\d+)(?=_|$)", name)
        if found:
            return int(found[1])
    return 0


class _Reader:
    """Reads the tables of jobs and exports."""

    def __init__(self, unread: list[tuple[Path, str]]) -> None:
        self._unread = unread
        self._budget = Budget()
        #: By the folders to which names are relative.
        self._files: dict[Path, FileCache] = {}

    def read_folder(self, folder: Path) -> list[FoundSet]:
        """Return the sets in one folder."""
        headers: dict[Path, Header] = {}
        for path in _select_last(list_files(folder, (".cs",), self._unread)):
            try:
                headers[path] = read_header(path)
            except BadInput as error:
                self._unread.append((path, str(error)))
        self._check_groups(folder)
        listed = {
            path: header
            for path, header in headers.items()
            if cs_list.lists_micrographs(header) or _has_coordinates(header)
        }
        if not headers:
            return []
        job, state = self._describe_job(folder)
        sets = []
        for path, header in listed.items():
            # CTF and paths of the same exposures may be in two tables of a job.
            has_ctf = any(
                _CTF in own.fields and own.rows == header.rows and not _has_coordinates(own)
                for own in headers.values()
            )
            try:
                sets.append(self._read_table(path, header, folder, job, state, has_ctf))
            except (BadInput, OSError) as error:
                self._unread.append((path, str(error)))
        return sets

    def _read_table(
        self, path: Path, header: Header, folder: Path, job: str, state: str | None, has_ctf: bool
    ) -> FoundSet:
        is_list = cs_list.lists_micrographs(header)
        name, size = (cs_list.NAME, cs_list.PIXEL_SIZE) if is_list else cs_list.OF_PARTICLES
        names: list[str] = []
        sizes: set[float] = set()
        if is_list or self._budget.take(path):
            table = load_table(path, (name, size))
            texts = decode_texts(np.unique(table[name]), path)
            names = [strip_mark(str(text)) for text in texts]
            values = np.unique(table[size]).tolist() if size in table else []
            sizes = {float(value) for value in values if as_positive(value) is not None}
        unused = state if state in UNUSABLE else None
        if _REJECTED.search(path.stem):
            unused = unused or "rejected by its job"
        if CS_FILAMENT in header.fields:
            unused = unused or "filaments"
        return FoundSet(
            "micrographs" if is_list else "coordinates",
            path,
            job,
            _find_number(folder),
            path.stat().st_mtime,
            None if is_list else header.rows,
            tuple(names),
            self._find_missing(names, path),
            tuple(sorted({round(value, 5) for value in sizes})),
            is_list and has_ctf,
            unused,
        )

    def _find_missing(self, names: Sequence[str], table: Path) -> tuple[str, ...]:
        """Return the micrographs without a file; all are relative to one folder."""
        for name in names[:_TRIED]:
            found = find_referenced_file(name, table)
            if found is not None:
                base = Path(os.path.abspath(str(found).removesuffix(name) or "."))
                files = self._files.setdefault(base, FileCache(base))
                return files.find_missing(names)
        return tuple(names)

    def _check_groups(self, folder: Path) -> None:
        """Note tables that a .csg file names and that do not exist."""
        for group in list_files(folder, (".csg",), self._unread):
            try:
                named = _list_tables(group)
            except (OSError, ValueError) as error:
                self._unread.append((group, f"{group} cannot be read ({error})"))
                continue
            gone = [name for name in named if not os.path.exists(folder / name)]
            if gone or not named:
                what = f"names {gone[0]}, which does not exist" if gone else "names no table"
                self._unread.append((group, f"{group} {what}; export the group again"))

    def _describe_job(self, folder: Path) -> tuple[str, str | None]:
        """Return the name of a job with its type, and its state, if they are known."""
        path = folder / JOB_FILE
        name = folder.resolve().name
        if not path.is_file():
            return name, None
        try:
            if path.stat().st_size > _LONGEST_JOB_FILE:
                raise ValueError("it is longer than any description of a job")
            content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            self._unread.append((path, f"{path} cannot be read ({error})"))
            return name, None
        if not isinstance(content, dict):
            self._unread.append((path, f"{path} does not describe a job"))
            return name, None
        spec = content.get("spec")
        kind = content.get("job_type") or (spec.get("type") if isinstance(spec, dict) else None)
        state = content.get("status")
        told = [one for one in (kind, state) if isinstance(one, str) and one != "completed"]
        return (
            f"{name} ({', '.join(told)})" if told else name,
            state if isinstance(state, str) else None,
        )


def _list_tables(group: Path) -> list[str]:
    """Return the names of the tables in a .csg file."""
    if group.stat().st_size > _LONGEST_GROUP_FILE:
        raise ValueError("it is longer than any description of a group")
    lines = [line.strip() for line in group.read_text(encoding="utf-8-sig").split("\n")]
    values = [line.removeprefix(_TABLE).strip() for line in lines if line.startswith(_TABLE)]
    return list(dict.fromkeys(strip_mark(value.strip("'\"")) for value in values))


def _has_coordinates(header: Header) -> bool:
    return {cryosparc.NAME, cryosparc.X, cryosparc.Y} <= header.fields


def _select_last(files: list[Path]) -> list[Path]:
    """Return the tables without those of all iterations but the last."""
    last: dict[tuple[str, str], tuple[int, Path]] = {}
    chosen = []
    for path in files:
        found = _ITERATION.fullmatch(path.stem)
        if found is None:
            chosen.append(path)
            continue
        key, place = (found[1], found[3]), (int(found[2]), path)
        last[key] = max(last.get(key, place), place)
    return [*chosen, *(path for _, path in last.values())]
