from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from heliodor.simulation.training_world.filaments.decoys import (
    FieldScenery,
    add_crack,
    add_lattice,
    add_scratches,
    add_straight_film,
    draw_kinds,
)


def empty_field(side: int = 120) -> FieldScenery:
    image = np.zeros((side, side), np.float32)
    return FieldScenery(image, image + 1.0, image + 1.0, image > 0)


@pytest.mark.parametrize("add", [add_straight_film, add_crack, add_lattice])
def test_decoys_change_the_potential_and_block_filaments(
    add: Callable[[np.random.Generator, FieldScenery, float], None],
) -> None:
    blocked = []
    for seed in range(8):
        field = empty_field()
        add(np.random.default_rng(seed), field, 12.0)
        assert np.isfinite(field.potential).all()
        assert (field.transmission > 0.0).all()
        blocked.append(field.blocked.mean())
        if field.blocked.any():
            strongest = np.abs(field.potential).max()
            assert strongest > 0.01
    assert 0.0 < np.mean(blocked) < 0.9


def test_scratches_are_whole_rows_and_columns() -> None:
    image = np.zeros((50, 50), np.float32)
    add_scratches(np.random.default_rng(1), image)
    changed = image != 0.0
    assert changed.any()
    assert (changed.all(axis=0) | changed.all(axis=1)[:, None])[changed].all()


def test_most_fields_have_no_decoys() -> None:
    rng = np.random.default_rng(1)
    counts = np.bincount([len(draw_kinds(rng)) for _ in range(400)])
    assert counts[0] > 250
    assert counts[1] > 20
