from __future__ import annotations

import bz2
import gzip
import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.micrographs.bad_pixels import CLIP_AT_SD
from heliodor.data.micrographs.micrograph import read_micrograph, write_mrc
from heliodor.data.micrographs.names import is_micrograph_name
from heliodor.errors import BadInput


def mrc_bytes(data, mode, order="<", pixel_size=1.5):
    """Write an MRC file of 2014 by hand, knowing nothing but the format's table of fields."""
    ny, nx = data.shape
    header = bytearray(1024)
    struct.pack_into(order + "10i", header, 0, nx, ny, 1, mode, 0, 0, 0, nx, ny, 1)
    struct.pack_into(
        order + "6f", header, 40, nx * pixel_size, ny * pixel_size, pixel_size, 90, 90, 90
    )
    struct.pack_into(order + "3i", header, 64, 1, 2, 3)
    header[208:212] = b"MAP "
    header[212:214] = b"\x44\x44" if order == "<" else b"\x11\x11"
    return bytes(header) + data.astype(data.dtype.newbyteorder(order)).tobytes()


def counts(dtype, shape=(40, 60)):
    """Every pixel tells its place, as far as the type can count."""
    place = np.arange(shape[0] * shape[1]).reshape(shape)
    return (place % 101 - 50 * (np.dtype(dtype).kind != "u")).astype(dtype)


@pytest.mark.parametrize(
    ("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_bytes_written_by_hand(tmp_path: Path, mode, dtype, order):
    data = counts(dtype)
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_bytes(data, mode, order))
    micrograph = read_micrograph(path)
    np.testing.assert_array_equal(micrograph.image, data.astype(np.float32))
    assert micrograph.image.shape == (40, 60)  # rows first: y is the row, x the column
    assert micrograph.image[0, 59] == data.ravel()[59]  # the first row stored is row 0
    assert micrograph.image.dtype == np.dtype("=f4")
    assert micrograph.header_pixel_size_angstrom == 1.5


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
@pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz", ".mrc.bz2"])
def test_files_of_mrcfile(write_mrc, dtype, suffix):
    data = counts(dtype)
    path = write_mrc("a" + suffix, data, 3.54)
    micrograph = read_micrograph(str(path))
    np.testing.assert_array_equal(micrograph.image, data.astype(np.float32))
    assert micrograph.header_pixel_size_angstrom == pytest.approx(3.54)
    assert micrograph.path == path


def test_write_mrc(tmp_path: Path):
    image = np.random.default_rng(0).normal(5, 2, (33, 47)).astype("f4")
    for name in ("a.mrc", "b.mrc"):
        write_mrc(tmp_path / "new" / name, image[:, ::-1][:, ::-1], 3.54)
    micrograph = read_micrograph(tmp_path / "new/a.mrc")
    np.testing.assert_array_equal(micrograph.image, image)
    assert micrograph.header_pixel_size_angstrom == pytest.approx(3.54)
    assert (tmp_path / "new/a.mrc").read_bytes() == (tmp_path / "new/b.mrc").read_bytes()
    report = io.StringIO()
    assert mrcfile.validate(tmp_path / "new/a.mrc", report), report.getvalue()


@pytest.mark.parametrize("name", ["a.mrcs", "a.map", "A.MRC"])
def test_a_stack_of_one(write_mrc, name):
    data = counts("f4")
    np.testing.assert_array_equal(read_micrograph(write_mrc(name, data[None])).image, data)


def test_unsigned_pixels_above_the_signed_range(write_mrc):
    data = counts("u2") + np.uint16(60000)
    np.testing.assert_array_equal(read_micrograph(write_mrc("a.mrc", data)).image, data)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff(tmp_path: Path, dtype, order):
    data = counts(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, byteorder=order)
    micrograph = read_micrograph(path)
    np.testing.assert_array_equal(micrograph.image, data.astype(np.float32))
    assert micrograph.image.dtype == np.dtype("=f4")
    assert micrograph.header_pixel_size_angstrom is None


def test_compressed_tiff(tmp_path: Path):
    data = counts("u2")
    tifffile.imwrite(tmp_path / "a.TIFF", data, compression="zlib")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.TIFF").image, data)


def test_contents_decide_whether_a_file_is_compressed(tmp_path: Path):
    plain = mrc_bytes(counts("f4"), 2)
    (tmp_path / "plain.mrc.gz").write_bytes(plain)
    (tmp_path / "packed.mrc").write_bytes(gzip.compress(plain))
    for name in ("plain.mrc.gz", "packed.mrc"):
        assert read_micrograph(tmp_path / name).image.shape == (40, 60)


def refuse(path, words):
    with pytest.raises(BadInput, match=words) as caught:
        read_micrograph(path)
    message = str(caught.value)
    assert Path(path).name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("keep", [10, 1000, 1023, 1024, 3000, -1])
def test_truncated_mrc(tmp_path: Path, keep):
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_bytes(counts("f4"), 2)[:keep])
    refuse(path, "MRC")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("what", ["stream", "contents", "nothing"])
