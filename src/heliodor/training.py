"""Training: the loop from labelled images to the best network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.labels import LabelledImage, label_mask
from heliodor.learning import Learner
from heliodor.networks import Network
from heliodor.ranking import average_precision
from heliodor.recipe import TrainingSettings
from heliodor.scoring import score_coarsely


@dataclass(frozen=True)
class Epoch:
    """One line of ``training.tsv``: means over the epoch, and what validation said."""

    epoch: int
    update: int
    seconds: float
    learning_rate: float
    loss: float
    positive_loss: float
    unlabelled_term: float
    #: Mean probability over the unlabelled regions; the class prior is its expectation.
    mean_probability: float
    #: Mean error of the autoencoder's reconstruction, 0 without one.
    reconstruction: float
    #: Region average precision on the labels of the validation images, nan without any.
    validation_ap: float


@dataclass(frozen=True)
class Trained:
    """The best network and how it came about."""

    network: Network
    history: list[Epoch] = field(repr=False)
    best_epoch: int


#: Given an epoch, its network, and what each of its updates cost: a row an update, a column a
#: field of `learning.Cost`.
Snapshot = Callable[[Epoch, Network, FloatArray], None]


def train_network(
    images: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    radius_px: float,
    prior: float,
    settings: TrainingSettings,
    device: torch.device | str = "cpu",
    progress: Callable[[Epoch], None] | None = None,
    snapshot: Snapshot | None = None,
) -> Trained:
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

    Raises
    ------
    BadInput
        If there are no labels, the prior is not between 0 and 1, or training diverges.
    """
    if not 0 < prior < 1:
        raise BadInput(f"a class prior of {prior:g} is not between 0 and 1")
    learner = Learner(images, radius_px, prior, settings, device)
    network = learner.network
    optimizer = torch.optim.AdamW(
        learner.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=network.classifier.weight.device.type != "mps",
    )
    epochs = settings.epochs_for(sum(len(item.xy_px) for item in images))
    schedule = _schedule(optimizer, settings, epochs * settings.epoch_updates)
    history: list[Epoch] = []
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    started = time.perf_counter()
    for number in range(1, epochs + 1):
        network.train()
        told: list[torch.Tensor] = []
        for _ in range(settings.epoch_updates):
            cost = learner.cost()
            optimizer.zero_grad(set_to_none=True)
            cost.total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate = float(schedule.get_last_lr()[0])
            schedule.step()
            told.append(torch.stack([part.detach() for part in vars(cost).values()]))
        # Fetched once an epoch: a GPU would have to be waited for after each update.
        costs = torch.stack(told).cpu().double().numpy()
        means = costs.mean(axis=0)
        # The last update can break the weights without any loss having seen it.
        if not (np.isfinite(means).all() and network.is_finite()):
            raise BadInput(
                f"training diverged in epoch {number} (the loss is not a number); lower the"
                " learning rate"
            )
        network.eval()
        ap = validate(network, validation, radius_px, device)
        seconds = time.perf_counter() - started
        update = number * settings.epoch_updates
        total, positive, unlabelled, chance, error = (float(mean) for mean in means[:5])
        history.append(
            Epoch(number, update, seconds, rate, total, positive, unlabelled, chance, error, ap)
        )
        if progress is not None:
            progress(history[-1])
        if snapshot is not None:
            snapshot(history[-1], network, costs)
        if best is None or np.isnan(ap) or ap >= best[0]:
            best = (ap, number, copy.deepcopy(network.state_dict()))
    assert best is not None
    network.load_state_dict(best[2])
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Trained(network.eval(), history, best[1])


def _schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, updates: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    # OneCycleLR divides by zero where its warm-up is exactly one step long.
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=max(updates, 6), pct_start=0.2
    )


def validate(
    network: Network,
    images: Sequence[LabelledImage],
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
        mask = label_mask(item.xy_px, item.shape, radius_px)[::stride, ::stride]
        labels.append(mask[: score.shape[0], : score.shape[1]].ravel())
        scores.append(score.ravel())
    if not labels:
        return float("nan")
    return average_precision(np.concatenate(labels), np.concatenate(scores))


def history_table(history: Sequence[Epoch]) -> str:
    """Return the epochs as a TSV text with a header."""
    rows = [asdict(epoch) for epoch in history]
    lines = ["\t".join(rows[0])] if rows else []
    for row in rows:
        lines.append(
            "\t".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values())
        )
    return "\n".join(lines) + "\n"
