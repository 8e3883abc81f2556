"""Judging picks: names, pixel sizes and distances brought together for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from heliodor.data.coordinates.labels import make_label_mask
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import (
    Failure,
    WorkingImage,
    WorkingImages,
    check_pixel_size,
    is_plausible_pixel_size,
    same_pixel_size,
)
from heliodor.errors import BadInput
from heliodor.evaluation.metrics import Evaluation, evaluate_picks
from heliodor.evaluation.ranking import RegionCounts
from heliodor.models.model_file import Model
from heliodor.picking.score_maps import score_micrograph


@dataclass(frozen=True)
class GroundTruth:
    """True particle centres of each of some micrographs, in original pixels."""

    #: By the micrograph's own name (the name in results, not that in the truth's file).
    xy_px: dict[str, FloatArray]
    #: Micrographs of the truth's file that were not judged.
    left_out: int
    #: Angstrom per pixel, where the truth's file says it.
    pixel_sizes: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, where: str | Path, sources: Sequence[Source]) -> GroundTruth:
        """Read a truth's file and find the truth of given micrographs, as `of` does."""
        table = read_picks(where)
        if not table.micrographs:
            raise BadInput(f"the truth {where} holds no particles; give all that there are")
        try:
            return cls.of(table, sources)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error

    @classmethod
    def of(cls, table: Picks, sources: Sequence[Source]) -> GroundTruth:
        """Find the truth of given micrographs; those it does not speak of are not judged.

        Raises
        ------
        BadInput
            If it speaks of none of them.
        """
        found = match_names(table.micrographs, sources)
        xy: dict[str, list[FloatArray]] = {}
        for name, own in table.split_by_micrograph():
            if name in found:
                xy.setdefault(found[name].name, []).append(own.xy_px)
        if not xy:
            raise BadInput(
                f"the truth names none of the micrographs judged: it has micrographs like"
                f" {next(iter(table.micrographs), 'none at all')}, they are like"
                f" {sources[0].name if sources else 'none at all'}; give the truth of these"
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
    """Judge picks against the truth, in angstrom.

    Parameters
    ----------
    picks
        Candidates with scores, in original pixels.
    truth
        Of the same micrographs.
    match_distance_angstrom
        A pick and a particle further apart than this are not the same.
    pixel_sizes
        Angstrom per pixel of each micrograph.
    threshold
        Operating threshold, log-odds; None counts every pick given.
    """
    if np.isnan(picks.score).any():
        if not np.isnan(picks.score).all():
            raise BadInput("some picks have a score and some have none; they cannot be ranked")
        picks = Picks(picks.micrographs, picks.micrograph_index, picks.xy_px, np.zeros(len(picks)))
    own = {
        name: (table.xy_px * pixel_sizes[name], table.score)
        for name, table in picks.split_by_micrograph()
        if name in truth.xy_px
    }
    true = {name: xy * pixel_sizes[name] for name, xy in truth.xy_px.items()}
    return evaluate_picks(own, true, match_distance_angstrom, threshold)


def choose_pixel_sizes(
    picks: Picks, truth: GroundTruth, sources: Sequence[Source], given: float | None
) -> dict[str, float]:
    """Return the pixel size of each micrograph judged.

    It is the one given, which overrules all tables; else what the picks say, or the truth;
    else the STAR file of the micrographs. Where all that is said is one and the same number,
    it holds for every micrograph.

    Raises
    ------
    BadInput
        If none says, or the picks and the truth say that they were made on images of different
        binning.
    """
    if given is not None:
        return dict.fromkeys(truth.xy_px, check_pixel_size(given))
    in_star = {s.name: s.pixel_size_angstrom for s in sources}
    known = {
        name: size for name, size in in_star.items() if size and is_plausible_pixel_size(size)
    }
    in_picks = _plausible_pixel_sizes(picks)
    for name in truth.xy_px:
        check_same_binning(name, in_picks.get(name), truth.pixel_sizes.get(name), "picks")
    sizes = known | truth.pixel_sizes | in_picks
    missing = [name for name in truth.xy_px if name not in sizes]
    if missing and len(set(sizes.values())) != 1:
        raise BadInput(
            f"neither the picks nor the truth say a believable pixel size of {missing[0]}; give"
            " --pixel-size in angstrom"
        )
    common = next(iter(sizes.values())) if sizes else 1.0
    return {name: sizes.get(name, common) for name in truth.xy_px}


def check_same_binning(
    name: str, own: float | None, truth: float | None, what: str = "micrographs"
) -> None:
    """Refuse a truth in pixels of another size than the picks or micrographs (`what`) have."""
    if own is None or truth is None:
        return
    if not same_pixel_size(own, truth):
        raise BadInput(
            f"the {what} say {own:g} A a pixel for {name}, the truth {truth:g}: they were made on"
            " images of different binning; scale one of them"
        )


def _plausible_pixel_sizes(table: Picks) -> dict[str, float]:
    said = table.first_positive_values(PIXEL_SIZE)
    return {name: size for name, size in said.items() if is_plausible_pixel_size(size)}


def sources_from_names(names: Sequence[str]) -> list[Source]:
    """Treat the names in a table as micrographs, to match another table's names to them."""
    return [Source(name, Path(name), name) for name in names]


class RegionEvaluator:
    """Region average precision (Bepler et al., Methods 8), one micrograph at a time.

    Parameters
    ----------
    truth
        Of the micrographs that will be added; others are passed over.
    radius_angstrom
        Pixels this near to a true centre are positive regions.
    """

    def __init__(self, truth: GroundTruth, radius_angstrom: float) -> None:
        self._truth = truth
        self._radius = radius_angstrom
        self._counts = RegionCounts()

    def has_truth(self, name: str) -> bool:
        """Tell whether there is truth of a micrograph."""
        return name in self._truth.xy_px

    def add(self, image: WorkingImage, score: Image) -> None:
        """Rank the regions of one micrograph with the rest."""
        xy = self._truth.xy_px.get(image.source.name)
        if xy is None:
            return
        working = to_working(xy, image.original_shape, image.shape)
        radius_px = self._radius / image.working_pixel_size_angstrom
        self._counts.add(make_label_mask(working, image.shape, radius_px), score)

    def average_precision(self) -> float:
        """Return the average precision so far; nan without any region."""
        return self._counts.average_precision()


def evaluate_regions(
    model: Model,
    sources: Sequence[Source],
    truth: GroundTruth,
    images: WorkingImages,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, list[Failure]]:
    """Return a model's region average precision on micrographs with truth, and failures.

    Raises
    ------
    BadInput
        If not a single micrograph can be used.
    """
    judge = RegionEvaluator(truth, model.card.training_radius_angstrom)
    failures: list[Failure] = []
    judged = [source for source in sources if source.name in truth.xy_px]
    for number, source in enumerate(judged, 1):
        try:
            image = images.get(source)
            judge.add(image, score_micrograph(model, image, device))
        except BadInput as error:
            failures.append(Failure(source.name, str(error)))
        if progress is not None:
            progress(number, len(judged))
    if judged and len(failures) == len(judged):
        raise BadInput(f"no micrograph could be scored: {failures[0].reason}")
    return judge.average_precision(), failures
