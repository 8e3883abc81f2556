"""Whether micrographs show particles of a diameter: a part of `check`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from heliodor.conventions import to_working
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.particle_diameter import find_diameter_conflict
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.decoy_sample import rank_by_fingerprint
from heliodor.picking.decoys import describe_inverted_contrast
from heliodor.picking.label_scores import MOST_MICROGRAPHS, measure_label_scores
from heliodor.picking.scale_check import describe_wrong_scale
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings
from heliodor.workflows.in_memory import pick_in_memory

#: Micrographs that the general model picks for a check.
MICROGRAPHS = 3


def find_particle_doubts(
    sources: Sequence[Source],
    diameter_angstrom: float,
    pixel_size_angstrom: float | None = None,
    device: torch.device | str = "cpu",
) -> list[str]:
    """Return warnings if the general model finds particles of another size or contrast.

    Parameters
    ----------
    sources
        The micrographs; some of them are picked.
    diameter_angstrom
        Of the particle.
    pixel_size_angstrom
        Of the micrographs, instead of the headers'.

    Raises
    ------
    BadInput
        If the diameter is not plausible, or none of these micrographs can be used.
    """
    model = load_model_for_picking(None, diameter_angstrom)
    images = open_working_images(model, pixel_size_angstrom)
    chosen = rank_by_fingerprint(sources)[:MICROGRAPHS]
    picked = pick_in_memory(model, chosen, images, PickSettings(), device)
    inverted = describe_inverted_contrast(picked.sheet)
    if inverted is not None:
        return [inverted]
    scale = describe_wrong_scale(model, picked, chosen, pixel_size_angstrom, device)
    return [] if scale is None else [scale]


def find_label_doubts(
    labeled: Sequence[LabeledSource],
    diameter_angstrom: float,
    pixel_size_angstrom: float | None = None,
    device: torch.device | str = "cpu",
) -> list[str]:
    """Return warnings if labels show particles of another diameter or contrast.

    Parameters
    ----------
    labeled
        Micrographs with labels; those with the most are used.
    diameter_angstrom, pixel_size_angstrom, device
        As for `find_particle_doubts`.

    Raises
    ------
    BadInput
        If the diameter is not plausible.
    """
    model = load_model_for_picking(None, diameter_angstrom)
    images = open_working_images(model, pixel_size_angstrom)
    most = sorted(labeled, key=lambda item: -len(item.xy_px))[:MOST_MICROGRAPHS]
    views = []
    for item in most:
        try:
            image = images.get(item.source)
        except BadInput:
            continue  # it is reported where files are checked
        xy = to_working(item.xy_px, image.original_shape, image.shape)
        views.append(LabeledImage(model.normalizer.apply(image.image), xy))
    size = images.working_pixel_size_angstrom
    doubts = [find_diameter_conflict(views, size, diameter_angstrom)]
    if any(len(view.xy_px) for view in views):
        doubts.append(measure_label_scores(model, views, size, device).describe_contrast())
    return [doubt for doubt in doubts if doubt is not None]
