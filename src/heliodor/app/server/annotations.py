"""Annotations: particles and negatives that the user marked, saved in two STAR files."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heliodor import __version__
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import relion_star
from heliodor.data.micrographs import star_list
from heliodor.data.star import format_cell
from heliodor.errors import BadInput
from heliodor.utils.files import write_text
from heliodor.utils.hashing import digest

#: The two kinds of annotations and their files.
KINDS = {"particle": "labels.star", "negative": "negatives.star"}
#: The column of the ids that the page gives annotations: a change that is sent twice, as after a
#: crash, is made once.
ID_COLUMN = "heliodorMarkId"
#: A valid id.
VALID_ID = re.compile(r"[A-Za-z0-9_:-]{1,64}", re.ASCII)
#: Most annotations; far more than are made by hand.
MAX_PER_MICROGRAPH, MAX_PER_PROJECT = 20_000, 1_000_000

_HEAD = "\n".join(
    [f"# Written by heliodor {__version__}", "", "data_", "", "loop_"]
    + [
        f"_{c} #{i}"
        for i, c in enumerate((relion_star.X, relion_star.Y, star_list.NAME, ID_COLUMN), 1)
    ]
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation, in pixels of the original file."""

    x: float
    y: float
    #: One of `KINDS`.
    kind: str


@dataclass(frozen=True)
class _Change:
    """A change of the annotations of a micrograph that has not been written."""

    saved: Future[None]
    name: str
    #: The annotations of the micrograph before the change, by their ids.
    before: Mapping[str, Annotation]


