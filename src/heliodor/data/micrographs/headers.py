"""The headers of micrograph files: shape, data type and pixel size of MRC and TIFF images."""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import Shape
from heliodor.data.micrographs.compression import is_compressed, read_first_bytes
from heliodor.data.micrographs.names import describe_other_image, is_micrograph_name, is_tiff
from heliodor.data.micrographs.tiff import open_tiff
from heliodor.errors import BadInput

MRC_HEADER_BYTES = 1024
#: A header does not belong to its image if the file has more extra bytes than this fraction of it.
MAX_SURPLUS_FRACTION = 0.05
#: What IMOD and SerialEM write into bytes 152 to 155 of an MRC header, before their flags.
IMOD_STAMP = 1146047817
#: NumPy types of the MRC modes with real numbers.
_DTYPE_OF_MODE = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}

#: Modes that mrcfile does not read.
_OTHER_MODES = {3: "complex integers", 16: "colors", 101: "4-bit integers, as movies have"}

#: Those of unsigned integers in place of signed ones.
_UNSIGNED = {0: "u1", 1: "u2"}
#: Integers are unsigned if more than the one share of them is near either end of the signed
#: range, and less than the other is between.
_BOTH_ENDS, _BETWEEN = 0.05, 0.01


#: See docs/conventions.md.
TIFF_NOTE = (
    "rows are counted from the first one stored in a TIFF file, but RELION reads TIFF images"
    " upside down; use MRC micrographs for RELION"
)


@dataclass(frozen=True)
class MicrographHeader:
    """The shape and pixel size of a micrograph, read without its pixels."""

    #: (height, width).
    shape: Shape
    #: Angstrom per pixel; None if the header has no plausible value.
    pixel_size_angstrom: float | None


@dataclass(frozen=True)
class PixelLayout:
    """How the pixels of one image are stored in a file, row by row."""

    #: (height, width).
    shape: Shape
    #: Type of a pixel, with its byte order.
    dtype: np.dtype[Any]
    #: Bytes before the first pixel.
    offset: int
    #: Angstrom per pixel; None if the header has no plausible value.
    pixel_size_angstrom: float | None


def check_micrograph_file(path: str | Path) -> Path:
    """Return the path of a file that can be a micrograph; raise BadInput for any other."""
    path = Path(path)
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} does not exist; check the name and the folder it is relative to"
        ) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be found ({error.strerror}); check the name") from error
    if path.is_dir():
        raise BadInput(f"{path} is a folder, not a micrograph; name the files in it")
    if size == 0:
        raise BadInput(f"{path} is an empty file; copy or motion-correct it again")
    if (other := describe_other_image(path.name)) is not None:
        raise BadInput(f"{path} {other}")
    if not is_micrograph_name(path.name):
        raise BadInput(
            f"{path} is neither an MRC (.mrc, .mrc.gz, .mrc.bz2) nor a TIFF (.tif) file;"
            " use motion-corrected micrographs in one of these formats"
        )
    return path


def read_header(path: str | Path) -> MicrographHeader:
    """Read the shape and pixel size of a micrograph without its pixels.

    Raises
    ------
    BadInput
        If the file is missing, empty, truncated, not a micrograph, a movie or a volume.
    """
    path = check_micrograph_file(path)
    try:
        if is_tiff(path.name):
            with open_tiff(path) as series:
                shape, size = series.shape, None
        elif (plain := read_plain_mrc_layout(path)) is not None:
            shape, size = plain.shape, plain.pixel_size_angstrom
        else:
            header = read_mrc_header(path)
            shape, size = header.shape, header.pixel_size_angstrom
    except BadInput:
        raise
    except Exception as error:  # the libraries raise many types for damaged files
        raise BadInput(f"{path} is damaged or incomplete ({error}); copy it again") from error
    check_single_image(shape, path)
    return MicrographHeader((int(shape[-2]), int(shape[-1])), size)


