"""Training: the loop from labelled images to the best network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
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
    """The best network and how it came about."""

    network: Network
    history: list[Epoch] = field(repr=False)
    best_epoch: int


#: Given an epoch, its network, and what each of its updates cost: a row an update, a column a
#: field of `learner.MinibatchCost`.
EpochCallback = Callable[[Epoch, Network, FloatArray], None]
#: Given the number of updates made, that of all, and what the last minibatch cost.
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
    shelf: ArrayStore | None = None,
    start: Network | None = None,
    on_update: UpdateCallback | None = None,
    learner: type[Learner] = Learner,
) -> TrainedNetwork:
    """Train a network and keep the weights of its best epoch.

    Parameters
    ----------
    images, validation
        Normalised working images with labels, the second for choosing the epoch; without
        any, the last epoch is kept.
    radius_px
        Training radius in working pixels.
    prior
        pi, the fraction of positive regions among the unlabelled ones.
    settings
        The recipe; its seed fixes the initial weights and every draw.
    progress
        Called after each epoch.
    snapshot
        Called after each epoch too, with the network as it then is, in evaluation mode.
    checkpoint
        Where the training is kept, and gone on with if it was begun there: after each epoch, every
        20 s, when the process is asked to save, and when it is told to stop, which is heeded
        after an update. Epochs that ended before are not told of again.
    shelf
        Where the sampler keeps the images; in memory by default.
    start
        A trained network of the same description, whose weights the training begins with.
    on_update
        Called after each update; what it raises ends the training.
    learner
        How to learn from minibatches; without a checkpoint only, another than the usual.

    Raises
    ------
    BadInput
        If there are no labels, the prior is not between 0 and 1, or training diverges.
    """
    if not 0 < prior < 1:
        raise BadInput(f"a class prior of {prior:g} is not between 0 and 1")
    parts = (images, radius_px, prior, settings, device, shelf, start)
    course = Trainer(*parts, learner)
    if checkpoint is not None:
        made_with = fingerprint_training(images, validation, *parts[1:])
        state = checkpoint.open(made_with, course.most_bytes())
        if state is not None:
            try:
                course.restore(state)
                log.info(f"going on after update {course.updates} of {course.all_updates}")
            except CheckpointMismatch as misfit:
                checkpoint.refuse(misfit)
                course = Trainer(*parts)
    network = course.network
    # Without a checkpoint there is nothing to come to an end.
    whole = nullcontext if checkpoint is None else defer_stop
    try:
        while not course.finished:
            course.learner.prepare()
            with whole():
                while not course.epoch_is_full:
                    course.update()
                    if on_update is not None:
                        on_update(course.updates, course.all_updates, course.last_cost)
                    if checkpoint is not None:
                        raise_if_stopped()
                        if checkpoint.due():
                            checkpoint.save(course.state())
            costs = course.costs()
            network.eval()
            ap = validate(network, validation, radius_px, device)
            with whole():
                epoch = course.end_epoch(costs, ap)
                if progress is not None:
                    progress(epoch)
                if snapshot is not None:
                    snapshot(epoch, network, costs)
                if checkpoint is not None:
                    checkpoint.save(course.state())
    except Stopped:
        if checkpoint is not None and course.updates:
            checkpoint.save(course.state())
        raise
    best_epoch, history = course.best_epoch, course.history
    return TrainedNetwork(course.best_network(), history, best_epoch)


def validate(
    network: Network,
    images: Sequence[LabeledImage],
    radius_px: float,
    device: torch.device | str = "cpu",
) -> float:
    """Return the region average precision over images whose labels count as the truth.

    Labels are incomplete, so the value is too low, but it ranks networks all the same. It is
    taken on the pixels that the strided network scores. Without images it is nan.
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
