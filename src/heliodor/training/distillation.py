"""Distillation: one network learns the scores that several others give together.

The average of unlike networks is more accurate than each of them, but picking with it costs as
much as with all. A network that is trained on the average keeps most of the gain (Hinton et al.,
arXiv:1503.02531): every pixel of a micrograph tells it something, not only those with labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from heliodor.conventions import Image
from heliodor.data.micrographs.fourier_crop import mirror_pad
from heliodor.errors import BadInput
from heliodor.models.networks import Network
from heliodor.training.learner import fix_running_statistics
from heliodor.training.sharded_gradients import Shards, can_shard
from heliodor.utils.array_store import ArrayStore

#: Fields in each minibatch, and outputs along the side of a field.
FIELDS: Final = 8
SIDE: Final = 17
#: Highest rate of the one-cycle schedule, and the decay of the weights.
LEARNING_RATE: Final = 1e-3
WEIGHT_DECAY: Final = 1e-2
#: Weight of the distance to the contaminant output of the network that the training starts from.
KEEP_CONTAMINANT: Final = 0.1


@dataclass(frozen=True)
class TargetImage:
    """A normalized working image, and the log-odds that a network is to give for it."""

    image: Image
    #: Shape (h, w); not finite where nothing is to be learned.
    target: Image


class FieldSampler:
    """Draws fields of images, turned and mirrored, with the targets of their outputs.

    Every second field is drawn around a pixel that is more likely particle than not, if there is
    one.

    Parameters
    ----------
    images
        Images with targets.
    receptive_field, stride
        Of the network.
    seed
        Of the draws.
    store
        Where the padded images lie; in memory by default.

    Raises
    ------
    BadInput
        If no target of any image is finite.
    """

    def __init__(
        self,
        images: Sequence[TargetImage],
        receptive_field: int,
        stride: int,
        seed: int,
        store: ArrayStore | None = None,
    ) -> None:
        store = store or ArrayStore()
        if not any(np.isfinite(item.target).any() for item in images):
            raise BadInput("the micrographs have no area to train on")
        smallest = min(side for item in images for side in item.target.shape)
        self._stride = stride
        self._side = min(SIDE, 1 + (smallest - 1) // stride)
        self._span = 1 + stride * (self._side - 1)
        self._width = receptive_field + self._span - 1
        self._targets = [item.target for item in images]
        self._padded = [
            store.add(mirror_pad(item.image.astype(np.float32), receptive_field // 2))
            for item in images
        ]
        self._likely: list[NDArray[np.intp]] = [
            np.flatnonzero(np.isfinite(item.target) & (item.target > 0)) for item in images
        ]
        self._random = np.random.default_rng(seed)

    def draw(self, fields: int = FIELDS) -> tuple[Tensor, Tensor]:
        """Return fields, shape (n, 1, S, S), and the targets of their outputs, (n, side, side)."""
        drawn = [self._draw_field(around=bool(number % 2)) for number in range(fields)]
        pixels, targets = (np.stack(part) for part in zip(*drawn, strict=True))
        return torch.from_numpy(pixels[:, None]), torch.from_numpy(targets)

    def _draw_field(self, around: bool) -> tuple[Image, Image]:
        random, span = self._random, self._span
        index = int(random.integers(len(self._targets)))
        target, likely = self._targets[index], self._likely[index]
        last = np.array(target.shape) - span
        corner = random.integers(last + 1)
        if around and len(likely):
            pixel = likely[random.integers(len(likely))]
            place = np.array(np.unravel_index(pixel, target.shape))
            corner = np.clip(place - random.integers(span, size=2), 0, last)
        row, column = (int(first) for first in corner)
        rows, columns = slice(row, row + self._width), slice(column, column + self._width)
        field = self._padded[index][rows, columns]
        wanted = target[row : row + span : self._stride, column : column + span : self._stride]
        turn = int(random.integers(8))
        return _turn(field, turn), _turn(wanted, turn)


def _turn(image: Image, turn: int) -> Image:
    """Return an image in one of the eight orientations of a square."""
    turned = np.rot90(image, turn % 4)
    return np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned, dtype=np.float32)


def distill(
    start: Network,
    images: Sequence[TargetImage],
    seed: int,
    device: torch.device | str,
    updates: int,
    on_update: Callable[[int, int], None] | None = None,
    store: ArrayStore | None = None,
) -> Network:
    """Train a network to give the target log-odds.

    Parameters
    ----------
    start
        The network to start from, which is not changed. Its batch normalization and its output
        for contaminants are kept.
    images
        Images with their targets.
    seed
        Of the draws: the same seed gives the same network, with any number of threads.
    on_update
        Called after each update with its number and the number of all; what it raises ends the
        training.
    store
        Where the images lie; in memory by default.

    Returns
    -------
    Network
        In evaluation mode.

    Raises
    ------
    BadInput
        If no target is finite, or the training diverges.
    """
    sampler = FieldSampler(images, start.receptive_field, start.stride, seed, store)
    channels_last = torch.channels_last
    before = copy.deepcopy(start).to(device, memory_format=channels_last).eval()  # type: ignore[call-overload]
    network: Network = copy.deepcopy(start).to(device, memory_format=channels_last)  # type: ignore[call-overload]
    fix_running_statistics(network)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=updates)
    score, score_before = _prepare(network), _prepare(before)
    for update in range(1, updates + 1):
        fields, targets = (part.to(device) for part in sampler.draw())
        said = score(fields)
        known = torch.isfinite(targets)
        wanted = torch.sigmoid(targets[known])
        loss = cross_entropy(said[:, 0][known], wanted, reduction="sum") / max(1, len(wanted))
        if said.shape[1] > 1:
            with torch.no_grad():
                law = torch.sigmoid(score_before(fields)[:, 1])
            loss = loss + KEEP_CONTAMINANT * cross_entropy(said[:, 1], law)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if on_update is not None:
            on_update(update, updates)
    if not network.is_finite():
        raise BadInput("learning from several models diverged; use --effort quick")
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval()


def _prepare(network: Network) -> Callable[[Tensor], Tensor]:
    """Return a function that computes the network's outputs, by shards where that is possible."""
    if can_shard(network):
        return Shards(network)
    return lambda fields: network.classify_features(network.features(fields))
