"""Results of picking with the corrections of a user."""

from __future__ import annotations

from heliodor.data.micrographs.sources import Source
from heliodor.picking.batch import ResultStore
from heliodor.picking.corrections import Corrections
from heliodor.picking.journal import MicrographResult
from heliodor.utils.hashing import FileVersion


class CorrectedStore:
    """The results of micrographs with corrections; see `ResultStore`.

    Parameters
    ----------
    store
        Has the results as they were picked.
    corrections
        What the user labeled.
    threshold
        Log-odds from which candidates are picks.
    diameter_angstrom
        Of the particle.
    """

    def __init__(
        self,
        store: ResultStore,
        corrections: Corrections,
        threshold: float,
        diameter_angstrom: float,
    ) -> None:
        self._store, self._corrections = store, corrections
        self._threshold, self._diameter_angstrom = threshold, diameter_angstrom

    def has(self, source: Source) -> bool:
        """Return whether a micrograph is done."""
        return self._store.has(source)

    def get(self, name: str) -> MicrographResult:
        """Return the corrected result of a micrograph."""
        return self._corrections.apply(
            name, self._store.get(name), self._threshold, self._diameter_angstrom
        )

    def add(self, source: Source, finished: MicrographResult, version: FileVersion | None) -> None:
        """Keep the result of a micrograph, as it was picked."""
        self._store.add(source, finished, version)

    def mark_started(self, name: str, alone: bool) -> None:
        """Note that a micrograph is started."""
        self._store.mark_started(name, alone)

    def add_failure(self, source: Source, reason: str) -> None:
        """Note that a micrograph cannot be used."""
        self._store.add_failure(source, reason)

    def has_decoys(self, name: str) -> bool:
        """Return whether decoys were looked for on a micrograph that is done, or need not be."""
        return self._store.has_decoys(name)
