"""A minibatch shared out: the same sums, to the last bit, however many threads there are.

PyTorch splits the sums of a convolution's gradient by the number of its threads, and rounds them
otherwise with each. Here a minibatch is always cut into the same shards; each is computed by one
thread from beginning to end, and their gradients are added in one order. It asks for a network in
which no region of a minibatch depends on another, as with batch normalisation that is fixed.
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

#: Shards of a minibatch, and so the most threads that share it.
SHARDS = 4

T = TypeVar("T")


class Shards:
    """A network that computes its log-odds a shard of a minibatch at a time, on the CPU.

    Parameters
    ----------
    network
        Its batch normalisation in evaluation mode, without dropout. Its weights are shared, not
        copied: they may be changed in place.
    first, last
        Only these layers' part, as of `Network.features`; where there is a last one, features are
        returned in place of log-odds.
    """

    def __init__(self, network: Network, first: int = 0, last: int | None = None) -> None:
        self._first, self._last = first, last
        self._own = list(network.parameters())
        self._replicas = [copy.deepcopy(network).eval() for _ in range(SHARDS)]
        for replica in self._replicas:
            for weight, own in zip(replica.parameters(), self._own, strict=True):
                weight.data = own.data

    def __call__(self, images: Tensor) -> Tensor:
        """Return log-odds of particles and, where the network tells them, contaminants.

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
        """Return the log-odds of each shard, with what a gradient needs where it is wanted."""

        def one(replica: Network, own: Tensor) -> Tensor:
            with torch.set_grad_enabled(graph):
                seen = replica.features(own, first=self._first, last=self._last)
                return replica.classify_features(seen) if self._last is None else seen

        parts = images.chunk(SHARDS)
        return _each(one, self._replicas[: len(parts)], parts)

    def backward(self, outputs: Sequence[Tensor], gradient: Tensor) -> list[Tensor | None]:
        """Return the gradients of the weights, None for those that do not learn."""
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
    """Tell whether a network's regions do not depend on each other while it learns."""
    fixed = all(not m.training for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    on_cpu = network.classifier.weight.device.type == "cpu"
    return fixed and on_cpu and network.dropout.p == 0


def _each(
    work: Callable[[Network, Any], T], replicas: Sequence[Network], parts: Sequence[Any]
) -> list[T]:
    """Do a piece of work for each part, each on a thread of its own, as many as there are."""
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