def test_truncated_inside_a_compressed_file(tmp_path: Path, pack, what):
    path = tmp_path / f"a.mrc.{'gz' if pack is gzip.compress else 'bz2'}"
    whole = mrc_bytes(np.random.default_rng(0).normal(size=(40, 60)).astype("f4"), 2)
    packed = {"stream": pack(whole)[:-300], "contents": pack(whole[:-300]), "nothing": pack(b"")}
    path.write_bytes(packed[what])
    refuse(path, "MRC")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("at", [0, 12, 0.02, 0.5, -4])
def test_bytes_flipped_inside_a_compressed_file(tmp_path: Path, pack, at):
    whole = mrc_bytes(np.random.default_rng(0).normal(size=(40, 60)).astype("f4"), 2)
    packed = bytearray(pack(whole))
    start = int(at * len(packed)) if 0 < at < 1 else at
    for position in range(start, start + 4):
        packed[position] ^= 0xFF
    path = tmp_path / f"a.mrc.{'gz' if pack is gzip.compress else 'bz2'}"
    path.write_bytes(packed)
    refuse(path, "MRC")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("stamp", "flags", "kind"),
    [
        (1146047817, 0, "u1"),
        (1146047817, 4, "u1"),
        (1146047817, 1, "i1"),
        (1146047817, 5, "i1"),
        (0, 0, "i1"),
        (7, 4, "i1"),
    ],
)
def test_bytes_are_unsigned_where_imod_says_so(tmp_path: Path, order, stamp, flags, kind):
    data = counts("i1")
    whole = bytearray(mrc_bytes(data, 0, order))
    struct.pack_into(order + "2i", whole, 152, stamp, flags)
    (tmp_path / "a.mrc").write_bytes(whole)
    image = read_micrograph(tmp_path / "a.mrc").image
    np.testing.assert_array_equal(image, data.view(kind).astype("f4"))


GRAY = np.clip(np.random.default_rng(4).normal(128, 20, (48, 64)), 0, 255)


