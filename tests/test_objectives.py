from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import binom
from torch import Tensor

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.objectives import OBJECTIVES, Objective, ge_binomial, log_binomial, objective, pn

names = st.sampled_from(sorted(OBJECTIVES))
priors = st.floats(1e-4, 1 - 1e-4)
logits = st.lists(st.floats(-8, 8), min_size=1, max_size=12)


def tensor(values: list[float] | FloatArray) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def softplus(x: FloatArray) -> FloatArray:
    return np.asarray(np.logaddexp(0, x))


def penalty_by_hand(s: FloatArray, prior: float) -> float:
    """The cross entropy with the discretised Gaussian, written out k by k."""
    p = expit(s)
    mean, variance = p.sum(), (p * (1 - p)).sum()
    exponents = [-((k - mean) ** 2) / (2 * variance + 1e-3) for k in range(len(s) + 1)]
    q = softmax(exponents)
    terms = [q[k] * binom.logpmf(k, len(s), prior) for k in range(len(s) + 1)]
    return -float(np.sum(terms))


def test_pn_by_hand() -> None:
    loss = pn(tensor([0.0, math.log(3)]), tensor([0.0, -math.log(3), -math.log(3)]), 0.1)
    # sigmoid(log 3) = 3/4: the labelled cost log 2 and log(4/3), the others log 2, 2 log(4/3).
    labelled = (math.log(2) + math.log(4 / 3)) / 2
    rest = 0.9 * (math.log(2) + 2 * math.log(4 / 3)) / 3
    assert loss.positive.item() == pytest.approx(labelled)
    assert loss.unlabelled.item() == pytest.approx(rest)
    assert loss.total.item() == pytest.approx(0.1 * labelled + rest)


def test_ge_binomial_by_hand() -> None:
    # One unlabelled region of probability 1/2: the mean 1/2 is as far from 0 as from 1, so
    # q = (1/2, 1/2), and log Binomial(0; 1, pi) = log(1 - pi), log Binomial(1; 1, pi) = log pi.
    loss = ge_binomial(tensor([math.log(3)]), tensor([0.0]), 0.2)
    penalty = -(math.log(0.8) + math.log(0.2)) / 2
    assert loss.positive.item() == pytest.approx(math.log(4 / 3))
    assert loss.unlabelled.item() == pytest.approx(penalty)
    assert loss.total.item() == pytest.approx(math.log(4 / 3) + penalty)


@settings(max_examples=60, deadline=None)
@given(labelled=logits, rest=logits, prior=priors, weight=st.floats(0, 10))
def test_ge_binomial_equals_brute_force(
    labelled: list[float], rest: list[float], prior: float, weight: float
) -> None:
    loss = ge_binomial(tensor(labelled), tensor(rest), prior, weight)
    penalty = weight * penalty_by_hand(np.array(rest), prior)
    assert loss.positive.item() == pytest.approx(softplus(-np.array(labelled)).mean())
    assert loss.unlabelled.item() == pytest.approx(penalty, rel=1e-9, abs=1e-9)
    assert loss.total.item() == pytest.approx(loss.positive.item() + loss.unlabelled.item())


@settings(max_examples=60, deadline=None)
@given(labelled=logits, rest=logits, prior=priors)
def test_pn_equals_brute_force(labelled: list[float], rest: list[float], prior: float) -> None:
    loss = pn(tensor(labelled), tensor(rest), prior)
    positive, negative = np.array(labelled), np.array(rest)
    expected = prior * softplus(-positive).mean() + (1 - prior) * softplus(negative).mean()
    assert loss.total.item() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(trials=st.integers(1, 400), prior=st.floats(1e-6, 1 - 1e-6))
def test_log_binomial_equals_scipy(trials: int, prior: float) -> None:
    count = torch.arange(trials + 1, dtype=torch.float64)
    expected = binom.logpmf(np.arange(trials + 1), trials, prior)
    np.testing.assert_allclose(log_binomial(count, trials, prior), expected, rtol=1e-9, atol=1e-8)
    # Training works in single precision.
    np.testing.assert_allclose(
        log_binomial(count.float(), trials, prior), expected, rtol=1e-4, atol=2e-3
    )


