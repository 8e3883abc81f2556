"""Score calibration: what the scores of a newly trained network mean on its micrographs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from heliodor.conventions import FloatArray, Image
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration, calibrate_scores
from heliodor.evaluation.label_threshold import (
    LabelEstimate,
    combine_with_labels,
    estimate_from_labels,
)
from heliodor.evaluation.matching import MATCH_FRACTION, match_picks
from heliodor.evaluation.score_histogram import (
    DatasetScores,
    MicrographScores,
    ScoreCounts,
)
from heliodor.evaluation.thresholds import choose_threshold
from heliodor.models.networks import Network
from heliodor.picking.candidates import find_operating_point
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.decoys import (
    ScoredPositions,
    choose_clear_above,
    find_positions,
    keep_clear_decoys,
    measure_candidate_area,
)
from heliodor.picking.score_maps import FLOOR, find_contamination, level_scores
from heliodor.picking.scoring import (
    NetworkOutput,
    lattice_step,
    score_smoothly,
    score_with_contaminants,
)
from heliodor.picking.settings import Distances, PickSettings
from heliodor.training.dataset import TrainingSet
from heliodor.utils.compute import map_in_threads

#: No more than this share of the labels may lie in contamination. Otherwise its detection needs
#: stronger evidence: log-odds are lowered by the first of these steps that is enough.
CONTRADICTED = 0.01
CONTAMINANT_STEPS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
#: Micrographs to calibrate on, and how many of them have labels if enough others have none.
IMAGES, LABELLED = 12, 6
#: Fewer are used if they have so many labels, but not fewer than these.
ENOUGH_LABELS, LEAST_IMAGES = 500, 4


class ScoreScale(NamedTuple):
    """Where a network's scores lie on the micrographs it was trained on, and what they mean."""

    #: Their median pixel, log-odds.
    background: float
    #: From the mixture and from the labels; None where there is too little data to calibrate.
    calibration: Calibration | None
    #: Of all candidates on the images.
    scores: ScoreCounts
    #: Share of the labels that lie in contamination as the network detects it.
    labels_in_contamination: float = 0.0
    #: What the labels alone say; None where there are too few.
    from_labels: LabelEstimate | None = None
    #: By how much its log-odds of contaminants are too high for the labels; the calibration is
    #: that of a network without this excess. Infinite: no labels would be enough.
    contaminant_excess: float = 0.0

    def choose_threshold(self, max_fdr: float | None = None) -> float | None:
        """Return the threshold, log-odds; None where there is too little data."""
        if self.calibration is None:
            return None
        if max_fdr is not None or self.from_labels is None:
            return choose_threshold(self.calibration, self.scores, max_fdr)
        return round(self.from_labels.threshold, 3)

    def correct_contaminants(self, network: Network) -> str | None:
        """Lower a network's log-odds of contaminants to agree with the labels.

        Returns
        -------
        str or None
            What was done, None if the labels do not contradict the detection.
        """
        if network.contaminant is None or not self.contaminant_excess:
            return None
        share = f"{self.labels_in_contamination:.1%} of the labels lie in areas that the model"
        if not math.isfinite(self.contaminant_excess):
            network.contaminant = None
            return (
                f"{share} is certain are contamination; the labels are taken to be right, and the"
                " new model does not detect contamination"
            )
        assert network.contaminant.bias is not None
        with torch.no_grad():
            network.contaminant.bias -= self.contaminant_excess
        return (
            f"{share} took for contamination; the labels are taken to be right, and the new model"
            f" needs stronger evidence of contamination (by {self.contaminant_excess:g} log-odds)"
        )


class _Scored(NamedTuple):
    """An image of the calibration set, scored."""

    image: Image
    output: NetworkOutput
    #: Log-odds of the image with reversed contrast, shape (h, w).
    reverse: Image
    #: The log-odds, not finite in dead borders, shape (h, w).
    masked: Image


class _Counted(NamedTuple):
    """What is counted on an image of the calibration set."""

    candidates: ScoredPositions
    decoys: ScoredPositions
    #: In which there may be candidates, in square pixels.
    area: float
    #: Of the image's labels, None of an image without labels.
    xy_px: FloatArray | None