@pytest.mark.parametrize("name", ["a.mrc", "a.mrc.gz"])
@pytest.mark.parametrize("extremes", [None, (0.0, 255.0), (37.0, 201.0), (0.0, 0.0), (1.0, -1.0)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_bytes_are_unsigned_where_the_minimum_and_maximum_or_the_pixels_say_so(
    tmp_path: Path, order, extremes, name
):
    data = GRAY.astype("u1")
    whole = bytearray(mrc_bytes(data.view("i1"), 0, order))
    struct.pack_into(order + "2f", whole, 76, *(extremes or (0, -1)))
    whole = gzip.compress(whole) if name.endswith("gz") else whole
    (tmp_path / name).write_bytes(whole)
    np.testing.assert_array_equal(read_micrograph(tmp_path / name).image, data.astype("f4"))


@pytest.mark.parametrize(
    "data", [GRAY - 128, 3 * (GRAY - 128), GRAY - 118, (GRAY % 4), np.minimum(GRAY, 127)]
)
def test_signed_bytes_stay_signed(tmp_path: Path, data):
    data = np.clip(data, -128, 127).astype("i1")
    (tmp_path / "a.mrc").write_bytes(mrc_bytes(data, 0))
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.mrc").image, data.astype("f4"))
    whole = bytearray(mrc_bytes(GRAY.astype("u1").view("i1"), 0))
    struct.pack_into("<2i", whole, 152, 1146047817, 1)  # IMOD says that they are signed
    (tmp_path / "a.mrc").write_bytes(whole)
    assert read_micrograph(tmp_path / "a.mrc").image.min() < 0


@pytest.mark.parametrize(("high", "kind"), [(65535.0, "u2"), (40000.0, "u2"), (32767.0, "i2")])
def test_integers_above_the_signed_range_are_unsigned(tmp_path: Path, high, kind):
    data = (GRAY * 256).astype("u2")
    whole = bytearray(mrc_bytes(data.view("i2"), 1))
    struct.pack_into("<2f", whole, 76, 0.0, high)
    (tmp_path / "a.mrc").write_bytes(whole)
    image = read_micrograph(tmp_path / "a.mrc").image
    if kind == "u2":
        np.testing.assert_array_equal(image, data.astype("f4"))
    else:
        assert image.min() < 0


def test_imods_flags_are_about_bytes_alone(tmp_path: Path):
    whole = bytearray(mrc_bytes(counts("i2"), 1))
    struct.pack_into("<2i", whole, 152, 1146047817, 0)
    (tmp_path / "a.mrc").write_bytes(whole)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.mrc").image, counts("i2"))


@pytest.mark.parametrize(
    ("offset", "kind", "value"),
    [
        (0, "i", 61),  # more columns than there are
        (0, "i", 30),  # fewer: what is left behind the image must not go unseen
        (4, "i", 0),
        (0, "i", -60),
        (0, "i", 2**31 - 1),
        (8, "i", 2),
        (12, "i", 1),  # 16-bit integers, where the data are floats
        (12, "i", 0),
        (12, "i", 99),
        (12, "i", 101),
        (92, "i", -5),  # the extended header
        (92, "i", 10**7),
    ],
)
@pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz"])
def test_a_header_that_lies(tmp_path: Path, offset, kind, value, suffix):
    noise = np.random.default_rng(0).normal(size=(40, 60)).astype("f4")
    lying = bytearray(mrc_bytes(noise, 2))
    struct.pack_into("<" + kind, lying, offset, value)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(bytes(lying)) if suffix == ".mrc.gz" else bytes(lying))
    refuse(path, "a.mrc")


def test_files_that_may_not_be_read(write_mrc, tmp_path, monkeypatch):
    path = write_mrc("a.mrc", counts("f4"))
    tifffile.imwrite(tmp_path / "a.tif", counts("f4"))

    def forbid(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)
    monkeypatch.setattr(tifffile, "TiffFile", forbid)
    refuse(path, "change its permissions")
    refuse(tmp_path / "a.tif", "change its permissions")


def test_a_little_padding_behind_the_image_is_harmless(tmp_path: Path):
    (tmp_path / "a.mrc").write_bytes(mrc_bytes(counts("f4"), 2) + bytes(100))
    assert read_micrograph(tmp_path / "a.mrc").image.shape == (40, 60)


def test_files_that_are_no_micrographs(tmp_path: Path):
    (tmp_path / "empty.mrc").touch()
    refuse(tmp_path / "empty.mrc", "empty file")
    (tmp_path / "text.mrc").write_text("these are not the bytes you are looking for\n" * 200)
    refuse(tmp_path / "text.mrc", "not an MRC file")
    (tmp_path / "text.tif").write_text("nor these\n" * 200)
    refuse(tmp_path / "text.tif", "TIFF")
    (tmp_path / "zeros.mrc").write_bytes(bytes(5000))
    refuse(tmp_path / "zeros.mrc", "not an MRC file")
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    refuse(tmp_path / "a.png", "is a picture")
    (tmp_path / "a.eer").write_bytes(b"II*\0")
    refuse(tmp_path / "a.eer", "is a movie; correct its motion")
    (tmp_path / "a.xyz").write_bytes(b"1 2 3\n")
    refuse(tmp_path / "a.xyz", "neither an MRC")
    (tmp_path / "folder.mrc").mkdir()
    refuse(tmp_path / "folder.mrc", "is a folder")
    refuse(tmp_path / "none.mrc", "does not exist")
    refuse(tmp_path / "text.mrc" / "a.mrc", "cannot be found")
    refuse(tmp_path / ("x" * 300 + ".mrc"), "too long")
    (tmp_path / "loop.mrc").symlink_to(tmp_path / "loop.mrc")
    refuse(tmp_path / "loop.mrc", "cannot be found")


def test_complex_numbers(write_mrc):
    data = (counts("f4") + 1j).astype("c8")
    with mrcfile.open(write_mrc("a.mrc", data)) as mrc:
        assert mrc.header.mode == 4
    refuse(write_mrc("a.mrc", data), "complex64")


@pytest.mark.parametrize("frames", [2, 40])
def test_movies(write_mrc, tmp_path, frames):
    movie = np.random.default_rng(0).normal(size=(frames, 40, 60)).astype("f4")
    refuse(write_mrc("a.mrc", movie), f"{frames} slices: it is a movie")
    refuse(write_mrc("a.mrcs", movie), "movie")
    tifffile.imwrite(tmp_path / "a.tif", movie)
    refuse(tmp_path / "a.tif", "movie")


def peak_while_refused(path, words):
    tracemalloc.start()
    try:
        refuse(path, words)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_large_stack_is_refused_without_reading_its_data(tmp_path: Path):
    header = bytearray(mrc_bytes(np.zeros((0, 0), "f4"), 2))
    struct.pack_into("<3i", header, 0, 1024, 1024, 500)
    with (tmp_path / "a.mrc").open("wb") as stream:
        stream.write(header)
        stream.truncate(1024 + 500 * 1024**2 * 4)  # 2 GB, of which nothing is on the disk
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 512, 512), "u1"))
    whole = bytes(header[:8]) + b"\x28\0\0\0" + bytes(header[12:]) + bytes(40 * 1024**2 * 4)
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(whole, 1))
    refuse(tmp_path / "a.mrc.gz", "40 slices")  # imports what would be counted below
    refuse(tmp_path / "a.tif", "40 slices")
    assert peak_while_refused(tmp_path / "a.mrc", "500 slices: it is a movie") < 2e6
    assert peak_while_refused(tmp_path / "a.mrc.gz", "40 slices: it is a movie") < 2e6
    assert peak_while_refused(tmp_path / "a.tif", "40 slices: it is a movie") < 2e6


