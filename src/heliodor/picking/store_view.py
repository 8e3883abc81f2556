"""A store of picking results that shows them changed."""

from __future__ import annotations

from heliodor.data.micrographs.sources import Source
from heliodor.picking.batch import ResultStore
from heliodor.picking.journal import MicrographResult
from heliodor.utils.hashing import FileVersion


class StoreView:
    """The results of another store; what is added is kept there. See `ResultStore`.

    Parameters
    ----------
    store
        Has the results as they were picked.
    """

    def __init__(self, store: ResultStore) -> None:
        self._store = store

    def has(self, source: Source) -> bool:
        """Return whether a micrograph is done."""
        return self._store.has(source)

    def get(self, name: str) -> MicrographResult:
        """Return the result of a micrograph."""
        return self._store.get(name)

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
