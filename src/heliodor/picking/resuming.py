"""Picking that continues after a crash of the process."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from heliodor.conventions import Image
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import Failure, WorkingImage, WorkingImages
from heliodor.errors import BadInput
from heliodor.models.model_file import Model
from heliodor.picking.batch import (
    CRASHED,
    MAX_PARALLEL,
    DecoySearch,
    PickingResult,
    count_scores,
    pick_micrographs,
    score_micrographs,
)
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.journal import MicrographResult
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks
from heliodor.utils.crash_recovery import crash_count


@dataclass(frozen=True)
class ResumablePicking:
    """Picks micrographs, and continues after a crash of the process."""

    model: Model
    images: WorkingImages
    settings: PickSettings
    device: torch.device
    journal: JoinedJournals[MicrographResult]
    search: DecoySearch | None
    #: Micrographs that cannot be used, and why.
    excluded: Mapping[str, str]
    #: Contamination that the user gives.
    masks: UserMasks

    def run(
        self,
        sources: Sequence[Source],
        write_picks: Callable[[WorkingImage, Image, MicrographResult], None],
        progress: Callable[[int, int], None],
        repeat: Container[str],
    ) -> PickingResult:
        """Pick all micrographs; those under way when the process crashed come first, alone.

        Parameters
        ----------
        write_picks
            Called with each micrograph that has been picked.
        repeat
            Names of micrographs to pick even if the journal has them.
        """
        excluded = self._recover(sources)
        picked = self._pick(
            sources, self.search, done=write_picks, progress=progress, repeat=repeat,
            max_parallel=most_parallel(), excluded=excluded,
        )  # fmt: skip
        return picked if self.search is None else self._complete_decoys(picked, sources)

    def score(
        self,
        sources: Sequence[Source],
        wanted: Iterable[Source],
        settle: Callable[[int, Source, Failure | None], None],
    ) -> None:
        """Score some of the micrographs, in the same way, and keep what was found.

        Parameters
        ----------
        sources
            All micrographs.
        wanted
            Those to score, which are taken as they are needed.
        settle
            Called with each that is done; see `score_micrographs`.
        """
        score_micrographs(
            self.model, wanted, self.images, self.settings, self.device, self.journal,
            self.search, settle, max_parallel=most_parallel(),
            excluded=self._recover(sources), masks=self.masks,
        )  # fmt: skip

    def is_settled(self, source: Source) -> bool:
        """Return whether a micrograph is done, or could not be used, as far as has been read."""
        searched = frozenset[str]() if self.search is None else self.search.micrographs
        if self.journal.has(source):
            return source.name not in searched or self.journal.has_decoys(source.name)
        return self.journal.has_failed(source)

    def _recover(self, sources: Sequence[Source]) -> dict[str, str]:
        """Find out which micrograph crashed the process, if one did; return those excluded."""

        def pick_alone(suspects: Sequence[Source]) -> None:
            # Alone, each has all of the memory.
            with suppress(BadInput):
                self._pick(suspects, self.search, max_parallel=1)

        return recover(self.journal, sources, self.excluded, pick_alone)

    def _pick(
        self, sources: Sequence[Source], search: DecoySearch | None, **more: Any
    ) -> PickingResult:
        return pick_micrographs(
            self.model, sources, self.images, self.settings, self.device,
            store=self.journal, search=search, masks=self.masks, **more,
        )  # fmt: skip

    def _complete_decoys(self, picked: PickingResult, sources: Sequence[Source]) -> PickingResult:
        """Search decoys on replacements for chosen micrographs that failed or had no picks.

        The result is then the same as if those micrographs had not been given.
        """
        assert self.search is not None
        refusing = self.settings.max_contamination is not None
        names = [n for n in picked.micrographs if not (refusing and self.journal.get(n).refused)]
        chosen = choose_decoy_micrographs(names)
        if chosen == self.search.micrographs:
            return picked
        missing = [s for s in sources if s.name in chosen - self.search.micrographs]
        missing = [s for s in missing if self.journal.get(s.name).decoys is None]
        if missing:
            with suppress(BadInput):  # they may have become unreadable: fewer decoys will do
                self._pick(missing, DecoySearch(chosen))
        return replace(picked, sheet=count_scores(self.journal, names, chosen))


def recover(
    journal: JoinedJournals[Any],
    sources: Sequence[Source],
    excluded: Mapping[str, str],
    try_alone: Callable[[Sequence[Source]], None],
) -> dict[str, str]:
    """Find out which micrograph crashed the process, if one did.

    Parameters
    ----------
    journal
        Says what was under way.
    excluded
        Micrographs that cannot be used anyway, and why.
    try_alone
        Called with the micrographs of which one crashed the process, to try them one at a time.

    Returns
    -------
    dict
        All micrographs that cannot be used, and why.
    """
    crashes = crash_count()
    if crashes:
        journal.record_crash(sources)
    crashed = {
        s.name: CRASHED.format(path=s.path)
        for s in sources
        if journal.has_crashed(s) and not journal.has(s)
    }
    unusable = {**excluded, **crashed}
    interrupted = {*journal.list_interrupted()} - unusable.keys()
    suspects = [s for s in sources if s.name in interrupted and not journal.has(s)]
    if crashes and suspects:
        try_alone(suspects)
    return unusable


def most_parallel() -> int:
    """Return the most micrographs to work on at a time: fewer after each crash."""
    return max(1, MAX_PARALLEL >> crash_count())
