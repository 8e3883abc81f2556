"""Which boxes lie on a micrograph as a whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.coordinates.whole_boxes import mask_whole_boxes

SHAPE = (40, 60)


@given(st.floats(-20, 80), st.floats(-20, 60), st.sampled_from([8, 10, 11]))
def test_a_whole_box_holds_no_pixel_beyond_the_edge(x: float, y: float, box: int) -> None:
    image = np.zeros(SHAPE)
    first = np.array([int(np.floor(y)), int(np.floor(x))]) - box // 2
    whole = (first >= 0).all() and image[
        first[0] : first[0] + box, first[1] : first[1] + box
    ].shape == (box, box)
    assert mask_whole_boxes(np.array([[x, y]]), SHAPE, box)[0] == whole
