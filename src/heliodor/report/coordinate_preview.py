"""An image of the micrograph with the most picks."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from heliodor.conventions import to_working
from heliodor.data.coordinates.picks import BOX, Picks
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write

log = logging.getLogger(__name__)

#: Where the particle size is not known, this many markers fit side by side in an image.
MARKS_ACROSS = 30


def draw_micrograph_with_most_picks(
    path: Path, picks: Picks, sources: dict[str, Source], pixel_sizes: dict[str, float]
) -> None:
    """Draw the micrograph with the most picks, and its picks, as a PNG.

    Raises
    ------
    BadInput
        If its pixel size is not known.
    """
    from heliodor.report.content import GalleryItem
    from heliodor.report.gallery import WHOLE_PX, draw_micrograph

    counts = picks.counts()
    name = picks.micrographs[int(np.argmax(counts))]
    if name not in pixel_sizes:
        raise BadInput(
            f"--picture needs the pixel size of {name}, which is not known; give --pixel-size"
        )
    picks_of_micrograph = picks.select(picks.micrograph_index == int(np.argmax(counts)))
    image = read_micrograph(sources[name].path).image
    height, width = image.shape
    factor = min(1.0, WHOLE_PX / max(image.shape))
    small = fourier_crop(image, (round(height * factor), round(width * factor)))
    shape = (small.shape[0], small.shape[1])
    item = GalleryItem(
        name,
        small,
        pixel_sizes[name] * width / shape[1],
        to_working(picks_of_micrograph.xy_px, (height, width), shape),
        picks_of_micrograph.score,
        *(None,) * 4,
    )
    side = picks_of_micrograph.first_positive_values(BOX).get(name, width / MARKS_ACROSS)
    with atomic_write(path) as temporary:
        temporary.write_bytes(draw_micrograph(item, side * pixel_sizes[name]))
    log.info(f"wrote an image of {name} with its {len(picks_of_micrograph)} picks to {path}")
