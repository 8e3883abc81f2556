"""What the picks look like: averages, and quick groups of crops that look alike."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heliodor.app.candidates import Candidates
from heliodor.app.server.annotations import Annotations
from heliodor.app.server.predictions import Predictions
from heliodor.app.server.project import Project
from heliodor.app.server.questions import read_candidates_of
from heliodor.app.server.sprites import open_micrograph_image
from heliodor.app.server.tiles import MicrographTiles
from heliodor.app.server.user_masks import UserMaskStore, apply_user_settings
from heliodor.conventions import Image
from heliodor.errors import BadInput
from heliodor.picking.corrections import SAME_DIAMETERS, near
from heliodor.picking.crop_groups import (
    FEWEST_EACH,
    GROUPS,
    SIDE_PX,
    Crops,
    as_gray,
    average_crops,
    cut_crops,
    group_crops,
)

#: Most picks that are grouped and averaged, and most micrographs that they are drawn from.
MAX_PICKS: Final = 500
MAX_MICROGRAPHS: Final = 40
#: Bands of scores with an average each, and the candidates below the threshold that make another.
BANDS: Final = 4
MAX_BELOW: Final = 125


class _Drawn(NamedTuple):
    """Candidates of one micrograph, and their crops."""

    number: int
    candidates: Candidates
    crops: Crops
    is_labeled: NDArray[np.bool_]

    def select(self, chosen: NDArray[np.bool_]) -> _Drawn:
        """Return some of them."""
        return _Drawn(
            self.number,
            self.candidates.select(np.flatnonzero(chosen)),
            self.crops[chosen],
            self.is_labeled[chosen],
        )


def inspect_picks(
    project: Project,
    annotations: Annotations,
    predictions: Predictions,
    tiles: MicrographTiles,
    masks: UserMaskStore,
    preview: Callable[[int], Path],
    seed: int = 0,
) -> dict[str, Any]:
    """Draw picks from all micrographs; average them, and group those that look alike.

    Parameters
    ----------
    preview
        Returns the path of a micrograph's preview, which may be missing.
    seed
        Of the draw.

    Raises
    ------
    BadInput
        If there are no picks, or the project has no diameter.
    """
    diameter = project.settings.diameter_angstrom
    if diameter is None:
        raise BadInput("set the particle's diameter first")
    model = project.settings.model
    seen = predictions.of_model(model)
    counts = {
        number: own.picks(predictions.threshold(own.model, project.settings.threshold))
        for number, own in seen.items()
    }
    random = np.random.default_rng(seed)
    order = random.permutation(sorted(seen))[:MAX_MICROGRAPHS]
    above, below = list[_Drawn](), list[_Drawn]()
    drawn_from = _share_out([counts[number] for number in order.tolist()], MAX_PICKS)
    for number, most in zip(order.tolist(), drawn_from, strict=True):
        found = _read(number, project, annotations, tiles, masks)
        if found is None:
            continue
        threshold = predictions.threshold(found.model, project.settings.threshold)
        is_pick = found.score >= threshold
        picks = np.flatnonzero(is_pick)
        kept = random.permutation(picks)[:most]
        rest = np.flatnonzero(~is_pick)[: -(-MAX_BELOW // len(order))]
        chosen = np.concatenate([np.sort(kept), rest])
        own = _cut(number, found, chosen, project, annotations, tiles, preview)
        above.append(own.select(is_pick[chosen]))
        below.append(own.select(~is_pick[chosen]))
    drawn = [own for own in above if len(own.crops)]
    if not drawn:
        raise BadInput("there are no picks yet: wait until a micrograph has been picked")
    crops, score = _join_crops(drawn), np.concatenate([own.candidates.score for own in drawn])
    return {
        "side": SIDE_PX,
        "total": sum(counts.values()),
        "drawn": len(crops),
        "micrographs": len(drawn),
        "averages": _average_bands(crops, score, [own for own in below if len(own.crops)]),
        "groups": _group(drawn, crops, seed),
    }


def _share_out(counts: Sequence[int], total: int) -> list[int]:
    """Return as many of each, and more where the others have too few, to a total."""
    out = [0] * len(counts)
    for done, place in enumerate(sorted(range(len(counts)), key=counts.__getitem__)):
        out[place] = min(counts[place], -(-total // (len(counts) - done)))
        total -= out[place]
    return out


def _read(
    number: int,
    project: Project,
    annotations: Annotations,
    tiles: MicrographTiles,
    masks: UserMaskStore,
) -> Candidates | None:
    """Return the candidates of a micrograph that the user did not reject."""
    found = read_candidates_of(number, project, tiles)
    if found is None:
        return None
    size = tiles.pixel_size(number)
    found = apply_user_settings(found, number, project, masks, size)
    negatives = annotations.positions(project.sources[number].name, "negative")
    diameter = project.settings.diameter_angstrom or 0.0
    rejected = near(found.xy_px, negatives, SAME_DIAMETERS * diameter / size)
    return found.select(np.flatnonzero(~rejected))


def _cut(
    number: int,
    found: Candidates,
    chosen: NDArray[np.intp],
    project: Project,
    annotations: Annotations,
    tiles: MicrographTiles,
    preview: Callable[[int], Path],
) -> _Drawn:
    """Cut crops of some candidates of a micrograph."""
    own = found.select(chosen)
    diameter = project.settings.diameter_angstrom or 0.0
    picture = np.asarray(
        open_micrograph_image(number, tiles, preview(number), diameter), np.float32
    )
    size, width = tiles.pixel_size(number), tiles.header(number).shape[1]
    scale = picture.shape[1] / width
    at = (own.xy_px + 0.5) * scale - 0.5
    crops = cut_crops(picture, size / scale, at, diameter)
    labels = annotations.positions(project.sources[number].name, "particle")
    return _Drawn(number, own, crops, near(own.xy_px, labels, SAME_DIAMETERS * diameter / size))


def _join_crops(drawn: Sequence[_Drawn]) -> Crops:
    return np.concatenate([own.crops for own in drawn])


def _average_bands(
    crops: Crops, score: NDArray[np.float64], below: Sequence[_Drawn]
) -> list[dict[str, Any]]:
    """Return the average of all picks, of each band of scores, and of what is below them."""
    parts = [("all", score, crops)]
    order = np.argsort(-score, kind="stable")
    if len(crops) >= 2 * BANDS:
        parts += [("band", score[own], crops[own]) for own in np.array_split(order, BANDS)]
    if below:
        scores = np.concatenate([own.candidates.score for own in below])
        parts.append(("below", scores, _join_crops(below)))
    gray = as_gray([average_crops(own) for _, _, own in parts])
    return [
        {
            "what": what,
            "count": len(own),
            "low": round(float(own.min()), 2),
            "high": round(float(own.max()), 2),
            "gray": _encode(image),
        }
        for (what, own, _), image in zip(parts, gray, strict=True)
    ]


def _group(drawn: Sequence[_Drawn], crops: Crops, seed: int) -> list[dict[str, Any]]:
    """Return the groups, the largest first, with their members."""
    tables = [own.candidates for own in drawn]
    features = _join([own.all_features for own in tables])
    noise = _join([own.feature_noise for own in tables])
    if features is None or noise is None or features.shape[1] != noise.shape[1]:
        features, noise = _join([own.features for own in tables]), None
    scores = None
    if features is not None:
        scores = np.concatenate([own.without_contamination for own in tables])
    groups = min(GROUPS, -(-len(crops) // FEWEST_EACH))
    found = group_crops(crops, features, groups, seed, noise, scores)
    members: list[list[dict[str, Any]]] = [[] for _ in found.counts]
    places = iter(found.group.tolist())
    for own in drawn:
        xy = np.round(own.candidates.xy_px, 2).tolist()
        rows = zip(xy, own.candidates.score.tolist(), own.is_labeled.tolist(), strict=True)
        for ((x, y), score, is_labeled), group in zip(rows, places, strict=False):
            member = {"micrograph": own.number, "x": x, "y": y, "score": round(score, 4)}
            members[group].append({**member, "kind": "particle" if is_labeled else None})
    gray = as_gray(found.averages)
    return [
        {
            "score": round(float(np.mean([one["score"] for one in own])), 2),
            "gray": _encode(image),
            "members": sorted(own, key=lambda one: -one["score"]),
        }
        for own, image in zip(members, gray, strict=True)
    ]


def _join(tables: Sequence[NDArray[np.float16] | None]) -> NDArray[np.float16] | None:
    """Return tables below each other; None if one is missing, damaged, or has other columns.

    Another version may have written files without them, or with other features.
    """
    known = [own for own in tables if own is not None]
    if len(known) < len(tables) or len({own.shape[1] for own in known}) != 1:
        return None
    joined = np.concatenate(known)
    return joined if np.isfinite(joined).all() else None


def _encode(image: NDArray[np.uint8] | Image) -> str:
    return base64.b64encode(image.tobytes()).decode()
