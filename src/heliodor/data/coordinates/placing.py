"""Placing: whether labels lie on their images, or plainly in another frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heliodor.data.coordinates.frame_detection import (
    MOST_VIEWS,
    Verdict,
    View,
    judge_frame,
)
from heliodor.data.coordinates.label_assignment import LabelledSource
from heliodor.data.coordinates.labels import outside
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImage, same_pixel_size
from heliodor.errors import BadInput

#: More labels than this share outside their images means a wrong frame, not a slip.
MOST_OUTSIDE = 0.05


def frame_of(items: Sequence[LabelledSource], working: dict[Source, WorkingImage]) -> Verdict:
    """Tell in which frame labels fit their pictures, by the micrographs with most of them."""
    fullest = sorted(items, key=lambda item: -len(item.xy_px))[:MOST_VIEWS]
    images = [working[item.source] for item in fullest]
    return judge_frame(
        View(image.image, image.original_shape, item.xy_px)
        for image, item in zip(images, fullest, strict=True)
    )


def check_frame(items: Sequence[LabelledSource], working: dict[Source, WorkingImage]) -> None:
    """Refuse labels that plainly lie in another frame than what the pictures show."""
    verdict = frame_of(items, working)
    if verdict.wrong:
        raise BadInput(
            f"the labels are in another frame than the micrographs: {verdict}; mend them with"
            " `heliodor convert`, or give --trust-labels to learn from them all the same"
        )


def check_sampling(items: Sequence[LabelledSource], working: dict[Source, WorkingImage]) -> None:
    """Refuse labels that say themselves that they are in pixels of another size."""
    for item in items:
        image, said = working.get(item.source), item.pixel_size_angstrom
        if image is None or said is None:
            continue
        actual = image.pixel_size_angstrom
        if not same_pixel_size(said, actual):
            raise BadInput(
                f"the labels of {item.source.name} are in pixels of {said:.4g} A, but the"
                f" micrograph has {actual:.4g} A a pixel; give the micrographs that were labelled,"
                " or scale the labels"
            )


def drop_outside(
    items: list[LabelledSource], working: dict[Source, WorkingImage], notes: list[str]
) -> list[LabelledSource]:
    """Leave out labels beside their image; refuse where there are too many of them."""
    kept: list[LabelledSource] = []
    lost, total, example = 0, 0, ""
    for item in items:
        shape = working[item.source].original_shape
        bad, strange = (outside(own, shape) for own in (item.xy_px, item.negative_xy_px))
        if bad.any():
            x, y = item.xy_px[bad][0]
            example = (
                f"{item.source.name} has {shape[1]} x {shape[0]} pixels, but a label at"
                f" ({x:g}, {y:g})"
            )
        lost, total = lost + int(bad.sum()), total + len(bad)
        negatives = item.negative_xy_px[~strange]
        kept.append(replace(item, xy_px=item.xy_px[~bad], negative_xy_px=negatives))
    if lost > MOST_OUTSIDE * total:
        raise BadInput(
            f"{lost} of {total} labels lie outside their micrographs ({example}): they were"
            " picked on images of another size, or x and y are swapped; scale or swap them"
        )
    if lost:
        notes.append(f"{lost} labels outside their micrograph were left out ({example})")
    return kept
