"""Sharded gradients: identical sums for any number of threads.

PyTorch splits the sums of a convolution's gradient by the number of threads, so rounding depends
on that number. Here a minibatch is always cut into the same shards; each is computed by one
thread, and their gradients are added in a fixed order. This needs a network in which the regions
of a minibatch do not depend on each other, for example with fixed batch normalization.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from heliodor.models.networks import Network
from heliodor.utils.compute import one_thread_each

#: Shards of a minibatch, and so the most threads that work on it.
SHARDS = 4

T = TypeVar("T")


class Shards:
    """A network that computes its log-odds by shards of a minibatch, on the CPU.

    Parameters
    ----------
    network
        Its batch normalization in evaluation mode, without dropout. Its weights are shared, not
        copied: they may be changed in place.
    first, last
        Compute only these layers, see `Network.features`; if there is a last one, features are
        returned instead of log-odds.
    """

    def __init__(self, network: Network, first: int = 0, last: int | None = None) -> None:
        self._first, self._last = first, last
        self._own = list(network.parameters())
        self._replicas = [copy.deepcopy(network).eval() for _ in range(SHARDS)]
        for replica in self._replicas:
            for weight, own in zip(replica.parameters(), self._own, strict=True):
                weight.data = own.data

    def __call__(self, images: Tensor) -> Tensor:
        """Return log-odds of particles and, if the network has that output, contaminants.

        Parameters
        ----------
        images
            Shape (n, 1, S, S).

        Returns
        -------
        Tensor
            Shape (n, 1 or 2, side, side); gradients reach the network's weights.
        """
        out: Tensor = _Shared.apply(self, images, *self._own)  # type: ignore[no-untyped-call]
        return out

    def forward(self, images: Tensor, graph: bool) -> list[Tensor]:
        """Return the log-odds of each shard, with a graph for the gradient if it is needed."""

        def one(replica: Network, own: Tensor) -> Tensor:
            with torch.set_grad_enabled(graph):
                seen = replica.features(own, first=self._first, last=self._last)
                return replica.classify_features(seen) if self._last is None else seen

        parts = images.chunk(SHARDS)
        return _each(one, self._replicas[: len(parts)], parts)

    def backward(self, outputs: Sequence[Tensor], gradient: Tensor) -> list[Tensor | None]:
        """Return the gradients of the weights, None for frozen ones."""
        learning = [weight.requires_grad for weight in self._own]

        def one(replica: Network, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
            out, own = pair
            weights = [
                w for w, learns in zip(replica.parameters(), learning, strict=True) if learns
            ]
            return torch.autograd.grad(out, weights, own)

        pairs = list(zip(outputs, gradient.chunk(SHARDS), strict=True))
        found = _each(one, self._replicas[: len(pairs)], pairs)
        sums = [torch.stack(own).sum(dim=0) for own in zip(*found, strict=True)]
        rest = iter(sums)
        return [next(rest) if learns else None for learns in learning]


def can_shard(network: Network) -> bool:
    """Return whether the regions of a minibatch do not depend on each other in training."""
    fixed = all(not m.training for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    on_cpu = network.classifier.weight.device.type == "cpu"
    return fixed and on_cpu and network.dropout.p == 0


def _each(
    work: Callable[[Network, Any], T], replicas: Sequence[Network], parts: Sequence[Any]
) -> list[T]:
    """Apply a function to each part, on as many threads as there are."""
    with one_thread_each() as threads:
        if threads == 1 or len(parts) == 1:
            return [work(*own) for own in zip(replicas, parts, strict=True)]
        with ThreadPoolExecutor(min(threads, len(parts))) as pool:
            return list(pool.map(work, replicas, parts))


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shards: Shards, images: Tensor, *_weights: Tensor) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        outputs = shards.forward(images, wanted)
        ctx.shards, ctx.outputs = shards, outputs
        return torch.cat([out.detach() for out in outputs])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return (None, None, *ctx.shards.backward(ctx.outputs, gradient))