@dataclass(frozen=True)
class CalibrationSet:
    """Normalized images with and without labels, and how they are picked.

    Those without are like micrographs to come: the network was not trained to take their
    unlabeled particles for background.
    """

    labelled: list[LabeledImage]
    others: list[Image]
    distances: Distances
    diameter_px: float
    #: Training radius; 0 where every pixel is to be scored.
    radius_px: float
    device: torch.device
    #: How contamination is treated, if the network detects it.
    picking: PickSettings = PickSettings()

    @classmethod
    def read(
        cls,
        dataset: TrainingSet,
        others: Sequence[Source],
        images: WorkingImages,
        diameter_angstrom: float,
        picking: PickSettings,
        device: torch.device,
    ) -> CalibrationSet:
        """Read the micrographs: those of `choose_unlabeled`, and those with the most labels."""
        size = images.working_pixel_size_angstrom
        read = []
        for source in others:
            try:
                image = images.get(source)
            except BadInput:
                # It is reported when it is picked; here one fewer will do.
                continue
            read.append(dataset.normalizer.apply(image.image))
        labelled = [*dataset.validation, *dataset.images]
        return cls(
            labelled=choose_most_labeled(labelled, IMAGES - len(read)),
            others=read,
            distances=picking.distances_px(diameter_angstrom, size, dataset.margin_px * size),
            diameter_px=diameter_angstrom / size,
            radius_px=dataset.radius_px if picking.scores == "smooth" else 0.0,
            device=device,
            picking=picking,
        )

    def measure_scale(
        self,
        network: Network,
        seed: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> ScoreScale:
        """Measure where a newly trained network's scores lie, and calibrate them.

        Parameters
        ----------
        network
            In evaluation mode.
        seed
            Of the resampling.
        progress
            Called with the numbers of images that are scored and that will be; an image with
            reversed contrast counts as another one.
        """
        scored = self._score(network, progress)
        background = self._background(scored)
        share, excess, masks = self._find_contamination(network, scored)
        counted = self._count(scored, masks, background)
        if not counted:
            return ScoreScale(
                background,
                None,
                DatasetScores.from_micrographs([]).candidates,
                share,
                contaminant_excess=excess,
            )
        exclusion_px = self.distances.exclusion_px
        clear_above = choose_clear_above(
            [own.decoys for own in counted], sum(own.area for own in counted), exclusion_px
        )
        sheet = DatasetScores.from_micrographs(
            [
                MicrographScores(
                    own.candidates.score,
                    keep_clear_decoys(own.decoys, own.candidates, clear_above, exclusion_px),
                    own.area,
                )
                for own in counted
            ]
        )
        reach_px = MATCH_FRACTION * self.diameter_px
        label_scores = [
            find_label_scores(own.candidates, own.xy_px, reach_px)
            for own in counted
            if own.xy_px is not None
        ]
        labels = np.concatenate([np.zeros(0), *label_scores])
        calibration = calibrate_scores(
            sheet,
            labels,
            math.pi * (self.diameter_px / 2) ** 2,
            math.pi * exclusion_px**2,
            clear_above,
            FLOOR,
            seed,
        )
        labeled = [own for own in counted if own.xy_px is not None and len(own.xy_px)]
        from_labels = None
        if calibration is not None:
            on_labeled = ScoreCounts.sum(
                ScoreCounts.from_scores(own.candidates.score) for own in labeled
            )
            area_share = sum(own.area for own in labeled) / sum(own.area for own in counted)
            from_labels = estimate_from_labels(labels, on_labeled)
            calibration = combine_with_labels(
                calibration, from_labels, labels, on_labeled, area_share, seed
            )
        return ScoreScale(background, calibration, sheet.candidates, share, from_labels, excess)

    def _score(
        self, network: Network, progress: Callable[[int, int], None] | None
    ) -> list[_Scored]:
        """Score the images, those with labels first, and the same with reversed contrast."""
        step = lattice_step(network, self.radius_px)
        images = [*(item.image for item in self.labelled), *self.others]

        def score(index: int) -> NetworkOutput:
            image = images[index // 2]
            if index % 2:
                return NetworkOutput(score_smoothly(network, -image, step, self.device), None)
            return score_with_contaminants(network, image, step, self.device)

        # In halves, so that a few images are divided evenly among the threads.
        halves = map_in_threads(score, range(2 * len(images)), self.device, progress)
        return [
            _Scored(image, own, reverse.particle, level_scores(own.particle, image, None))
            for image, own, reverse in zip(images, halves[::2], halves[1::2], strict=True)
        ]

    def _background(self, scored: Sequence[_Scored]) -> float:
        """Return the median pixel of the images with labels, log-odds."""
        medians = [
            float(np.median(own.output.particle[np.isfinite(own.masked)]))
            for own in scored[: len(self.labelled)]
        ]
        return float(np.median(medians))

    def _find_contamination(
        self, network: Network, scored: Sequence[_Scored]
    ) -> tuple[float, float, list[ContaminationMask | None]]:
        """Find the contamination of the images, with log-odds that agree with the labels.

        Returns
        -------
        float, float, list
            The share of the labels in contamination as it is detected, by how much log-odds of
            contaminants have to be lowered, and the contamination after that.
        """

        def find(step: float, own: _Scored) -> ContaminationMask | None:
            odds = own.output.contaminant
            return find_contamination(
                network, None if odds is None else odds - step, own.masked, self.diameter_px
            )

        first = 0.0
        for step in CONTAMINANT_STEPS:
            masks = map_in_threads(partial(find, step), scored, self.device)
            share = self._share_of_labels_in(masks)
            first = share if step == 0.0 else first
            if share <= CONTRADICTED:
                return first, step, masks
        return first, math.inf, [None] * len(scored)

    def _share_of_labels_in(self, masks: Sequence[ContaminationMask | None]) -> float:
        """Return the share of the labels that lie in contamination."""
        inside = [
            mask.contains(item.xy_px)
            for item, mask in zip(self.labelled, masks, strict=False)
            if mask is not None and len(item.xy_px)
        ]
        return float(np.concatenate(inside).mean()) if inside else 0.0

    def _count(
        self,
        scored: Sequence[_Scored],
        masks: Sequence[ContaminationMask | None],
        background: float,
    ) -> list[_Counted]:
        """Find candidates and decoys on the images, except those that would have no picks."""

        def count(index: int) -> _Counted:
            own, mask = scored[index], self.picking.leaves_out(masks[index])
            candidates, decoys = (
                find_positions(
                    level_scores(score, own.image, background, self.diameter_px),
                    self.distances,
                    mask,
                )
                for score in (own.output.particle, own.reverse)
            )
            has_labels = index < len(self.labelled)
            xy = self.labelled[index].xy_px if has_labels else None
            area = measure_candidate_area(own.masked, mask, margin_px=self.distances.margin_px)
            return _Counted(candidates, decoys, area, xy)

        used = [i for i, mask in enumerate(masks) if not self.picking.refuses(mask)]
        return map_in_threads(count, used, self.device)

    def find_threshold(self, network: Network, expected_particles: float) -> float:
        """Return the log-odds at which a network finds so many particles per micrograph, or 0."""
        point = find_operating_point(
            network,
            self.labelled,
            expected_particles,
            *self.distances,
            device=self.device,
            radius_px=self.radius_px,
            diameter_px=None if self.picking.bad_areas == "keep" else self.diameter_px,
        )
        return 0.0 if point.threshold is None else point.threshold


def choose_most_labeled(images: Sequence[LabeledImage], most: int) -> list[LabeledImage]:
    """Choose the images with the most labels, as many as have enough and at most so many."""
    ordered = sorted(images, key=lambda item: -len(item.xy_px))
    labels = np.cumsum([len(item.xy_px) for item in ordered])
    enough = max(int(np.searchsorted(labels, ENOUGH_LABELS)) + 1, LEAST_IMAGES)
    return ordered[: min(most, enough)]


def choose_unlabeled(dataset: TrainingSet, labelled: Sequence[LabeledSource]) -> list[Source]:
    """Choose the micrographs without labels to calibrate on, evenly from all that were given."""
    free = [item.source for item in labelled if not len(item.xy_px)]
    with_labels = len(dataset.validation) + len(dataset.images)
    count = min(len(free), IMAGES - min(LABELLED, with_labels))
    return [free[index * len(free) // count] for index in range(count)]


def find_label_scores(
    candidates: ScoredPositions, xy_px: FloatArray, reach_px: float
) -> FloatArray:
    """Return the scores of the candidates that match a label, one per matched label."""
    pairs = match_picks(candidates.xy_px, xy_px, reach_px)
    return candidates.score[pairs.is_true_positive]
