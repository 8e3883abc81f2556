"""On which micrographs a training is calibrated."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.training.score_calibration import (
    ENOUGH_LABELS,
    LEAST_IMAGES,
    choose_most_labeled,
)


@given(numbers=st.lists(st.integers(0, 400), max_size=20), most=st.integers(1, 12))
def test_no_more_micrographs_are_used_than_have_enough_labels(numbers, most):
    image = np.zeros((4, 4), np.float32)
    images = [LabeledImage(image, np.zeros((number, 2))) for number in numbers]
    chosen = [len(item.xy_px) for item in choose_most_labeled(images, most)]
    assert chosen == sorted(numbers, reverse=True)[: len(chosen)]
    assert len(chosen) <= most
    if len(chosen) < min(len(numbers), most):
        assert sum(chosen) >= ENOUGH_LABELS
        assert len(chosen) >= LEAST_IMAGES
        assert len(chosen) == LEAST_IMAGES or sum(chosen[:-1]) < ENOUGH_LABELS
