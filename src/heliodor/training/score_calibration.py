"""The probe: the micrographs of a training on which its network is calibrated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from heliodor.conventions import FloatArray, Image
from heliodor.data.coordinates.label_assignment import LabelledSource
from heliodor.data.coordinates.labels import LabelledImage
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration, calibrate
from heliodor.evaluation.matching import MATCH_FRACTION, match
from heliodor.evaluation.score_histogram import (
    MicrographScores,
    ScoreCounts,
    ScoreSheet,
)
from heliodor.models.networks import Network
from heliodor.picking.candidates import FLOOR, find_operating_point
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.decoys import (
    ScoredPositions,
    choose_clear_above,
    drop_contaminated,
    find_maxima,
    keep_clear_decoys,
)
from heliodor.picking.score_maps import find_contamination, level_scores
from heliodor.picking.scoring import (
    NetworkOutput,
    lattice_step,
    score_smoothly,
    score_with_contaminants,
)
from heliodor.picking.settings import Distances, PickSettings
from heliodor.training.dataset import TrainingSet
from heliodor.utils.compute import one_thread_each
from heliodor.utils.prefetch import looking_ahead

#: Where more than this share of the labels lies in bad areas, these are not believed.
CONTRADICTED = 0.01
#: Micrographs to calibrate on, and how many of them have labels where enough have none.
IMAGES, LABELLED = 12, 6


class ScoreScale(NamedTuple):
    """Where a network's scores lie on the micrographs it was trained on."""

    #: Their median pixel, log-odds.
    background: float
    #: None where too little is known to calibrate.
    calibration: Calibration | None
    #: Of all candidates on the images.
    scores: ScoreCounts
    #: Share of the labels that lie in bad areas.
    labels_in_contamination: float = 0.0


