"""The objectives: what a minibatch's log-odds cost.

Each is a pure function of the logits of labelled (P) and unlabelled (U) regions and of the
class prior pi, the fraction of positive regions among U (Bepler et al., Methods 3 and 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from heliodor.errors import BadInput


@dataclass(frozen=True)
class Loss:
    """An objective's value and its parts, all scalar tensors."""

    total: Tensor
    #: The classification loss of the labelled regions, mean softplus(-s).
    positive: Tensor
    #: What the unlabelled regions add.
    unlabelled: Tensor


Objective = Callable[[Tensor, Tensor, float], Loss]


def pn(positive: Tensor, unlabelled: Tensor, prior: float) -> Loss:
    """Naive positive-negative: unlabelled regions are taken to be negative.

    pi mean_P softplus(-s) + (1 - pi) mean_U softplus(s).

    Parameters
    ----------
    positive, unlabelled
        Logits, shapes (p,) and (u,).
    prior
        pi, between 0 and 1.
    """
    labelled = softplus(-positive).mean()
    rest = (1 - prior) * softplus(unlabelled).mean()
    return Loss(prior * labelled + rest, labelled, rest)


def ge_binomial(positive: Tensor, unlabelled: Tensor, prior: float, weight: float = 1.0) -> Loss:
    """Generalised expectation on the number of positives in a minibatch.

    mean_P softplus(-s) - lambda sum_k q(k) log Binomial(k; N, pi), k = 0..N, where q is the
    classifier's law of the count, as a Gaussian of mean sum p and variance sum p (1 - p),
    renormalised over k. The sign is that of a cross entropy that is minimised; the paper
    prints a plus.

    Parameters
    ----------
    positive, unlabelled
        Logits, shapes (p,) and (N,).
    prior
        pi, strictly between 0 and 1.
    weight
        lambda.
    """
    labelled = softplus(-positive).mean()
    chance = torch.sigmoid(unlabelled)
    mean, variance = chance.sum(), (chance * (1 - chance)).sum()
    count = torch.arange(unlabelled.numel() + 1, dtype=unlabelled.dtype, device=unlabelled.device)
    # The spread of whole numbers is never less than what one of them can resolve.
    q = torch.softmax(-((count - mean) ** 2) / (2 * variance + 1e-3), dim=0)
    penalty = -weight * (q * log_binomial(count, unlabelled.numel(), prior)).sum()
    return Loss(labelled + penalty, labelled, penalty)


def log_binomial(count: Tensor, trials: int, chance: float) -> Tensor:
    """Return log Binomial(count; trials, chance) of each count; 0 < chance < 1."""
    whole = math.lgamma(trials + 1) - torch.lgamma(count + 1) - torch.lgamma(trials - count + 1)
    return whole + count * math.log(chance) + (trials - count) * math.log1p(-chance)


OBJECTIVES: dict[str, Objective] = {"pn": pn, "ge-binomial": ge_binomial}


def objective(name: str) -> Objective:
    """Return an objective by name; raises BadInput for one that does not exist."""
    if name not in OBJECTIVES:
        raise BadInput(f"the objective {name!r} is none of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