def read_plain_mrc_layout(path: Path) -> PixelLayout | None:
    """Return the pixel layout of an MRC file that has the usual form.

    The usual form is one uncompressed plane of real numbers with the map ID, machine stamp and
    length that the format requires. Nearly all files have it, and reading them this way is fast.

    Returns
    -------
    PixelLayout or None
        None if anything is unusual; mrcfile then reads the file.
    """
    with path.open("rb") as stream:
        head = stream.read(MRC_HEADER_BYTES)
    order = {b"DD": "<", b"DA": "<", b"\x11\x11": ">"}.get(head[212:214])
    if order is None or len(head) < MRC_HEADER_BYTES or head[208:212] != b"MAP ":
        return None
    nx, ny, nz, mode, _, _, _, mx, my = struct.unpack_from(order + "9i", head)
    cell = struct.unpack_from(order + "2f", head, 40)
    space_group, extended = struct.unpack_from(order + "2i", head, 88)
    kind = _DTYPE_OF_MODE.get(mode)
    if kind is None or min(nx, ny, mx, my) < 1 or nz != 1 or space_group not in (0, 1):
        return None
    dtype = np.dtype(order + kind)
    image = nx * ny * dtype.itemsize
    offset = MRC_HEADER_BYTES + extended
    surplus = path.stat().st_size - offset - image
    if extended < 0 or not 0 <= surplus <= MAX_SURPLUS_FRACTION * image:
        return None
    if has_unsigned_pixels(
        mode,
        struct.unpack_from(order + "2i", head, 152),
        struct.unpack_from(order + "2f", head, 76),
        lambda: _sample_high_bytes(path, offset, image, dtype),
    ):
        dtype = np.dtype(order + _UNSIGNED[mode])
    # Header fields are single precision, and so is their quotient.
    sides = (
        float(np.float32(length / number)) for length, number in zip(cell, (mx, my), strict=True)
    )
    return PixelLayout((ny, nx), dtype, offset, plausible_pixel_size(*sides))


