"""A thorough training: two further models, and one that learns from all three.

Models err in different ways if they see the particles at different scales and start elsewhere, so
that their average is more accurate than each of them. The model that learns from it picks as fast
as any (see `training.distillation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from heliodor.conventions import FloatArray, Image, Shape
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.dead_borders import find_dead_border
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.models.networks import Network
from heliodor.models.pretrained import FROM_SCRATCH
from heliodor.picking.scoring import lattice_step, score_smoothly
from heliodor.training.checkpoint import Checkpoint
from heliodor.training.dataset import TrainingSet, assemble_training_set
from heliodor.training.distillation import UPDATES, TargetImage, distill
from heliodor.training.initialization import FINE_TUNING
from heliodor.training.loop import train_network
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils import console
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.compute import map_in_threads, one_thread_each

#: The pixels of the second model, in those of the first.
COARSER: Final = 1.3
#: How much the scores of the model from random weights count beside those of the two others, which
#: know what particles look like: where labels are few, it is far less accurate.
SCRATCH_WEIGHT: Final = 0.5
#: Most micrographs whose scores are learned; those with labels come first.
MICROGRAPHS: Final = 24


@dataclass(frozen=True)
class ThoroughTask:
    """What a thorough training works with."""

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


def learn_from_several(first: Network, task: ThoroughTask) -> Network:
    """Train further models like the first, and return one that learns from all of them.

    Raises
    ------
    BadInput
        If a training diverges.
    """
    dataset = task.dataset
    members = [Member(first, dataset.normalizer, task.images, dataset.radius_px)]
    for name, words, data, recipe in _plan(task):
        members.append(_train_member(name, words, data, recipe, task))
    targets = _find_targets(members, task)
    with console.progress("learning from three models") as progress:
        return distill(
            first, targets, task.recipe.seed, task.device, UPDATES, progress, task.store
        )


def checkpoints_of(folder: Path, resume: bool) -> list[Checkpoint]:
    """Return the checkpoints of the further models, which are not needed once all is done."""
    return [Checkpoint(_checkpoint_file(folder, name), resume) for name in ("coarse", "scratch")]


def _checkpoint_file(folder: Path, name: str) -> Path:
    return folder / f".training_{name}.safetensors"


def _plan(task: ThoroughTask) -> list[tuple[str, str, DataSettings, TrainingSettings]]:
    """Return the name of each further model, what it is called, and its settings."""
    recipe = replace(task.recipe, effort="normal")
    data = replace(task.data, check_frame=False)  # the first model's were checked
    rate = recipe.learning_rate
    if rate == FINE_TUNING["learning_rate"]:
        rate = TrainingSettings().learning_rate
    scratch = replace(recipe, start=FROM_SCRATCH, learning_rate=rate, keep=0.0, own_picks=0.0)
    size = COARSER * task.images.working_pixel_size_angstrom
    return [
        (
            "coarse",
            "training the second of three models, at coarser pixels",
            replace(data, working_pixel_size_angstrom=size),
            recipe,
        ),
        ("scratch", "training the third model, from random weights", data, scratch),
    ]


def _train_member(
    name: str, words: str, data: DataSettings, recipe: TrainingSettings, task: ThoroughTask
) -> Member:
    """Train one further model on the same labels."""
    from_scratch = recipe.start == FROM_SCRATCH
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
    if not from_scratch:
        dataset = replace(dataset, images=_copy_picks(task.dataset, dataset))
    dataset = dataset.with_expected_particles(task.dataset.expected_particles)
    recipe = replace(recipe, epochs=recipe.epochs_for(dataset.labelled_particles))
    # Batch normalization in training adds up in an order that depends on the threads.
    alone: AbstractContextManager[object] = one_thread_each() if from_scratch else nullcontext()
    with alone, console.progress(words) as progress:
        trained = train_network(
            dataset.images,
            [],
            dataset.radius_px,
            dataset.prior,
            recipe,
            task.device,
            checkpoint=Checkpoint(_checkpoint_file(task.folder, name), task.resume),
            store=task.store,
            start=None if from_scratch else task.general,
            on_update=lambda done, of, cost: progress(done, of),
        )
    weight = SCRATCH_WEIGHT if from_scratch else 1.0
    return Member(trained.network, dataset.normalizer, images, dataset.radius_px, weight)


def _copy_picks(first: TrainingSet, dataset: TrainingSet) -> list[LabeledImage]:
    """Return the images of a training set with the picks that those of the first one have."""
    own = dict(zip(first.names, first.images, strict=True))
    found = []
    for name, item in zip(dataset.names, dataset.images, strict=True):
        scale = np.array(item.shape[::-1]) / np.array(own[name].shape[::-1])
        picked: FloatArray = own[name].picked_xy_px * scale
        found.append(replace(item, picked_xy_px=picked))
    return found


def _find_targets(members: Sequence[Member], task: ThoroughTask) -> list[TargetImage]:
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

    with console.progress("scoring with three models") as progress:
        found = map_in_threads(find, sources[:MICROGRAPHS], task.device, progress)
    return [item for item in found if item is not None]


def _most_labeled(dataset: TrainingSet) -> list[tuple[str, LabeledImage]]:
    """Return the images of a training set by name, those with the most labels first."""
    pairs = list(zip(dataset.names, dataset.images, strict=True))
    return sorted(pairs, key=lambda pair: -len(pair[1].xy_px))
