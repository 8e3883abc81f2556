"""Assignment of labels to micrographs, and checks that they lie on them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.formats.relion_star import UNSET
from heliodor.data.coordinates.labels import mask_outside, mask_repeated
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.coordinates.refined_shifts import apply_shifts_on
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import (
    WorkingImage,
    same_binning,
    same_pixel_size,
)
from heliodor.errors import BadInput
from heliodor.utils.files import find_referenced_file

if TYPE_CHECKING:
    from heliodor.data.coordinates.frame_detection import FrameVerdict, ImageCoordinates


#: Micrographs that are compared with those of the labels' own project.
_COMPARED = 10


@dataclass(frozen=True)
class LabeledSource:
    """A micrograph and its labels in its own pixels, shape (n, 2)."""

    source: Source
    xy_px: FloatArray
    #: Pixel size according to the file of labels, angstrom per pixel.
    pixel_size_angstrom: float | None = None
    #: Negatives, shape (m, 2).
    negative_xy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))


def read_labels(
    labels: str | Path,
    sources: Sequence[Source],
    negatives: str | Path | None = None,
    pixel_size_angstrom: float | None = None,
) -> tuple[list[LabeledSource], list[str]]:
    """Read labels and assign them to micrographs; see `assign_labels`.

    Raises
    ------
    BadInput
        As `read_picks` and `assign_labels`, with the names of the files.
    """
    table = read_picks(labels)
    against = None if negatives is None else read_picks(negatives)
    try:
        own, notes = assign_labels(table, sources, against, pixel_size_angstrom)
    except BadInput as error:
        where = labels if negatives is None else f"{labels}, {negatives}"
        raise BadInput(f"{where}: {error}") from error
    doubts = (
        find_namesake(table.micrographs, sources, labels),
        _describe_low_scores(table),
    )
    return own, [*notes, *(f"{labels}: {doubt}" for doubt in doubts if doubt is not None)]


def _describe_low_scores(labels: Picks) -> str | None:
    """Return a warning if labels are candidates that their program did not choose.

    CBOX files and Topaz's tables have all candidates, down to low scores.
    """
    low = labels.score[(labels.score < 0) & (labels.score > UNSET)]
    if not len(low):
        return None
    return (
        f"{len(low)} of the {len(labels)} labels have scores below 0 (down to {low.min():.3g}): if"
        " these are log-odds, they are more likely no particles; `heliodor convert --threshold 0`"
        " keeps the others"
    )


def find_namesake(
    names: Sequence[str], sources: Sequence[Source], table: str | Path
) -> str | None:
    """Return a warning if a table lies in a project with other micrographs of the same names.

    Parameters
    ----------
    names
        Micrographs of the table, of which the first are compared.
    sources
        The micrographs that are used.
    table
        The file with the coordinates.
    """
    if not os.path.isfile(table):
        return None
    by_name = {source.name: source.path for source in sources}
    for name in names[:_COMPARED]:
        used = by_name.get(name)
        beside = None if used is None else find_referenced_file(name, Path(table))
        if used and beside and os.path.exists(used) and not os.path.samefile(used, beside):
            return (
                f"its own project has another micrograph {name} than the one that is used"
                f" ({used}): make sure that the coordinates are of the micrographs given"
            )
    return None


def assign_labels(
    labels: Picks,
    sources: Sequence[Source],
    negatives: Picks | None = None,
    pixel_size_angstrom: float | None = None,
) -> tuple[list[LabeledSource], list[str]]:
    """Assign labels to micrographs.

    Parameters
    ----------
    labels
        Particles.
    sources
        Micrographs.
    negatives
        Negatives; they are used on micrographs with labels.
    pixel_size_angstrom
        Of all micrographs, if the user gave it; refined shifts may need it.

    Returns
    -------
    list of LabeledSource
        One per micrograph, in their order, also for micrographs without labels.
    list of str
        Warnings about labels that belong to none of the micrographs, and refined shifts.

    Raises
    ------
    BadInput
        If there are no labels or negatives (if given), none belongs to the micrographs, or a label
        is in the same pixel as a negative.
    """
    own, sizes, notes = _group_by_source(labels, sources, "labels", pixel_size_angstrom)
    against: dict[Source, FloatArray] = {}
    if negatives is not None:
        against, of_negatives, more = _group_by_source(
            negatives, sources, "negatives", pixel_size_angstrom
        )
        notes += more
        sizes = of_negatives | sizes
        for source in own.keys() & against.keys():
            _refuse_same_positions(source, own[source], against[source])
        lost = sum(len(xy) for source, xy in against.items() if source not in own)
        if lost:
            notes.append(
                f"ignored {lost} negatives on micrographs without labels; label some particles"
                " there too"
            )
    none = np.zeros((0, 2))
    return [
        LabeledSource(source, own.get(source, none), sizes.get(source), against.get(source, none))
        for source in sources
    ], notes


def _refuse_same_positions(source: Source, xy: FloatArray, others: FloatArray) -> None:
    both = mask_repeated(np.concatenate([others, xy]))[len(others) :]
    if both.any():
        x, y = xy[both][0]
        raise BadInput(
            f"{np.count_nonzero(both)} labels on {source.name} are negatives too (such as"
            f" {x:g}, {y:g}): a particle cannot be a negative; remove them from one of the files"
        )


def _group_by_source(
    table: Picks, sources: Sequence[Source], what: str, pixel_size_angstrom: float | None
) -> tuple[dict[Source, FloatArray], dict[Source, float], list[str]]:
    """Return the coordinates and the pixel sizes of each micrograph, and warnings."""
    if not len(table):
        if what == "labels":
            raise BadInput("the labels contain no particles; label some first")
        raise BadInput(f"the {what} contain no coordinates; mark some first, or give no {what}")
    found = match_names(table.micrographs, sources, table.file_stems)
    table, notes = apply_shifts_on(table, found, pixel_size_angstrom)
    own: dict[Source, list[FloatArray]] = {}
    pixel_sizes = table.first_positive_values(PIXEL_SIZE)
    sizes: dict[Source, float] = {}
    strangers, lost = [], 0
    for name, picks in table.split_by_micrograph():
        if name in found:
            own.setdefault(found[name], []).append(picks.xy_px)
            if name in pixel_sizes:
                sizes[found[name]] = pixel_sizes[name]
        elif len(picks):
            strangers.append(name)
            lost += len(picks)
    joined = {source: np.concatenate(parts) for source, parts in own.items()}
    joined = {source: xy for source, xy in joined.items() if len(xy)}
    number = sum(map(len, joined.values()))
    joined = {source: xy[~mask_repeated(xy)] for source, xy in joined.items()}
    if repeated := number - sum(map(len, joined.values())):
        notes.append(f"ignored {repeated} {what} that repeat others, in the same pixel")
    if not joined:
        raise BadInput(
            f"none of the {len(table)} {what} belongs to the given micrographs: the {what} are on"
            f" {table.micrographs[0]}, the micrographs are named like {sources[0].name}; give"
            " the labeled micrographs"
        )
    if strangers:
        notes.append(
            f"ignored {lost} {what} on {len(strangers)} micrographs (such as {strangers[0]}) that"
            " are not among the given micrographs"
        )
    return joined, sizes, notes


#: If more than this share of the labels lies outside the images, the frame is wrong.
MOST_OUTSIDE = 0.05


def judge_label_frame(
    items: Sequence[LabeledSource], working: dict[Source, WorkingImage]
) -> FrameVerdict:
    """Return which frame fits the labels, judged on the micrographs with most labels."""
    # Slow to import, and only these checks need it.
    from heliodor.data.coordinates.frame_detection import MOST_VIEWS, ImageCoordinates, judge_frame

    fullest = sorted(items, key=lambda item: -len(item.xy_px))[:MOST_VIEWS]
    images = [working[item.source] for item in fullest]
    return judge_frame(
        ImageCoordinates(image.image, image.original_shape, item.xy_px)
        for image, item in zip(images, fullest, strict=True)
    )


def read_views_with_most_picks(
    picked: Iterable[tuple[Source, FloatArray]],
) -> list[ImageCoordinates]:
    """Return the micrographs with the most picks, without those that cannot be read.

    Parameters
    ----------
    picked
        Micrographs, each with (x, y) in its own pixels, shape (n, 2).
    """
    from heliodor.data.coordinates.frame_detection import MOST_VIEWS, ImageCoordinates

    views: list[ImageCoordinates] = []
    for source, xy_px in sorted(picked, key=lambda item: -len(item[1])):
        if len(views) == MOST_VIEWS or not len(xy_px):
            break
        try:
            image = read_micrograph(source.path).image
        except BadInput:
            continue  # the others are enough; unreadable files are reported elsewhere
        views.append(ImageCoordinates(image, (image.shape[0], image.shape[1]), xy_px))
    return views


def describe_misfit(items: Sequence[LabeledSource]) -> str | None:
    """Return a warning if labels lie in another frame than the particles, or fit by chance only.

    The micrographs with the most labels are read for this.
    """
    from heliodor.data.coordinates.frame_detection import judge_frame

    verdict = judge_frame(read_views_with_most_picks((i.source, i.xy_px) for i in items))
    if verdict.is_wrong:
        return f"the labels do not match the micrographs: {verdict}"
    return describe_chance(verdict)


def check_frame(
    items: Sequence[LabeledSource], working: dict[Source, WorkingImage]
) -> FrameVerdict:
    """Refuse labels that clearly lie in another frame than the particles in the images."""
    verdict = judge_label_frame(items, working)
    if verdict.is_wrong:
        raise BadInput(
            f"the labels do not match the micrographs: {verdict}; fix them with `heliodor"
            " convert`, or give --trust-labels to use them anyway"
        )
    return verdict


def describe_chance(verdict: FrameVerdict, doubted: bool = False) -> str | None:
    """Return a warning if the labels fit the images no better than random positions.

    Parameters
    ----------
    verdict
        How they fit.
    doubted
        Whether a model finds no particles at the labels; fewer of them are then enough.
    """
    if not (verdict.may_be_chance if doubted else verdict.is_chance):
        return None
    return (
        f"the labels fit the micrographs no better than random positions: {verdict.number} of them"
        f" were compared (fit {verdict.fit_unchanged:.1f}, chance is 0). Check that they belong to"
        " these micrographs, with `heliodor convert --picture`; very faint particles look the same"
    )


def check_sampling(
    items: Sequence[LabeledSource],
    working: dict[Source, WorkingImage],
    overruled: bool = False,
) -> list[str]:
    """Refuse labels whose file gives the pixel size of another binning than the micrograph has.

    Parameters
    ----------
    overruled
        Whether the user has given the pixel size, or trusts the labels: they are then accepted.

    Returns
    -------
    list of str
        A warning if pixel sizes differ and the labels are accepted.

    Raises
    ------
    BadInput
        If the pixels of labels and micrograph are different ones.
    """
    differing = []
    for item in items:
        image, pixel_size = working.get(item.source), item.pixel_size_angstrom
        if image is None or pixel_size is None:
            continue
        actual = image.pixel_size_angstrom
        if same_pixel_size(pixel_size, actual):
            continue
        sentence = (
            f"the labels of {item.source.name} are at {pixel_size:.4g} Å/pixel, but the micrograph"
            f" is at {actual:.4g} Å/pixel"
        )
        if not overruled and not same_binning(pixel_size, actual):
            raise BadInput(
                f"{sentence}; give the labeled micrographs, or scale the labels, or give"
                " --trust-labels to use them as they are"
            )
        differing.append(sentence)
    if not differing:
        return []
    others = f" (and {len(differing) - 1} more micrographs)" if len(differing) > 1 else ""
    return [f"{differing[0]}{others}; their coordinates are used as they are"]


def drop_outside(
    items: list[LabeledSource], working: dict[Source, WorkingImage], notes: list[str]
) -> list[LabeledSource]:
    """Drop labels outside their image, or refuse them if there are too many."""
    kept: list[LabeledSource] = []
    lost, total, example = 0, 0, ""
    for item in items:
        shape = working[item.source].original_shape
        bad, strange = (mask_outside(own, shape) for own in (item.xy_px, item.negative_xy_px))
        if bad.any():
            x, y = item.xy_px[bad][0]
            example = (
                f"{item.source.name} has {shape[1]} x {shape[0]} pixels, but there is a label at"
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
        notes.append(f"ignored {lost} labels outside their micrograph ({example})")
    return kept
