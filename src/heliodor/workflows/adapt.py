"""Adapting the general model to micrographs without labels: it learns from its surest picks.

Those on some of the micrographs that will be picked serve as labels; see
`heliodor.workflows.sure_picks`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from heliodor import __version__
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import DEFAULT_CACHE_BYTES, WorkingImages
from heliodor.errors import BadInput
from heliodor.models.model_file import (
    ADAPTED_KEY,
    Model,
    fingerprint_model,
    load_model,
    save_model,
)
from heliodor.models.pretrained import GENERAL_MODEL_NAME
from heliodor.picking.decoy_sample import rank_by_fingerprint
from heliodor.picking.recalibration import needs_decoys
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings, settings_that_change_picks
from heliodor.picking.user_masks import UserMasks
from heliodor.training.dataset import assemble_training_set
from heliodor.training.initialization import FINE_TUNING
from heliodor.training.loop import train_network
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils import console
from heliodor.utils.console import count_of
from heliodor.utils.hashing import digest, fingerprint_file
from heliodor.workflows.sure_picks import find_sure_picks

log = logging.getLogger(__name__)

#: Enters a block that only one of several processes is in at a time.
Turn = Callable[[], AbstractContextManager[None]]
#: Types of devices that a model can learn on.
DEVICES = ("cpu", "cuda", "mps")

#: The adapted model's file in an output folder.
NAME = "adapted.safetensors"
#: Number of the picks that serve as labels, as a share of the expected number of particles. With
#: 0.56 less is gained, and apoferritin loses; see docs/general-model.md.
SHARE = 0.9
#: With fewer picks there is too little to learn from.
FEWEST_PICKS = 30
#: Epochs of 50 updates.
EPOCHS = 3
#: The most micrographs that are learned from.
MICROGRAPHS = 8


def adapt_model(
    model: Model,
    sources: Sequence[Source],
    pixel_size_angstrom: float | None = None,
    settings: PickSettings = PickSettings(),
    device: torch.device | str = "cpu",
    keep: Path | None = None,
    turn: Turn | None = None,
) -> Model:
    """Adapt the general model to micrographs by training it on its own surest picks.

    Parameters
    ----------
    model
        The general model for particles of one diameter; see `pretrained.rescale_to_diameter`.
    sources
        The micrographs to pick; up to `MICROGRAPHS` of them are learned from, chosen by their
        names. Those that cannot be read are passed over.
    pixel_size_angstrom
        Of the micrographs, instead of the headers'.
    settings
        How those picks are found; the threshold is always the automatic one.
    keep
        The file in which the adapted model is kept. If it is there already, made from the same
        model, micrographs and settings, it is loaded.
    turn
        Where several processes pick with the same adapted model: entered before the model learns,
        so that one of them does, and the others load what it has kept, on whatever device it
        learned.

    Returns
    -------
    Model
        The adapted model; the same model if there are too few picks to learn from.

    Raises
    ------
    BadInput
        If the model is not the general one, a setting has no effect, or no micrograph can be used.
    """
    if not needs_decoys(model):
        raise BadInput(
            "only the general model adapts to micrographs, and yours was trained on labels; leave"
            " out --adapt or --model",
            parameter="adapt",
        )
    card = model.card
    settings.check_for(card.contaminant)
    masks = UserMasks.find(settings.mask, sources)
    images = open_working_images(model, pixel_size_angstrom, DEFAULT_CACHE_BYTES)
    chosen = _choose_micrographs(sources, images)
    names = {source.name for source in chosen}
    masks = UserMasks({name: path for name, path in masks.files.items() if name in names})
    kind = torch.device(device).type
    requests = {
        own: _fingerprint(model, chosen, pixel_size_angstrom, settings, own, masks)
        for own in ((kind,) if turn is None else (kind, *DEVICES))
    }
    if (found := _find_adapted(keep, requests.values())) is not None:
        return found
    with nullcontext() if turn is None else turn():
        # Another process may have adapted it in the meantime.
        if (found := _find_adapted(keep, requests.values())) is not None:
            return found
        adapted = _learn(
            model, chosen, images, settings, pixel_size_angstrom, device, masks, requests[kind]
        )
        if keep is not None and adapted is not model:
            save_model(keep, adapted)
    return adapted


def _learn(
    model: Model,
    chosen: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    pixel_size_angstrom: float | None,
    device: torch.device | str,
    masks: UserMasks,
    request: str,
) -> Model:
    """Train the model on its surest picks; return the same model if there are too few.

    Parameters
    ----------
    request
        The fingerprint of all that the adapted model follows from, for its card.
    """
    card = model.card
    log.info(f"adapting the general model to {count_of(len(chosen), 'micrograph')}")
    labels = find_sure_picks(model, chosen, images, settings, device, SHARE, masks)
    labeled = [LabeledSource(s, labels[s.name]) for s in chosen if s.name in labels]
    number = sum(len(item.xy_px) for item in labeled)
    if number < FEWEST_PICKS:
        log.warning(
            f"the general model is used as it is: it found {count_of(number, 'pick')} that it"
            f" could learn from on {count_of(len(chosen), 'micrograph')}, and needs {FEWEST_PICKS}"
        )
        return model
    data = DataSettings(
        diameter_angstrom=card.diameter_angstrom,
        training_radius_angstrom=card.training_radius_angstrom,
        pixel_size_angstrom=pixel_size_angstrom,
        check_frame=False,
        use_label_margin=False,
    )
    dataset = assemble_training_set(labeled, [], images, data)
    recipe = TrainingSettings(
        network=card.network,
        width=card.width,
        norm=card.norm,
        epochs=EPOCHS,
        start=GENERAL_MODEL_NAME,
        **FINE_TUNING,
    )
    with console.progress("training") as progress:
        trained = train_network(
            dataset.images,
            [],
            dataset.radius_px,
            dataset.prior,
            recipe,
            device,
            start=model.network,
            on_update=lambda done, of, cost: progress(done, of),
        )
    how = {"request": request, "micrographs": dataset.names, "picks": number}
    adapted = Model(
        trained.network,
        # The labels were at corrected centers, so the new network needs no correction.
        replace(card, center_correction_px=[0.0, 0.0], extra={**card.extra, ADAPTED_KEY: how}),
    )
    log.info(f"adapted to {number} of its picks on {count_of(len(labeled), 'micrograph')}")
    return adapted


def _choose_micrographs(sources: Sequence[Source], images: WorkingImages) -> list[Source]:
    """Choose the micrographs to learn from, sorted by name.

    Raises
    ------
    BadInput
        If none can be used.
    """
    usable, reasons = list[Source](), list[str]()
    for source in rank_by_fingerprint(sources):
        try:
            images.get(source)
        except BadInput as error:
            reasons.append(str(error))
            continue
        usable.append(source)
        if len(usable) == MICROGRAPHS:
            break
    if not usable:
        raise BadInput(f"no micrograph could be picked: {reasons[0]}")
    return sorted(usable, key=lambda source: source.name)


def _fingerprint(
    model: Model,
    sources: Sequence[Source],
    pixel_size_angstrom: float | None,
    settings: PickSettings,
    device: str,
    masks: UserMasks,
) -> str:
    """Return the fingerprint of all that an adapted model follows from."""
    head = {
        "heliodor": __version__,
        "torch": str(torch.__version__),
        "model": fingerprint_model(model),
        "device": device,
        "pixel_size_angstrom": pixel_size_angstrom,
        "picking": settings_that_change_picks(settings),
        "masks": masks.fingerprints(),
        "micrographs": [[s.name, s.pixel_size_angstrom] for s in sources],
    }
    pixels = (
        fingerprint_file(s.path).encode() if s.pixels is None else np.ascontiguousarray(s.pixels)
        for s in sources
    )
    return digest([json.dumps(head, sort_keys=True).encode(), *pixels])


def _find_adapted(path: Path | None, requests: Container[str]) -> Model | None:
    """Return the model that was adapted to the same before; None if there is none."""
    if path is None or not path.is_file():
        return None
    try:
        model = load_model(path)
    except BadInput:
        return None  # damaged: it is made again
    how = model.card.extra.get(ADAPTED_KEY)
    if not isinstance(how, dict) or how.get("request") not in requests:
        return None
    log.info(f"{path} is up to date (same micrographs and settings)")
    return model
