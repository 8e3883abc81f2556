"""What a project of another program contains: lists of micrographs, and coordinates on them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heliodor.data.micrographs.working_images import same_pixel_size
from heliodor.utils.console import count_of

#: Files and bytes of tables that are read for one project, the newest first. Those of a data set
#: are far fewer; many old jobs are listed without numbers.
MOST_FILES, MOST_BYTES = 20_000, 4 * 2**30
#: How much of the micrographs' width and height coordinates cover, at most, if they are of
#: micrographs binned by two or more.
_BINNED = 0.55
#: Particles and micrographs from which their extent is significant.
_ENOUGH_PARTICLES, _ENOUGH_MICROGRAPHS = 30, 3

#: States of jobs whose results are not used.
UNUSABLE = ("failed", "aborted", "scheduled", "killed")


@dataclass(frozen=True)
class FoundSet:
    """A table of a job: a list of micrographs, or coordinates."""

    kind: Literal["micrographs", "coordinates"]
    path: Path
    #: The job, such as ``CtfFind/job003`` or ``J12 (blob_picker_gpu)``.
    job: str
    #: The number of the job, which grows with time.
    number: int
    #: When the file was written, in seconds since 1970.
    modified: float
    #: How many particles there are; None if they were not counted.
    particles: int | None
    #: The micrographs that are named, and how many of them do not exist.
    micrographs: tuple[str, ...]
    missing: tuple[str, ...] = ()
    #: Angstrom per pixel of the micrographs, as far as the table says.
    pixel_sizes: tuple[float, ...] = ()
    has_ctf: bool = False
    #: Why it is not used for training or picking, such as ``failed``.
    unused: str | None = None
    #: The largest x and y as shares of the micrographs' width and height.
    extent: tuple[float, float] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether a training or picking could use it."""
        if self.kind == "micrographs":
            some = len(self.missing) < len(self.micrographs)
        else:
            some = self.particles is None or self.particles > 0
        return some and self.unused is None

    @property
    def size(self) -> int:
        """The number of what the table lists."""
        return len(self.micrographs) if self.kind == "micrographs" else self.particles or 0

    def describe(self) -> str:
        """Return a line about the set."""
        parts = [count_of(len(self.micrographs), "micrograph")]
        if self.kind == "coordinates":
            known = self.particles is not None
            number = count_of(self.particles or 0, "particle")
            parts = [f"{number} on {parts[0]}" if known else "particles that were not counted"]
        if self.has_ctf:
            parts[0] += " with CTF"
        if self.pixel_sizes:
            low, high = min(self.pixel_sizes), max(self.pixel_sizes)
            sizes = f"{low:.4g}" if same_pixel_size(low, high) else f"{low:.4g} to {high:.4g}"
            parts.append(f"{sizes} Å/pixel")
        parts.append(f"{self.job}, {time.strftime('%Y-%m-%d', time.localtime(self.modified))}")
        if self.unused is not None:
            parts.append(f"not used ({self.unused})")
        elif self.micrographs and not self.missing:
            parts.append("all micrographs exist")
        return ", ".join(parts)

    def find_doubts(self) -> list[str]:
        """Return what looks wrong."""
        doubts = []
        if not self.size and (self.kind == "micrographs" or self.particles is not None):
            doubts.append("it is empty")
        if self.missing:
            some = ", ".join(self.missing[:3]) + (", ..." if len(self.missing) > 3 else "")
            doubts.append(
                f"{len(self.missing)} of its {len(self.micrographs)} micrographs do not exist"
                f" ({some})"
            )
        enough = (self.particles or 0) >= _ENOUGH_PARTICLES
        if enough and self.extent and len(self.micrographs) >= _ENOUGH_MICROGRAPHS:
            if max(self.extent) <= _BINNED:
                doubts.append(
                    f"its coordinates end at {max(self.extent):.0%} of the micrographs' sides:"
                    " they seem to be pixels of binned micrographs"
                )
            elif min(self.extent) > 1:
                doubts.append(
                    f"its coordinates extend to {min(self.extent):.0%} of the micrographs' sides:"
                    " they seem to be pixels of less binned micrographs"
                )
        return doubts


