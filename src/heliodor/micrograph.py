"""One micrograph in an MRC or TIFF file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor import __version__
from heliodor.conventions import Image
from heliodor.errors import BadInput
from heliodor.files import writing
from heliodor.header import (
    MRC_HEADER_BYTES,
    TIFF_SUFFIXES,
    check_extended_header,
    check_file,
    check_header,
    check_shape,
    has_unsigned_bytes,
    plausible_pixel_size,
    too_short,
)

#: The smallest side, in pixels, of anything that can be called a micrograph.
SMALLEST_SIDE_PX = 32
#: Up to this share of NaN or infinite pixels is replaced by the median.
MOST_NOT_FINITE = 0.05
#: Pixels further from the median than this many robust standard deviations are clipped: hot
#: pixels and X-rays would otherwise ring through the Fourier crop.
CLIP_AT_SD = 25.0
#: More bytes behind the image than this share of it mean that the header is not this image's.
MOST_SURPLUS = 0.05


@dataclass(frozen=True)
class Micrograph:
    """One image, row 0 being the first row stored in its file."""

    path: Path
    #: Shape (height, width), finite, not constant.
    image: Image
    #: What the file's header says, angstrom per pixel, where it is plausible.
    header_pixel_size_angstrom: float | None


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
    path = Path(path)
    data, pixel_size = _read(path)
    return Micrograph(path, _clean(data, path), pixel_size)


def read_map(path: str | Path) -> Image:
    """Read an image whose pixels are not those of a detector, as a map of scores, as it is.

    Raises
    ------
    BadInput
        As `read_micrograph`, but whatever the pixels are.
    """
    with np.errstate(over="ignore"):
        return np.array(_read(Path(path))[0], dtype=np.float32)


def _read(path: Path) -> tuple[NDArray[Any], float | None]:
    """Return a file's one plane and the pixel size in its header."""
    path = check_file(path)
    try:
        if path.name.lower().endswith(TIFF_SUFFIXES):
            data, pixel_size = _read_tiff(path)
        else:
            data, pixel_size = _read_mrc(path)
    except PermissionError as error:
        raise BadInput(f"{path} may not be read; change its permissions") from error
    return _plane(data, path), pixel_size


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
    if min(data.shape) < SMALLEST_SIDE_PX:
        height, width = data.shape
        raise BadInput(
            f"{path} has only {width} x {height} pixels: that is not a micrograph; leave it out"
        )
    return data


def _clean(data: NDArray[Any], path: Path) -> Image:
    """Return a finite float32 image without extreme pixels, or say why that is impossible."""
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite: see below
        image = np.array(data, dtype=np.float32)  # a copy in native byte order
    finite = np.isfinite(image)
    bad = image.size - int(np.count_nonzero(finite))
    if bad > MOST_NOT_FINITE * image.size:
        raise BadInput(
            f"{path} has {100 * bad / image.size:.0f} % NaN or infinite pixels; motion-correct"
            " it again or leave it out"
        )
    if bad:
        image[~finite] = np.median(image[finite])
    if image.min() == image.max():
        raise BadInput(f"{path} is blank: every pixel is {image.flat[0]:g}; leave it out")
    # A sample is enough to find the scale of the bulk; the clip itself looks at every pixel.
    sample = image[:: max(1, image.shape[0] // 512), :: max(1, image.shape[1] // 512)]
    low, median, high = np.percentile(sample.astype(np.float64), [15.9, 50.0, 84.1])
    spread = CLIP_AT_SD * (high - low) / 2
    if spread > 0:
        np.clip(image, median - spread, median + spread, out=image)
    return image


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
