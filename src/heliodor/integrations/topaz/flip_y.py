"""Mirroring y: the heights of the images that coordinates are on."""

from __future__ import annotations

import glob
import warnings
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.names import is_micrograph_name, strip_image_suffix
from heliodor.errors import BadInput

#: Pictures to look at, which coordinates may have been made on.
_PICTURES = (".png", ".jpg", ".jpeg")


def find_image(name: str, folder: str | Path, image_ext: str) -> Path | None:
    """Return the file of an image, or None.

    Parameters
    ----------
    name
        The micrograph's name without suffix; its folders may be those below `folder` or none.
    folder
        Where to look.
    image_ext
        What its name ends with, with a dot or without; ``*`` or nothing for any image.
    """
    ending = f".{image_ext.lstrip('.')}" if image_ext.strip(".*") else ".*"
    for stem in dict.fromkeys((name, PurePosixPath(name).name)):
        found = sorted(glob.glob(f"{glob.escape(str(Path(folder) / stem))}{ending}"))
        images = [Path(path) for path in found if ending != ".*" or is_image(path)]
        if images:
            return images[0]
    return None


def is_image(path: str) -> bool:
    """Tell whether a file's name is that of an image whose height can be read."""
    return is_micrograph_name(path) or path.lower().endswith(_PICTURES)


def read_height(path: Path) -> int:
    """Return an image's height in pixels without reading its pixels.

    Raises
    ------
    BadInput
        If the file cannot be read as what its name says.
    """
    if not path.name.lower().endswith(_PICTURES):
        return read_header(path).shape[0]
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"):  # of large ones, of which nothing is read
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                return int(picture.height)
    except Exception as error:  # Pillow raises many kinds, all meaning this
        raise BadInput(f"the height of {path} cannot be read ({error}); copy it again") from error


def flip_y(picks: Picks, folder: str | None, image_ext: str) -> Picks:
    """Mirror y of all picks: ``height - 1 - y``.

    Raises
    ------
    BadInput
        If the folder is not given, or the image of a micrograph with picks is not in it.
    """
    if folder is None:
        raise BadInput("--invert-y needs the images' heights; give their folder with --imagedir")
    heights = np.zeros(len(picks.micrographs))
    for position in np.unique(picks.micrograph_index):
        name = picks.micrographs[position]
        path = find_image(strip_image_suffix(name), folder, image_ext)
        if path is None:
            raise BadInput(
                f"{folder} holds no image {name} whose name ends with {image_ext}; check"
                " --imagedir and --image-ext"
            )
        heights[position] = read_height(path)
    xy = picks.xy_px.copy()
    xy[:, 1] = heights[picks.micrograph_index] - 1 - xy[:, 1]
    return replace(picks, xy_px=xy)
