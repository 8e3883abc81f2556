"""Viewing: the pictures of the micrographs with most picks, to judge a frame by."""

from __future__ import annotations

from collections.abc import Iterable

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.frame import MOST_VIEWS, View
from heliodor.micrograph import read_micrograph
from heliodor.sources import Source


def fullest_views(picked: Iterable[tuple[Source, FloatArray]]) -> list[View]:
    """Read the micrographs with most picks; one that cannot be read is passed over.

    Parameters
    ----------
    picked
        Micrographs, each with (x, y) in its own pixels, shape (n, 2).
    """
    views: list[View] = []
    for source, xy_px in sorted(picked, key=lambda item: -len(item[1])):
        if len(views) == MOST_VIEWS or not len(xy_px):
            break
        try:
            image = read_micrograph(source.path).image
        except BadInput:
            continue  # the other pictures are enough; where it matters it is said elsewhere
        views.append(View(image, (image.shape[0], image.shape[1]), xy_px))
    return views
