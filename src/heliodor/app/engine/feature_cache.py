"""Training above frozen layers, whose features of a few minibatches are computed only once.

The features of the first layers of a trained network are useful for any particle. Where these
layers are frozen, each minibatch needs to pass them only once, and the starting network too: that
is most of the cost of an update.
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

#: Minibatches that are drawn, and then used in turns.
MINIBATCHES: Final = 25


class _CachedMinibatch(NamedTuple):
    """A minibatch and its features after the frozen layers."""

    #: Without its images.
    minibatch: Minibatch
    #: The output of the frozen layers.
    features: Tensor
    #: The output of the starting network; None where the recipe does not use it.
    start_output: Tensor | None


class CachedFeatureLearner(Learner):
    """A learner that caches the output of frozen layers.

    Its recipe must freeze some layers; it needs a starting network and has no decoder.
    """

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        if self._start is None or self.decoder is not None or not self._settings.freeze:
            raise ValueError(
                "cached features need a starting network, frozen layers and no decoder"
            )
        self._cached: list[_CachedMinibatch] = []
        self._index = 0
        #: Shards of the network above the frozen layers, and of the start below and above them.
        self._above: Shards | None = None
        self._start_parts: tuple[Shards, Shards] | None = None

    def prepare(self) -> None:
        """Prepare the network for training; see `Learner.prepare`."""
        super().prepare()
        freeze, start = self._settings.freeze, self._start
        if self._above is None and start is not None and can_shard(self.network):
            self._above = Shards(self.network, first=freeze)
            self._start_parts = Shards(start, last=freeze), Shards(start, first=freeze)

    def forward(self) -> tuple[Minibatch, Tensor, Tensor | None, Tensor | None]:
        """Return the next minibatch and the outputs for it; see `Learner.forward`."""
        place = self._index % MINIBATCHES
        self._index += 1
        if place == len(self._cached):
            self._cached.append(self._compute_features())
        cached = self._cached[place]
        if self._above is not None:
            return cached.minibatch, self._above(cached.features), cached.start_output, None
        features = self.network.features(cached.features, first=self._settings.freeze)
        return (
            cached.minibatch,
            self.network.classify_features(features),
            cached.start_output,
            None,
        )

    def _compute_features(self) -> _CachedMinibatch:
        """Draw a minibatch and compute its features."""
        minibatch, freeze = self.draw(), self._settings.freeze
        start = self._start
        assert start is not None
        with torch.no_grad():
            if self._start_parts is not None:
                below, above = self._start_parts
                features = below(minibatch.images)
                output = above(features)
            else:
                features = start.features(minibatch.images, last=freeze)
                output = start.classify_features(start.features(features, first=freeze))
        is_used = self._settings.keep or self._settings.keep_contaminant
        without_images = Minibatch(minibatch.images[:0], minibatch.labels, minibatch.anchors)
        return _CachedMinibatch(without_images, features, output if is_used else None)


def train_on_cached_features(
    images: list[LabeledImage],
    dataset: TrainingSet,
    recipe: TrainingSettings,
    device: torch.device,
    start: Model,
    on_update: Callable[[int, int, float], None],
    store: ArrayStore,
) -> Network:
    """Fine-tune a model, with cached features where the recipe freezes layers.

    Parameters
    ----------
    images
        Images of the data set, with the labels to train on.
    start
        The model to start from; it is not changed.
    on_update
        As for `train_network`.
    """
    learner = CachedFeatureLearner if recipe.freeze else Learner
    return train_network(
        images, [], dataset.radius_px, dataset.prior, recipe, device,
        store=store, start=start.network, on_update=on_update, learner=learner,
    ).network  # fmt: skip
