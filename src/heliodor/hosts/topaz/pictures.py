"""Writing an image as MRC, TIFF or a picture to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import Image
from heliodor.errors import BadInput
from heliodor.files import writing
from heliodor.micrograph import write_mrc

FORMATS = ("mrc", "tiff", "tif", "png", "jpg", "jpeg")
#: A picture shows values up to so many standard deviations from the mean.
_SHOWN_SD = 3.0


def format_named(name: str) -> str:
    """Return the name of a format that can be written, in lower case.

    Raises
    ------
    BadInput
        If it is none.
    """
    if name.lower() not in FORMATS:
        raise BadInput(f"{name!r} is no image format; give one of {', '.join(FORMATS)}")
    return name.lower()


def write_image(path: Path, image: Image, pixel_size_angstrom: float, name: str) -> None:
    """Write an image, whole or not at all.

    Parameters
    ----------
    path
        The file.
    image
        Shape (h, w). MRC and TIFF hold its values as float32; pictures have 256 grey values
        from three standard deviations below the mean to three above it.
    pixel_size_angstrom
        For the header of MRC; 0 where it is not known.
    name
        One of `FORMATS`.
    """
    if name == "mrc":
        write_mrc(path, image, pixel_size_angstrom)
    elif name in ("tiff", "tif"):
        import tifffile

        with writing(path) as aside:
            tifffile.imwrite(aside, image.astype(np.float32))
    else:
        from PIL import Image as Pillow

        with writing(path) as aside:
            Pillow.fromarray(_grey(image)).save(aside)


def _grey(image: Image) -> NDArray[np.uint8]:
    mean, sd = image.mean(dtype=np.float64), image.std(dtype=np.float64)
    relative = (image - mean) / (_SHOWN_SD * sd if sd else 1.0)
    return np.asarray(np.rint(np.clip(127.5 * (1 + relative), 0, 255)), dtype=np.uint8)
