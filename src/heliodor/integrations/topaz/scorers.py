"""Scorers: what gives an image its score map, be it a model's file, a model's name, or none.

Models of this program score as they do everywhere else in it: normalized as they were taught,
leveled, with nothing in dead borders, and with the bad areas that they find. Topaz's own score
as Topaz does: the pixels as they are, and zeros around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from heliodor.conventions import (
    FloatArray,
    Image,
    Shape,
    to_original,
)
from heliodor.data.micrographs.micrograph import read_map, read_micrograph
from heliodor.data.micrographs.names import micrograph_stem
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import MAX_UPSAMPLING
from heliodor.errors import BadInput
from heliodor.integrations.topaz.model_lookup import (
    NO_MODEL,
    file_identity,
    find_model_file,
)
from heliodor.models.model_file import (
    Model,
    ModelCard,
    load_model,
)
from heliodor.models.networks import Network
from heliodor.models.pretrained import rescale_to_diameter
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.score_maps import compute_score_maps, open_working_images
from heliodor.picking.scoring import score_inner

#: Pixel sizes are not known here: that of an image follows from this diameter of its particles.
NOMINAL_ANGSTROM = 180.0


class ScoredImage(NamedTuple):
    """The score map of an image, and where in it nothing is to be picked."""

    score: Image
    #: None where they are not known.
    bad_areas: ContaminationMask | None = None
    #: Of the score map, for the places in bad areas.
    pixel_size_angstrom: float = 1.0
    #: (height, width) of the image, where the score map's is another.
    original: Shape | None = None

    @property
    def map_pixels_per_image_pixel(self) -> float:
        """Pixels of the score map to one of the image."""
        return 1.0 if self.original is None else self.score.shape[1] / self.original[1]

    def to_image_pixels(self, xy_px: FloatArray) -> FloatArray:
        """Return places on the score map as places on the image, (x, y), shape (n, 2)."""
        if self.original is None:
            return xy_px
        height, width = self.score.shape
        return to_original(xy_px, self.original, (height, width))


Scorer = Callable[[Path], ScoredImage]


def make_scorer(model: str, device: torch.device | str, radius_px: int | None = None) -> Scorer:
    """Return what scores the images of a command.

    Parameters
    ----------
    model
        A file of a model, this program's or Topaz's, the name of one, or ``none``.
    device
        Where to compute.
    radius_px
        The particle's, which the general model needs.

    Raises
    ------
    BadInput
        If there is no such model, or no particle for it.
    """
    if model == NO_MODEL:
        return lambda path: ScoredImage(read_map(path))
    return _make_file_scorer(model, file_identity(find_model_file(model)), device, radius_px)


@lru_cache(maxsize=1)  # a worker scores image after image with one model
def _make_file_scorer(
    model: str, _: tuple[str, int, int], device: torch.device | str, radius_px: int | None
) -> Scorer:
    """Return the scorer of a model's file as it is now."""
    network, card = open_model(model)
    network = network.to(device)
    if card is None:

        def as_topaz(path: Path) -> ScoredImage:
            edge = network.receptive_field // 2
            image = np.pad(read_micrograph(path).image, edge)
            return ScoredImage(score_inner(network, image, device))

        return as_topaz
    own = Model(network, card)
    # Images come at the scale that the model knows: one pixel of theirs is one of its own.
    pixel_size = card.working_pixel_size_angstrom
    if card.any_diameter:
        pixel_size = NOMINAL_ANGSTROM / (2 * _check_radius(radius_px, card))
        own = rescale_to_diameter(own, NOMINAL_ANGSTROM)
    images = open_working_images(own, pixel_size)
    images.keep_bytes = 0  # each is looked at once

    def as_ours(path: Path) -> ScoredImage:
        image = images.get(Source(micrograph_stem(path), path, micrograph_stem(path)))
        look = compute_score_maps(own, image, own.normalizer.apply(image.image), device)
        original = image.original_shape if card.any_diameter else None
        return ScoredImage(
            look.score, look.contamination, image.working_pixel_size_angstrom, original
        )

    return as_ours


def _check_radius(radius_px: int | None, card: ModelCard) -> int:
    """Return the particle's radius, or refuse one with which the general model cannot do."""
    if radius_px is None:
        raise BadInput(
            "the general model needs the particle's size, and there is no one radius here; give"
            " -r, half of the longest diameter, to extract, or another model with -m"
        )
    least = math.ceil(
        card.diameter_angstrom / card.working_pixel_size_angstrom / MAX_UPSAMPLING / 2
    )
    if radius_px < least:
        raise BadInput(
            f"a radius of {radius_px} pixels is too small for the general model, which needs"
            f" {least}; reduce the micrographs less (preprocess -s), or give another model with -m"
        )
    return radius_px


def open_model(model: str) -> tuple[Network, ModelCard | None]:
    """Open a model by file or name.

    A file is told by its content, since hosts expect the models of both programs in ``.sav``.

    Returns
    -------
    network, card
        No card where the network is one of Topaz's.

    Raises
    ------
    BadInput
        If there is none, or the file is no model.
    """
    path = find_model_file(model)
    if not _is_safetensors(path):
        from heliodor.models.importers.topaz import read_topaz_model

        return read_topaz_model(path).network, None
    opened = load_model(path)
    return opened.network, None if "imported" in opened.card.extra else opened.card


def _is_safetensors(path: Path) -> bool:
    """Tell a file by its beginning: the length of a header, and the header, which is JSON."""
    try:
        with path.open("rb") as stream:
            return stream.read(9)[8:] == b"{"
    except OSError as error:
        raise BadInput(f"the model {path} cannot be read ({error.strerror})") from error
