"""Results of picking with the corrections of a user."""

from __future__ import annotations

from heliodor.picking.batch import ResultStore
from heliodor.picking.corrections import Corrections
from heliodor.picking.journal import MicrographResult
from heliodor.picking.store_view import StoreView


class CorrectedStore(StoreView):
    """The results of micrographs with corrections.

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
        super().__init__(store)
        self._corrections = corrections
        self._threshold, self._diameter_angstrom = threshold, diameter_angstrom

    def get(self, name: str) -> MicrographResult:
        """Return the corrected result of a micrograph."""
        return self._corrections.apply(
            name, super().get(name), self._threshold, self._diameter_angstrom
        )
