"""Reading a micrograph from an MRC or TIFF file, and writing one as MRC."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor import __version__
from heliodor.conventions import Image, Shape
from heliodor.data.micrographs.bad_pixels import correct_bad_pixels, correct_bad_pixels_in_blocks
from heliodor.data.micrographs.compression import decompress, is_compressed
from heliodor.data.micrographs.fourier_crop import FourierCrop
from heliodor.data.micrographs.headers import (
    MAX_SURPLUS_FRACTION,
    check_micrograph_file,
    check_single_image,
    has_unsigned_integers,
    read_mrc_header,
    read_plain_mrc_layout,
    truncated_mrc_error,
)
from heliodor.data.micrographs.names import is_tiff
from heliodor.data.micrographs.row_blocks import (
    ArrayBlockReader,
    BlockReader,
    FileBlockReader,
    read_all_rows,
)
from heliodor.data.micrographs.tiff import check_data_size, open_tiff
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write

#: The smallest side of a micrograph, in pixels.
SMALLEST_SIDE_PX = 32


@dataclass(frozen=True)
class Micrograph:
    """One image, row 0 being the first row stored in its file."""

    path: Path
    #: Shape (height, width), finite, not constant.
    image: Image
    #: From the file's header, angstrom per pixel; None if it has no plausible value.
    header_pixel_size_angstrom: float | None


@dataclass(frozen=True)
class OpenMicrograph:
    """A micrograph whose header has been read, but not its pixels."""

    path: Path
    #: The pixels as they are stored.
    blocks: BlockReader
    #: From the file's header, angstrom per pixel; None if it has no plausible value.
    header_pixel_size_angstrom: float | None

    @property
    def shape(self) -> Shape:
        """(height, width)."""
        return self.blocks.shape

    def read_cropped(self, shape: Shape, workers: int = 1) -> Image:
        """Read the pixels and Fourier-crop them, block by block, to (height, width).

        The result is that of `fourier_crop` on the image of `read_micrograph`, which is never
        in memory as a whole unless some of its pixels are not finite.

        Raises
        ------
        BadInput
            If the image is blank, has too many non-finite pixels, or cannot be read.
        """
        crop = FourierCrop(self.shape, shape, workers)
        for rows, block in correct_bad_pixels_in_blocks(self.blocks, self.path):
            crop.add(rows, block)
        return crop.image()


def read_micrograph(path: str | Path) -> Micrograph:
    """Read a micrograph.

    MRC modes 0 and 1 (signed, or unsigned: see `has_unsigned_pixels`), 2, 6 and 12, plain or
    compressed (.gz, .bz2), one plane or a stack of one; TIFF with 8, 16 or 32 bits. Up to 5% of
    NaN or infinite pixels are replaced by the median; single extreme pixels are clipped.

    Raises
    ------
    BadInput
        If the file is missing, empty, truncated, not MRC or TIFF, a movie or a volume, complex,
        blank, smaller than 32 pixels, or has too many non-finite pixels.
    """
    with open_micrograph(path) as micrograph:
        image = read_all_rows(micrograph.blocks)
    correct_bad_pixels(image, micrograph.path)
    return Micrograph(micrograph.path, image, micrograph.header_pixel_size_angstrom)


def read_map(path: str | Path) -> Image:
    """Read an image that is not a micrograph, such as a score map, without correcting its pixels.

    Raises
    ------
    BadInput
        As `read_micrograph`, except for the values of pixels.
    """
    with open_micrograph(path) as micrograph:
        return read_all_rows(micrograph.blocks)


@contextmanager
def open_micrograph(path: str | Path) -> Iterator[OpenMicrograph]:
    """Open a micrograph to read it block by block while the context lasts.

    Raises
    ------
    BadInput
        As `read_micrograph`, except for the values of pixels.
    """
    path = check_micrograph_file(path)
    with ExitStack() as files:
        try:
            micrograph = _open(path, files)
        except PermissionError as error:
            raise BadInput(f"no permission to read {path}; change its permissions") from error
        except OSError as error:
            why = error.strerror or error
            raise BadInput(f"{path} cannot be read ({why}); copy it again") from error
        yield micrograph


def open_array(pixels: NDArray[Any], name: str) -> OpenMicrograph:
    """Return an array as an open micrograph.

    Parameters
    ----------
    pixels
        Real numbers, shape (h, w).
    name
        Name of the array in messages.

    Raises
    ------
    BadInput
        If the array is not an image of real numbers with at least 32 pixels along each side.
    """
    if pixels.ndim != 2 or pixels.dtype.kind not in "iuf":
        raise BadInput(
            f"{name} must be a two-dimensional array of real numbers, not of shape"
            f" {pixels.shape} and type {pixels.dtype}"
        )
    _check_size(pixels.shape, Path(name))
    return OpenMicrograph(Path(name), ArrayBlockReader(pixels), None)


def _open(path: Path, files: ExitStack) -> OpenMicrograph:
    """Open a file and keep it open if its rows can be read one by one."""
    if is_tiff(path.name):
        data, pixel_size = _read_tiff(path)
    elif (layout := read_plain_mrc_layout(path)) is not None:
        _check_size(layout.shape, path)
        stream = files.enter_context(path.open("rb"))
        return OpenMicrograph(
            path, FileBlockReader(stream, layout, path), layout.pixel_size_angstrom
        )
    else:
        data, pixel_size = _read_mrc(path)
    return OpenMicrograph(path, ArrayBlockReader(_single_plane(data, path)), pixel_size)


def _read_mrc(path: Path) -> tuple[NDArray[Any], float | None]:
    try:
        header = read_mrc_header(path)
        most_surplus = int(MAX_SURPLUS_FRACTION * header.image_bytes)
        wanted = header.offset + header.image_bytes
        if is_compressed(path):
            content = decompress(path, wanted, wanted + most_surplus + 1)
            there = len(content)
            if there < wanted:
                raise truncated_mrc_error(path)
            count = math.prod(header.shape)
            data = np.frombuffer(content, header.dtype, count, header.offset)
        else:
            there = path.stat().st_size
            data = np.fromfile(path, header.dtype, math.prod(header.shape), "", header.offset)
    except (BadInput, PermissionError):
        raise
    except Exception as error:  # mrcfile raises many types for damaged files
        raise BadInput(
            f"{path} is a damaged or incomplete MRC file ({error}); copy it again"
        ) from error
    if there > wanted + most_surplus:
        raise BadInput(
            f"{path} has more data than its MRC header gives: the header's shape or mode does not"
            " match the image, or it is not an MRC file; write it again"
        )
    if has_unsigned_integers(header, data):
        data = data.view(data.dtype.str.replace("i", "u"))
    return data.reshape(header.shape), header.pixel_size_angstrom


def _read_tiff(path: Path) -> tuple[NDArray[Any], float | None]:
    try:
        with open_tiff(path) as series:
            check_single_image(series.shape, path)
            check_data_size(series, path)
            return np.asarray(series.asarray()), None
    except (BadInput, PermissionError):
        raise
    except Exception as error:  # tifffile and its codecs raise many types for damaged files
        raise BadInput(
            f"{path} cannot be read as a TIFF file ({error}); copy it again, or write it as MRC"
            " or as uncompressed TIFF"
        ) from error


def _single_plane(data: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return the single two-dimensional plane of an array of real numbers."""
    check_single_image(data.shape, path)
    if data.ndim == 3:
        data = data[0]
    if data.dtype.kind not in "iuf":
        raise BadInput(
            f"{path} has {data.dtype} values, but micrographs are real numbers; write it as"
            " integers or floats (MRC modes 0, 1, 2, 6, 12)"
        )
    _check_size(data.shape, path)
    return data


def _check_size(shape: tuple[int, ...], path: Path) -> None:
    if min(shape) < SMALLEST_SIDE_PX:
        height, width = shape
        raise BadInput(
            f"{path} has only {width} x {height} pixels and is not a micrograph; leave it out"
        )


def write_mrc(path: Path, image: Image | NDArray[np.int8], pixel_size_angstrom: float) -> None:
    """Write an image as MRC mode 2, or mode 0 if its values are bytes, atomically.

    The same image always gives the same bytes: mrcfile's label with the time is replaced.
    """
    from mrcfile.mrcinterpreter import MrcInterpreter

    # Without a stream of its own, which it would leave open where the disk is full.
    mrc = MrcInterpreter()
    mrc._create_default_attributes()
    mrc.set_data(np.ascontiguousarray(image, np.int8 if image.dtype == np.int8 else np.float32))
    mrc.voxel_size = pixel_size_angstrom
    mrc.header.label[:] = b""
    mrc.header.label[0] = f"Written by heliodor {__version__}".encode()
    mrc.header.nlabl = 1
    with atomic_write(path) as aside, aside.open("wb") as stream:
        stream.write(mrc.header.tobytes())
        stream.write(mrc.data.data)