@dataclass(frozen=True)
class MrcHeader:
    """The header of an MRC file that does not have the usual form, as mrcfile reads it."""

    #: Fields by name.
    fields: Any
    #: (slices, height, width).
    shape: tuple[int, int, int]
    #: Type of a pixel, with its byte order.
    dtype: np.dtype[Any]
    #: Bytes before the first pixel.
    offset: int
    #: Angstrom per pixel; None if the header has no plausible value.
    pixel_size_angstrom: float | None

    @property
    def image_bytes(self) -> int:
        """Bytes of all pixels."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_mrc_header(path: Path) -> MrcHeader:
    """Read and check the header of an MRC file for which `read_plain_mrc_layout` returns None.

    Headers written by EM programs often break the format in harmless ways. The amount of data is
    checked here for an uncompressed file, and while reading for a compressed one.

    Raises
    ------
    BadInput
        If the file is not MRC, is too short, a movie or a volume.
    """
    from mrcfile.mrcinterpreter import MrcInterpreter
    from mrcfile.utils import data_dtype_from_header

    packed = is_compressed(path)
    head = bytearray(read_first_bytes(path, MRC_HEADER_BYTES))
    # mrcfile would allocate gigabytes for an extended header, even if the file is short.
    length, head[92:96] = bytes(head[92:96]), bytes(4)
    with warnings.catch_warnings(action="ignore"):
        mrc = MrcInterpreter(BytesIO(head), permissive=True, header_only=True)
        order = mrc.header.nsymbt.dtype
        extended = int(np.frombuffer(length, order)[0])
        sides = float(mrc.voxel_size.x), float(mrc.voxel_size.y)
    there = path.stat().st_size - MRC_HEADER_BYTES
    if extended < 0 or (extended > there and not packed):
        raise BadInput(f"{path} is not an MRC file, in spite of its name; write it again")
    shape = int(mrc.header.nz), int(mrc.header.ny), int(mrc.header.nx)
    # A file that is not MRC must not be reported as a movie because of its random bytes.
    if min(shape) < 1 or (packed and bytes(mrc.header.map)[:3] != b"MAP"):
        raise truncated_mrc_error(path)
    kind = _OTHER_MODES.get(int(mrc.header.mode))
    if kind is not None and bytes(mrc.header.map)[:3] == b"MAP":
        raise BadInput(
            f"{path} has {kind} (MRC mode {int(mrc.header.mode)}), but micrographs are real"
            " numbers; write it as integers or floats (MRC modes 0, 1, 2, 6, 12)"
        )
    dtype = data_dtype_from_header(mrc.header)
    if not packed and math.prod(shape) * dtype.itemsize > there - extended:
        raise truncated_mrc_error(path)
    check_single_image(shape, path)
    pixel_size = plausible_pixel_size(*sides)
    return MrcHeader(mrc.header, shape, dtype, MRC_HEADER_BYTES + extended, pixel_size)


def truncated_mrc_error(path: Path) -> BadInput:
    """Return the error for a file with less data than its header requires."""
    return BadInput(
        f"{path} has less data than its MRC header requires, or an unknown mode: it is"
        " truncated or not an MRC file; copy or write it again"
    )


def has_unsigned_pixels(
    mode: int,
    imod: tuple[int, int],
    extremes: tuple[float, float],
    sample: Callable[[], NDArray[np.int8]],
) -> bool:
    """Return whether the integers of an MRC file are unsigned, although its mode is signed.

    Older programs and many public data sets have bytes from 0 to 255 in mode 0, and some have
    16-bit integers above 32767 in mode 1. IMOD's stamp without its flag for signed bytes says so;
    otherwise the minimum and maximum in the header do. If these are missing, integers are
    unsigned if they have values near both ends of the signed range and few between: such as bytes
    from 100 to 150, which would be 100 to 127 and -128 to -106.

    Parameters
    ----------
    mode
        The mode in the header.
    imod
        IMOD's stamp and flags, bytes 152 to 159 of the header.
    extremes
        The minimum and the maximum in the header.
    sample
        Returns the highest bytes of some of the pixels, signed; called if it is needed.

    References
    ----------
    IMOD's ``mrc_format`` page, fields imodStamp and imodFlags. ITK's MRC reader decides by the
    minimum and maximum too.
    """
    if mode not in _UNSIGNED:
        return False
    if mode == 0 and imod[0] == IMOD_STAMP:
        return not imod[1] & 1
    low, high = extremes
    most_signed = np.iinfo(_DTYPE_OF_MODE[mode]).max
    if low < high:
        return bool(low >= 0 and most_signed < high <= 2 * most_signed + 1)
    pixels = sample()
    upper, lower = np.mean(pixels >= 64), np.mean(pixels < -64)
    return bool(min(upper, lower) > _BOTH_ENDS and upper + lower > 1 - _BETWEEN)


def has_unsigned_integers(header: MrcHeader, data: NDArray[Any]) -> bool:
    """Return whether the pixels of a file are unsigned; see `has_unsigned_pixels`.

    Parameters
    ----------
    data
        The pixels as the mode gives them.
    """
    fields = header.fields
    stamp, flags = np.frombuffer(fields.extra2.tobytes(), fields.mode.dtype)[10:12].tolist()
    return has_unsigned_pixels(
        int(fields.mode),
        (stamp, flags),
        (float(fields.dmin), float(fields.dmax)),
        lambda: _high_bytes(data.ravel()[:: max(1, data.size // 65536)]),
    )


def _sample_high_bytes(
    path: Path, offset: int, size: int, dtype: np.dtype[Any]
) -> NDArray[np.int8]:
    """Return the highest bytes of integers in some blocks, evenly spaced in part of a file."""
    block = min(size, 4096)
    starts = np.unique(np.linspace(0, size - block, 16).astype(np.int64))
    starts -= starts % dtype.itemsize
    with path.open("rb") as stream:
        parts = []
        for start in starts.tolist():
            stream.seek(offset + start)
            parts.append(stream.read(block))
    return _high_bytes(np.frombuffer(b"".join(parts), dtype))


def _high_bytes(values: NDArray[Any]) -> NDArray[np.int8]:
    """Return the highest byte of each of some signed integers."""
    return (values >> (8 * (values.dtype.itemsize - 1))).astype(np.int8)


def plausible_pixel_size(x: float, y: float) -> float | None:
    """Return a header's pixel size, or None if it is implausible or a default value.

    Programs write 0 or exactly 1 when the pixel size is unknown.
    """
    if not (0.1 <= x <= 100.0) or x == 1.0 or abs(x - y) > 0.01 * x:
        return None
    return x


def check_single_image(shape: tuple[int, ...], path: Path) -> None:
    """Raise BadInput unless the shape is that of one plane, or of a stack of one."""
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) == 3 and shape[2] in (3, 4):
        raise BadInput(f"{path} is a color image; use micrographs with one gray channel")
    if len(shape) != 2:
        what = f"{shape[0]} slices" if len(shape) == 3 else f"shape {shape}"
        raise BadInput(
            f"{path} has {what}: it is a movie, a stack or a volume; use motion-corrected"
            " averages, one image per file"
        )
