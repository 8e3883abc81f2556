"""Questions to the user, from among the candidates of a project."""

from __future__ import annotations

from typing import Any

import numpy as np

from heliodor.app.active_learning import questions as chosen_questions
from heliodor.app.candidates import Candidates, read_candidates
from heliodor.app.server.annotations import Marks
from heliodor.app.server.predictions import Found
from heliodor.app.server.project import SCORES, Project
from heliodor.app.server.tiles import Pictures
from heliodor.errors import BadInput

#: Questions are chosen from so many micrographs, drawn from all: each has to be read.
MOST_MICROGRAPHS = 200


def questions(
    project: Project,
    marks: Marks,
    found: Found,
    pictures: Pictures,
    threshold: float,
    count: int,
) -> list[dict[str, Any]]:
    """Choose the candidates to ask about; see `heliodor.app.active_learning`.

    The same marks and scores give the same questions.
    """
    seen = found.of_model(project.settings.model)
    marked = {name: sum(marks.counts(name)) for name in marks.names()}
    answered = [n for n in seen if project.sources[n].name in marked]
    others = np.array([n for n in sorted(seen) if project.sources[n].name not in marked], np.intp)
    seed = sum(marked.values())
    np.random.default_rng(seed).shuffle(others)
    drawn = [*answered[: MOST_MICROGRAPHS // 2], *others.tolist()][:MOST_MICROGRAPHS]
    candidates: dict[int, Candidates] = {}
    for number in sorted(drawn):
        own = _candidates(number, project, pictures)
        if own is not None and own.model == seen[number].model:
            candidates[number] = own
    names = {number: project.sources[number].name for number in candidates}
    asked = chosen_questions(
        candidates,
        {number: marks.xy(name, "particle") for number, name in names.items()},
        {number: marks.xy(name, "negative") for number, name in names.items()},
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


def _candidates(number: int, project: Project, pictures: Pictures) -> Candidates | None:
    """Return a micrograph's candidates with their features; None where they are being replaced."""
    path = project.path(SCORES, number)
    try:
        stamp = path.stat().st_mtime_ns
        return pictures.cache.get(
            ("candidates", number, stamp),
            lambda: read_candidates(path),
            lambda made: int(made.features.nbytes + 32 * len(made.score)),
        )
    except (OSError, BadInput):
        return None
