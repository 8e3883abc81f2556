"""How a model scores the labels, on the micrographs and with inverted contrast.

A model that has learned from other particles, such as the general model, scores most labels above
most other pixels. Labels anywhere else have random ranks, and particles that are bright instead of
dark have high ranks only when the contrast is inverted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from heliodor.conventions import FloatArray, Image
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.models.model_file import Model
from heliodor.picking.score_maps import card_step
from heliodor.picking.scoring import score_smoothly
from heliodor.utils.compute import map_in_threads

#: The micrographs with the most labels are used, until there are so many labels or micrographs.
ENOUGH_LABELS, MOST_MICROGRAPHS = 200, 8
#: Fewest labels from which anything is concluded.
FEWEST_LABELS = 20
#: Standard deviations above chance from which the labels fit the scores.
FITS = 4.0
#: Mean rank from which labels fit the inverted contrast; on five real sets labels have 0.82 to
#: 0.99 as they are and 0.33 to 0.60 inverted.
FITS_INVERTED = 0.7

#: What to do about inverted contrast.
INVERT = "invert the micrographs, for example with `relion_image_handler --multiply_constant -1`"


@dataclass(frozen=True)
class LabelScores:
    """The ranks of the labels among the scores of all pixels of their micrographs, from 0 to 1."""

    #: On the micrographs, and on the same with inverted contrast, shape (n,).
    rank: FloatArray
    inverted_rank: FloatArray

    @property
    def fits(self) -> bool:
        """Whether the labels score higher than random positions."""
        return _deviations(self.rank) >= FITS

    @property
    def is_inverted(self) -> bool:
        """Whether the particles at the labels clearly have the opposite contrast."""
        if len(self.rank) < FEWEST_LABELS or self.inverted_rank.mean() < FITS_INVERTED:
            return False
        more = self.inverted_rank - self.rank
        error = float(more.std()) / math.sqrt(len(more))
        return float(more.mean()) > FITS * error

    def describe_contrast(self) -> str | None:
        """Return a warning if the particles at the labels have the opposite contrast."""
        if not self.is_inverted:
            return None
        return (
            "the contrast seems to be inverted: the model that the training starts from expects"
            f" dark particles, and scores the labels above {self.rank.mean():.0%} of the pixels of"
            f" the micrographs, but {self.inverted_rank.mean():.0%} with inverted contrast;"
            f" {INVERT}, or train with --from scratch"
        )


def measure_label_scores(
    model: Model,
    images: Sequence[LabeledImage],
    pixel_size_angstrom: float,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> LabelScores:
    """Score the micrographs with the most labels, and rank the labels among their pixels.

    Parameters
    ----------
    model
        A model for the diameter of the particles.
    images
        Normalized working images with labels.
    pixel_size_angstrom
        Their pixel size.
    progress
        Called with the numbers of micrographs that are done and that will be.
    """
    step = card_step(model, pixel_size_angstrom)
    ordered = sorted(images, key=lambda item: -len(item.xy_px))
    labels = np.cumsum([len(item.xy_px) for item in ordered])
    used = ordered[: min(int(np.searchsorted(labels, ENOUGH_LABELS)) + 1, MOST_MICROGRAPHS)]

    def rank(item: LabeledImage) -> list[FloatArray]:
        return [
            _rank(score_smoothly(model.network, image, step, device), item.xy_px)
            for image in (item.image, -item.image)
        ]

    ranks = [[np.zeros(0)] * 2, *map_in_threads(rank, used, device, progress)]
    upright, inverted = (np.concatenate(own) for own in zip(*ranks, strict=True))
    return LabelScores(upright, inverted)


def _rank(score: Image, xy_px: FloatArray) -> FloatArray:
    last = np.array(score.shape[::-1]) - 1
    columns, rows = np.clip(np.rint(xy_px).astype(np.intp), 0, last).T
    # A sixteenth of the pixels is enough.
    sample = np.sort(score[::4, ::4], axis=None)
    return np.asarray(np.searchsorted(sample, score[rows, columns]) / len(sample))


def _deviations(rank: FloatArray) -> float:
    """Return the mean rank in standard deviations above chance, for which ranks are uniform."""
    return (float(rank.mean()) - 0.5) * math.sqrt(12 * len(rank)) if len(rank) else 0.0
