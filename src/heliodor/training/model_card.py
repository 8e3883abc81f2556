"""The card of a newly trained model."""

from __future__ import annotations

from typing import Any

from heliodor import __version__
from heliodor.models.model_file import (
    EFFORT_KEY,
    NOVELTY_KEY,
    Model,
    ModelCard,
)
from heliodor.models.novelty import NoveltyReference
from heliodor.training.dataset import TrainingSet
from heliodor.training.loop import TrainedNetwork
from heliodor.training.score_calibration import ScoreScale
from heliodor.training.settings import DataSettings, TrainingSettings


def build_model_card(
    start: Model | None,
    data: DataSettings,
    recipe: TrainingSettings,
    dataset: TrainingSet,
    trained: TrainedNetwork,
    level: ScoreScale,
    threshold: float,
    size: float,
) -> ModelCard:
    """Return the card of a newly trained model.

    Parameters
    ----------
    start
        The model that the training started from, if any.
    data, recipe, dataset
        What it was trained on, and how.
    trained, level
        The result of the training, and where its scores lie.
    threshold
        Log-odds at or above which candidates are picks.
    size
        Working pixel size in angstrom.
    """
    best = trained.history[trained.best_epoch - 1]
    return ModelCard(
        network=recipe.network,
        width=recipe.width,
        norm=recipe.norm,
        contaminant=trained.network.contaminant is not None,
        finer=start is not None and start.card.finer,
        working_pixel_size_angstrom=size,
        diameter_angstrom=data.diameter_angstrom,
        training_radius_angstrom=data.radius_angstrom,
        normalization=dataset.normalizer.as_dict(),
        objective=recipe.objective,
        class_prior=dataset.prior,
        expected_particles=dataset.expected_particles,
        threshold=threshold,
        edge_margin_angstrom=dataset.margin_px * size,
        background=level.background,
        calibration=None if level.calibration is None else level.calibration.as_dict(),
        seed=recipe.seed,
        version=__version__,
        training_micrographs=dataset.names,
        validation_micrographs=dataset.validation_names,
        labelled_particles=dataset.labelled_particles,
        best_epoch=trained.best_epoch,
        updates=best.update,
        validation_ap=best.validation_ap if best.validation_ap == best.validation_ap else None,
        extra=_novelty(dataset, data.diameter_angstrom / size)
        | ({} if recipe.effort == "normal" else {EFFORT_KEY: recipe.effort}),
    )


def _novelty(dataset: TrainingSet, diameter_px: float) -> dict[str, Any]:
    """Return the card's description of the training images, if they are large enough."""
    found = NoveltyReference.fit([item.image for item in dataset.images], diameter_px)
    return {} if found is None else {NOVELTY_KEY: found.as_dict()}
