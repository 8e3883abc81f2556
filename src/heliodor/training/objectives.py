"""The objectives: the loss of a minibatch's log-odds.

Each is a pure function of the logits of labeled (P) and unlabeled (U) regions and of the
class prior pi, the fraction of positive regions among U (Bepler et al., Methods 3 and 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from heliodor.errors import BadInput


@dataclass(frozen=True)
class Loss:
    """An objective's value and its parts, all scalar tensors."""

    total: Tensor
    #: The classification loss of the labeled regions, mean softplus(-s).
    positive: Tensor
    #: What the unlabeled regions add.
    unlabelled: Tensor


Objective = Callable[[Tensor, Tensor, float], Loss]


def pn(positive: Tensor, unlabelled: Tensor, prior: float) -> Loss:
    """Naive positive-negative: unlabeled regions are taken to be negative.

    pi mean_P softplus(-s) + (1 - pi) mean_U softplus(s).

    Parameters
    ----------
    positive, unlabeled
        Logits, shapes (p,) and (u,).
    prior
        pi, between 0 and 1.
    """
    labelled = softplus(-positive).mean()
    rest = (1 - prior) * softplus(unlabelled).mean()
    return Loss(prior * labelled + rest, labelled, rest)


def pn_balanced(positive: Tensor, unlabelled: Tensor, prior: float, share: float = 0.2) -> Loss:
    """Naive positive-negative with extra weight on the labeled regions.

    share mean_P softplus(-s) + (1 - share) mean_U softplus(s), or `pn` where pi is larger than
    the share. Where particles are rare, labeled ones hardly count in `pn`, and training takes
    long to pick them up. The weights shift all log-odds equally, which keeps their order.

    Parameters
    ----------
    positive, unlabeled
        Logits, shapes (p,) and (u,).
    prior
        pi, between 0 and 1.
    share
        Smallest weight of the labeled regions.
    """
    return pn(positive, unlabelled, max(prior, share))


def nnpu(positive: Tensor, unlabelled: Tensor, prior: float) -> Loss:
    """Non-negative risk estimator for positive and unlabeled data (Kiryo et al. 2017).

    pi mean_P softplus(-s) + max(0, R), R = mean_U softplus(s) - pi mean_P softplus(s), the
    estimated risk of the negatives. Where minibatch noise or overfitting makes R negative, the
    step goes up R instead (their beta = 0, gamma = 1): the value is then pi mean_P softplus(-s),
    its gradient that of -R.

    Parameters
    ----------
    positive, unlabeled
        Logits, shapes (p,) and (u,).
    prior
        pi, between 0 and 1.
    """
    labelled = softplus(-positive).mean()
    negative = softplus(unlabelled).mean() - prior * softplus(positive).mean()
    # Minus R, moved to the value that is reported: only its gradient matters.
    ascent = -negative + (negative + prior * labelled).detach()
    # Chosen on the device: reading the value here would wait for the GPU.
    over = negative.detach() < 0
    total = torch.where(over, ascent, prior * labelled + negative)
    return Loss(total, labelled, torch.where(over, 0.0, negative))


def ge_kl(positive: Tensor, unlabelled: Tensor, prior: float, weight: float = 10.0) -> Loss:
    """Generalized expectation on the mean probability (Mann and McCallum 2010).

    mean_P softplus(-s) + lambda KL(pi || mean_U p). The paper prints the arguments the other
    way around; that form does not prevent a collapse to p = 0.

    Parameters
    ----------
    positive, unlabeled
        Logits, shapes (p,) and (u,).
    prior
        pi, strictly between 0 and 1.
    weight
        lambda.
    """
    labelled = softplus(-positive).mean()
    number = math.log(unlabelled.numel())
    # Logarithms of means, so that logits of +-50 neither round to 0 nor to 1.
    log_mean = torch.logsumexp(logsigmoid(unlabelled), dim=0) - number
    log_rest = torch.logsumexp(logsigmoid(-unlabelled), dim=0) - number
    divergence = prior * (math.log(prior) - log_mean)
    divergence = divergence + (1 - prior) * (math.log1p(-prior) - log_rest)
    return Loss(labelled + weight * divergence, labelled, weight * divergence)


def ge_binomial(positive: Tensor, unlabelled: Tensor, prior: float, weight: float = 1.0) -> Loss:
    """Generalized expectation on the number of positives in a minibatch.

    mean_P softplus(-s) - lambda sum_k q(k) log Binomial(k; N, pi), k = 0..N, where q is the
    classifier's distribution of the count, as a Gaussian of mean sum p and variance sum
    p (1 - p), renormalized over k. The sign is that of a cross entropy that is minimized; the
    paper prints a plus.

    Parameters
    ----------
    positive, unlabeled
        Logits, shapes (p,) and (N,).
    prior
        pi, strictly between 0 and 1.
    weight
        lambda.
    """
    labelled = softplus(-positive).mean()
    chance = torch.sigmoid(unlabelled)
    mean, variance = chance.sum(), (chance * (1 - chance)).sum()
    count = _counts(unlabelled.numel(), unlabelled)
    # Keeps the spread of whole numbers from vanishing.
    q = torch.softmax(-((count - mean) ** 2) / (2 * variance + 1e-3), dim=0)
    penalty = weight * _cross_entropy(q, prior)
    return Loss(labelled + penalty, labelled, penalty)