@dataclass(frozen=True)
class CalibrationSet:
    """Normalised images with and without labels, and how they are picked on.

    Those without are like micrographs to come: the network was not taught that their unlabelled
    particles are background.
    """

    labelled: list[LabelledImage]
    others: list[Image]
    distances: Distances
    diameter_px: float
    #: Training radius; 0 where every pixel is to be scored.
    radius_px: float
    device: torch.device
    threads: int
    #: What becomes of bad areas, should the network tell them.
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
        """Read the micrographs: those of `choose_unlabeled`, and where most labels lie."""
        size = images.working_pixel_size_angstrom
        own = sorted([*dataset.validation, *dataset.images], key=lambda item: -len(item.xy_px))
        read = []
        for source in others:
            try:
                image = images.get(source)
            except BadInput:
                # It is reported when it is picked on; here one fewer will do.
                continue
            read.append(dataset.normalizer.apply(image.image))
        return cls(
            labelled=own[: IMAGES - len(read)],
            others=read,
            distances=picking.distances_px(diameter_angstrom, size),
            diameter_px=diameter_angstrom / size,
            radius_px=dataset.radius_px if picking.scores == "smooth" else 0.0,
            device=device,
            threads=images.threads,
            picking=picking,
        )

    def measure_scale(self, network: Network, seed: int) -> ScoreScale:
        """Find the level of a newly trained network's scores, and what they mean.

        Parameters
        ----------
        network
            In evaluation mode.
        seed
            Of the resampling.
        """
        step = lattice_step(network, self.radius_px)
        alone = self.device.type == "cpu"
        images = [*(item.image for item in self.labelled), *self.others]
        workers = self.threads if alone else 1

        def scored(image: Image) -> tuple[NetworkOutput, Image]:
            own = score_with_contaminants(network, image, step, self.device)
            return own, score_smoothly(network, -image, step, self.device)

        with one_thread_each(alone), looking_ahead(scored, images, workers) as results:
            maps = [future.result() for _, future in results]
        own_maps = [own.particle for own, _ in maps]
        flat = [
            level_scores(own, image, None) for own, image in zip(own_maps, images, strict=True)
        ]
        alive = [np.isfinite(own) for own in flat]
        medians = [float(np.median(own[here])) for own, here in zip(own_maps, alive, strict=True)]
        background = float(np.median(medians[: len(self.labelled)]))
        contamination = [
            find_contamination(network, own.contaminant, score, self.diameter_px)
            for (own, _), score in zip(maps, flat, strict=True)
        ]
        contradicted = self._in_bad_areas(contamination)
        if contradicted > CONTRADICTED:
            contamination = [None] * len(images)
        without = [self.picking.leaves_out(own) for own in contamination]

        def searched(number: int) -> tuple[ScoredPositions, ScoredPositions]:
            own, reverse = maps[number]
            levelled = (
                level_scores(m, images[number], background, self.diameter_px)
                for m in (own[0], reverse)
            )
            candidates, decoys = (
                drop_contaminated(find_maxima(own, self.distances, FLOOR), without[number])
                for own in levelled
            )
            return candidates, decoys

        with one_thread_each(alone), looking_ahead(searched, range(len(images)), workers) as pairs:
            found = [future.result() for _, future in pairs]
        # Those that would have no picks are no part of what is counted.
        kept = [not self.picking.refuses(own) for own in contamination]
        areas = [
            float(np.count_nonzero(here)) * (1 if own is None else 1 - own.fraction)
            for here, own in zip(alive, without, strict=True)
        ]
        labels = [
            find_label_scores(candidates, item.xy_px, MATCH_FRACTION * self.diameter_px)
            for item, (candidates, _), use in zip(self.labelled, found, kept, strict=False)
            if use
        ]
        exclusion_px = self.distances.exclusion_px
        found = [own for own, use in zip(found, kept, strict=True) if use]
        areas = [own for own, use in zip(areas, kept, strict=True) if use]
        if not found:
            return ScoreScale(background, None, ScoreSheet.of([]).candidates, contradicted)
        above = choose_clear_above([decoys for _, decoys in found], sum(areas), exclusion_px)
        sheet = ScoreSheet.of(
            [
                MicrographScores(
                    own.score, keep_clear_decoys(decoys, own, above, exclusion_px), area
                )
                for (own, decoys), area in zip(found, areas, strict=True)
            ]
        )
        calibration = calibrate(
            sheet,
            np.concatenate([np.zeros(0), *labels]),
            math.pi * (self.diameter_px / 2) ** 2,
            math.pi * exclusion_px**2,
            above,
            FLOOR,
            seed,
        )
        return ScoreScale(background, calibration, sheet.candidates, contradicted)

    def _in_bad_areas(self, contamination: Sequence[ContaminationMask | None]) -> float:
        """Return the share of the labels that lie in bad areas."""
        inside = [
            own.contains(item.xy_px)
            for item, own in zip(self.labelled, contamination, strict=False)
            if own is not None and len(item.xy_px)
        ]
        return float(np.concatenate(inside).mean()) if inside else 0.0

    def find_threshold(self, network: Network, expected_particles: float) -> float:
        """Return the log-odds at which a network finds so many particles a micrograph, or 0."""
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


def choose_unlabeled(dataset: TrainingSet, labelled: Sequence[LabelledSource]) -> list[Source]:
    """Choose the micrographs without labels to calibrate on, evenly from all that were given."""
    free = [item.source for item in labelled if not len(item.xy_px)]
    own = len(dataset.validation) + len(dataset.images)
    wanted = min(len(free), IMAGES - min(LABELLED, own))
    return [free[position * len(free) // wanted] for position in range(wanted)]


def find_label_scores(
    candidates: ScoredPositions, xy_px: FloatArray, reach_px: float
) -> FloatArray:
    """Return the scores of the candidates on labelled particles, one a label that has one."""
    pairs = match(candidates.xy_px, xy_px, reach_px)
    return candidates.score[pairs.is_true_positive]
