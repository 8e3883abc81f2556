"""The trainer: everything that changes from one update to the next, and can be saved."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heliodor import __version__
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.errors import BadInput
from heliodor.models.networks import Network
from heliodor.training.checkpoint import (
    CheckpointMismatch,
    TensorReader,
    TrainingState,
)
from heliodor.training.history import Epoch
from heliodor.training.learner import Learner, MinibatchCost
from heliodor.training.settings import TrainingSettings
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.hashing import digest
from heliodor.utils.parsing import is_finite_number

#: What the schedule changes in a parameter group of the optimizer.
_MOVED = ("lr", "betas")
#: What AdamW keeps for each parameter.
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Trainer:
    """A running training; see `loop.train_network` for the parameters.

    Its state after an update, or after an epoch, determines the rest of the training.
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
        learner: type[Learner] = Learner,
    ) -> None:
        self.learner = learner(images, radius_px, prior, settings, device, store, start)
        self.network: Network = self.learner.network
        self.epochs = settings.epochs_for(sum(len(item.xy_px) for item in images))
        self.history: list[Epoch] = []
        #: Updates made so far.
        self.updates = 0
        #: The best epoch's value, number and weights.
        self._best: tuple[float, int, dict[str, Tensor]] | None = None
        self._epoch_updates = settings.epoch_updates
        self._optimizer = torch.optim.AdamW(
            self.learner.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=self.network.classifier.weight.device.type != "mps",
        )
        self._schedule = _schedule(self._optimizer, settings, self.epochs * self._epoch_updates)
        #: The costs of each update of the current epoch.
        self._costs: list[Tensor] = []
        self._rate = 0.0
        self._started = time.perf_counter()

    @property
    def finished(self) -> bool:
        """Whether the last epoch has ended."""
        return len(self.history) == self.epochs

    @property
    def all_updates(self) -> int:
        """Updates of the whole training."""
        return self.epochs * self._epoch_updates

    @property
    def epoch_is_full(self) -> bool:
        """Whether all updates of the current epoch are done."""
        return len(self._costs) == self._epoch_updates

    @property
    def best_epoch(self) -> int:
        """The number of the best epoch so far, 0 before the end of the first."""
        return 0 if self._best is None else self._best[1]

    @property
    def last_cost(self) -> float:
        """The cost of the last update's minibatch; there must be one in the current epoch."""
        return float(self._costs[-1][0])

    def update(self) -> None:
        """Draw a minibatch and update the weights."""
        cost = self.learner.compute_cost()
        self._optimizer.zero_grad(set_to_none=True)
        cost.total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._rate = float(self._schedule.get_last_lr()[0])
        self._schedule.step()
        self._costs.append(torch.stack([part.detach() for part in vars(cost).values()]))
        self.updates += 1

    def costs(self) -> FloatArray:
        """Return the costs of an epoch: a row per update, a column per field of `MinibatchCost`.

        Raises
        ------
        BadInput
            If they, or the weights, are no longer finite.
        """
        # Fetched once per epoch: fetching after each update would wait for the GPU.
        costs = torch.stack(self._costs).cpu().double().numpy()
        # The last update can break the weights without any loss showing it.
        if not (np.isfinite(costs.mean(axis=0)).all() and self.network.is_finite()):
            raise BadInput(
                f"training diverged in epoch {len(self.history) + 1} (the loss is not a number);"
                " lower the learning rate"
            )
        return costs

    def end_epoch(self, costs: FloatArray, ap: float) -> Epoch:
        """Add a full epoch to the history, and keep its weights if none before was better."""
        number = len(self.history) + 1
        means = costs.mean(axis=0)
        total, positive, unlabelled, chance, error = (float(mean) for mean in means[:5])
        parts = (self._rate, total, positive, unlabelled, chance, error, ap)
        epoch = Epoch(number, self.updates, time.perf_counter() - self._started, *parts)
        self.history.append(epoch)
        self._costs = []
        if self._best is None or np.isnan(ap) or ap >= self._best[0]:
            self._best = (ap, number, copy.deepcopy(self.network.state_dict()))
        return epoch

    def best_network(self) -> Network:
        """Return the network of the best epoch, in evaluation mode; this ends the training."""
        assert self._best is not None
        self.network.load_state_dict(self._best[2])
        self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return self.network.eval()

    def state(self) -> TrainingState:
        """Return everything that `restore` needs to continue from here identically."""
        tensors = self._weights()
        for name, generator in self.learner.random.items():
            tensors[f"random.{name}"] = generator.get_state()
        for number, weight in enumerate(self.learner.parameters()):
            for name, tensor in self._optimizer.state.get(weight, {}).items():
                tensors[f"adam.{number}.{name}"] = tensor
        columns = len(fields(MinibatchCost))
        tensors["costs"] = torch.stack(self._costs) if self._costs else torch.zeros(0, columns)
        best = None
        if self._best is not None:
            ap, number, weights = self._best
            best = [None if math.isnan(ap) else ap, number]
            tensors |= {f"best.{name}": tensor for name, tensor in weights.items()}
        values = {
            "updates": self.updates,
            "seconds": time.perf_counter() - self._started,
            "rate": self._rate,
            "groups": [{n: group[n] for n in _MOVED} for group in self._optimizer.param_groups],
            "history": [epoch.as_dict() for epoch in self.history],
            "best": best,
        }
        # Copies, as the training continues in place.
        copies = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        return TrainingState(values, copies)

    def most_bytes(self) -> int:
        """Return an upper limit of the bytes of a state of this training."""
        costs = 8 * self._epoch_updates * len(fields(MinibatchCost))
        return 8 * sum(own.nbytes for own in self._weights().values()) + costs + 2**20

    def _weights(self) -> dict[str, Tensor]:
        """Return weights and running statistics of network and decoder by name."""
        parts = {"network": self.network, "decoder": self.learner.decoder}
        return {
            f"{part}.{name}": tensor
            for part, module in parts.items()
            if module is not None
            for name, tensor in module.state_dict().items()
        }

    def restore(self, state: TrainingState) -> None:
        """Continue from a state of the same training.

        Raises
        ------
        Misfit
            If it is not one. The trainer must not be used then.
        """
        try:
            self._restore(state.values, TensorReader(state.tensors))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointMismatch(f"its parts do not fit together: {error}") from error

    def _restore(self, values: Mapping[str, Any], tensors: TensorReader) -> None:
        history = [Epoch.from_dict(row) for row in values["history"]]
        updates, ended = values["updates"], len(history) * self._epoch_updates
        if type(updates) is not int or not max(1, ended) <= updates <= self.all_updates:
            raise ValueError("the number of updates is impossible")
        if [own.epoch for own in history] != list(range(1, len(history) + 1)):
            raise ValueError("epochs are missing")
        for name, tensor in self._weights().items():
            tensor.copy_(tensors.take(name, tensor))
        for name, generator in self.learner.random.items():
            place = generator.get_state()
            generator.set_state(tensors.take(f"random.{name}", place))
        fused = self._optimizer.defaults["fused"]
        for number, weight in enumerate(self.learner.parameters()):
            step = torch.zeros((), device=weight.device if fused else "cpu")
            own = {"step": step.copy_(tensors.take(f"adam.{number}.step", step))}
            for name in _MOMENTS:
                # As AdamW itself makes them: with the memory format of their weight.
                moment = torch.zeros_like(weight, memory_format=torch.preserve_format)
                own[name] = moment.copy_(tensors.take(f"adam.{number}.{name}", moment))
            if bool((own["exp_avg_sq"] < 0).any()):
                raise ValueError("a mean square is negative")
            self._optimizer.state[weight] = own
        costs = torch.zeros(updates - ended, len(fields(MinibatchCost)))
        self._costs = list(tensors.take("costs", costs).to(self.network.classifier.weight.device))
        if len(self._costs) > self._epoch_updates:
            raise ValueError("an epoch is too long")
        if (values["best"] is None) != (not history):
            raise ValueError("there is no best epoch")
        if history:
            ap, best = values["best"]
            if type(best) is not int or not 1 <= best <= len(history):
                raise ValueError("the best epoch is impossible")
            weights = {
                name: tensors.take(f"best.{name}", tensor).to(tensor.device)
                for name, tensor in self.network.state_dict().items()
            }
            self._best = (math.nan if ap is None else _number(ap), best, weights)
        tensors.check_empty()
        for group, moved in zip(self._optimizer.param_groups, values["groups"], strict=True):
            group["lr"] = _number(moved["lr"])
            group["betas"] = tuple(_number(beta) for beta in moved["betas"])
            if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
                raise ValueError("the rates of the optimizer are impossible")
        # The rest of a schedule is fixed from the beginning.
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._schedule.load_state_dict(
            {"last_epoch": updates, "_step_count": updates + 1, "_last_lr": rates}
        )
        self._rate = _number(values["rate"])
        self._started = time.perf_counter() - _number(values["seconds"])
        self.updates, self.history = updates, history


def _number(value: Any) -> float:
    if not is_finite_number(value):
        raise ValueError("a value is not a finite number")
    return float(value)


def fingerprint_training(
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    radius_px: float,
    prior: float,
    settings: TrainingSettings,
    device: torch.device | str,
    store: ArrayStore | None = None,
    start: Network | None = None,
) -> str:
    """Return the fingerprint of everything that the result of a training depends on."""
    head = {
        "heliodor": __version__,
        "torch": str(torch.__version__),
        "device": torch.device(device).type,
        "radius_px": radius_px,
        "prior": prior,
        "settings": asdict(settings),
        "shapes": [[item.shape for item in part] for part in (images, validation)],
    }

    def parts() -> Iterator[bytes | NDArray[Any]]:
        yield json.dumps(head, sort_keys=True).encode()
        for tensor in () if start is None else start.state_dict().values():
            yield tensor.detach().cpu().contiguous().numpy()
        for item in [*images, *validation]:
            yield from (item.image, item.xy_px, item.negative_xy_px, item.picked_xy_px)
            if store is not None:
                store.release_pages()

    return digest(parts())


def _schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, updates: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    # OneCycleLR divides by zero where its warm-up is exactly one step long.
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=max(updates, 6), pct_start=0.2
    )
