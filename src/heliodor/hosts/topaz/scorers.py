"""Scorers: what gives an image its score map, be it a model's file, a model's name, or none.

Models of this program score as they do everywhere else in it: normalised as they were taught,
levelled, and with nothing in dead borders. Topaz's own score as Topaz does: the pixels as they
are, and zeros around them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from heliodor.conventions import Image
from heliodor.errors import BadInput
from heliodor.hosts.model_store import find_model
from heliodor.hosts.topaz.lists import image_name
from heliodor.micrograph import read_map, read_micrograph
from heliodor.model_file import Model, load_model
from heliodor.picking import images_for, score_micrograph
from heliodor.scoring import score_image
from heliodor.sources import Source

Scorer = Callable[[Path], Image]
#: The name of the model of those whose images are score maps already.
NO_MODEL = "none"


def scorer(model: str, device: torch.device | str) -> Scorer:
    """Return what scores the images of a command.

    Parameters
    ----------
    model
        A file of a model, this program's or Topaz's, the name of one, or ``none``.
    device
        Where to compute.

    Raises
    ------
    BadInput
        If there is no such model.
    """
    if model == NO_MODEL:
        return read_map
    opened, topaz = open_model(model)
    network = opened.network.to(device)
    opened = Model(network, opened.card)

    def as_topaz(path: Path) -> Image:
        image = read_micrograph(path).image
        edge = network.receptive_field // 2
        score = score_image(network, np.pad(image, edge), device)
        return score[edge : edge + image.shape[0], edge : edge + image.shape[1]]

    if topaz:
        return as_topaz
    # Images come at the scale that the model knows: one pixel of theirs is one of its own.
    images = images_for(opened, opened.card.working_pixel_size_angstrom)
    images.keep_bytes = 0  # each is looked at once

    def as_ours(path: Path) -> Image:
        image = images.get(Source(image_name(path), path, image_name(path)))
        return score_micrograph(opened, image, device)

    return as_ours


def open_model(model: str) -> tuple[Model, bool]:
    """Open a model by file or name, and tell whether it is Topaz's.

    Raises
    ------
    BadInput
        If there is none, or the file is no model.
    """
    path: Path | None = Path(model)
    if not Path(model).is_file():
        path = find_model(model)
    if path is None:
        raise BadInput(
            f"there is no model {model}, neither a file nor a name known here; give -m the file of"
            " a model, from a training or one of Topaz's own (.sav)"
        )
    opened = load_model(path)
    return opened, False
