"""Picking without files: everything stays in memory, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.models.model_file import Model
from heliodor.picking.batch import (
    DecoySearch,
    InMemoryStore,
    PickingResult,
    pick_micrographs,
)
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.picking.recalibration import (
    calibrate_picks,
    choose_decoy_search,
)
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks


def pick_in_memory(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    masks: UserMasks | None = None,
) -> PickingResult:
    """Pick micrographs as `heliodor pick` does, with the same results, but write nothing.

    Parameters
    ----------
    masks
        Contamination that the user gives; None takes the masks that the settings name.

    Raises
    ------
    BadInput
        If not a single micrograph can be used.
    """
    settings.check_for(model.card.contaminant)
    masks = UserMasks.find(settings.mask, sources) if masks is None else masks
    model.network.to(device)
    search = choose_decoy_search(model, sources)
    store = InMemoryStore()

    def pick(search: DecoySearch | None, failed: Mapping[str, str]) -> PickingResult:
        return pick_micrographs(
            model, sources, images, settings, device,
            progress=progress, store=store, search=search, excluded=failed, masks=masks,
        )  # fmt: skip

    picked = pick(search, {})
    if search is not None:
        # Where micrographs failed or were refused, decoys are searched on others in their place.
        usable = [name for name in picked.micrographs if not store.get(name).refused]
        wanted = choose_decoy_micrographs(usable)
        if wanted != search.micrographs:
            failed = {failure.name: failure.reason for failure in picked.failures}
            picked = pick(DecoySearch(wanted), failed)
    return calibrate_picks(model, picked, settings)
