"""The scores that a project of heliodor app keeps, used by picking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heliodor.app.candidates import read_candidates
from heliodor.app.micrograph_list import read_list
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.journal import MicrographResult
from heliodor.picking.run_key import digest_run_key
from heliodor.picking.user_masks import UserMasks
from heliodor.utils.hashing import FileVersion, fingerprint_file


def take_app_scores(
    project: Path,
    sources: Sequence[Source],
    key: Mapping[str, Any],
    masks: UserMasks,
    journal: JoinedJournals[MicrographResult],
) -> int:
    """Add the results that a project has of unchanged micrographs to a journal.

    Parameters
    ----------
    project
        The project folder.
    sources
        The micrographs.
    key
        What the candidates of a micrograph without a user's mask depend on; see `journal_key`.
    masks
        The micrographs that have one are left out.
    journal
        Those that it has already are left out.

    Returns
    -------
    int
        The number of micrographs that were added.

    Raises
    ------
    BadInput
        If the folder is not a project.
    """
    numbers = {name: number for number, (name, *_) in enumerate(read_list(project))}
    made_with, added = digest_run_key(key), 0
    for source in sources:
        if source.name not in numbers or source.name in masks.files or journal.has(source):
            continue
        try:
            found = read_candidates(
                project / "scores" / f"{numbers[source.name]}.npz", with_all_features=False
            )
            fingerprint = fingerprint_file(source.path)
        except BadInput:
            continue  # it was not scored yet, or cannot be read: picking says so
        record, result = found.record, found.as_result(source.name)
        if record is None or result is None or record.made_with != made_with:
            continue
        if record.fingerprint == fingerprint:
            journal.add(source, result, FileVersion(source.path, fingerprint, ()))
            added += 1
    return added