@pytest.mark.parametrize("there", [0, 5000])
def test_room_is_made_only_for_data_that_are_there(tmp_path: Path, there):
    header = bytearray(mrc_bytes(np.zeros((0, 0), "f4"), 2))
    struct.pack_into("<3i", header, 0, 8192, 8192, 1)
    (tmp_path / "a.mrc").write_bytes(header + bytes(there))
    refuse(tmp_path / "a.mrc", "less data")
    assert peak_while_refused(tmp_path / "a.mrc", "less data") < 2e6


def test_colour_pictures(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype="u1")
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb")
    refuse(tmp_path / "rgb.tif", "color")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_tiff(tmp_path: Path, share):
    tifffile.imwrite(tmp_path / "a.tif", counts("f4"))
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: int(share * len(whole))])
    refuse(tmp_path / "a.tif", "TIFF")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_few_pixels_that_are_not_numbers_become_the_median(write_mrc, noise, value):
    noise[3, 5:25] = value
    image = read_micrograph(write_mrc("a.mrc", noise)).image
    assert np.isfinite(image).all()
    good = np.isfinite(noise)
    np.testing.assert_array_equal(image[good], noise[good])
    np.testing.assert_array_equal(image[~good], np.median(noise[good]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rows", [3, 39, 40])
def test_many_pixels_that_are_not_numbers_are_refused(write_mrc, noise, value, rows):
    noise[:rows] = value
    refuse(write_mrc("a.mrc", noise), "NaN or infinite")


def test_doubles_beyond_the_range_of_floats_count_as_infinite(tmp_path: Path):
    data = counts("f8")
    data[0, 0] = 1e300
    tifffile.imwrite(tmp_path / "a.tif", data)
    assert np.isfinite(read_micrograph(tmp_path / "a.tif").image).all()
    tifffile.imwrite(tmp_path / "a.tif", np.full((40, 60), 1e250) + counts("f8"))
    refuse(tmp_path / "a.tif", "infinite")


def test_blank_and_tiny_images(write_mrc):
    refuse(write_mrc("a.mrc", np.full((40, 60), 3, "f4")), "blank")
    blank = np.full((40, 60), 3, "f4")
    blank[0, :5] = np.nan
    refuse(write_mrc("a.mrc", blank), "blank")
    refuse(write_mrc("a.mrc", counts("f4", (31, 60))), "60 x 31")
    assert read_micrograph(write_mrc("a.mrc", counts("f4", (32, 32)))).image.shape == (32, 32)


@pytest.mark.parametrize("value", [1e6, -1e6, 3.4e38, -3.4e38])
def test_a_hot_pixel_is_clipped_and_nothing_else_changes(write_mrc, noise, value):
    hot = noise.copy()
    hot[7, 9] = value
    image = read_micrograph(write_mrc("a.mrc", hot)).image
    assert abs(image[7, 9] - 100) == pytest.approx(CLIP_AT_SD * 20, rel=0.1)
    assert np.sign(image[7, 9] - 100) == np.sign(value)
    image[7, 9] = noise[7, 9]
    np.testing.assert_array_equal(image, noise)


def test_a_hot_pixel_is_clipped_in_a_large_image_too(write_mrc):
    # The scale comes from a sample of the pixels; this one is not in it.
    image = np.random.default_rng(0).normal(size=(1100, 1100)).astype("f4")
    image[1, 1] = 1e5
    assert read_micrograph(write_mrc("a.mrc", image)).image[1, 1] < 30


def test_values_near_the_end_of_the_float_range(write_mrc, noise):
    # The spread times 25 is more than a float can hold.
    huge = (noise - 100) * np.float32(2e36)
    np.testing.assert_array_equal(read_micrograph(write_mrc("a.mrc", huge)).image, huge)


def test_an_image_of_mostly_one_value_is_not_clipped_to_it(write_mrc):
    image = np.zeros((64, 64), "f4")
    image[:8] = 1
    np.testing.assert_array_equal(read_micrograph(write_mrc("a.mrc", image)).image, image)


@given(st.integers(32, 50), st.integers(32, 50), st.sampled_from([("f4", 2), ("i2", 1)]))
def test_rectangles(tmp_path_factory, height, width, kind):
    data = counts(kind[0], (height, width))
    path = tmp_path_factory.mktemp("r") / "a.mrc"
    path.write_bytes(mrc_bytes(data, kind[1]))
    np.testing.assert_array_equal(read_micrograph(path).image, data)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.0, 0.0, None),
        (1.0, 1.0, None),
        (1.0, 1.5, None),
        (1.5, 1.5, 1.5),
        (0.66, 0.66, 0.66),
        (1.5, 1.51, 1.5),
        (1.5, 3.0, None),
        (3.0, 1.5, None),
        (-1.5, -1.5, None),
        (0.05, 0.05, None),
        (1000.0, 1000.0, None),
        (np.nan, np.nan, None),
        (np.inf, np.inf, None),
    ],
)
def test_which_pixel_sizes_of_a_header_are_believed(tmp_path: Path, x, y, expected):
    data = bytearray(mrc_bytes(counts("f4"), 2))
    struct.pack_into("<2f", data, 40, 60 * x, 40 * y)
    (tmp_path / "a.mrc").write_bytes(data)
    size = read_micrograph(tmp_path / "a.mrc").header_pixel_size_angstrom
    assert size is None if expected is None else size == pytest.approx(expected)