class Annotations:
    """All annotations of a project, by the names of micrographs; any thread may call.

    Each change is written before it is acknowledged. Changes that arrive while a file is being
    written are written together afterward.

    Parameters
    ----------
    folder
        The project folder.

    Raises
    ------
    BadInput
        If an existing file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = {kind: folder / file for kind, file in KINDS.items()}
        self._by_micrograph: dict[str, dict[str, Annotation]] = {}
        #: The formatted rows of each micrograph, by kind.
        self._rows: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        self._total = 0
        #: What `summary` returned last, until something changes.
        self._summary: dict[str, Any] | None = None
        self._wake = threading.Condition()
        self._unsaved: set[str] = set()
        #: Changes that have not been written, and what there was before each.
        self._waiting: list[_Change] = []
        self._closing = False
        for kind, path in self._paths.items():
            if path.is_dir():
                raise BadInput(f"{path} is a folder, not a file of labels; remove or rename it")
            if path.is_file():
                self._read(kind, path)
            else:
                self._unsaved.add(kind)
        self._writer = threading.Thread(target=self._write_all, name="annotations", daemon=True)
        self._writer.start()

    def _read(self, kind: str, path: Path) -> None:
        table = relion_star.read_picks(path)
        ids = [str(value) for value in table.extra.get(ID_COLUMN, [""] * len(table))]
        for name, rows in table.rows():
            own = self._by_micrograph.setdefault(name, {})
            for row in rows:
                x, y = table.xy_px[row]
                key = ids[row] if VALID_ID.fullmatch(ids[row]) else ""
                while not key or key in own:
                    key = uuid.uuid4().hex
                own[key] = Annotation(round(float(x), 3), round(float(y), 3), kind)
                self._total += 1
            self._format_rows(name)

    def of_micrograph(self, name: str) -> dict[str, Annotation]:
        """Return the annotations of a micrograph by their ids."""
        with self._wake:
            return dict(self._by_micrograph.get(name, {}))

    def positions(self, name: str, kind: str) -> FloatArray:
        """Return the positions (x, y) of a kind on a micrograph, shape (n, 2)."""
        own = [(m.x, m.y) for m in self.of_micrograph(name).values() if m.kind == kind]
        return np.array(own, dtype=np.float64).reshape(-1, 2)

    def counts(self, name: str) -> tuple[int, int]:
        """Return the numbers of particles and of negatives of a micrograph."""
        with self._wake:
            own = self._by_micrograph.get(name, {})
            particles = sum(annotation.kind == "particle" for annotation in own.values())
            return particles, len(own) - particles

    def summary(self) -> dict[str, Any]:
        """Return the number of each kind, and a hash of what is in its file."""
        with self._wake:
            if self._summary is None:
                texts = {kind: self.render(kind) for kind in KINDS}
                self._summary = {f"{k}_digest": digest([t.encode()]) for k, t in texts.items()}
                for kind in KINDS:
                    self._summary[f"{kind}s"] = sum(
                        annotation.kind == kind
                        for own in self._by_micrograph.values()
                        for annotation in own.values()
                    )
            return dict(self._summary)

    def names(self) -> list[str]:
        """Return the names of the micrographs with annotations."""
        with self._wake:
            return [name for name, own in self._by_micrograph.items() if own]

    def rename_micrographs(self, names: Mapping[str, str]) -> None:
        """Rename micrographs; the annotations of two that get the same name are merged."""
        with self._wake:
            for old, new in names.items():
                own = self._by_micrograph.pop(old, {})
                for rows in self._rows.values():
                    rows.pop(old, None)
                self._by_micrograph.setdefault(new, {}).update(own)
                self._format_rows(new)
                self._unsaved.update(KINDS)
            self._wake.notify()

    def add_positions(self, name: str, xy_px: FloatArray, kind: str) -> Future[None]:
        """Add annotations with new ids; see `change`."""
        annotations = {uuid.uuid4().hex: Annotation(float(x), float(y), kind) for x, y in xy_px}
        return self.change(name, annotations, ())[1]

    def change(
        self, name: str, add: Mapping[str, Annotation], remove: Iterable[str]
    ) -> tuple[bool, Future[None]]:
        """Remove annotations of a micrograph and add others.

        Adding an id that exists, or removing one that does not, changes nothing.

        Returns
        -------
        bool
            Whether anything changed.
        Future
            Done when the change is in the files; raises BadInput if they cannot be written. The
            change is then undone, so that what is shown is what is saved.

        Raises
        ------
        BadInput
            If there would be too many, or the file cannot hold the name; then nothing changes.
        """
        format_cell(star_list.NAME, name)
        saved: Future[None] = Future()
        with self._wake:
            own = self._by_micrograph.get(name, {})
            before = dict(own)
            gone = {key for key in remove if key in own}
            new = {
                key: annotation for key, annotation in add.items() if key not in own or key in gone
            }
            grown = len(new) - len(gone - new.keys())
            if grown > 0 and len(own) + grown > MAX_PER_MICROGRAPH:
                raise BadInput(
                    f"{name} has {len(own)} annotations; at most {MAX_PER_MICROGRAPH} are allowed"
                )
            if grown > 0 and self._total + grown > MAX_PER_PROJECT:
                raise BadInput(
                    f"the project has {self._total} annotations;"
                    f" at most {MAX_PER_PROJECT} are allowed"
                )
            touched = {own[key].kind for key in gone}
            for key in gone:
                del own[key]
            for key, annotation in new.items():
                own[key] = Annotation(
                    round(annotation.x, 3), round(annotation.y, 3), annotation.kind
                )
                touched.add(annotation.kind)
            if touched:
                self._by_micrograph[name] = own
                self._total += len(new) - len(gone)
                self._format_rows(name)
                self._unsaved |= touched
            if self._unsaved:
                self._waiting.append(_Change(saved, name, before))
                self._wake.notify()
            else:
                saved.set_result(None)
        return bool(touched), saved

    def _format_rows(self, name: str) -> None:
        """Format the rows of a micrograph, as `relion_star.render_picks` would."""
        self._summary = None
        # A number comes first: a row that starts with some names would be read as a block.
        quoted = format_cell(star_list.NAME, name)
        for kind, rows in self._rows.items():
            own = [
                f"{annotation.x:.3f}\t{annotation.y:.3f}\t{quoted}\t{key}"
                for key, annotation in self._by_micrograph.get(name, {}).items()
                if annotation.kind == kind
            ]
            if own:
                rows[name] = "\n".join(own)
            else:
                rows.pop(name, None)

    def render(self, kind: str) -> str:
        """Return the text of the file of a kind, as `relion_star.render_picks` would write it."""
        return "\n".join([_HEAD, *self._rows[kind].values(), "", ""])

    def _write_all(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._unsaved or self._closing)
                kinds, self._unsaved = self._unsaved, set()
                waiting, self._waiting = self._waiting, []
                texts = {kind: self.render(kind) for kind in kinds}
                closing = self._closing
            try:
                for kind, text in texts.items():
                    write_text(self._paths[kind], text)
            except BadInput as error:
                with self._wake:
                    self._unsaved |= kinds
                    # Those made in the meantime were made on top of these.
                    waiting += self._waiting
                    self._waiting = []
                    for change in reversed(waiting):
                        self._undo(change)
                for change in waiting:
                    if change.saved.set_running_or_notify_cancel():
                        change.saved.set_exception(error)
                if not closing:
                    # A full disk stays full for a while; the next change tries again.
                    with self._wake:
                        self._wake.wait_for(lambda: self._waiting or self._closing, 5.0)
            else:
                for change in waiting:
                    if change.saved.set_running_or_notify_cancel():
                        change.saved.set_result(None)
            if closing:
                return

    def _undo(self, change: _Change) -> None:
        """Bring back the annotations before a change; the caller holds the lock."""
        own = self._by_micrograph.get(change.name, {})
        self._total += len(change.before) - len(own)
        self._by_micrograph[change.name] = dict(change.before)
        self._format_rows(change.name)

    def close(self) -> None:
        """Write all unsaved changes and stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._writer.join()
