"""Training: the loop from labelled images to the best network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from heliodor.errors import BadInput
from heliodor.labels import LabelledImage, label_mask
from heliodor.networks import Network, build, check
from heliodor.objectives import objective
from heliodor.ranking import average_precision
from heliodor.sampler import Sampler
from heliodor.scoring import score_coarsely


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the defaults suit some hundred labels."""

    network: str = "conv31"
    width: int = 32
    #: Share of each layer's features that an update sets to zero at random.
    dropout: float = 0.0
    objective: str = "ge-binomial"
    #: Minibatches (updates of the weights) of an epoch, and the number of epochs.
    epoch_updates: int = 100
    epochs: int = 8
    #: Regions of a minibatch, and how many of them are labelled ones.
    batch: int = 256
    positives: int = 32
    #: Peak of the one-cycle schedule.
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.network, self.width, self.dropout)
        objective(self.objective)
        if min(self.epoch_updates, self.epochs) < 1:
            raise BadInput("training needs at least one epoch of one update")
        if not 1 <= self.positives < self.batch:
            raise BadInput("a minibatch needs at least one labelled and one unlabelled region")
        if not 0 < self.learning_rate <= 1:
            raise BadInput(f"a learning rate of {self.learning_rate:g} is not between 0 and 1")
        if not 0 <= self.weight_decay <= 1:
            raise BadInput(f"a weight decay of {self.weight_decay:g} is not between 0 and 1")
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"the seed must be 0 or more, and below 2^63, not {self.seed}")


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
    #: Region average precision on the labels of the validation images, nan without any.
    validation_ap: float


@dataclass(frozen=True)
class Trained:
    """The best network and how it came about."""

    network: Network
    history: list[Epoch] = field(repr=False)
    best_epoch: int


def train_network(
    images: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    radius_px: float,
    prior: float,
    settings: TrainingSettings,
    device: torch.device | str = "cpu",
    progress: Callable[[Epoch], None] | None = None,
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

    Raises
    ------
    BadInput
        If there are no labels, the prior is not between 0 and 1, or training diverges.
    """
    if not 0 < prior < 1:
        raise BadInput(f"a class prior of {prior:g} is not between 0 and 1")
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed every GPU for good.
        torch.default_generator.manual_seed(settings.seed)
        network = build(settings.network, settings.width, settings.dropout)
    network.start_at(prior)
    network.to(device)
    # Not the sampler's seed, lest what is dropped goes with what is drawn.
    network.draw_from(torch.Generator(device).manual_seed(settings.seed + 1))
    sampler = Sampler(images, radius_px, network.receptive_field, settings.seed, device)
    criterion = objective(settings.objective)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    # OneCycleLR divides by zero where its warm-up is exactly one step long.
    updates = max(settings.epochs * settings.epoch_updates, 6)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=updates, pct_start=0.2
    )
    history: list[Epoch] = []
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    started = time.perf_counter()
    for number in range(1, settings.epochs + 1):
        network.train()
        sums = np.zeros(4)
        for _ in range(settings.epoch_updates):
            crops = sampler.draw(settings.positives, settings.batch - settings.positives)
            logits = network(crops).flatten()
            labelled, rest = logits[: settings.positives], logits[settings.positives :]
            loss = criterion(labelled, rest, prior)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate = float(schedule.get_last_lr()[0])
            schedule.step()
            parts = (loss.total, loss.positive, loss.unlabelled, torch.sigmoid(rest).mean())
            sums += [part.item() for part in parts]
        means = sums / settings.epoch_updates
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
        total, positive, unlabelled, chance = (float(mean) for mean in means)
        history.append(
            Epoch(number, update, seconds, rate, total, positive, unlabelled, chance, ap)
        )
        if progress is not None:
            progress(history[-1])
        if best is None or np.isnan(ap) or ap >= best[0]:
            best = (ap, number, copy.deepcopy(network.state_dict()))
    assert best is not None
    network.load_state_dict(best[2])
    return Trained(network.eval(), history, best[1])


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
