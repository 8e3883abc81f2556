"""Whether the particles are twice or half as large as the diameter says.

The general model sees all particles at the same size, so it finds them only if diameter and pixel
size are right. If its best candidates score much higher with a diameter twice or half as large,
one of the two numbers is probably wrong: for example, the pixel size of the movies was given for
binned micrographs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.models.model_file import Model
from heliodor.models.pretrained import rescale_to_diameter
from heliodor.picking.batch import PickingResult, pick_micrographs
from heliodor.picking.decoy_sample import rank_by_fingerprint
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings

#: Micrographs that are compared at several scales: one, as small particles take long.
MICROGRAPHS = 1
#: Micrographs are usually far wider than this many particles.
FEWEST_DIAMETERS = 4.0
#: The best candidates: one for so many squared diameters of area, but at least `LEAST`.
SQUARES, LEAST = 10.0, 10
#: Where the best candidates have a mean log-odds like this, the scale is not doubted: on nine
#: real and simulated sets it was 2.0 to 9.6 with the right diameter, at most 3.5 with others.
#: Where it is lower, another scale is better if the mean is higher by `MUCH_HIGHER`. With half of
#: the right diameter the mean was 1.6 to 8.8 lower on all nine sets, with twice the right one 0.0
#: to 8.3.
CLEAR, MUCH_HIGHER = 4.0, 0.75
#: The scales that are compared with the one given, and what is said about them.
SCALES = {2.0: "twice", 0.5: "half"}


def describe_wrong_scale(
    model: Model,
    picked: PickingResult,
    sources: Sequence[Source],
    pixel_size_angstrom: float | None,
    device: torch.device | str = "cpu",
) -> str | None:
    """Return a warning if the particles look twice or half as large as the model's diameter.

    Parameters
    ----------
    model
        The general model for particles of one diameter.
    picked
        What it found on the micrographs.
    sources
        The micrographs.
    pixel_size_angstrom
        Of the micrographs, instead of the headers'.

    Returns
    -------
    str or None
        None if the scale is plausible, or cannot be tested.
    """
    done = {*picked.micrographs}
    chosen = [source for source in rank_by_fingerprint(sources) if source.name in done]
    chosen = chosen[:MICROGRAPHS]
    diameter = model.card.diameter_angstrom
    width = math.sqrt(picked.store.get(chosen[0].name).area_angstrom2)
    if not width:
        return (
            f"nothing can be picked on {chosen[0].name}: all of it is too near to an edge for the"
            " box or the edge margin (--box-px, --edge-margin), or is contamination"
        )
    if width < FEWEST_DIAMETERS * diameter:
        return (
            f"the micrographs are only about {width:,.0f} Å wide, too little for particles of"
            f" {diameter:g} Å. Check the pixel size of the micrographs (--pixel-size) and the"
            " diameter"
        )
    here = _rate_best_candidates(picked, chosen, diameter)
    if here >= CLEAR:
        return None
    others = {
        scale: _rate_at(model, scale, chosen, pixel_size_angstrom, device) for scale in SCALES
    }
    best = max(others, key=lambda scale: others[scale])
    if others[best] < here + MUCH_HIGHER:
        return None
    return (
        f"the particles look {SCALES[best]} as large as the diameter of {diameter:g} Å: with"
        f" {best * diameter:g} Å the best candidates score {others[best] - here:.1f} log-odds"
        " higher. Check the pixel size of the micrographs (--pixel-size) and the diameter"
    )


def _rate_best_candidates(
    picked: PickingResult, sources: Sequence[Source], diameter_angstrom: float
) -> float:
    """Return the mean log-odds of the best candidates, or minus infinity if there are none."""
    results = [picked.store.get(source.name) for source in sources]
    area = sum(result.area_angstrom2 for result in results)
    number = max(LEAST, math.ceil(area / diameter_angstrom**2 / SQUARES))
    scores = np.concatenate([np.zeros(0), *(result.candidates.score for result in results)])
    return float(np.sort(scores)[-number:].mean()) if len(scores) else -math.inf


def _rate_at(
    model: Model,
    scale: float,
    sources: Sequence[Source],
    pixel_size_angstrom: float | None,
    device: torch.device | str,
) -> float:
    """Return the mean log-odds of the best candidates for particles of another diameter."""
    try:
        other = rescale_to_diameter(model, scale * model.card.diameter_angstrom)
        images = open_working_images(other, pixel_size_angstrom)
        picked = pick_micrographs(other, sources, images, PickSettings(), device)
    except BadInput:  # for example, the micrographs are too coarse for such small particles
        return -math.inf
    read = [source for source in sources if source.name in picked.micrographs]
    return _rate_best_candidates(picked, read, other.card.diameter_angstrom)
