"""The training loop: from labeled images to the best network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.labels import LabeledImage, make_label_mask
from heliodor.errors import BadInput
from heliodor.evaluation.ranking import average_precision
from heliodor.models.networks import Network
from heliodor.picking.scoring import score_coarsely
from heliodor.training.checkpoint import Checkpoint, CheckpointMismatch
from heliodor.training.history import Epoch
from heliodor.training.learner import Learner
from heliodor.training.settings import TrainingSettings
from heliodor.training.trainer import Trainer, fingerprint_training
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.signals import (
    Stopped,
    defer_stop,
    raise_if_stopped,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedNetwork:
    """The best network and the history of its training."""

    network: Network
    history: list[Epoch] = field(repr=False)
    best_epoch: int


#: Given an epoch, its network, and the costs of its updates: a row per update, a column per field
#: of `learner.MinibatchCost`.
EpochCallback = Callable[[Epoch, Network, FloatArray], None]
#: Given the number of updates made, the number of all, and the cost of the last minibatch.
UpdateCallback = Callable[[int, int, float], None]


def train_network(
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    radius_px: float,
    prior: float,
    settings: TrainingSettings,
    device: torch.device | str = "cpu",
    progress: Callable[[Epoch], None] | None = None,
    snapshot: EpochCallback | None = None,
    checkpoint: Checkpoint | None = None,
    store: ArrayStore | None = None,
    start: Network | None = None,
    on_update: UpdateCallback | None = None,
    learner: type[Learner] = Learner,
) -> TrainedNetwork:
    """Train a network and keep the weights of its best epoch.

    Parameters
    ----------
    images, validation
        Normalized working images with labels, the second for choosing the epoch; without
        any, the last epoch is kept.
    radius_px
        Training radius in working pixels.
    prior
        pi, the fraction of positive regions among the unlabeled ones.
    settings
        The recipe; its seed fixes the initial weights and every draw.
    progress
        Called after each epoch.
    snapshot
        Called after each epoch too, with the network as it then is, in evaluation mode.
    checkpoint
        Where the training is saved, and resumed from if it was interrupted: after each epoch,
        every 20 s, when the process is asked to save, and when it is asked to stop, which takes
        effect after an update. Epochs that ended before are not reported again.
    store
        Where the sampler keeps the images; in memory by default.
    start
        A trained network of the same description, whose weights the training starts with.
    on_update
        Called after each update; what it raises ends the training.
    learner
        How to learn from minibatches; another than the default only without a checkpoint.

    Raises
    ------
    BadInput
        If there are no labels, the prior is not between 0 and 1, or training diverges.
    """
    if not 0 < prior < 1:
        raise BadInput(f"the class prior must be between 0 and 1, not {prior:g}")
    parts = (images, radius_px, prior, settings, device, store, start)
    trainer = Trainer(*parts, learner)
    if checkpoint is not None:
        fingerprint = fingerprint_training(images, validation, *parts[1:])
        state = checkpoint.open(fingerprint, trainer.most_bytes())
        if state is not None:
            try:
                trainer.restore(state)
                log.info(f"resuming after update {trainer.updates} of {trainer.all_updates}")
            except CheckpointMismatch as mismatch:
                checkpoint.refuse(mismatch)
                trainer = Trainer(*parts)
    try:
        while not trainer.finished:
            with _uninterrupted(checkpoint):
                _run_updates(trainer, checkpoint, on_update)
            costs = trainer.costs()
            trainer.network.eval()
            ap = validate(trainer.network, validation, radius_px, device)
            with _uninterrupted(checkpoint):
                epoch = trainer.end_epoch(costs, ap)
                if progress is not None:
                    progress(epoch)
                if snapshot is not None:
                    snapshot(epoch, trainer.network, costs)
                if checkpoint is not None:
                    checkpoint.save(trainer.state())
    except Stopped:
        if checkpoint is not None and trainer.updates:
            checkpoint.save(trainer.state())
        raise
    best_epoch, history = trainer.best_epoch, trainer.history
    return TrainedNetwork(trainer.best_network(), history, best_epoch)


def _uninterrupted(checkpoint: Checkpoint | None) -> AbstractContextManager[None]:
    """Defer signals to stop, if there is a checkpoint that must hold a whole state."""
    return nullcontext() if checkpoint is None else defer_stop()


def _run_updates(
    trainer: Trainer, checkpoint: Checkpoint | None, on_update: UpdateCallback | None
) -> None:
    """Make the remaining updates of an epoch."""
    trainer.learner.prepare()
    while not trainer.epoch_is_full:
        trainer.update()
        if on_update is not None:
            on_update(trainer.updates, trainer.all_updates, trainer.last_cost)
        if checkpoint is not None:
            raise_if_stopped()
            if checkpoint.due():
                checkpoint.save(trainer.state())


def validate(
    network: Network,
    images: Sequence[LabeledImage],
    radius_px: float,
    device: torch.device | str = "cpu",
) -> float:
    """Return the region average precision over images whose labels count as the truth.

    Labels are incomplete, so the value is too low, but it still ranks networks. It is taken on
    the pixels that the strided network scores. Without images it is nan.
    """
    labels, scores = [], []
    for item in images:
        score, stride = score_coarsely(network, item.image, device)
        mask = make_label_mask(item.xy_px, item.shape, radius_px)[::stride, ::stride]
        labels.append(mask[: score.shape[0], : score.shape[1]].ravel())
        scores.append(score.ravel())
    if not labels:
        return float("nan")
    return average_precision(np.concatenate(labels), np.concatenate(scores))
