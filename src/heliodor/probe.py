"""The probe: the micrographs of a training on which its network is calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from heliodor.assignment import LabelledSource
from heliodor.calibrating import Level, calibrate_network
from heliodor.conventions import Image
from heliodor.dataset import TrainingSet
from heliodor.errors import BadInput
from heliodor.labels import LabelledImage
from heliodor.networks import Network
from heliodor.picking import Distances, PickSettings, operating_point
from heliodor.preparation import WorkingImages
from heliodor.sources import Source

#: Micrographs to calibrate on, and how many of them have labels where enough have none.
IMAGES, LABELLED = 12, 6


@dataclass(frozen=True)
class Probe:
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

    @classmethod
    def of(
        cls,
        dataset: TrainingSet,
        sources: Sequence[Source],
        labelled: Sequence[LabelledSource],
        images: WorkingImages,
        diameter_angstrom: float,
        picking: PickSettings,
        device: torch.device,
    ) -> Probe:
        """Choose the micrographs: evenly from those without labels, and where most labels lie."""
        size = images.working_pixel_size_angstrom
        used = {item.source for item in labelled if len(item.xy_px)}
        free = [source for source in sources if source not in used]
        own = sorted([*dataset.validation, *dataset.images], key=lambda item: -len(item.xy_px))
        wanted = min(len(free), IMAGES - min(LABELLED, len(own)))
        others = []
        for position in range(wanted):
            try:
                image = images.get(free[position * len(free) // wanted])
            except BadInput:
                # It is reported when it is picked on; here one fewer will do.
                continue
            others.append(dataset.normalizer.apply(image.image))
        return cls(
            labelled=own[: IMAGES - len(others)],
            others=others,
            distances=picking.distances_px(diameter_angstrom, size),
            diameter_px=diameter_angstrom / size,
            radius_px=dataset.radius_px if picking.scores == "smooth" else 0.0,
            device=device,
            threads=images.threads,
        )

    def level(self, network: Network, seed: int) -> Level:
        """Return where a network's scores lie and what they mean."""
        return calibrate_network(
            network,
            self.labelled,
            self.others,
            self.distances,
            self.diameter_px,
            self.radius_px,
            self.device,
            self.threads,
            seed,
        )

    def threshold_of(self, network: Network, expected_particles: float) -> float:
        """Return the log-odds at which a network finds so many particles a micrograph, or 0."""
        point = operating_point(
            network,
            self.labelled,
            expected_particles,
            *self.distances,
            device=self.device,
            radius_px=self.radius_px,
        )
        return 0.0 if point.threshold is None else point.threshold
