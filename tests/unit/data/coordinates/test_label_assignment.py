"""Labels are assigned to micrographs, and what they contradict is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.label_assignment import assign_labels
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput


def test_a_label_in_the_pixel_of_a_negative_is_refused() -> None:
    source = Source("a.mrc", Path("a.mrc"), "a")
    labels = Picks.on("a.mrc", np.array([[10.0, 20.0], [30.2, 40.0]]))
    negatives = Picks.on("a.mrc", np.array([[30.0, 40.1], [60.0, 70.0]]))
    said = r"1 labels on a\.mrc are negatives too \(such as 30\.2, 40\)"
    with pytest.raises(BadInput, match=said):
        assign_labels(labels, [source], negatives)
    (found,), _ = assign_labels(labels, [source], negatives.select(np.array([1])))
    assert len(found.xy_px) == 2
