"""Prediction: the candidates of one micrograph, its preview, and figures that describe it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from heliodor.app.candidates import Candidates, PickingRecord
from heliodor.conventions import (
    FloatArray,
    Image,
    IndexArray,
    to_working,
)
from heliodor.data.micrographs.dead_borders import DeadBorder, find_dead_border
from heliodor.data.micrographs.working_images import WorkingImage
from heliodor.models.model_file import Model
from heliodor.picking.batch import measure_micrograph
from heliodor.picking.candidates import find_maxima
from heliodor.picking.decoys import measure_candidate_area
from heliodor.picking.score_maps import (
    FLOOR,
    ScoreMaps,
    assemble_score_maps,
    card_step,
)
from heliodor.picking.scoring import compute_turned_features, score_with_features
from heliodor.picking.settings import PickSettings
from heliodor.utils.files import atomic_write
from heliodor.utils.statistics import robust_deviation

#: The usual settings of picking. Scores of candidates in contamination are lowered.
SETTINGS: Final = PickSettings()
#: Length of the feature vector of a candidate.
FEATURES: Final = 32
#: The noise of the features is measured on every n-th of the best candidates.
NOISE_BEST, NOISE_STEP = 32, 2
#: A preview shows this many robust standard deviations on either side of the median.
GRAY_DEVIATIONS: Final = 4.0
JPEG_QUALITY: Final = 85
#: Bands of detail by which micrographs are compared; each has twice the length of the last.
BANDS: Final = 3


@dataclass(frozen=True)
class Prediction:
    """The output of a model for one micrograph."""

    candidates: Candidates
    score_maps: ScoreMaps
    #: The input of the network, shape (h, w).
    normalized: Image
    image: WorkingImage


def predict(
    model: Model,
    image: WorkingImage,
    number: int,
    device: torch.device,
    made_with: str = "",
    settings: PickSettings = SETTINGS,
) -> Prediction:
    """Find the candidates of a micrograph: the same, with the same scores, as picking does.

    Parameters
    ----------
    model
        A model for one diameter, on the device.
    image
        The working image.
    number
        The number of the model.
    made_with
        See `PickingRecord`.
    settings
        Of picking; for distances between candidates and from the edges.
    """
    normalized = model.normalizer.apply(image.image)
    size = image.working_pixel_size_angstrom
    seen = score_with_features(model.network, normalized, card_step(model, size), device)
    maps = assemble_score_maps(model, image, normalized, seen.maps)
    contamination = maps.contamination
    maxima = find_maxima(model, image, maps.score, settings)
    at, clean = maxima.xy_angstrom, maxima.picks.score
    order, score, distance = np.arange(len(clean)), clean, None
    bad = np.zeros(len(score), dtype=bool)
    if contamination is not None:
        # All are kept: the user may say that there is no contamination here.
        order, score = contamination.weigh(at, clean, -math.inf)
        distance = contamination.distance_angstrom(at)[order]
        bad = contamination.is_left_out(at)[order]
    xy = maxima.picks.xy_px[order]
    working = to_working(xy, image.original_shape, image.shape)
    bad |= _touches_dead_border(working, normalized, model.card.diameter_angstrom / size)
    nodes = _find_nodes(seen.features, working / model.network.stride)
    features = np.asarray(seen.features[:, nodes[:, 0], nodes[:, 1]].T)
    margin = settings.distances_for(model, size).margin_px
    record = PickingRecord(
        made_with,
        "" if image.version is None else image.version.fingerprint,
        image.pixel_size_angstrom,
        measure_candidate_area(maps.score, contamination, size, margin),
        measure_micrograph(model, normalized, maps.shift, contamination),
        math.nextafter(min(FLOOR, model.card.threshold), -math.inf),
        distance,
    )
    figures = _measure_figures(image.image, normalized, maps)
    return Prediction(
        Candidates(
            number, xy, score, bad, _project(features), figures, stamp_of(image),
            clean[order], contamination, record, features.astype(np.float16),
            _measure_noise(model, normalized, nodes, features, device),
        ),
        maps,
        normalized,
        image,
    )  # fmt: skip


def stamp_of(image: WorkingImage) -> str:
    """Return the version of the file that an image was read from; see `stamp_file`."""
    return "" if image.version is None else image.version.stamp


def write_preview(path: Path, normalized: Image, stamp: str = "") -> None:
    """Write a working image as a JPEG file, its median at gray 128, contrast not inverted.

    Parameters
    ----------
    stamp
        The version of the micrograph's file, which becomes the comment.
    """
    from PIL import Image as Pillow

    middle = float(np.median(normalized))
    spread = robust_deviation(normalized, middle) or 1.0
    gray = 128 + (normalized - middle) * (127 / (GRAY_DEVIATIONS * spread))
    with atomic_write(path) as aside:
        Pillow.fromarray(np.clip(np.rint(gray), 0, 255).astype(np.uint8)).save(
            aside, "JPEG", quality=JPEG_QUALITY, comment=stamp.encode()
        )


def _touches_dead_border(
    xy: FloatArray, normalized: Image, diameter_px: float
) -> NDArray[np.bool_]:
    """Return which positions are within half a diameter of a bar in which nothing was recorded."""
    wide = find_dead_border(normalized).widen(math.ceil(diameter_px / 2))
    rows, columns = wide.live_region(normalized.shape)
    first, last = (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)
    return np.asarray(((xy < first) | (xy > last)).any(axis=1) & (wide != DeadBorder()))


def _find_nodes(seen: Image, xy: FloatArray) -> IndexArray:
    """Return the rows and columns of a feature map nearest to positions on it, shape (n, 2)."""
    _, height, width = seen.shape
    nodes = np.rint(xy[:, ::-1]).astype(np.intp)
    return np.asarray(np.clip(nodes, 0, [height - 1, width - 1]))


def _project(features: Image) -> NDArray[np.float16]:
    """Return fewer features, shape (n, FEATURES)."""
    return np.asarray(features @ _projection(features.shape[1]), dtype=np.float16)


def _measure_noise(
    model: Model, normalized: Image, nodes: IndexArray, features: Image, device: torch.device
) -> NDArray[np.float16]:
    """Return how the features of some candidates differ from those of the same, turned."""
    some = slice(0, NOISE_BEST, NOISE_STEP)
    turned = compute_turned_features(model.network, normalized, nodes[some], device)
    return np.asarray(turned - features[some], dtype=np.float16)


@functools.cache
def _projection(channels: int) -> Image:
    """Return a random matrix that nearly preserves distances (Johnson and Lindenstrauss 1984)."""
    drawn = np.random.default_rng(0).standard_normal((channels, FEATURES))
    return np.asarray(drawn / np.sqrt(FEATURES), dtype=np.float32)


def _measure_figures(image: Image, normalized: Image, maps: ScoreMaps) -> dict[str, float]:
    """Return figures that differ with dose, ice, defocus and carbon.

    The mean and the standard deviation of the micrograph; the logarithm of the variance of the
    normalized one in bands of detail, which follow the defocus, and of its background; the
    fraction of contamination, and by how much its scores were shifted to the common level.
    """
    alive = find_dead_border(normalized).live_region(normalized.shape)
    values = image[alive]
    bands = [float(np.log(band.var() + 1e-6)) for band in _split_bands(normalized)]
    return {
        "mean": float(values.mean(dtype=np.float64)),
        "contrast": float(values.std(dtype=np.float64)),
        **{f"detail_{n}": band for n, band in enumerate(bands[:-1], 1)},
        "background": bands[-1],
        "bad": 0.0 if maps.contamination is None else maps.contamination.fraction,
        "levelled_by": maps.shift,
    }


def _split_bands(image: Image) -> list[Image]:
    """Return the detail of an image at one pixel, at two, and so on, and the background."""
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
