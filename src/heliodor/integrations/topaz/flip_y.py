"""Flip y coordinates, which needs the heights of the images."""

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

#: Image formats for viewing, on which coordinates may have been made.
_PICTURES = (".png", ".jpg", ".jpeg")


def find_image(name: str, folder: str | Path, image_ext: str) -> Path | None:
    """Return the file of an image, or None.

    Parameters
    ----------
    name
        The micrograph's name without suffix, with or without folders below `folder`.
    folder
        Folder to search.
    image_ext
        Suffix of the name, with or without a dot; ``*`` or empty for any image.
    """
    ending = f".{image_ext.lstrip('.')}" if image_ext.strip(".*") else ".*"
    for stem in dict.fromkeys((name, PurePosixPath(name).name)):
        found = sorted(glob.glob(f"{glob.escape(str(Path(folder) / stem))}{ending}"))
        images = [Path(path) for path in found if ending != ".*" or is_image(path)]
        if images:
            return images[0]
    return None


def is_image(path: str) -> bool:
    """Return whether a file name is that of an image whose height can be read."""
    return is_micrograph_name(path) or path.lower().endswith(_PICTURES)


def read_height(path: Path) -> int:
    """Return the height of an image without reading its pixels.

    Raises
    ------
    BadInput
        If the header cannot be read.
    """
    if not path.name.lower().endswith(_PICTURES):
        return read_header(path).shape[0]
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow warns of large images
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                return int(picture.height)
    except Exception as error:  # Pillow raises many types of errors
        raise BadInput(f"the height of {path} cannot be read ({error}); copy it again") from error


def flip_y(picks: Picks, folder: str | None, image_ext: str) -> Picks:
    """Flip y of all picks: ``height - 1 - y``.

    Raises
    ------
    BadInput
        If no folder is given, or it lacks the image of a micrograph with picks.
    """
    if folder is None:
        raise BadInput(
            "--invert-y needs the heights of the images; give their folder with --imagedir"
        )
    heights = np.zeros(len(picks.micrographs))
    for position in np.unique(picks.micrograph_index):
        name = picks.micrographs[position]
        path = find_image(strip_image_suffix(name), folder, image_ext)
        if path is None:
            raise BadInput(
                f"{folder} contains no image {name} with the suffix {image_ext}; check --imagedir"
                " and --image-ext"
            )
        heights[position] = read_height(path)
    xy = picks.xy_px.copy()
    xy[:, 1] = heights[picks.micrograph_index] - 1 - xy[:, 1]
    return replace(picks, xy_px=xy)
