"""The margin along the edges that labels keep, on labels drawn at random."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.data.coordinates.label_margin import find_label_margin

SHAPE, DIAMETER = (400, 500), 30.0


def draw(seed: int, number: int, margin: float = 0.0, micrographs: int = 3):
    """Return labels anywhere on micrographs but in a margin along their edges."""
    rng = np.random.default_rng(seed)
    low, high = margin - 0.5, np.array(SHAPE[::-1]) - 0.5 - margin
    counts = rng.multinomial(number, [1 / micrographs] * micrographs)
    return [rng.uniform(low, high, (count, 2)) for count in counts]


def find(labels) -> float:
    return find_label_margin(labels, [SHAPE] * len(labels), DIAMETER)


def test_the_margin_is_found():
    margins = np.random.default_rng(0).uniform(25, 50, 300)
    found = []
    for seed, margin in enumerate(margins):
        labels = draw(seed, 300, margin)
        found.append(find(labels))
        assert found[-1] <= min(float((own + 0.5).min()) for own in labels)
    # By chance one side may be so much emptier that nothing is said.
    given = np.array(found) > 0
    assert given.mean() > 0.98
    assert (np.abs(np.array(found) - margins - 1)[given] < 5).all()


def test_labels_anywhere_have_none():
    found = [find(draw(seed, number)) for seed in range(300) for number in (5, 30, 200)]
    assert np.mean(np.array(found) > 0) < 0.02


def test_a_few_labels_do_not_show_a_narrow_margin():
    assert not any(find(draw(seed, 8, 10.0)) for seed in range(50))


def test_labels_on_a_part_of_the_micrographs_say_nothing():
    """Somebody zoomed in and labeled there."""
    labels = [own / 2 + 100 for own in draw(1, 60)]
    assert find(labels) == 0
    assert find([own * [0.5, 1] for own in draw(1, 60, 40.0)]) == 0


def test_no_margin_is_as_wide_as_that():
    assert find(draw(1, 300, 2.5 * DIAMETER)) == 0


@pytest.mark.parametrize("labels", [[], [np.zeros((0, 2))], [np.array([[200.0, 200.0]])]])
def test_without_labels_there_is_none(labels):
    assert find(labels) == 0


def test_micrographs_of_other_shapes_and_without_labels_do_not_matter():
    labels = draw(3, 300, 40.0)
    shapes = [SHAPE] * len(labels)
    alone = find_label_margin(labels, shapes, DIAMETER)
    assert find_label_margin([*labels, np.zeros((0, 2))], [*shapes, (90, 90)], DIAMETER) == alone
