"""One micrograph in an MRC or TIFF file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor import __version__
from heliodor.cleaning import clean, clean_blocks
from heliodor.conventions import Image, Shape
from heliodor.errors import BadInput
from heliodor.files import writing
from heliodor.header import (
    MOST_SURPLUS,
    MRC_HEADER_BYTES,
    check_extended_header,
    check_file,
    check_header,
    check_shape,
    has_unsigned_bytes,
    is_tiff,
    plain_mrc,
    plausible_pixel_size,
    too_short,
)
from heliodor.raster import ArrayRaster, FileRaster, Raster, whole
from heliodor.resample import FourierCrop

#: The smallest side, in pixels, of anything that can be called a micrograph.
SMALLEST_SIDE_PX = 32


@dataclass(frozen=True)
class Micrograph:
    """One image, row 0 being the first row stored in its file."""

    path: Path
    #: Shape (height, width), finite, not constant.
    image: Image
    #: What the file's header says, angstrom per pixel, where it is plausible.
    header_pixel_size_angstrom: float | None


@dataclass(frozen=True)
class OpenMicrograph:
    """A micrograph of which only the header was looked at."""

    path: Path
    #: Its pixels as they are stored.
    raster: Raster
    #: What the file's header says, angstrom per pixel, where it is plausible.
    header_pixel_size_angstrom: float | None

    @property
    def shape(self) -> Shape:
        """(height, width)."""
        return self.raster.shape

    def cropped(self, shape: Shape, workers: int = 1) -> Image:
        """Read the pixels and Fourier-crop them, block by block, to (height, width).

        The result is that of `fourier_crop` on the image of `read_micrograph`, which is never
        in memory as a whole unless pixels of it are not finite.

        Raises
        ------
        BadInput
            As `read_micrograph`, for what only the pixels tell.
        """
        crop = FourierCrop(self.shape, shape, workers)
        for rows, block in clean_blocks(self.raster, self.path):
            crop.add(rows, block)
        return crop.image()


def read_micrograph(path: str | Path) -> Micrograph:
    """Read a micrograph.

    MRC modes 0 (signed, or unsigned where IMOD says so), 1, 2, 6 and 12, plain or compressed
    (.gz, .bz2), a plane or a stack of one; TIFF of 8, 16 or 32 bits. Not more than 5 % of NaN
    or infinite pixels are replaced by the median; single extreme pixels are clipped.

    Raises
    ------
    BadInput
        If the file is missing, empty, truncated, of another kind, a movie or a volume,
        complex, blank, smaller than 32 pixels, or full of NaN.
    """
    with open_micrograph(path) as micrograph:
        image = whole(micrograph.raster)
    clean(image, micrograph.path)
    return Micrograph(micrograph.path, image, micrograph.header_pixel_size_angstrom)


def read_map(path: str | Path) -> Image:
    """Read an image whose pixels are not those of a detector, as a map of scores, as it is.

    Raises
    ------
    BadInput
        As `read_micrograph`, but whatever the pixels are.
    """
    with open_micrograph(path) as micrograph:
        return whole(micrograph.raster)


@contextmanager
def open_micrograph(path: str | Path) -> Iterator[OpenMicrograph]:
    """Open a micrograph to read it block by block, as long as the context lasts.

    Raises
    ------
    BadInput
        As `read_micrograph`, for what can be told without the pixels.
    """
    path = check_file(path)
    with ExitStack() as files:
        try:
            micrograph = _open(path, files)
        except PermissionError as error:
            raise BadInput(f"{path} may not be read; change its permissions") from error
        except OSError as error:
            why = error.strerror or error
            raise BadInput(f"{path} cannot be read ({why}); copy it again") from error
        yield micrograph


def _open(path: Path, files: ExitStack) -> OpenMicrograph:
    """Open a file and, where its rows can be read one by one, keep it open."""
    if is_tiff(path.name):
        data, pixel_size = _read_tiff(path)
    elif (layout := plain_mrc(path)) is not None:
        _check_size(layout.shape, path)
        stream = files.enter_context(path.open("rb"))
        return OpenMicrograph(path, FileRaster(stream, layout, path), layout.pixel_size_angstrom)
    else:
        data, pixel_size = _read_mrc(path)
    return OpenMicrograph(path, ArrayRaster(_plane(data, path)), pixel_size)


def _read_mrc(path: Path) -> tuple[NDArray[Any], float | None]:
    import mrcfile

    try:
        check_extended_header(path)
        with warnings.catch_warnings():
            # Headers written by EM programs break the letter of the format in harmless ways;
            # what matters (the amount of data) is checked here and below.
            warnings.simplefilter("ignore")
            with mrcfile.open(path, permissive=True, header_only=True) as mrc:
                check_header(mrc.header, path)
            with mrcfile.open(path, permissive=True) as mrc:
                data = mrc.data
                used = MRC_HEADER_BYTES + int(mrc.header.nsymbt)
                sides = (float(mrc.voxel_size.x), float(mrc.voxel_size.y))
                unsigned = has_unsigned_bytes(mrc.header)
    except (BadInput, PermissionError):
        raise
    except Exception as error:  # mrcfile and the compressions raise many kinds, all meaning this
        raise BadInput(f"{path} is not a whole MRC file ({error}); copy it again") from error
    if data is None:
        raise too_short(path)
    # A compressed file is smaller than its contents, so this never accuses it wrongly.
    if path.stat().st_size - used - data.nbytes > MOST_SURPLUS * data.nbytes:
        raise BadInput(
            f"{path} holds more data than its MRC header says: the header's shape or mode is not"
            " that of the image, or it is not an MRC file; write it again"
        )
    return data.view(np.uint8) if unsigned else data, plausible_pixel_size(*sides)


def _read_tiff(path: Path) -> tuple[NDArray[Any], float | None]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            check_shape(tiff.series[0].shape, path)
            return np.asarray(tiff.series[0].asarray()), None
    except (BadInput, PermissionError):
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds, all meaning this
        raise BadInput(
            f"{path} cannot be read as a TIFF file ({error}); copy it again, or write it as MRC"
            " or as uncompressed TIFF"
        ) from error


def _plane(data: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return the one two-dimensional plane of an array of real numbers."""
    check_shape(data.shape, path)
    if data.ndim == 3:
        data = data[0]
    if data.dtype.kind not in "iuf":
        raise BadInput(
            f"{path} holds {data.dtype} values: micrographs are real numbers; write it as"
            " integers or floats (MRC modes 0, 1, 2, 6, 12)"
        )
    _check_size(data.shape, path)
    return data


def _check_size(shape: tuple[int, ...], path: Path) -> None:
    if min(shape) < SMALLEST_SIDE_PX:
        height, width = shape
        raise BadInput(
            f"{path} has only {width} x {height} pixels: that is not a micrograph; leave it out"
        )


def write_mrc(path: Path, image: Image, pixel_size_angstrom: float) -> None:
    """Write an image as MRC mode 2, whole or not at all.

    The header's size, cell and statistics are those of the image, and the bytes depend on
    nothing else: mrcfile's label with the time is replaced.
    """
    import mrcfile

    with writing(path) as aside, mrcfile.new(aside, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(image, dtype=np.float32))
        mrc.voxel_size = pixel_size_angstrom
        mrc.header.label[:] = b""
        mrc.header.label[0] = f"Written by heliodor {__version__}".encode()
        mrc.header.nlabl = 1
