from __future__ import annotations

import itertools
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
from heliodor.training.objectives import (
    OBJECTIVES,
    Objective,
    add_negatives,
    count_distribution,
    ge_binomial,
    ge_binomial_exact,
    ge_kl,
    log_binomial,
    nnpu,
    objective,
    pn,
    pn_balanced,
)

#: Those whose gradient is that of their value: nnPU's step up a negative risk is not.
names = st.sampled_from(sorted(set(OBJECTIVES) - {"nnpu"}))
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
    # sigmoid(log 3) = 3/4: the labeled cost log 2 and log(4/3), the others log 2, 2 log(4/3).
    labelled = (math.log(2) + math.log(4 / 3)) / 2
    rest = 0.9 * (math.log(2) + 2 * math.log(4 / 3)) / 3
    assert loss.positive.item() == pytest.approx(labelled)
    assert loss.unlabelled.item() == pytest.approx(rest)
    assert loss.total.item() == pytest.approx(0.1 * labelled + rest)


def test_balanced_pn_by_hand() -> None:
    labelled, rest = tensor([0.0]), tensor([-math.log(3)])
    loss = pn_balanced(labelled, rest, 0.01)
    assert loss.total.item() == pytest.approx(0.2 * math.log(2) + 0.8 * math.log(4 / 3))
    loss = pn_balanced(labelled, rest, 0.3)
    assert loss.total.item() == pytest.approx(pn(labelled, rest, 0.3).total.item())


@pytest.mark.parametrize("function", OBJECTIVES.values())
def test_labelled_negatives_add_their_loss_to_every_objective(function: Objective) -> None:
    plain = function(tensor([1.0, -2.0]), tensor([0.5, -1.0, -3.0]), 0.2)
    negative = tensor([0.0, math.log(3)]).requires_grad_()
    loss = add_negatives(plain, negative, 0.5)
    # softplus(0) = log 2 and softplus(log 3) = log 4.
    added = 0.5 * (math.log(2) + math.log(4)) / 2
    assert loss.total.item() == pytest.approx(plain.total.item() + added)
    assert (loss.positive, loss.unlabelled) == (plain.positive, plain.unlabelled)
    (gradient,) = torch.autograd.grad(loss.total, negative)
    np.testing.assert_allclose(gradient, [0.25 * 0.5, 0.25 * 0.75])


def test_ge_binomial_by_hand() -> None:
    # One unlabeled region of probability 1/2: the mean 1/2 is as far from 0 as from 1, so
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


def test_nnpu_by_hand() -> None:
    # Labeled at probability 3/4, unlabeled at 1/2 and 1/4; softplus(log 3) = log 4.
    positive, rest = tensor([math.log(3)]), tensor([0.0, -math.log(3)])
    risk = (math.log(2) + math.log(4 / 3)) / 2 - 0.1 * math.log(4)
    loss = nnpu(positive, rest, 0.1)
    assert risk > 0
    assert loss.positive.item() == pytest.approx(math.log(4 / 3))
    assert loss.unlabelled.item() == pytest.approx(risk)
    assert loss.total.item() == pytest.approx(0.1 * math.log(4 / 3) + risk)


@settings(max_examples=60, deadline=None)
@given(labelled=logits, rest=logits, prior=priors)
def test_nnpu_steps_up_a_negative_risk(
    labelled: list[float], rest: list[float], prior: float
) -> None:
    positive, unlabelled = tensor(labelled).requires_grad_(), tensor(rest).requires_grad_()

    def risk() -> Tensor:
        soft = torch.nn.functional.softplus
        return soft(unlabelled).mean() - prior * soft(positive).mean()

    loss = nnpu(positive, unlabelled, prior)
    gradients = torch.autograd.grad(loss.total, (positive, unlabelled))
    if risk() < 0:
        assert loss.unlabelled.item() == 0
        assert loss.total.item() == pytest.approx(prior * loss.positive.item())
        expected = torch.autograd.grad(-risk(), (positive, unlabelled))
    else:
        total = prior * torch.nn.functional.softplus(-positive).mean() + risk()
        assert loss.total.item() == pytest.approx(total.item())
        expected = torch.autograd.grad(total, (positive, unlabelled))
    for own, by_hand in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, by_hand)


@settings(max_examples=60, deadline=None)
@given(labelled=logits, rest=logits, prior=priors, weight=st.floats(0, 20))
def test_ge_kl_equals_brute_force(
    labelled: list[float], rest: list[float], prior: float, weight: float
) -> None:
    mean = expit(np.array(rest)).mean()
    divergence = prior * math.log(prior / mean) + (1 - prior) * math.log((1 - prior) / (1 - mean))
    loss = ge_kl(tensor(labelled), tensor(rest), prior, weight)
    assert loss.unlabelled.item() == pytest.approx(weight * divergence, rel=1e-9, abs=1e-9)
    assert loss.total.item() == pytest.approx(loss.positive.item() + loss.unlabelled.item())


