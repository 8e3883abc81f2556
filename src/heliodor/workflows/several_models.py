"""Training further models on the same labels, and one that learns from all of them.

Models err in different ways if they see the particles at different scales and start elsewhere, so
that their average is more accurate than each of them. The model that learns from it picks as fast
as any (see `training.distillation`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from heliodor.conventions import Image, Shape
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.dead_borders import find_dead_border
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.models.networks import Network
from heliodor.models.pretrained import FROM_SCRATCH, GENERAL_MODEL_NAME
from heliodor.picking.scoring import lattice_step, score_smoothly
from heliodor.training.checkpoint import Checkpoint
from heliodor.training.dataset import TrainingSet, assemble_training_set
from heliodor.training.distillation import TargetImage, distill
from heliodor.training.initialization import FINE_TUNING
from heliodor.training.loop import train_network
from heliodor.training.settings import DataSettings, Effort, TrainingSettings
from heliodor.utils import console
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.compute import map_in_threads, one_thread_each


@dataclass(frozen=True)
class FurtherModel:
    """A model that is trained beside the first one.

    Attributes
    ----------
    name
        Of its checkpoint.
    words
        How it differs from the first one.
    coarsening
        Its pixels, in those of the first model.
    from_scratch
        Whether it starts from random weights, not from the general model.
    epochs
        Its epochs, relative to those that a model trained alone has.
    weight
        How much its scores count.
    """

    name: str
    words: str
    coarsening: float = 1.0
    from_scratch: bool = False
    epochs: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Which further models an effort trains, and how long the first one learns from all.

    Attributes
    ----------
    further
        The further models.
    epochs
        Those of the first model, relative to those that a model trained alone has.
    updates
        Most updates of learning from all.
    share
        Most of these updates, relative to those of the first model.
    micrographs
        Most micrographs whose scores are learned; those with labels come first.
    """

    further: tuple[FurtherModel, ...]
    epochs: float
    updates: int
    share: float
    micrographs: int

    @property
    def models(self) -> str:
        """How many models there are, in words."""
        return f"{('one', 'two', 'three', 'four')[len(self.further)]} models"

    def first_epochs(self, recipe: TrainingSettings, labeled: int) -> int:
        """Return the number of epochs of the first model: what the user chose, if anything."""
        epochs = recipe.epochs_for(labeled)
        return epochs if recipe.epochs != "auto" else scale_epochs(epochs, self.epochs)


def scale_epochs(epochs: int, factor: float) -> int:
    """Return a multiple of a number of epochs, at least one."""
    return max(1, round(factor * epochs))


#: At coarser pixels more of the surroundings is seen, which helps most on faint particles. The
#: model from random weights does not know what particles look like: where labels are few, it is
#: far less accurate, and counts less. How all this was chosen: docs/design-notes/recipes.md.
PLANS: Final[dict[Effort, Plan]] = {
    "normal": Plan(
        (FurtherModel("coarse", "at coarser pixels", 1.3, epochs=0.5),),
        epochs=0.75,
        updates=150,
        share=1.0,
        micrographs=12,
    ),
    "thorough": Plan(
        (
            FurtherModel("coarse", "at coarser pixels", 1.3, epochs=0.5),
            FurtherModel("coarsest", "at the coarsest pixels", 1.6, epochs=0.5),
            FurtherModel("scratch", "from random weights", from_scratch=True, weight=0.5),
        ),
        epochs=1.0,
        updates=300,
        share=1.5,
        micrographs=24,
    ),
}


def choose_plan(recipe: TrainingSettings, data: DataSettings) -> Plan | None:
    """Return how a training learns from several models; None if it trains only one.

    Only a training that starts from the general model at its own pixels does: the models must be
    about equally accurate. Who chooses other pixels gets the model that was trained at them.
    """
    if recipe.start != GENERAL_MODEL_NAME or data.working_pixel_size_angstrom is not None:
        return None
    return PLANS.get(recipe.effort)


@dataclass(frozen=True)
class SeveralModelsTask:
    """What a training of several models works with."""

    plan: Plan
    data: DataSettings
    recipe: TrainingSettings
    #: All micrographs with their labels.
    labeled: Sequence[LabeledSource]
    #: What the first model was trained on, with the picks of the general model.
    dataset: TrainingSet
    #: The working images of the first model.
    images: WorkingImages
    #: Micrographs without labels whose scores are to be learned too.
    others: Sequence[Source]
    general: Network
    #: Adds the surest picks of the general model on the working images of a training set; None if
    #: the models are trained on the labels alone.
    add_picks: Callable[[TrainingSet, WorkingImages], TrainingSet] | None
    device: torch.device
    store: ArrayStore
    #: Where interrupted trainings are kept.
    folder: Path
    resume: bool


@dataclass(frozen=True)
class Member:
    """One of the models, and how it sees micrographs."""

    network: Network
    normalizer: Normalizer
    images: WorkingImages
    radius_px: float
    #: How much its scores count.
    weight: float = 1.0

    def normalize(self, source: Source) -> Image:
        """Return the working image of a micrograph as the network sees it."""
        return self.normalizer.apply(self.images.get(source).image)

    def score(self, image: Image, shape: Shape, device: torch.device) -> Image:
        """Return log-odds of a normalized image at the pixels of one of the given shape."""
        step = lattice_step(self.network, self.radius_px)
        return resample(score_smoothly(self.network, image, step, device), shape)


def resample(scores: Image, shape: Shape) -> Image:
    """Return a score map at other pixels of the same micrograph, by linear interpolation.

    Parameters
    ----------
    scores
        Shape (h, w); its first pixel is that of the result.
    shape
        (height, width) of the result.
    """
    if scores.shape == shape:
        return scores
    rows, columns = (
        np.arange(new) * (old / new) for new, old in zip(shape, scores.shape, strict=True)
    )
    grid = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(map_coordinates(scores, grid, order=1, mode="nearest"), np.float32)


