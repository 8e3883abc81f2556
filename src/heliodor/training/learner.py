"""Learning from one minibatch: the cost of a network's outputs on it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import softplus

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.models.autoencoder import (
    Decoder,
    choose_reconstruction_weight,
    reconstruction_error,
)
from heliodor.models.networks import Network, build_network
from heliodor.training.objectives import add_negatives, objective
from heliodor.training.sampler import (
    NEGATIVE,
    POSITIVE,
    UNLABELLED,
    Minibatch,
    Sampler,
    copy_to_device,
)
from heliodor.training.settings import Precision, TrainingSettings
from heliodor.training.sharded_gradients import Shards, can_shard
from heliodor.utils.array_store import ArrayStore

#: Labeled negatives, if there are any, take this share of the unlabeled regions' places, and
#: their loss has this weight: that of the labeled particles in balanced PN.
NEGATIVE_SHARE = 0.2
NEGATIVE_WEIGHT = 0.2
#: Labeled particles beyond which the distance to the starting weights counts less.
FEW_LABELS = 30
#: Regions of a minibatch that the decoder reconstructs; their mean estimates that of all.
RECONSTRUCTED = 64


@dataclass(frozen=True)
class MinibatchCost:
    """The cost of a minibatch, all scalar tensors."""

    total: Tensor
    positive: Tensor
    unlabelled: Tensor
    #: Mean probability over the unlabeled regions.
    mean_probability: Tensor
    #: Mean squared error of the reconstruction, summed over a region; 0 without a decoder.
    reconstruction: Tensor
    #: Mean probability over the labeled regions: the expected recall.
    labelled_probability: Tensor
    #: Their share of all probability: the expected precision.
    expected_precision: Tensor
    #: The objective's own value, without reconstruction and squared weights.
    objective: Tensor


class Learner:
    """A network in training, with its objective, its decoder and its source of minibatches.

    Parameters
    ----------
    images
        Normalized working images with their labels.
    radius_px
        Training radius in working pixels.
    prior
        pi, the fraction of positive regions among the unlabeled ones.
    settings
        The recipe; its seed fixes the initial weights and every draw.
    device
        Where to train.
    store
        Where the sampler keeps the images; in memory by default.
    """

    def __init__(
        self,
        images: Sequence[LabeledImage],
        radius_px: float,
        prior: float,
        settings: TrainingSettings,
        device: torch.device | str,
        store: ArrayStore | None = None,
        start: Network | None = None,
    ) -> None:
        self._settings, self._prior = settings, prior
        labelled = sum(len(item.xy_px) + len(item.picked_xy_px) for item in images)
        weight = settings.autoencoder
        self._keep = settings.keep * min(1.0, FEW_LABELS / max(labelled, 1))
        self._gamma = (
            choose_reconstruction_weight(max(labelled, 1)) if weight == "auto" else weight
        )
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would also seed every GPU permanently.
            torch.default_generator.manual_seed(settings.seed)
            network = build_network(
                settings.network,
                settings.width,
                settings.dropout,
                settings.norm,
                contaminant=start is not None and start.contaminant is not None,
            )
            channels, field = network.classifier.in_channels, network.receptive_field
            self.decoder = Decoder(channels, field).to(device) if self._gamma > 0 else None
        self._start = start
        self._shards: Shards | None = None
        self._start_shards: Shards | None = None
        if start is not None:
            network.load_state_dict(start.state_dict())
            # A copy, so that the caller's network stays on its device.
            self._start = copy.deepcopy(start).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            for layer in network.layers[: settings.freeze]:
                layer.requires_grad_(False)
        elif settings.start_at_prior:
            network.set_prior_bias(prior)
        # Channels last in memory: convolutions are faster, forward and backward.
        self.network: Network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Not the sampler's seed, so that dropout does not correlate with the draws.
        dropped = torch.Generator(device).manual_seed(settings.seed + 1)
        network.set_dropout_generator(dropped)
        self.sampler = Sampler(
            images, radius_px, field, settings.seed, device, network.stride, settings.side, store
        )
        # In the place of unlabeled ones, most of which must stay: they show all there is.
        rest = settings.batch - settings.positives
        known = self.sampler.negative_pixels > 0
        self._negatives = max(1, round(NEGATIVE_SHARE * rest)) if known and rest > 1 else 0
        self._near = torch.Generator().manual_seed(settings.seed + 2)
        #: All that draws at random.
        self.random = {"sampler": self.sampler.random, "near": self._near, "dropout": dropped}
        self._use_bfloat16 = uses_bfloat16(settings.precision, torch.device(device))
        self._criterion = objective(settings.objective, settings.penalty_weight)

    def parameters(self) -> list[nn.Parameter]:
        """Return all trainable parameters."""
        decoder = () if self.decoder is None else self.decoder.parameters()
        own = [*self.network.parameters(), *decoder]
        return [parameter for parameter in own if parameter.requires_grad]

    def prepare(self) -> None:
        """Put the network in training mode.

        When training starts from a model its running statistics are kept: minibatches, which have
        more particles than micrographs, would only distort them.
        """
        if self._start is None:
            self.network.train()
        else:
            fix_running_statistics(self.network)
        if self._shards is None and self.decoder is None and can_shard(self.network):
            # Made once: the weights are shared with the network.
            self._shards = Shards(self.network)
            self._start_shards = None if self._start is None else Shards(self._start)

    def compute_cost(self) -> MinibatchCost:
        """Draw a minibatch and return its cost."""
        tiles, said, before, features = self.forward()
        positives, negatives = self._settings.positives, self._negatives
        unlabelled = self._settings.batch - positives - negatives
        logits = said[:, 0]
        known = tiles.labels
        counted = known == UNLABELLED
        counted[positives + unlabelled :] = False
        beside = torch.rand(counted[:positives].shape, generator=self._near)
        counted[:positives] &= beside < self._settings.near
        rest, labelled = _where(logits, counted), _where(logits, known == POSITIVE)
        loss = self._criterion(labelled, rest, self._prior)
        if negatives:
            loss = add_negatives(loss, _where(logits, known == NEGATIVE), NEGATIVE_WEIGHT)
        total, error = loss.total, torch.zeros_like(loss.total)
        if self.decoder is not None and features is not None:
            error = self._reconstruction(self.decoder, features, tiles)
            total = total + self._gamma * error
        if before is not None:
            law = torch.sigmoid(before.float())
            if self._keep:
                own_law = _where(law[:, 0], counted)
                total = total + self._keep * cross_entropy(rest, own_law)
            if law.shape[1] > 1:
                bad = cross_entropy(said[:, 1], law[:, 1])
                # What is labeled is a particle, whatever the start took it for.
                labelled_bad = softplus(_where(said[:, 1], known == POSITIVE)).mean()
                total = total + self._settings.keep_contaminant * (bad + labelled_bad)
        if self._settings.l2:
            squares = [weight.square().sum() for weight in self.network.parameters()]
            total = total + self._settings.l2 / 2 * torch.stack(squares).sum()
        chance, own = torch.sigmoid(rest.detach()), torch.sigmoid(labelled.detach())
        precision = own.sum() / (own.sum() + chance.sum())
        parts = (loss.positive, loss.unlabelled, chance.mean(), error, own.mean(), precision)
        return MinibatchCost(total, *parts, loss.total)

    def draw(self) -> Minibatch:
        """Draw a minibatch."""
        positives, negatives = self._settings.positives, self._negatives
        unlabelled = self._settings.batch - positives - negatives
        return self.sampler.draw(positives, unlabelled, negatives)

    def forward(self) -> tuple[Minibatch, Tensor, Tensor | None, Tensor | None]:
        """Draw a minibatch; return it, the network's outputs, those of the start, and features.

        The outputs of the model it started from and the last layer's features are None where they
        are not needed.
        """
        tiles = self.draw()
        if self._shards is not None:
            return tiles, self._shards(tiles.images), self._before(tiles.images), None
        with torch.autocast(tiles.images.device.type, torch.bfloat16, enabled=self._use_bfloat16):
            features = self.network.features(tiles.images)
            said = self.network.classify_features(features)
            before = self._before(tiles.images)
        return tiles, said.float(), before, features.float()

    def _before(self, images: Tensor) -> Tensor | None:
        """Return the outputs of the model it started from, None where they are not needed."""
        start, settings = self._start, self._settings
        if start is None or not (settings.keep or settings.keep_contaminant):
            return None
        if not settings.keep and start.contaminant is None:
            return None
        with torch.no_grad():
            if self._start_shards is not None:
                return self._start_shards(images)
            return start.classify_features(start.features(images))

    def _reconstruction(self, decoder: Decoder, features: Tensor, tiles: Minibatch) -> Tensor:
        """Decode the anchor region of each tile, like the paper's minibatch of regions."""
        number = torch.arange(0, len(features), max(1, len(features) // RECONSTRUCTED))
        row, column = copy_to_device(tiles.anchors[number].T.contiguous(), features.device)
        number = copy_to_device(number, features.device)
        width = torch.arange(self.network.receptive_field, device=features.device)
        rows = (row * self.network.stride)[:, None] + width
        columns = (column * self.network.stride)[:, None] + width
        regions = tiles.images[number[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
        return reconstruction_error(regions[:, None], decoder(features[number, :, row, column]))


def fix_running_statistics(network: Network) -> None:
    """Put a network in training mode, but keep the statistics of its batch normalization."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _where(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values selected by a mask on the CPU; they may be on another device.

    As ``values[mask]``, but without waiting for a GPU to count them.
    """
    return values.flatten()[copy_to_device(mask.flatten().nonzero()[:, 0], values.device)]


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Return whether a network computes in bf16 on a device; see `TrainingSettings`."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
