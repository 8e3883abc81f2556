"""Results of picking with scores that are comparable between micrographs."""

from __future__ import annotations

from dataclasses import replace

from heliodor.evaluation.score_levels import LevelRule
from heliodor.picking.batch import ResultStore
from heliodor.picking.journal import MicrographResult
from heliodor.picking.store_view import StoreView


class LeveledStore(StoreView):
    """The results of micrographs with their scores moved.

    Parameters
    ----------
    store
        Has the results as they were picked.
    rule
        How far the scores of a micrograph are moved.
    """

    def __init__(self, store: ResultStore, rule: LevelRule) -> None:
        super().__init__(store)
        self._rule = rule

    def get(self, name: str) -> MicrographResult:
        """Return the result of a micrograph, with the scores of candidates and decoys moved."""
        result = super().get(name)
        candidates, decoys = result.candidates, result.decoys
        level = self._rule.level(candidates.score)
        return result._replace(
            candidates=replace(candidates, score=candidates.score + level),
            decoys=None if decoys is None else decoys + level,
            measured=result.measured._replace(levelled_by=level),
        )