@settings(max_examples=20, deadline=None)
@given(name=names, labelled=logits, rest=logits, prior=priors)
def test_gradients_equal_finite_differences(
    name: str, labelled: list[float], rest: list[float], prior: float
) -> None:
    def total(positive: Tensor, unlabelled: Tensor) -> Tensor:
        return objective(name)(positive, unlabelled, prior).total

    inputs = tensor(labelled).requires_grad_(), tensor(rest).requires_grad_()
    # Where hardly any variance is left, the penalty bends within a step of this size.
    assert torch.autograd.gradcheck(total, inputs, eps=1e-6, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prior", [1e-12, 1e-4, 0.5, 1 - 1e-4, 1 - 1e-12])
def test_extreme_logits_leave_value_and_gradient_finite(
    name: str, dtype: torch.dtype, prior: float
) -> None:
    for a in (-50.0, 0.0, 50.0, 1e4, -1e4):
        for b in (-50.0, 0.0, 50.0, 1e4, -1e4):
            positive = torch.full((16,), a, dtype=dtype, requires_grad=True)
            unlabelled = torch.full((240,), b, dtype=dtype, requires_grad=True)
            mixed = unlabelled * torch.linspace(-1, 1, 240, dtype=dtype)
            for rest in (unlabelled, mixed):
                loss = objective(name)(positive, rest, prior)
                assert all(torch.isfinite(v) for v in (loss.total, loss.positive, loss.unlabelled))
                gradients = torch.autograd.grad(
                    loss.total, (positive, unlabelled), retain_graph=True
                )
                assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("n", [64, 240])
@pytest.mark.parametrize("prior", [0.02, 0.1, 0.5, 0.8])
def test_the_penalty_is_least_where_the_mean_probability_is_the_prior(
    n: int, prior: float
) -> None:
    grid = np.linspace(0.002, 0.998, 499)
    # A network that decides: a share of the regions is positive, the rest is not.
    sharp: list[float] = []
    flat: list[float] = []
    for p in grid:
        k = round(p * n)
        decided = torch.full((n,), -12.0)
        decided[:k] = 12.0
        same = torch.full((n,), float(np.log(p / (1 - p))))
        for logits, values in ((decided, sharp), (same, flat)):
            values.append(ge_binomial(torch.zeros(1), logits, prior).unlabelled.item())
    # The most probable count is a whole number next to n pi.
    assert abs(grid[int(np.argmin(sharp))] - prior) < 1.5 / n + 0.002
    # All regions alike: the spread of the count pulls the mean a little towards an edge.
    assert abs(grid[int(np.argmin(flat))] - prior) < 0.02
    assert min(sharp) < min(flat)


def test_the_penalty_keeps_a_network_from_calling_nothing_or_everything() -> None:
    for logit, sign in ((-4.0, -1), (4.0, 1)):
        rest = torch.full((224,), logit, requires_grad=True)
        (gradient,) = torch.autograd.grad(ge_binomial(torch.zeros(1), rest, 0.2).unlabelled, rest)
        assert torch.all(torch.sign(gradient) == sign)


@pytest.mark.parametrize("function", [pn, ge_binomial])
def test_the_order_of_regions_does_not_matter(function: Objective) -> None:
    positive, rest = torch.randn(16).double(), torch.randn(100).double()
    a = function(positive, rest, 0.1).total
    b = function(positive.flip(0), rest[torch.randperm(100)], 0.1).total
    torch.testing.assert_close(a, b)


def test_objectives_by_name() -> None:
    assert objective("pn") is pn
    assert objective("ge-binomial") is ge_binomial
    for name in ("", "PN", "nnpu"):
        with pytest.raises(BadInput, match="none of pn, ge-binomial"):
            objective(name)
