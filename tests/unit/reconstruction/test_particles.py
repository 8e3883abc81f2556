from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.micrographs.sources import find_sources
from heliodor.data.star import read_blocks
from heliodor.errors import BadInput
from heliodor.reconstruction.micrograph_table import MicrographTable, open_micrograph
from heliodor.reconstruction.particles import (
    PICK,
    RANDOM,
    ImageSettings,
    ImageTable,
    Positions,
    choose_box_px,
    plan_extraction,
    read_rows,
)
from heliodor.reconstruction.programs import RelionPrograms
from heliodor.reconstruction.steps import Step, run_steps
from helpers import fake_relion

SHAPE, BOX = (40, 60), 10
SETTINGS = ImageSettings(BOX, BOX, 2.0, 12.0)


def positions(kind: int, index: list[int], xy: list[tuple[float, float]]) -> Positions:
    return Positions.of_kind(kind, np.array(index), np.array(xy), np.arange(len(xy)) * 1.0)


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_cutting_off_the_fraction_moves_a_rounded_position_by_half_a_pixel_at_most(
    x: float, y: float
) -> None:
    rounded = positions(PICK, [0], [(x, y)]).round_to_pixels().xy_px[0]
    cut = np.trunc(rounded)
    np.testing.assert_array_equal(cut, rounded)
    assert abs(cut - (x, y)).max() <= 0.5


def test_boxes_are_even_and_larger_than_the_particle() -> None:
    assert choose_box_px(150, 4.0) == 56
    assert choose_box_px(150, 1.1) % 2 == 0
    settings = ImageSettings(56, 40, 4.0, 150)
    assert settings.image_pixel_size_angstrom == pytest.approx(5.6)
    assert 150 < settings.mask_diameter_angstrom < 56 * 4


def test_joined_positions_are_in_the_order_of_the_micrographs() -> None:
    one = positions(PICK, [1, 0], [(1, 1), (2, 2)])
    other = positions(RANDOM, [0, 2], [(3, 3), (4, 4)])
    joined = Positions.join([one, other])
    np.testing.assert_array_equal(joined.micrograph, [0, 0, 1, 2])
    np.testing.assert_array_equal(joined.kind, [PICK, RANDOM, PICK, RANDOM])
    np.testing.assert_array_equal(joined.xy_px[:, 0], [2, 3, 1, 4])


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MicrographTable:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in "ab":
        with mrcfile.new(f"{name}.mrc") as mrc:
            mrc.set_data(rng.normal(size=SHAPE).astype(np.float32))
            mrc.voxel_size = 2.0
    table = MicrographTable([open_micrograph(source) for source in find_sources("?.mrc")], [])
    Path("work").mkdir()
    table.link(Path("work"))
    return table


def extract(table: MicrographTable, where: Positions) -> tuple[Step, ImageTable]:
    programs = RelionPrograms.find(fake_relion.install(Path("bin")), ["relion_preprocess"])
    step = plan_extraction("images", where, table, SETTINGS)
    run_steps(Path("work"), [step], programs)
    return step, ImageTable.read(Path("work"), step, where)


def pixels(table: ImageTable, row: int) -> np.ndarray:
    number, _, stack = table.columns["rlnImageName"][row].partition("@")
    return np.asarray(mrcfile.read(Path("work") / stack)[int(number) - 1])


def test_each_image_is_the_one_of_its_position(table: MicrographTable) -> None:
    where = Positions.join(
        [
            positions(PICK, [1, 0, 1], [(10, 12), (30, 20), (40, 30)]),
            positions(RANDOM, [1, 0], [(20, 20), (25, 9)]),
        ]
    )
    _, images = extract(table, where)
    assert len(images) == 5
    for row, (index, (x, y)) in enumerate(zip(where.micrograph, where.xy_px.astype(int),
                                              strict=True)):  # fmt: skip
        whole = mrcfile.read(f"{'ab'[index]}.mrc")
        cut = -whole[y - 5 : y + 5, x - 5 : x + 5]
        expected = (cut - cut.mean()) / cut.std()
        np.testing.assert_allclose(pixels(images, row), expected, atol=1e-5)


def test_images_that_relion_left_out_are_noticed(table: MicrographTable) -> None:
    where = positions(PICK, [0, 1], [(10, 12), (20, 20)])
    step, _ = extract(table, where)
    path = Path("work/images/particles.star")
    path.write_text("\n".join(path.read_text().rstrip().splitlines()[:-1]) + "\n")
    with pytest.raises(BadInput, match="1 images at 2 positions"):
        ImageTable.read(Path("work"), step, where)


def test_rows_of_a_refinement_are_found_in_whatever_order(table: MicrographTable) -> None:
    where = positions(PICK, [0, 0, 1], [(10, 12), (20, 20), (30, 30)])
    _, images = extract(table, where)
    Path("data.star").write_text(images.render(np.array([2, 0])))
    assert list(read_blocks(Path("data.star"))["particles"]["rlnGroupName"]) == ["all", "all"]
    found = read_rows(Path("data.star"), ("rlnCoordinateX",), images, np.array([0, 2]))
    np.testing.assert_array_equal(found[:, 0], [10, 30])
    with pytest.raises(BadInput, match="lacks some of the images"):
        read_rows(Path("data.star"), ("rlnCoordinateX",), images, np.array([1]))
    with pytest.raises(BadInput, match="no column _rlnClassNumber"):
        read_rows(Path("data.star"), ("rlnClassNumber",), images, np.array([0]))
