"""Looking: what a model finds on one micrograph, and how that looks."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from heliodor.app.candidates import Candidates
from heliodor.conventions import (
    FloatArray,
    Image,
    to_working,
)
from heliodor.data.micrographs.dead_borders import dead_border
from heliodor.data.micrographs.working_images import WorkingImage
from heliodor.models.model_file import Model
from heliodor.picking.candidates import find_candidates
from heliodor.picking.score_maps import (
    ScoreMaps,
    assemble_score_maps,
    card_step,
)
from heliodor.picking.scoring import score_with_features
from heliodor.picking.settings import PickSettings
from heliodor.utils.files import atomic_write

#: Candidates that score less are not kept.
MIN_SCORE: Final = -5.0
#: All candidates are: bad areas are told, and left to the user.
SETTINGS: Final = PickSettings(bad_areas="keep")
#: Numbers that are kept of what the network sees at a candidate.
FEATURES: Final = 32
#: Of a preview: this many robust standard deviations on either side of the median are shown.
GRAY_DEVIATIONS: Final = 4.0
JPEG_QUALITY: Final = 85
#: Bands of detail, each of twice the length of the one before, by which micrographs are compared.
BANDS: Final = 3


@dataclass(frozen=True)
class Prediction:
    """What a model finds on a micrograph."""

    candidates: Candidates
    look: ScoreMaps
    #: What the network saw, shape (h, w).
    normalised: Image
    image: WorkingImage


def predict(model: Model, image: WorkingImage, number: int, device: torch.device) -> Prediction:
    """Find the candidates of a micrograph; the same, with the same scores, as picking does.

    Parameters
    ----------
    model
        A model for one diameter, on the device.
    image
        The micrograph as the model needs it.
    number
        What the model is called.
    """
    normalised = model.normalizer.apply(image.image)
    step = card_step(model, image.working_pixel_size_angstrom)
    seen = score_with_features(model.network, normalised, step, device)
    look = assemble_score_maps(model, image, normalised, seen.maps)
    picks = find_candidates(model, image, look.score, SETTINGS, look.contamination)
    kept = np.flatnonzero(picks.score >= MIN_SCORE)
    xy, score = picks.xy_px[kept], picks.score[kept]
    working = to_working(xy, image.original_shape, image.shape)
    bad = np.zeros(len(score), dtype=bool)
    if look.contamination is not None:
        bad = look.contamination.contains(working * image.working_pixel_size_angstrom)
    features = _sample_features(seen.features, working / model.network.stride)
    figures = _measure_micrograph(image.image, normalised, look)
    return Prediction(
        Candidates(number, xy, score, bad, features, figures), look, normalised, image
    )


def write_preview(path: Path, normalised: Image) -> None:
    """Write a working image as a JPEG: its median at 128, dark as in the micrograph."""
    from PIL import Image as Pillow

    middle = float(np.median(normalised))
    spread = 1.4826 * float(np.median(np.abs(normalised - middle))) or 1.0
    grey = 128 + (normalised - middle) * (127 / (GRAY_DEVIATIONS * spread))
    with atomic_write(path) as aside:
        Pillow.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).save(
            aside, "JPEG", quality=JPEG_QUALITY
        )


def _sample_features(seen: Image, xy: FloatArray) -> NDArray[np.float16]:
    """Return what is seen at places of its own lattice, in a few numbers, shape (n, FEATURES)."""
    _, height, width = seen.shape
    columns, rows = np.clip(np.rint(xy).astype(np.intp), 0, [width - 1, height - 1]).T
    return np.asarray(seen[:, rows, columns].T @ _projection(len(seen)), dtype=np.float16)


@functools.cache
def _projection(channels: int) -> Image:
    """Return a matrix that keeps distances, nearly (Johnson and Lindenstrauss 1984)."""
    drawn = np.random.default_rng(0).standard_normal((channels, FEATURES))
    return np.asarray(drawn / np.sqrt(FEATURES), dtype=np.float32)


def _measure_micrograph(image: Image, normalised: Image, look: ScoreMaps) -> dict[str, float]:
    """Return what tells a micrograph from others: dose and ice, defocus, carbon.

    The mean and the spread of the micrograph itself; of the normalised one the logarithm of its
    variance in bands of detail, which follow its defocus, and of its background's; the share of
    bad area, and by how much its scores were moved to be level.
    """
    alive = dead_border(normalised).alive(normalised.shape)
    own = image[alive]
    bands = [float(np.log(band.var() + 1e-6)) for band in _split_bands(normalised)]
    return {
        "mean": float(own.mean(dtype=np.float64)),
        "contrast": float(own.std(dtype=np.float64)),
        **{f"detail_{n}": band for n, band in enumerate(bands[:-1], 1)},
        "background": bands[-1],
        "bad": 0.0 if look.contamination is None else look.contamination.fraction,
        "levelled_by": look.shift,
    }


def _split_bands(image: Image) -> list[Image]:
    """Return an image's detail of one pixel, of two, and so on, and what is left."""
    bands = []
    for _ in range(BANDS):
        height, width = (side // 2 * 2 for side in image.shape)
        if min(height, width) < 2:
            break
        blocks = image[:height, :width].reshape(height // 2, 2, width // 2, 2)
        coarse = blocks.mean(axis=(1, 3))
        bands.append(np.asarray(blocks - coarse[:, None, :, None]))
        image = coarse
    bands += [image] * (BANDS + 1 - len(bands))
    return bands
