"""The surest picks of a model, which serve as labels for training it further.

This is self-training (Scudder, IEEE Transactions on Information Theory 11, 363 (1965)): the picks
that are most likely particles are far more than anybody labels. So the model gets to know the
particle, the ice and the detector, and fewer particles are trained as background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import KDTree

from heliodor.conventions import FloatArray, to_working
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.models.model_file import Model
from heliodor.picking.batch import PickingResult
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks
from heliodor.utils import console
from heliodor.workflows.in_memory import pick_in_memory


def find_sure_picks(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    device: torch.device | str,
    share: float,
    masks: UserMasks,
) -> dict[str, FloatArray]:
    """Pick micrographs and return the surest picks; see `choose_sure_picks`.

    Parameters
    ----------
    settings
        How to pick; the threshold is always the automatic one.
    masks
        Contamination that the user gives for these micrographs.

    Raises
    ------
    BadInput
        If not a single micrograph can be used.
    """
    own = replace(settings, threshold=None, max_fdr=None)
    with console.progress("picking") as progress:
        picked = pick_in_memory(model, sources, images, own, device, progress, masks)
    return choose_sure_picks(picked, share)


def choose_sure_picks(picked: PickingResult, share: float) -> dict[str, FloatArray]:
    """Return the surest picks of each micrograph, shape (n, 2), in pixels of the original files.

    There are none where it is unknown how many particles there are.

    Parameters
    ----------
    share
        Their number, as a share of the expected number of particles.
    """
    picks = picked.picks
    if picked.expected is None or not len(picks):
        return {}
    number = max(1, round(share * picked.expected.particles.value))
    least = np.sort(picks.score)[-min(number, len(picks))]
    sure = picks.select(picks.score >= least)
    return {name: own.xy_px for name, own in sure.split_by_micrograph() if len(own)}


def add_sure_picks(
    images: Sequence[LabeledImage],
    sources: Sequence[Source],
    picks: Mapping[str, FloatArray],
    working: WorkingImages,
    diameter_px: float,
) -> list[LabeledImage]:
    """Return labeled images with picks that count as labels too.

    Picks on labeled particles or negatives, and picks in the margin without labels, are left out.

    Parameters
    ----------
    images, sources
        Working images with the user's labels, and their micrographs, in the same order.
    picks
        By the name of the micrograph, in pixels of the original files; see `choose_sure_picks`.
    working
        The working images of the micrographs.
    diameter_px
        The particle's diameter in pixels of the working images.
    """
    reach = MATCH_FRACTION * diameter_px
    extended = []
    for item, source in zip(images, sources, strict=True):
        if source.name not in picks:
            extended.append(item)
            continue
        original = working.get(source).original_shape
        xy = to_working(picks[source.name], original, item.shape)
        first = float(item.margin_px)
        last = np.array(item.shape[::-1]) - 1 - first
        new = ((xy >= first) & (xy <= last)).all(axis=1)
        for known in (item.xy_px, item.negative_xy_px):
            if len(known):
                new &= KDTree(known).query(xy)[0] > reach
        extended.append(replace(item, picked_xy_px=xy[new]))
    return extended
