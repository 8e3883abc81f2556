"""Compare picks with a ground truth: match names and pixel sizes, and compute the metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from heliodor.conventions import (
    FloatArray,
    Image,
    to_working,
)
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.labels import make_label_mask, mask_repeated
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.coordinates.refined_shifts import apply_shifts_on
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import (
    Failure,
    WorkingImage,
    WorkingImages,
    check_pixel_size,
    find_pixel_size,
    is_plausible_pixel_size,
    same_binning,
    same_pixel_size,
)
from heliodor.errors import BadInput
from heliodor.evaluation.metrics import Evaluation, evaluate_picks
from heliodor.evaluation.ranking import RegionCounts
from heliodor.models.model_file import Model
from heliodor.picking.score_maps import score_micrograph

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroundTruth:
    """True particle centers by micrograph, in original pixels."""

    #: By the name of the micrograph (as in results, not as in the file of the ground truth).
    xy_px: dict[str, FloatArray]
    #: Number of micrographs in the file that are not among those evaluated.
    left_out: int
    #: Pixel sizes in angstrom, for micrographs whose pixel size is in the file.
    pixel_sizes: dict[str, float] = field(default_factory=dict)

    def count_repeated(self) -> int:
        """Return how many particles are in the same pixel as an earlier one."""
        return sum(int(mask_repeated(xy).sum()) for xy in self.xy_px.values())

    @classmethod
    def read(
        cls,
        where: str | Path,
        sources: Sequence[Source],
        pixel_size_angstrom: float | None = None,
    ) -> GroundTruth:
        """Read a file and select the particles of some micrographs; see `of`."""
        table = read_picks(where)
        if not table.micrographs:
            raise BadInput(f"the ground truth {where} contains no particles")
        try:
            return cls.of(table, sources, pixel_size_angstrom)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error

    @classmethod
    def of(
        cls, table: Picks, sources: Sequence[Source], pixel_size_angstrom: float | None = None
    ) -> GroundTruth:
        """Select the particles of some micrographs; those without any are not evaluated.

        Parameters
        ----------
        table
            All particles.
        sources
            The micrographs.
        pixel_size_angstrom
            Of all micrographs, if the user gave it; refined shifts may need it.

        Raises
        ------
        BadInput
            If none of the micrographs has any.
        """
        found = match_names(table.micrographs, sources, table.file_stems)
        table, notes = apply_shifts_on(table, found, pixel_size_angstrom)
        for note in notes:
            log.warning(note)
        xy: dict[str, list[FloatArray]] = {}
        for name, own in table.split_by_micrograph():
            if name in found:
                xy.setdefault(found[name].name, []).append(own.xy_px)
        if not xy:
            raise BadInput(
                f"the ground truth has none of the micrographs evaluated: it has micrographs like"
                f" {next(iter(table.micrographs), 'none')}, they are like"
                f" {sources[0].name if sources else 'none'}; give the ground truth of these"
            )
        left_out = len(table.micrographs) - len(found)
        sizes = _plausible_pixel_sizes(table)
        return cls(
            {name: np.concatenate(parts) for name, parts in xy.items()},
            left_out,
            {found[name].name: size for name, size in sizes.items() if name in found},
        )


def compare_with_truth(
    picks: Picks,
    truth: GroundTruth,
    match_distance_angstrom: float,
    pixel_sizes: dict[str, float],
    threshold: float | None = None,
) -> Evaluation:
    """Compare picks with the ground truth; distances are measured in angstrom.

    Parameters
    ----------
    picks
        Candidates with scores, in original pixels.
    truth
        The true particles of the same micrographs.
    match_distance_angstrom
        Largest distance between a pick and the particle that it matches.
    pixel_sizes
        Pixel size of each micrograph in angstrom.
    threshold
        Threshold of the picks, log-odds; None counts all candidates.
    """
    if np.isnan(picks.score).any():
        if not np.isnan(picks.score).all():
            raise BadInput("some picks have a score and some have none, so they cannot be ranked")
        picks = Picks(picks.micrographs, picks.micrograph_index, picks.xy_px, np.zeros(len(picks)))
    picked = {
        name: (table.xy_px * pixel_sizes[name], table.score)
        for name, table in picks.split_by_micrograph()
        if name in truth.xy_px
    }
    particles = {name: xy * pixel_sizes[name] for name, xy in truth.xy_px.items()}
    return evaluate_picks(picked, particles, match_distance_angstrom, threshold)


def choose_pixel_sizes(
    picks: Picks, truth: GroundTruth, sources: Sequence[Source], given: float | None
) -> dict[str, float]:
    """Return the pixel size in angstrom of each micrograph with ground truth.

    It is `given` if that is not None, otherwise the one in the picks, in the ground truth, in
    the STAR file of the micrographs or in their headers. If all pixel sizes in these are the
    same, it is used for the micrographs that have none.

    Raises
    ------
    BadInput
        If there is none, or the picks and the ground truth were made on images of different
        binning.
    """
    if given is not None:
        return dict.fromkeys(truth.xy_px, check_pixel_size(given))
    in_picks = _plausible_pixel_sizes(picks)
    _log_differences(
        check_same_binning(name, in_picks.get(name), truth.pixel_sizes.get(name), "picks")
        for name in truth.xy_px
    )
    sizes = truth.pixel_sizes | in_picks
    for source in sources:
        if source.name in truth.xy_px and source.name not in sizes:
            size = find_pixel_size(source)
            if size is not None:
                sizes[source.name] = size
    missing = [name for name in truth.xy_px if name not in sizes]
    if missing and len(set(sizes.values())) != 1:
        raise BadInput(
            f"neither the picks nor the ground truth contain a valid pixel size of {missing[0]},"
            " and it has none in its header, or was not found; give --pixel-size in Å"
        )
    common = next(iter(sizes.values())) if sizes else 1.0
    return {name: sizes.get(name, common) for name in truth.xy_px}


def check_same_binning(
    name: str, size: float | None, truth: float | None, what: str = "micrographs"
) -> str | None:
    """Refuse a ground truth whose pixel size is of another binning than the picks or micrographs.

    Parameters
    ----------
    name
        The micrograph.
    size, truth
        Pixel sizes in angstrom, None where not known.
    what
        What has the first pixel size, in the plural.

    Returns
    -------
    str or None
        The beginning of a sentence about a difference by calibration, which does not change
        coordinates.
    """
    if size is None or truth is None or same_pixel_size(size, truth):
        return None
    sentence = f"the {what} have {size:g} Å/pixel on {name}, the ground truth {truth:g}"
    if not same_binning(size, truth):
        raise BadInput(
            f"{sentence}: they were made on images of different binning; scale one of them"
        )
    return sentence


def _log_differences(found: Iterable[str | None]) -> None:
    differing = [sentence for sentence in found if sentence is not None]
    if differing:
        others = f" (and {len(differing) - 1} more micrographs)" if len(differing) > 1 else ""
        log.warning(f"{differing[0]}{others}: distances are measured with the first")


def _plausible_pixel_sizes(table: Picks) -> dict[str, float]:
    sizes = table.first_positive_values(PIXEL_SIZE)
    return {name: size for name, size in sizes.items() if is_plausible_pixel_size(size)}


def sources_from_names(names: Sequence[str]) -> list[Source]:
    """Return the micrographs named in a table, to match the names in another table with them."""
    return [Source(name, Path(name), name) for name in names]


class RegionEvaluator:
    """Region average precision (Bepler et al., Methods 8), one micrograph at a time.

    Parameters
    ----------
    truth
        Micrographs without ground truth are ignored.
    radius_angstrom
        Pixels within this distance of a true center are positive regions.
    """

    def __init__(self, truth: GroundTruth, radius_angstrom: float) -> None:
        self._truth = truth
        self._radius = radius_angstrom
        self._counts = RegionCounts()

    def has_truth(self, name: str) -> bool:
        """Return whether there is ground truth for a micrograph."""
        return name in self._truth.xy_px

    def add(self, image: WorkingImage, score: Image) -> None:
        """Add the score map of a micrograph."""
        xy = self._truth.xy_px.get(image.source.name)
        if xy is None:
            return
        working = to_working(xy, image.original_shape, image.shape)
        radius_px = self._radius / image.working_pixel_size_angstrom
        self._counts.add(make_label_mask(working, image.shape, radius_px), score)

    def average_precision(self) -> float:
        """Return the region average precision; nan without any region."""
        return self._counts.average_precision()


def evaluate_regions(
    model: Model,
    sources: Sequence[Source],
    truth: GroundTruth,
    images: WorkingImages,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, list[Failure]]:
    """Return the region average precision of a model, and the micrographs that failed.

    Raises
    ------
    BadInput
        If no micrograph can be used.
    """
    regions = RegionEvaluator(truth, model.card.training_radius_angstrom)
    failures: list[Failure] = []
    with_truth = [source for source in sources if source.name in truth.xy_px]
    for count, source in enumerate(with_truth, 1):
        try:
            image = images.get(source)
            regions.add(image, score_micrograph(model, image, device))
        except BadInput as error:
            failures.append(Failure(source.name, str(error)))
        if progress is not None:
            progress(count, len(with_truth))
    if with_truth and len(failures) == len(with_truth):
        raise BadInput(f"no micrograph could be scored: {failures[0].reason}")
    return regions.average_precision(), failures
