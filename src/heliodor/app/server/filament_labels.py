"""Filaments that the user drew, and traced ones that the user rejected: two STAR files."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, get_args

from heliodor.conventions import FloatArray
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.filaments.writers import LARGEST_TUBE, render_filaments
from heliodor.data.micrographs.star_list import NAME
from heliodor.data.star import format_cell
from heliodor.errors import BadInput
from heliodor.utils.files import write_text

#: label: drawn by the user; rejected: not a filament.
Kind = Literal["label", "rejected"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: The files in the project.
FILES: Final[Mapping[Kind, str]] = {
    "label": "filament_labels.star",
    "rejected": "rejected_filaments.star",
}
#: The most filaments of both kinds on a micrograph.
MAX_PER_MICROGRAPH = 5_000


class FilamentLabels:
    """The filaments that the user drew or rejected; any thread may call.

    The identity of a filament is its `rlnHelicalTubeID`, which the page chooses, so that a change
    that is sent twice counts once.

    Parameters
    ----------
    folder
        Of the project.
    width_angstrom
        Of the filaments.

    Raises
    ------
    BadInput
        If a file cannot be read.
    """

    def __init__(self, folder: Path, width_angstrom: float) -> None:
        self._paths = {kind: folder / name for kind, name in FILES.items()}
        self._width_angstrom = width_angstrom
        self._lock = threading.Lock()
        self._filaments: dict[Kind, dict[str, dict[int, Filament]]] = {
            "label": {}, "rejected": {}
        }  # fmt: skip
        self._versions: dict[str, int] = {}
        for kind, path in self._paths.items():
            if path.exists():
                for one in read_filaments(path):
                    self._filaments[kind].setdefault(one.micrograph, {})[one.tube_id] = one

    @property
    def path(self) -> Path:
        """The file of those that the user drew."""
        return self._paths["label"]

    def of_micrograph(self, kind: Kind, name: str) -> list[Filament]:
        """Return the filaments of a kind on a micrograph."""
        with self._lock:
            return [*self._filaments[kind].get(name, {}).values()]

    def version(self, name: str) -> int:
        """Return a number that grows whenever something changes on a micrograph."""
        with self._lock:
            return self._versions.get(name, 0)

    def render(self, kind: Kind, names: Collection[str]) -> str | None:
        """Return a file of the filaments of a kind on some micrographs, None if there are none."""
        with self._lock:
            found = {name: [*own.values()] for name, own in self._filaments[kind].items() if own}
        kept = {name: own for name, own in found.items() if name in names}
        if not kept:
            return None
        return render_filaments(
            Filaments(tuple(kept), tuple(one for own in kept.values() for one in own))
        )

    def micrographs(self, kind: Kind) -> list[str]:
        """Return the names of the micrographs with filaments of a kind."""
        with self._lock:
            return [name for name, own in self._filaments[kind].items() if own]

    def change(
        self,
        name: str,
        add: Mapping[int, tuple[Kind, FloatArray]],
        remove: Iterable[int],
    ) -> None:
        """Remove filaments from a micrograph and add others, and write the files.

        Parameters
        ----------
        add
            Kinds and points (x, y) in pixels, shape (n, 2), by identity.
        remove
            Identities; unknown ones change nothing.

        Raises
        ------
        BadInput
            If there would be too many, or a file cannot be written; then nothing is changed.
        """
        format_cell(NAME, name)
        gone = set(remove)
        with self._lock:
            before = {kind: dict(self._filaments[kind].get(name, {})) for kind in KINDS}
            for kind in KINDS:
                own = {k: one for k, one in before[kind].items() if k not in gone and k not in add}
                own |= {
                    key: Filament(name, points.round(3), key, self._width_angstrom)
                    for key, (what, points) in add.items()
                    if what == kind
                }
                self._filaments[kind][name] = own
            written: list[Kind] = []
            try:
                if sum(len(self._filaments[kind][name]) for kind in KINDS) > MAX_PER_MICROGRAPH:
                    raise BadInput(
                        f"{name} would have more than {MAX_PER_MICROGRAPH} filaments drawn or"
                        " rejected by you"
                    )
                for kind in KINDS:
                    if self._filaments[kind][name] != before[kind]:
                        self._write(kind)
                        written.append(kind)
            except BadInput:
                for kind in KINDS:
                    self._filaments[kind][name] = before[kind]
                for kind in written:
                    with suppress(BadInput):  # the next change writes it again
                        self._write(kind)
                raise
            finally:
                self._versions[name] = self._versions.get(name, 0) + 1

    def add_all(self, table: Filaments) -> None:
        """Take filaments over as drawn by the user, with new identities.

        Raises
        ------
        BadInput
            If the file cannot be written.
        """
        with self._lock:
            for name, filaments in table.split_by_micrograph():
                own = self._filaments["label"].setdefault(name, {})
                for one in filaments:
                    key = max(own, default=0) % LARGEST_TUBE + 1
                    width = self._width_angstrom
                    own[key] = replace(one, tube_id=key, width_angstrom=width, point_scores=None)
                self._versions[name] = self._versions.get(name, 0) + 1
            self._write("label")

    def _write(self, kind: Kind) -> None:
        """Write a file, or remove it if there is nothing in it; the caller holds the lock."""
        own = [one for found in self._filaments[kind].values() for one in found.values()]
        if not own:
            self._paths[kind].unlink(missing_ok=True)
            return
        names = tuple(dict.fromkeys(one.micrograph for one in own))
        write_text(self._paths[kind], render_filaments(Filaments(names, tuple(own))))
