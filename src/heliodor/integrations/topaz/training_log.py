"""The learning curve in Topaz's format: one line per update, and one per epoch for the test.

cryoSPARC chooses the epoch with the best average precision on the test images from it; RELION and
Scipion store it. Precision and rates are soft: each region counts with its probability.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from heliodor.conventions import FloatArray, score_to_probability
from heliodor.data.coordinates.labels import LabeledImage, make_label_mask
from heliodor.evaluation.ranking import RegionCounts
from heliodor.models.networks import Network
from heliodor.picking.scoring import score_coarsely
from heliodor.training.learner import MinibatchCost
from heliodor.training.settings import TrainingSettings
from heliodor.utils.files import write_text

#: Placeholder for a missing value.
NO_VALUE = "-"
#: Columns of the costs of a minibatch.
_COLUMN = {field.name: place for place, field in enumerate(fields(MinibatchCost))}


@dataclass(frozen=True)
class TestMetrics:
    """Metrics of a network on test images, whose labels are taken as the complete truth."""

    __test__ = False  # its name makes pytest collect it otherwise

    #: Mean cross entropy per region, unweighted.
    loss: float
    precision: float
    true_positive_rate: float
    false_positive_rate: float
    average_precision: float


def measure_test_metrics(
    network: Network,
    images: Sequence[LabeledImage],
    radius_px: float,
    device: torch.device | str = "cpu",
) -> TestMetrics:
    """Evaluate a network on the lattice of regions that its strides give."""
    counts = RegionCounts()
    loss, found, wrong, positives, negatives = 0.0, 0.0, 0.0, 0, 0
    for item in images:
        score, stride = score_coarsely(network, item.image, device)
        mask = make_label_mask(item.xy_px, item.shape, radius_px)[::stride, ::stride]
        mask = mask[: score.shape[0], : score.shape[1]]
        counts.add(mask, score)
        wide = score.astype(np.float64)
        loss += float(np.logaddexp(0.0, np.where(mask, -wide, wide)).sum())
        chance = score_to_probability(wide)
        found += float(chance[mask].sum())
        wrong += float(chance[~mask].sum())
        positives += int(np.count_nonzero(mask))
        negatives += int(np.count_nonzero(~mask))
    return TestMetrics(
        loss=loss / max(positives + negatives, 1),
        precision=found / (found + wrong),
        true_positive_rate=found / positives if positives else np.nan,
        false_positive_rate=wrong / negatives if negatives else np.nan,
        average_precision=counts.average_precision(),
    )


class TrainingLogFile:
    """The learning curve of one training, rewritten atomically after each epoch.

    Parameters
    ----------
    path
        File to write; None writes to standard output, epoch by epoch.
    settings
        The recipe; the columns depend on its objective.
    adjustment
        Factor between the precision on labels and the adjusted precision.
    """

    def __init__(self, path: str | None, settings: TrainingSettings, adjustment: float) -> None:
        self._path, self._adjustment = path, adjustment
        self._penalized = settings.objective in ("ge-kl", "ge-binomial")
        self._reconstructs = settings.autoencoder != 0
        # Topaz writes the penalty of GE-binomial without its weight, that of GE-KL with it.
        weight = settings.penalty_weight if settings.objective == "ge-binomial" else None
        self._unweighted = 1.0 if not weight else 1.0 / weight
        extra = ["ge_penalty"] * self._penalized + ["recon_error"] * self._reconstructs
        self._header = ["epoch", "iter", "split", "loss", *extra, "precision"]
        self._header += ["adjusted_precision", "tpr", "fpr", "auprc"]
        self._text = "\t".join(self._header) + "\n"
        self._written_chars = 0
        self._update = 0

    def add(self, epoch: int, costs: FloatArray, test: TestMetrics | None) -> None:
        """Add an epoch: the costs of each update, and the metrics of the test images, if any."""
        lines = []
        for row in costs:
            self._update += 1
            value = {name: float(row[place]) for name, place in _COLUMN.items()}
            loss = value["positive"] if self._penalized else value["objective"]
            extra = [value["unlabelled"] * self._unweighted] * self._penalized
            extra += [value["reconstruction"]] * self._reconstructs
            precision = value["expected_precision"]
            rates = (value["labelled_probability"], value["mean_probability"])
            figures = [loss, *extra, precision, precision * self._adjustment, *rates, NO_VALUE]
            lines.append([epoch, self._update, "train", *figures])
        if test is not None:
            nothing = [NO_VALUE] * (self._penalized + self._reconstructs)
            adjusted = test.precision * self._adjustment
            rates = (test.true_positive_rate, test.false_positive_rate)
            figures = [test.loss, *nothing, test.precision, adjusted, *rates]
            lines.append([epoch, self._update, "test", *figures, test.average_precision])
        self._text += "".join("\t".join(map(str, line)) + "\n" for line in lines)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            write_text(self._path, self._text)
            return
        sys.stdout.write(self._text[self._written_chars :])
        sys.stdout.flush()
        self._written_chars = len(self._text)