def ge_binomial_exact(
    positive: Tensor, unlabelled: Tensor, prior: float, weight: float = 1.0
) -> Loss:
    """GE-binomial with the exact distribution of the count instead of a Gaussian.

    As `ge_binomial`, but q is the Poisson-binomial distribution of a sum of independent draws
    of probability p_j, one per region; see `count_distribution`.
    """
    labelled = softplus(-positive).mean()
    penalty = weight * _cross_entropy(count_distribution(unlabelled), prior).to(labelled.dtype)
    return Loss(labelled + penalty, labelled, penalty)


def add_negatives(loss: Loss, negative: Tensor, weight: float = 1.0) -> Loss:
    """Add the loss of labeled negatives: the semi-supervised form (Bepler et al., Discussion).

    The expectation over the labeled regions, mean_P softplus(-s), gets its other half,
    weight mean_N softplus(s); the objective keeps its own balance of P and U.

    Parameters
    ----------
    loss
        An objective's value on positive and unlabeled regions.
    negative
        Logits of regions that are labeled as negatives, shape (n,).
    weight
        Their weight.
    """
    rest = weight * softplus(negative).mean()
    return Loss(loss.total + rest, loss.positive, loss.unlabelled)


def _counts(number: int, like: Tensor) -> Tensor:
    """Return 0, 1, ... number, with the type and on the device of another tensor."""
    return torch.arange(number + 1, dtype=like.dtype, device=like.device)


def _cross_entropy(distribution: Tensor, prior: float) -> Tensor:
    """Return the cross entropy of a distribution of the count, shape (N + 1,), and the prior's."""
    number = len(distribution) - 1
    counts = _counts(number, distribution)
    return -(distribution * log_binomial(counts, number, prior)).sum()


def count_distribution(logits: Tensor) -> Tensor:
    """Return the exact distribution of the number of positives among independent regions.

    The discrete Fourier transform of the characteristic function prod_j (1 + p_j (w^l - 1)),
    as magnitudes and angles (Fernandez and Williams 2010). O(N^2) in float64.

    Parameters
    ----------
    logits
        Log-odds of N regions, shape (N,).

    Returns
    -------
    Tensor of float64, shape (N + 1,)
        Probability of 0, 1, ... N positives.
    """
    number = logits.numel()
    # An odd length never meets w = -1, where a factor of p = 1/2 vanishes and has no angle.
    length = number + 1 + number % 2
    chance = torch.sigmoid(logits.double())
    rest = torch.sigmoid(-logits.double())
    turn = torch.arange(length // 2 + 1, device=logits.device, dtype=torch.float64)
    turn = (2 * math.pi / length) * turn[:, None]
    cosine, sine = torch.cos(turn), torch.sin(turn)
    log_size = 0.5 * torch.log1p(-2 * chance * rest * (1 - cosine)).sum(dim=1)
    angle = torch.atan2(chance * sine, rest + chance * cosine).sum(dim=1)
    spectrum = torch.polar(torch.exp(log_size), -angle)
    distribution: Tensor = torch.fft.irfft(spectrum, n=length)
    return distribution[: number + 1]


def log_binomial(count: Tensor, trials: int, chance: float) -> Tensor:
    """Return log Binomial(count; trials, chance) of each count; 0 < chance < 1."""
    whole = math.lgamma(trials + 1) - torch.lgamma(count + 1) - torch.lgamma(trials - count + 1)
    return whole + count * math.log(chance) + (trials - count) * math.log1p(-chance)


OBJECTIVES: dict[str, Objective] = {
    "pn": pn,
    "pn-balanced": pn_balanced,
    "nnpu": nnpu,
    "ge-kl": ge_kl,
    "ge-binomial": ge_binomial,
    "ge-binomial-exact": ge_binomial_exact,
}


#: Those whose penalty on the unlabeled regions has its own weight, lambda.
WEIGHTED = {"ge-kl": ge_kl, "ge-binomial": ge_binomial, "ge-binomial-exact": ge_binomial_exact}


def uses_prior(name: str) -> bool:
    """Return whether an objective's value depends on the class prior."""
    return name != "pn-balanced"


def objective(name: str, weight: float | None = None) -> Objective:
    """Return an objective by name.

    Parameters
    ----------
    name
        One of `OBJECTIVES`.
    weight
        lambda of the generalized expectation, 0 or more; None takes the objective's own.

    Raises
    ------
    BadInput
        If there is no such objective, or it has no lambda.
    """
    if name not in OBJECTIVES:
        raise BadInput(f"objective must be one of {', '.join(OBJECTIVES)}, not {name!r}")
    if weight is None:
        return OBJECTIVES[name]
    if name not in WEIGHTED:
        raise BadInput(f"objective {name!r} takes no penalty weight")
    if not 0 <= weight < math.inf:
        raise BadInput(f"the penalty weight must be 0 or more, not {weight:g}")
    return partial(WEIGHTED[name], weight=weight)