def learn_from_several(first: Network, updates: int, task: SeveralModelsTask) -> Network:
    """Train further models like the first, and return one that learns from all of them.

    Parameters
    ----------
    first
        The first model's network, which is not changed.
    updates
        Those of the first model.

    Raises
    ------
    BadInput
        If a training diverges.
    """
    dataset, plan = task.dataset, task.plan
    members = [Member(first, dataset.normalizer, task.images, dataset.radius_px)]
    for model, which in zip(plan.further, ("second", "third", "fourth"), strict=False):
        words = f"training the {which} of {plan.models}, {model.words}"
        members.append(_train_member(model, words, task))
    targets = _find_targets(members, task)
    updates = min(plan.updates, max(1, round(plan.share * updates)))
    with console.progress(f"learning from {plan.models}") as progress:
        return distill(
            first, targets, task.recipe.seed, task.device, updates, progress, task.store
        )


def checkpoints_of(folder: Path, resume: bool) -> list[Checkpoint]:
    """Return the checkpoints of the further models, which are not needed once all is done."""
    names = {model.name for plan in PLANS.values() for model in plan.further}
    return [Checkpoint(_checkpoint_file(folder, name), resume) for name in sorted(names)]


def _checkpoint_file(folder: Path, name: str) -> Path:
    return folder / f".training_{name}.safetensors"


def _choose_settings(
    model: FurtherModel, task: SeveralModelsTask
) -> tuple[DataSettings, TrainingSettings]:
    """Return the settings of a further model."""
    data = replace(task.data, check_frame=False)  # the first model's were checked
    if model.coarsening != 1:
        size = model.coarsening * task.images.working_pixel_size_angstrom
        data = replace(data, working_pixel_size_angstrom=size)
    recipe = task.recipe
    if model.from_scratch:
        rate = recipe.learning_rate
        if rate == FINE_TUNING["learning_rate"]:
            rate = TrainingSettings().learning_rate
        recipe = replace(recipe, start=FROM_SCRATCH, learning_rate=rate, keep=0.0, own_picks=0.0)
    return data, recipe


def _train_member(model: FurtherModel, words: str, task: SeveralModelsTask) -> Member:
    """Train one further model on the same labels."""
    data, recipe = _choose_settings(model, task)
    size = data.working_pixel_size_angstrom or task.images.working_pixel_size_angstrom
    images = WorkingImages(
        size,
        data.pixel_size_angstrom,
        data.diameter_angstrom,
        finer=task.images.finer,
        keep_bytes=task.images.keep_bytes,
        threads=task.images.threads,
    )
    by_name = {item.source.name: item for item in task.labeled}
    training = [by_name[name] for name in task.dataset.names]
    dataset = assemble_training_set(training, [], images, data, store=task.store)
    dataset = dataset.with_expected_particles(task.dataset.expected_particles)
    if task.add_picks is not None and not model.from_scratch:
        # Picked at its own pixels: with the first model's picks it would repeat its errors.
        dataset = task.add_picks(dataset, images)
    epochs = scale_epochs(recipe.epochs_for(dataset.labelled_particles), model.epochs)
    # Batch normalization in training adds up in an order that depends on the threads.
    alone: AbstractContextManager[object] = (
        one_thread_each() if model.from_scratch else nullcontext()
    )
    with alone, console.progress(words) as progress:
        trained = train_network(
            dataset.images,
            [],
            dataset.radius_px,
            dataset.prior,
            replace(recipe, epochs=epochs),
            task.device,
            checkpoint=Checkpoint(_checkpoint_file(task.folder, model.name), task.resume),
            store=task.store,
            start=None if model.from_scratch else task.general,
            on_update=lambda done, of, cost: progress(done, of),
        )
    return Member(trained.network, dataset.normalizer, images, dataset.radius_px, model.weight)


def _find_targets(members: Sequence[Member], task: SeveralModelsTask) -> list[TargetImage]:
    """Return micrographs with the average log-odds of all models, where these are known."""
    by_name = {item.source.name: item.source for item in task.labeled}
    labeled = [(by_name[name], item) for name, item in _most_labeled(task.dataset)]
    sources = [source for source, _ in labeled]
    sources += [source for source in task.others if source not in sources]
    known = dict(labeled)
    margin_px, weights = task.dataset.margin_px, [member.weight for member in members]

    def find(source: Source) -> TargetImage | None:
        try:
            item = known.get(source)
            image = members[0].normalize(source) if item is None else item.image
            seen = [image, *(member.normalize(source) for member in members[1:])]
            shape = (image.shape[0], image.shape[1])
            scores = [
                member.score(own, shape, task.device)
                for member, own in zip(members, seen, strict=True)
            ]
        except BadInput:
            return None  # it is reported where it is picked; here one fewer will do
        inside = find_dead_border(image).at_least(margin_px).live_region(shape)
        target = np.full(shape, np.nan, dtype=np.float32)
        target[inside] = np.average(np.stack(scores)[:, *inside], axis=0, weights=weights)
        return TargetImage(image, task.store.add(target))

    with console.progress(f"scoring with {task.plan.models}") as progress:
        found = map_in_threads(find, sources[: task.plan.micrographs], task.device, progress)
    return [item for item in found if item is not None]


def _most_labeled(dataset: TrainingSet) -> list[tuple[str, LabeledImage]]:
    """Return the images of a training set by name, those with the most labels first."""
    pairs = list(zip(dataset.names, dataset.images, strict=True))
    return sorted(pairs, key=lambda pair: -len(pair[1].xy_px))
