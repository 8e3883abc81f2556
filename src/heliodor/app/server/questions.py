"""Questions to the user: candidates of the project whose labels help most."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from heliodor.app.active_learning import choose_questions as chosen_questions
from heliodor.app.candidates import Candidates, read_candidates
from heliodor.app.server.annotations import Annotations
from heliodor.app.server.predictions import MIN_SCORE, Predictions
from heliodor.app.server.project import SCORES, Project
from heliodor.app.server.tiles import MicrographTiles
from heliodor.app.server.user_masks import UserMaskStore, apply_user_settings
from heliodor.errors import BadInput

#: Most micrographs that questions are chosen from: each has to be read.
MAX_MICROGRAPHS = 200


def propose_questions(
    project: Project,
    annotations: Annotations,
    predictions: Predictions,
    tiles: MicrographTiles,
    masks: UserMaskStore,
    threshold: float,
    count: int,
) -> list[dict[str, Any]]:
    """Choose the candidates to ask about; see `heliodor.app.active_learning`.

    The same annotations and scores give the same questions.
    """
    seen = predictions.of_model(project.settings.model)
    marked = {name: sum(annotations.counts(name)) for name in annotations.names()}
    answered = [n for n in seen if project.sources[n].name in marked]
    others = np.array([n for n in sorted(seen) if project.sources[n].name not in marked], np.intp)
    seed = sum(marked.values())
    np.random.default_rng(seed).shuffle(others)
    drawn = [*answered[: MAX_MICROGRAPHS // 2], *others.tolist()][:MAX_MICROGRAPHS]
    candidates: dict[int, Candidates] = {}
    for number in sorted(drawn):
        own = read_candidates_of(number, project, tiles)
        if own is not None and own.model == seen[number].model:
            candidates[number] = apply_user_settings(
                own, number, project, masks, tiles.pixel_size(number)
            )
    # Another version may have written files with other features.
    widths = Counter(own.features.shape[1] for own in candidates.values())
    usual = max(widths, key=lambda width: (widths[width], width), default=0)
    candidates = {n: own for n, own in candidates.items() if own.features.shape[1] == usual}
    names = {number: project.sources[number].name for number in candidates}
    asked = chosen_questions(
        candidates,
        {number: annotations.positions(name, "particle") for number, name in names.items()},
        {number: annotations.positions(name, "negative") for number, name in names.items()},
        {number: seen[number].diameter_px for number in candidates},
        threshold,
        count,
        seed,
    )
    return [
        {
            "micrograph": int(one.micrograph),
            "x": round(one.xy_px[0], 2),
            "y": round(one.xy_px[1], 2),
            "score": round(one.score, 4),
            "why": one.why,
        }
        for one in asked
    ]


def _count_bytes(candidates: Candidates) -> int:
    tables = (candidates.features, candidates.all_features, candidates.feature_noise)
    return sum(own.nbytes for own in tables if own is not None) + 32 * len(candidates.score)


def read_candidates_of(number: int, project: Project, tiles: MicrographTiles) -> Candidates | None:
    """Return the candidates of a micrograph with features; None if they cannot be read now."""
    path = project.path(SCORES, number)
    try:
        stamp = path.stat().st_mtime_ns
        return tiles.cache.get(
            ("candidates", number, stamp),
            lambda: read_candidates(path).at_least(MIN_SCORE),
            _count_bytes,
        )
    except (OSError, BadInput):
        return None