def test_ge_kl_by_hand() -> None:
    assert ge_kl(tensor([0.0]), tensor([0.0, 0.0]), 0.5).unlabelled.item() == pytest.approx(0)
    loss = ge_kl(tensor([0.0]), tensor([math.log(3)]), 0.5)  # a mean probability of 3/4
    by_hand = 10 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    assert loss.unlabelled.item() == pytest.approx(by_hand)


def law_by_enumeration(s: FloatArray) -> FloatArray:
    """The law of the count: the probability of every outcome, added up by its count."""
    p = expit(s)
    law = np.zeros(len(s) + 1)
    for outcome in itertools.product((0, 1), repeat=len(s)):
        law[sum(outcome)] += np.prod(np.where(outcome, p, 1 - p))
    return law


@settings(max_examples=60, deadline=None)
@given(rest=st.lists(st.floats(-50, 50), min_size=1, max_size=9))
def test_the_law_of_the_count_equals_enumeration(rest: list[float]) -> None:
    np.testing.assert_allclose(
        count_distribution(tensor(rest)), law_by_enumeration(np.array(rest)), atol=1e-14
    )


@pytest.mark.parametrize("number", [1, 2, 223, 224, 1000])
@pytest.mark.parametrize("chance", [0.003, 0.5, 0.9])
def test_the_law_of_equal_chances_is_binomial(number: int, chance: float) -> None:
    same = torch.full((number,), math.log(chance / (1 - chance)), dtype=torch.float64)
    expected = binom.pmf(np.arange(number + 1), number, chance)
    np.testing.assert_allclose(count_distribution(same), expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(labelled=logits, rest=logits, prior=priors, weight=st.floats(0, 10))
def test_exact_ge_binomial_equals_enumeration(
    labelled: list[float], rest: list[float], prior: float, weight: float
) -> None:
    logits = rest[:8]
    law = law_by_enumeration(np.array(logits))
    by_hand = -weight * np.sum(law * binom.logpmf(np.arange(len(law)), len(logits), prior))
    loss = ge_binomial_exact(tensor(labelled), tensor(logits), prior, weight)
    assert loss.unlabelled.item() == pytest.approx(by_hand, rel=1e-9, abs=1e-9)
    assert loss.total.item() == pytest.approx(loss.positive.item() + loss.unlabelled.item())


def test_the_gaussian_is_near_the_exact_law_of_many_regions() -> None:
    rest = torch.linspace(-6, 1, 240, dtype=torch.float64)
    exact = ge_binomial_exact(torch.zeros(1), rest, 0.1).unlabelled.item()
    assert ge_binomial(torch.zeros(1), rest, 0.1).unlabelled.item() == pytest.approx(
        exact, rel=0.03
    )


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


@pytest.mark.parametrize("function", OBJECTIVES.values())
def test_the_order_of_regions_does_not_matter(function: Objective) -> None:
    positive, rest = torch.randn(16).double(), torch.randn(100).double()
    a = function(positive, rest, 0.1).total
    b = function(positive.flip(0), rest[torch.randperm(100)], 0.1).total
    torch.testing.assert_close(a, b)


def test_objectives_by_name() -> None:
    assert objective("pn") is pn
    assert objective("ge-binomial") is ge_binomial
    for name in ("", "PN", "GE-KL", "ge"):
        with pytest.raises(
            BadInput, match="must be one of pn, pn-balanced, nnpu, ge-kl, ge-binomial"
        ):
            objective(name)


@pytest.mark.parametrize("name", ["ge-kl", "ge-binomial", "ge-binomial-exact"])
def test_the_weight_of_the_penalty(name: str) -> None:
    random = torch.Generator().manual_seed(1)
    positive, rest = torch.randn(5, generator=random), torch.randn(40, generator=random)
    own = objective(name)(positive, rest, 0.1)
    one, three = (objective(name, w)(positive, rest, 0.1) for w in (1.0, 3.0))
    assert float(three.unlabelled) == pytest.approx(3 * float(one.unlabelled))
    assert float(three.total) == pytest.approx(float(one.total + 2 * one.unlabelled), rel=1e-5)
    assert float(own.unlabelled / one.unlabelled) == pytest.approx(10 if name == "ge-kl" else 1)
    none = objective(name, 0.0)(positive, rest, 0.1)
    assert float(none.total) == float(none.positive)