def test_the_pixel_size_is_of_the_grid_not_of_the_image(tmp_path: Path):
    # cella belongs to mx, my sampling intervals, which need not be nx, ny.
    data = bytearray(mrc_bytes(counts("f4"), 2, pixel_size=1.5))
    struct.pack_into("<2i", data, 28, 30, 20)
    (tmp_path / "a.mrc").write_bytes(data)
    assert read_micrograph(tmp_path / "a.mrc").header_pixel_size_angstrom == pytest.approx(3.0)
    struct.pack_into("<2i", data, 28, 0, 0)
    (tmp_path / "a.mrc").write_bytes(data)
    assert read_micrograph(tmp_path / "a.mrc").header_pixel_size_angstrom is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mrc", True),
        ("a.MRC", True),
        ("a.mrc.gz", True),
        ("a.MRC.BZ2", True),
        ("a.mrcs", True),
        ("a.tiff", True),
        ("a.tif.gz", False),
        ("a.star", False),
        ("mrc", False),
        ("a.gz", False),
        ("a.mrc.txt", False),
    ],
)
def test_which_names_are_micrographs(name, expected):
    assert is_micrograph_name(name) is expected


def test_real_micrographs(real_data: Path):
    folders = [
        real_data / name for name in ("betagal/micrographs", "t20s/micrographs", "fixtures")
    ]
    for folder in folders:
        path = min(folder.glob("*.mrc"))
        micrograph = read_micrograph(path)
        with mrcfile.open(path) as mrc:
            assert micrograph.image.shape == (mrc.header.ny, mrc.header.nx)
            np.testing.assert_allclose(micrograph.image, mrc.data, atol=1e-3)
    full = read_micrograph(min((real_data / "betagal/fullsize").glob("*.tif")))
    assert full.image.shape == (4096, 4096)


