"""Candidates on micrographs with reversed contrast, with their positions.

They are false, as there are no particles, but look like particles to the model: see
`heliodor.picking.decoys`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import Failure, WorkingImage, WorkingImages
from heliodor.errors import BadInput
from heliodor.models.model_file import Model
from heliodor.picking.candidates import find_candidates
from heliodor.picking.score_maps import compute_score_maps, score_normalized
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks


def find_reversed_candidates(
    model: Model,
    image: WorkingImage,
    settings: PickSettings,
    masks: UserMasks,
    device: torch.device | str = "cpu",
) -> Picks:
    """Return the candidates on a micrograph with its contrast reversed.

    Contamination is that of the micrograph as it is, and the candidates are weighed as in picking.

    Parameters
    ----------
    masks
        Contamination that the user gives.
    """
    normalized = model.normalizer.apply(image.image)
    maps = compute_score_maps(model, image, normalized, device, settings.scores)
    contamination = masks.replace(maps.contamination, image, maps.score)
    inverted = score_normalized(model, image, -normalized, device, settings.scores)
    return find_candidates(model, image, inverted, settings, contamination)


def search_reversed(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    masks: UserMasks,
    lowest: float,
    levels: Mapping[str, float] = MappingProxyType({}),
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Picks, list[Failure]]:
    """Return the candidates on several micrographs with reversed contrast.

    Parameters
    ----------
    lowest
        Those with lower log-odds are left out.
    levels
        What is added to the log-odds on some micrographs, by name, as it was for the picks.

    Returns
    -------
    Picks, list of Failure
        The candidates, and the micrographs that cannot be used.
    """
    model.network.to(device)
    tables, failures = list[Picks](), list[Failure]()
    for count, source in enumerate(sources, 1):
        try:
            image = images.get(source)
        except BadInput as error:
            failures.append(Failure(source.name, str(error)))
        else:
            found = find_reversed_candidates(model, image, settings, masks, device)
            score = found.score + levels.get(source.name, 0.0)
            kept = np.flatnonzero(score >= lowest)
            tables.append(Picks.on(source.name, found.xy_px[kept], score[kept]))
        if progress is not None:
            progress(count, len(sources))
    return Picks.concatenate(tables), failures
