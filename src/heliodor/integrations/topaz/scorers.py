"""Functions that compute the score map of an image with a model of heliodor or Topaz, or none.

Models of heliodor score as everywhere else: with the normalization of their training, an aligned
background, no scores in dead borders, and detection of contamination. Models of Topaz score as in
Topaz: the pixels as they are, padded with zeros.
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

#: Pixel sizes are not known here; they follow from this nominal particle diameter.
NOMINAL_ANGSTROM = 180.0


class ScoredImage(NamedTuple):
    """The score map of an image, and its contamination."""

    score: Image
    #: None if the model does not detect contamination.
    bad_areas: ContaminationMask | None = None
    #: Pixel size of the score map, for coordinates in the contamination mask.
    pixel_size_angstrom: float = 1.0
    #: (height, width) of the image, if the score map has another shape.
    original: Shape | None = None
    #: Added to the centers of picks, in pixels of the score map.
    center_correction_px: tuple[float, float] = (0.0, 0.0)

    @property
    def map_pixels_per_image_pixel(self) -> float:
        """Return the pixels of the score map per pixel of the image."""
        return 1.0 if self.original is None else self.score.shape[1] / self.original[1]

    def to_image_pixels(self, xy_px: FloatArray) -> FloatArray:
        """Convert (x, y) on the score map to (x, y) on the image, shape (n, 2)."""
        if self.original is None:
            return xy_px
        height, width = self.score.shape
        return to_original(xy_px, self.original, (height, width))


Scorer = Callable[[Path], ScoredImage]


def make_scorer(model: str, device: torch.device | str, radius_px: int | None = None) -> Scorer:
    """Return the function that computes the score maps of images.

    Parameters
    ----------
    model
        A model file of heliodor or Topaz, the name of a model, or ``none``.
    device
        Where to compute.
    radius_px
        Radius of the particle, which the general model needs.

    Raises
    ------
    BadInput
        If there is no such model, or the general model lacks a radius.
    """
    if model == NO_MODEL:
        return lambda path: ScoredImage(read_map(path))
    return _make_file_scorer(model, file_identity(find_model_file(model)), device, radius_px)


@lru_cache(maxsize=1)  # a worker scores many images with one model
def _make_file_scorer(
    model: str, _: tuple[str, int, int], device: torch.device | str, radius_px: int | None
) -> Scorer:
    """Return the scorer of a model file; the second argument identifies its content."""
    network, card = open_model(model)
    network = network.to(device)
    if card is None:

        def as_topaz(path: Path) -> ScoredImage:
            edge = network.receptive_field // 2
            image = np.pad(read_micrograph(path).image, edge)
            return ScoredImage(score_inner(network, image, device))

        return as_topaz
    own = Model(network, card)
    # Images already have the scale of the model: their pixels are its working pixels.
    pixel_size = card.working_pixel_size_angstrom
    if card.any_diameter:
        pixel_size = NOMINAL_ANGSTROM / (2 * _check_radius(radius_px, card))
        own = rescale_to_diameter(own, NOMINAL_ANGSTROM)
    images = open_working_images(own, pixel_size)

    def as_ours(path: Path) -> ScoredImage:
        image = images.get(Source(micrograph_stem(path), path, micrograph_stem(path)))
        look = compute_score_maps(own, image, own.normalizer.apply(image.image), device)
        original = image.original_shape if card.any_diameter else None
        x, y = card.center_correction_px
        return ScoredImage(
            look.score, look.contamination, image.working_pixel_size_angstrom, original, (x, y)
        )

    return as_ours


def _check_radius(radius_px: int | None, card: ModelCard) -> int:
    """Return the particle's radius after checking that the general model can use it."""
    if radius_px is None:
        raise BadInput(
            "the general model needs the size of the particle; give -r (half of the longest"
            " diameter) to extract, or another model with -m"
        )
    least = math.ceil(
        card.diameter_angstrom / card.working_pixel_size_angstrom / MAX_UPSAMPLING / 2
    )
    if radius_px < least:
        raise BadInput(
            f"a radius of {radius_px} pixels is too small for the general model, which needs"
            f" {least} or more; downsample the micrographs less (preprocess -s) or give another"
            " model with -m"
        )
    return radius_px


def open_model(model: str) -> tuple[Network, ModelCard | None]:
    """Open a model by path or name.

    The type of a file is detected by its content, since hosts name all models ``.sav``.

    Returns
    -------
    network, card
        The card is None for networks of Topaz.

    Raises
    ------
    BadInput
        If there is no such model, or the file is not a model.
    """
    path = find_model_file(model)
    if not _is_safetensors(path):
        from heliodor.models.importers.topaz import read_topaz_model

        return read_topaz_model(path).network, None
    opened = load_model(path)
    return opened.network, None if "imported" in opened.card.extra else opened.card


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins with the length of a header followed by JSON."""
    try:
        with path.open("rb") as stream:
            return stream.read(9)[8:] == b"{"
    except OSError as error:
        raise BadInput(f"the model {path} cannot be read ({error.strerror})") from error