def tiff_file(tags: dict[int, tuple[int, int, int]], content: bytes) -> bytes:
    """Return a TIFF file of 64 x 64 bytes; a tag's value of -1 means where the content begins."""
    usual = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    usual |= {277: (3, 1, 1), 339: (3, 1, 1), 278: (4, 1, 64)}
    every = sorted((usual | tags).items())
    start = 8 + 2 + 12 * len(every) + 4
    rows = [
        struct.pack("<HHII", code, kind, count, start if value == -1 else value)
        for code, (kind, count, value) in every
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(every))
    return head + b"".join(rows) + bytes(4) + content


ZEROS = zlib.compress(bytes(2**26), 9)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        # A tile of 2^31 pixels.
        (
            tiff_file(
                {
                    259: (3, 1, 8),
                    322: (4, 1, 2**25),
                    323: (4, 1, 64),
                    324: (4, 1, -1),
                    325: (4, 1, len(ZEROS)),
                },
                ZEROS,
            ),
            "much larger than its image",
        ),
        # The same with a compression whose size is not limited by the format.
        (
            tiff_file(
                {
                    259: (3, 1, 32773),
                    322: (4, 1, 23168),
                    323: (4, 1, 23168),
                    324: (4, 1, -1),
                    325: (4, 1, 200_000),
                },
                b"\x81\x00" * 100_000,
            ),
            "much larger than its image",
        ),
        # Many tags that share one long text.
        (
            tiff_file(
                {
                    273: (4, 1, -1),
                    279: (4, 1, 4096),
                    **dict.fromkeys((270, 271, 272, 305, 306, 315), (2, 100000, 8)),
                },
                bytes(100_000),
            ),
            "tags that are larger than the file",
        ),
        # Millions of strips.
        (
            tiff_file(
                {257: (4, 1, 2**21), 278: (4, 1, 1), 273: (4, 2**21, -1), 279: (4, 2**21, -1)},
                bytes(4 * 2**21),
            ),
            "tags that are larger than the file",
        ),
    ],
    ids=["tile", "packbits", "tags", "strips"],
)
def test_a_small_tiff_file_takes_little_memory(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "small.tif"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=told):
            read_micrograph(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content) + 2**20
    finally:
        tracemalloc.stop()


def test_an_image_in_a_larger_tile_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    tile = np.zeros((512, 512), np.uint8)
    tile[:64, :64] = pixels
    tags = {322: (4, 1, 512), 323: (4, 1, 512), 324: (4, 1, -1), 325: (4, 1, tile.nbytes)}
    (tmp_path / "a.tif").write_bytes(tiff_file(tags, tile.tobytes()))
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif").image, pixels)
