from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from heliodor.errors import BadInput
from heliodor.reconstruction.particles import ImageSettings
from heliodor.reconstruction.refinement import (
    check_symmetry,
    count_operators,
    plan_reference,
    split_rows,
)

SETTINGS = ImageSettings(60, 40, 4.0, 150.0)


@pytest.mark.parametrize(
    ("group", "number"), [("C1", 1), ("c4", 4), ("D7", 14), ("T", 12), ("o", 24), ("I1", 60)]
)
def test_point_groups_have_their_number_of_rotations(group: str, number: int) -> None:
    assert count_operators(check_symmetry(group)) == number


@pytest.mark.parametrize("group", ["", "C0", "X3", "D7; rm", "C123"])
def test_what_is_not_a_point_group_is_refused(group: str) -> None:
    with pytest.raises(BadInput, match="not a point group"):
        check_symmetry(group)


def test_halves_are_disjoint_and_a_subset_is_split_alike() -> None:
    everything = np.arange(1000)
    one, other = split_rows(everything, 1000, seed=3)
    assert sorted([*one, *other]) == [*everything]
    assert 400 < len(one) < 600
    some = np.arange(0, 1000, 3)
    assert set(split_rows(some, 1000, seed=3)[0]) == set(one) & set(some)
    assert not np.array_equal(split_rows(everything, 1000, seed=4)[0], one)


def write_map(path: Path, shape: tuple[int, ...], voxel: float) -> Path:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.zeros(shape, dtype=np.float32))
        mrc.voxel_size = voxel
    return path


def test_a_reference_is_brought_to_the_size_of_the_images(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.mrc", (20, 20, 20), 2.5)
    (command,) = plan_reference(path, SETTINGS).commands
    after = dict(zip(command.arguments, command.arguments[1:], strict=False))
    assert float(after["--angpix"]) == 2.5
    assert float(after["--rescale_angpix"]) == 6.0
    assert after["--new_box"] == "40"


def test_what_is_not_a_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read as a map"):
        plan_reference(tmp_path / "none.mrc", SETTINGS)
    with pytest.raises(BadInput, match="not a cubic map"):
        plan_reference(write_map(tmp_path / "a.mrc", (20, 20, 10), 2.0), SETTINGS)
    with pytest.raises(BadInput, match="no voxel size"):
        plan_reference(write_map(tmp_path / "b.mrc", (20, 20, 20), 0.0), SETTINGS)
