"""Reading and cleaning block by block, against mrcfile and against the whole image."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.micrographs import row_blocks
from heliodor.data.micrographs.bad_pixels import correct_bad_pixels, correct_bad_pixels_in_blocks
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.headers import (
    plausible_pixel_size,
    read_header,
    read_plain_mrc_layout,
)
from heliodor.data.micrographs.micrograph import open_micrograph, read_micrograph
from heliodor.data.micrographs.row_blocks import (
    ArrayBlockReader,
    FileBlockReader,
    read_all_rows,
    split_into_row_blocks,
)
from heliodor.errors import BadInput

PATH = Path("a.mrc")


def by_mrcfile(path):
    """Return the pixels and the pixel size that the library finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as mrc:
            size = plausible_pixel_size(float(mrc.voxel_size.x), float(mrc.voxel_size.y))
            return mrc.data.copy(), size


@pytest.fixture
def small_blocks(monkeypatch):
    """Divide even small images into several blocks."""
    monkeypatch.setattr(row_blocks, "BLOCK_PX", 1)


# Files


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extended", [0, 80, 131072])
@pytest.mark.parametrize("space_group", [0, 1])
def test_plain_files_are_read_as_mrcfile_reads_them(
    tmp_path, small_blocks, dtype, order, extended, space_group
):
    data = np.random.default_rng(1).integers(0, 100, (50, 36)).astype(order + dtype)
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.set_extended_header(np.zeros(extended, "V1"))
        mrc.header.ispg = space_group
        mrc.voxel_size = (1.234, 1.2341, 1)
    layout = read_plain_mrc_layout(path)
    assert layout is not None
    expected, size = by_mrcfile(path)
    assert layout.pixel_size_angstrom == size
    with open_micrograph(path) as micrograph:
        assert isinstance(micrograph.blocks, FileBlockReader)
        np.testing.assert_array_equal(read_all_rows(micrograph.blocks), expected.reshape(50, 36))
    assert read_header(path).shape == (50, 36)
    assert read_header(path).pixel_size_angstrom == size


@given(
    st.floats(0, 1e6, width=32), st.floats(0, 1e6, width=32), st.integers(1, 9), st.integers(1, 9)
)
def test_the_pixel_size_is_mrcfiles(tmp_path_factory, x, y, mx, my):
    path = tmp_path_factory.mktemp("size") / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.zeros((4, 4), "f4"))
    head = bytearray(path.read_bytes())
    struct.pack_into("<2i", head, 28, mx, my)
    struct.pack_into("<2f", head, 40, x, y)
    path.write_bytes(head)
    layout = read_plain_mrc_layout(path)
    assert layout is not None
    assert layout.pixel_size_angstrom == by_mrcfile(path)[1]


