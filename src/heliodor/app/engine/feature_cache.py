"""Rehearsal: learning from the same few minibatches again and again, above layers that stay.

What the first layers of a trained network see is of use for any particle. Where they stay as they
are, they need to look at each minibatch only once, and so does the start: that is most of what an
update costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.models.model_file import Model
from heliodor.models.networks import Network
from heliodor.training.dataset import TrainingSet
from heliodor.training.learner import Learner
from heliodor.training.loop import train_network
from heliodor.training.sampler import Minibatch
from heliodor.training.settings import TrainingSettings
from heliodor.training.sharded_gradients import Shards, can_shard
from heliodor.utils.array_store import ArrayStore

#: Minibatches that are drawn.
MINIBATCHES: Final = 25


class _CachedMinibatch(NamedTuple):
    """A minibatch as the layers above see it."""

    #: Its images left out.
    tiles: Minibatch
    #: What the layers that stay make of it.
    below: Tensor
    #: What the start says of it; None where that is not wanted.
    before: Tensor | None


class CachedFeatureLearner(Learner):
    """A learner whose recipe freezes some layers, and which has a start and no decoder."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        if self._start is None or self.decoder is not None or not self._settings.freeze:
            raise ValueError("a rehearsal needs a start, frozen layers and no decoder")
        self._seen: list[_CachedMinibatch] = []
        self._number = 0
        #: Shards of the network above the layers that stay, and of the start below and above.
        self._above: Shards | None = None
        self._start_parts: tuple[Shards, Shards] | None = None

    def prepare(self) -> None:
        """Make the network ready to learn; see `Learner.begin`."""
        super().prepare()
        freeze, start = self._settings.freeze, self._start
        if self._above is None and start is not None and can_shard(self.network):
            self._above = Shards(self.network, first=freeze)
            self._start_parts = Shards(start, last=freeze), Shards(start, first=freeze)

    def forward(self) -> tuple[Minibatch, Tensor, Tensor | None, Tensor | None]:
        """Return the next minibatch and what is said of it; see `Learner.said`."""
        place = self._number % MINIBATCHES
        self._number += 1
        if place == len(self._seen):
            self._seen.append(self._look())
        own = self._seen[place]
        if self._above is not None:
            return own.tiles, self._above(own.below), own.before, None
        features = self.network.features(own.below, first=self._settings.freeze)
        return own.tiles, self.network.told(features), own.before, None

    def _look(self) -> _CachedMinibatch:
        """Draw a minibatch and look at it."""
        tiles, freeze = self.draw(), self._settings.freeze
        start = self._start
        assert start is not None
        with torch.no_grad():
            if self._start_parts is not None:
                below, above = self._start_parts
                seen = below(tiles.images)
                before = above(seen)
            else:
                seen = start.features(tiles.images, last=freeze)
                before = start.told(start.features(seen, first=freeze))
        wanted = self._settings.keep or self._settings.keep_contaminant
        left = Minibatch(tiles.images[:0], tiles.labels, tiles.anchors)
        return _CachedMinibatch(left, seen, before if wanted else None)


def train_on_cached_features(
    images: list[LabeledImage],
    dataset: TrainingSet,
    recipe: TrainingSettings,
    device: torch.device,
    start: Model,
    updated: Callable[[int, int, float], None],
    shelf: ArrayStore,
) -> Network:
    """Train from a model: by rehearsal where the recipe freezes layers.

    Parameters
    ----------
    images
        With the labels to learn, of the data set's images.
    start
        The model to go on from; it stays as it is.
    updated
        As for `train_network`.
    """
    learner = CachedFeatureLearner if recipe.freeze else Learner
    return train_network(
        images, [], dataset.radius_px, dataset.prior, recipe, device,
        shelf=shelf, start=start.network, on_update=updated, learner=learner,
    ).network  # fmt: skip
