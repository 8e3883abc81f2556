from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from heliodor.utils.statistics import robust_deviation


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_it_is_scipys_scaled_median_absolute_deviation(count: int) -> None:
    values = np.random.default_rng(count).normal(3, 2, (count, 2))
    assert robust_deviation(values) == pytest.approx(
        median_abs_deviation(values, axis=None, scale="normal"), rel=1e-4
    )


def test_outliers_have_no_influence_and_the_center_may_be_given() -> None:
    values = np.random.default_rng(0).normal(0, 2, 100_000)
    assert robust_deviation(values) == pytest.approx(2, rel=0.02)
    values[:100] = 1e9
    assert robust_deviation(values) == pytest.approx(2, rel=0.02)
    assert robust_deviation(np.array([1.0, 1.0, 3.0]), 0.0) == pytest.approx(1.4826)