@dataclass(frozen=True)
class Project:
    """The sets of a project, the newest first, and what could not be read."""

    folder: Path
    #: Such as "a RELION project".
    what: str
    jobs: int
    sets: tuple[FoundSet, ...]
    #: File, and why it was not read.
    unread: tuple[tuple[Path, str], ...] = ()

    def list_sets(self, kind: Literal["micrographs", "coordinates"]) -> list[FoundSet]:
        """Return the sets of one kind, the newest first."""
        return [found for found in self.sets if found.kind == kind]

    def choose_micrographs(self) -> FoundSet | None:
        """Return the newest list of micrographs with CTF, or without if there is none."""
        usable = [found for found in self.list_sets("micrographs") if found.is_usable]
        return _choose_newest([found for found in usable if found.has_ctf] or usable)

    def choose_coordinates(self) -> FoundSet | None:
        """Return the newest coordinates."""
        return _choose_newest([s for s in self.list_sets("coordinates") if s.is_usable])

    def find_pixel_sizes(self) -> list[tuple[float, list[FoundSet]]]:
        """Return the pixel sizes of the project that differ, each with its sets."""
        groups: list[tuple[float, list[FoundSet]]] = []
        for found in self.sets:
            for size in found.pixel_sizes:
                own = next((sets for one, sets in groups if same_pixel_size(one, size)), None)
                if own is None:
                    groups.append((size, own := []))
                if found not in own[-1:]:
                    own.append(found)
        return groups


def _choose_newest(sets: Sequence[FoundSet]) -> FoundSet | None:
    """Return the set of the newest job, and of several in one job the largest."""
    newest = max((found.number for found in sets), default=0)
    same = [found for found in sets if found.number == newest]
    return max(same, key=lambda found: found.size, default=None)


@dataclass
class Budget:
    """What may still be read."""

    files: int = field(default_factory=lambda: MOST_FILES)
    bytes: int = field(default_factory=lambda: MOST_BYTES)

    def take(self, path: Path) -> bool:
        """Return whether a file may be read, and count it."""
        self.files -= 1
        self.bytes -= path.stat().st_size
        return self.files >= 0 and self.bytes >= 0


@dataclass
class FileCache:
    """Which files of a project exist; many tables name the same ones."""

    folder: Path
    _known: dict[str, bool] = field(default_factory=dict)

    def find_missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names without a file."""
        return tuple(name for name in names if not self.exists(name))

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name, relative to the project's folder."""
        if name not in self._known:
            self._known[name] = os.path.exists(self.folder / name)
        return self._known[name]


def list_folders(folder: Path, unread: list[tuple[Path, str]]) -> list[Path]:
    """Return the folders in a folder, sorted and each once; links to them come second.

    A folder that cannot be read is added to `unread`.
    """
    found: dict[str, Path] = {}
    try:
        with os.scandir(folder) as entries:
            # A folder may have very many files, whose types are known without looking at each.
            own = [(entry.is_symlink(), entry.name) for entry in entries if _is_folder(entry)]
    except OSError as error:
        unread.append((folder, f"the folder cannot be read ({error.strerror})"))
        return []
    for _, name in sorted(own):
        found.setdefault(os.path.realpath(folder / name), folder / name)
    return sorted(found.values())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def list_files(
    folder: Path, suffixes: tuple[str, ...], unread: list[tuple[Path, str]]
) -> list[Path]:
    """Return the visible files of a folder with some suffixes, sorted; see `list_folders`."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.endswith(suffixes) and e.name[0] != "."]
    except OSError as error:
        unread.append((folder, f"the folder cannot be read ({error.strerror})"))
        return []
    return [folder / name for name in sorted(names) if os.path.isfile(folder / name)]