@pytest.mark.parametrize(
    ("offset", "kind", "value"),
    [
        (0, "i", 61),
        (0, "i", 0),
        (4, "i", -40),
        (8, "i", 2),
        (12, "i", 4),
        (12, "i", 101),
        (12, "i", 12),  # half the data: as much lies behind the image
        (28, "i", 0),
        (88, "i", 401),
        (92, "i", -1),
        (92, "i", 10**6),
        (208, "i", 0),  # no map ID
        (212, "i", 0),  # no machine stamp
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_mrcfile(write_mrc, noise, offset, kind, value):
    path = write_mrc("a.mrc", noise)
    assert read_plain_mrc_layout(path) is not None
    whole = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, whole, offset, value)
    path.write_bytes(whole)
    assert read_plain_mrc_layout(path) is None
    path.write_bytes(gzip.compress(whole))
    assert read_plain_mrc_layout(path) is None
    path.write_bytes(whole[:1000])
    assert read_plain_mrc_layout(path) is None


def test_without_map_id_and_stamp_a_file_is_read_all_the_same(write_mrc, noise):
    path = write_mrc("a.mrc", noise, 2.0)
    whole = bytearray(path.read_bytes())
    whole[208:216] = bytes(8)
    path.write_bytes(whole)
    micrograph = read_micrograph(path)
    np.testing.assert_array_equal(micrograph.image, noise)
    assert micrograph.header_pixel_size_angstrom == 2.0


def test_a_file_that_shrinks_while_it_is_read(write_mrc):
    path = write_mrc("a.mrc", np.random.default_rng(0).normal(size=(4096, 64)).astype("f4"), 2.0)
    with open_micrograph(path) as micrograph:
        with path.open("r+b") as stream:
            stream.truncate(500_000)
        with pytest.raises(BadInput, match=r"a\.mrc has less data"):
            micrograph.read_cropped((64, 1))


# Cleaning


@st.composite
def stored(draw):
    """Draw an image with hot pixels, NaN and infinite ones, or none of them."""
    shape = draw(st.tuples(st.integers(32, 90), st.integers(32, 90)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = rng.normal(draw(st.sampled_from([0.0, 500.0])), 3, shape).astype(np.float32)
    odd = st.tuples(
        st.integers(0, shape[0] - 1),
        st.integers(0, shape[1] - 1),
        st.sampled_from([1e5, -1e5, 3e38, -3e38, np.nan, np.inf, -np.inf]),
    )
    for row, column, value in draw(st.lists(odd, max_size=4)):
        image[row, column] = value
    return image


def in_blocks(data):
    """Put together what comes block by block."""
    out = np.full(data.shape, np.nan, np.float32)
    for rows, block in correct_bad_pixels_in_blocks(ArrayBlockReader(data), PATH):
        out[rows] = block
    return out


@given(stored(), st.sampled_from([1, 40 * 60, 2**18]), st.sampled_from([4, 512]))
def test_blocks_are_cleaned_as_the_whole_is(image, block_px, sampled):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_blocks, "BLOCK_PX", block_px)
        patch.setattr("heliodor.data.micrographs.bad_pixels.SAMPLED_ROWS", sampled)
        expected = image.copy()
        correct_bad_pixels(expected, PATH)
        np.testing.assert_array_equal(in_blocks(image), expected)


def plainly_cleaned(image):
    """Say what cleaning is, in the fewest words."""
    image = image.copy()
    image[~np.isfinite(image)] = np.median(image[np.isfinite(image)])
    low, median, high = np.percentile(image.astype(float), [15.9, 50, 84.1])
    spread = 25 * (high - low) / 2
    return np.clip(image, median - spread, median + spread).astype(np.float32)


@given(stored())
def test_cleaning_is_what_it_says(image):
    expected = plainly_cleaned(image)
    np.testing.assert_array_equal(in_blocks(image), expected)
    correct_bad_pixels(image, PATH)
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [slice(0, 5), slice(-5, None)])
def test_blocks_that_cannot_be_used(small_blocks, noise, value, rows):
    noise[rows] = value
    with pytest.raises(BadInput, match=r"a\.mrc has 12% NaN or infinite pixels"):
        in_blocks(noise)
    with pytest.raises(BadInput, match=r"a\.mrc is blank: every pixel is 3;"):
        in_blocks(np.full((60, 40), 3, np.float32))


def test_the_blocks_are_the_image(small_blocks):
    shape = (100, 7)
    assert [rows.start for rows in split_into_row_blocks(shape)] == [0, 16, 32, 48, 64, 80, 96]
    rows = np.concatenate([np.arange(100)[rows] for rows in split_into_row_blocks(shape)])
    np.testing.assert_array_equal(rows, np.arange(100))


# All together


@pytest.mark.parametrize("name", ["a.mrc", "a.mrc.gz", "a.tif"])
@pytest.mark.parametrize("value", [None, 1e5, np.nan])
@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_cropping_while_reading_is_cropping_what_was_read(
    tmp_path, write_mrc, small_blocks, name, value, dtype
):
    image = np.random.default_rng(2).normal(100, 9, (130, 101)).astype(dtype)
    if value is not None and (dtype == "f4" or np.isfinite(value)):
        image[77, 5] = min(value, 30000) if dtype == "i2" else value
    if name == "a.tif":
        path = tmp_path / name
        tifffile.imwrite(path, image)
    else:
        path = write_mrc(name, image, 1.5)
    whole_image = read_micrograph(path).image
    for shape in ((130, 101), (65, 50), (64, 51), (130, 50), (65, 101)):
        with open_micrograph(path) as micrograph:
            assert micrograph.shape == (130, 101)
            small = micrograph.read_cropped(shape)
        np.testing.assert_array_equal(small, fourier_crop(whole_image, shape))


_PREPROCESS = """
import sys
from pathlib import Path
from heliodor.workflows.preprocess import preprocess
assert preprocess(sys.argv[1], sys.argv[2], 16.0) == []
assert "torch" not in sys.modules
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory was used")
def test_preprocessing_needs_neither_room_for_the_image_nor_pytorch(write_mrc, tmp_path):
    rows = np.random.default_rng(0).normal(size=(64, 4096)).astype("f4")
    peaks_kb = []
    for height in (64, 8192):  # 1 MB and 128 MB
        path = write_mrc(f"{height}.mrc", np.tile(rows, (height // 64, 1)), 2.0)
        command = [sys.executable, "-c", _PREPROCESS, path, tmp_path / "out"]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        peaks_kb.append(int(ended.stdout))
    assert peaks_kb[1] - peaks_kb[0] < 64_000
