"""The command `train`: train a model on micrographs and labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from heliodor.data.coordinates.label_assignment import (
    LabeledSource,
    describe_chance,
    read_labels,
)
from heliodor.data.coordinates.labels import LabeledImage, choose_label_share
from heliodor.data.coordinates.particle_diameter import find_diameter_conflict
from heliodor.data.micrographs.sources import MicrographInputs, Source, find_sources
from heliodor.data.micrographs.working_images import (
    DEFAULT_CACHE_BYTES,
    Failure,
    WorkingImages,
    same_pixel_size,
    working_pixel_size,
)
from heliodor.errors import BadInput
from heliodor.models.model_file import (
    Model,
    load_model,
    save_model,
)
from heliodor.models.networks import Network
from heliodor.models.pretrained import (
    FROM_SCRATCH,
    GENERAL_MODEL_NAME,
    rescale_to_diameter,
)
from heliodor.picking.decoy_sample import rank_by_fingerprint
from heliodor.picking.label_scores import measure_label_scores
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import NO_MASKS
from heliodor.training.checkpoint import NAME as CHECKPOINT
from heliodor.training.checkpoint import Checkpoint
from heliodor.training.completion_record import (
    CompletionRecord,
    find_indices,
    fingerprint_micrographs,
    fingerprint_model_file,
    fingerprint_request,
)
from heliodor.training.dataset import (
    TrainingSet,
    assemble_training_set,
    choose_sources,
    describe_few_labels,
)
from heliodor.training.history import Epoch, history_table
from heliodor.training.initialization import load_start_model
from heliodor.training.loop import TrainedNetwork, train_network
from heliodor.training.model_card import build_model_card
from heliodor.training.objectives import uses_prior
from heliodor.training.recipes import QUICK
from heliodor.training.score_calibration import (
    CalibrationSet,
    ScoreScale,
    choose_unlabeled,
)
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils import console
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.console import count_of
from heliodor.utils.files import (
    create_output_folder,
    remove_partial_files,
    write_text,
)
from heliodor.utils.locking import lock_folder
from heliodor.workflows.run_record import RunRecord, flatten_settings
from heliodor.workflows.several_models import (
    Plan,
    SeveralModelsTask,
    checkpoints_of,
    choose_plan,
    learn_from_several,
)
from heliodor.workflows.sure_picks import add_sure_picks, find_sure_picks

log = logging.getLogger(__name__)

#: The training whose model estimates the number of particles for one that must know it.
PRIOR_RECIPE = replace(TrainingSettings(), **QUICK)
#: The settings that it takes from that training.
_SHARED_FIELDS = (
    "network", "width", "norm", "start", "keep", "keep_contaminant", "freeze", "seed"
)  # fmt: skip
#: The model's file in an output folder.
MODEL = "model.safetensors"
#: The general model may be trained further at a working pixel size up to this many times its own.
MOST_COARSENING = 1.6
#: The most labeled micrographs on which the starting model picks labels too. On the others, the
#: particles without labels are trained as background.
MICROGRAPHS_WITH_PICKS = 24
#: An expected number of particles that is this many times outside the estimate's interval is
#: worth a warning.
FAR_OFF = 1.5


@dataclass(frozen=True)
class TrainingResult:
    """A trained model, and what later steps need of its training."""

    model: Model
    history: list[Epoch]
    failures: list[Failure]
    labelled: list[LabeledSource]
    images: WorkingImages


def train(
    micrographs: MicrographInputs,
    labels: str | Path,
    out: str | Path,
    data: DataSettings,
    recipe: TrainingSettings,
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
    negatives: str | Path | None = None,
    resume: bool = True,
) -> TrainingResult:
    """Train a model and write ``model.safetensors``, ``training.tsv`` and ``run.json``.

    Parameters
    ----------
    micrographs
        Files, folders, globs, STAR files or @lists.
    labels
        Coordinates of some of the particles on some of the micrographs.
    out
        Folder for the results.
    negatives
        Coordinates of negatives, if there are any.
    resume
        Whether to resume the same training if it was interrupted in this folder, and to keep its
        model if it was completed.

    Raises
    ------
    BadInput
        If an input cannot be used.
    """
    arguments = {"micrographs": micrographs, "labels": labels, "negatives": negatives}
    arguments |= flatten_settings(data, recipe, compute)
    record = RunRecord("train", arguments, command_line)
    folder = create_output_folder(out)
    with lock_folder(folder):
        remove_partial_files(folder)
        trained = train_step(
            micrographs,
            labels,
            folder,
            data,
            recipe,
            compute.start(),
            record,
            negatives=negatives,
            resume=resume,
            store=compute.array_store(folder),
        )
        record.write(folder)
    return trained


def train_step(
    micrographs: MicrographInputs,
    labels: str | Path,
    folder: Path,
    data: DataSettings,
    recipe: TrainingSettings,
    device: torch.device,
    record: RunRecord,
    picking: PickSettings = PickSettings(),
    negatives: str | Path | None = None,
    resume: bool = True,
    store: ArrayStore | None = None,
) -> TrainingResult:
    """Train as one step of a longer run that keeps the record; see `train`.

    Parameters
    ----------
    picking
        Its distances are those at which the model's own threshold is chosen.
    store
        Where the training images are kept; None keeps them in memory.
    """
    task = _read_task(
        micrographs,
        labels,
        negatives,
        data,
        recipe,
        picking,
        device,
        record,
        store or ArrayStore(),
    )
    checkpoint = Checkpoint(folder / CHECKPOINT, resume)
    completed = CompletionRecord.find(folder, task.request, task.sources) if resume else None
    checkpoints = [checkpoint, *checkpoints_of(folder, resume)]
    if completed is not None:
        for own in checkpoints:
            own.remove()
        return _reuse_model(task, completed, folder)
    n_earlier_notes = len(record.notes)
    dataset, read = _load(task)
    unlabeled = choose_unlabeled(dataset, task.labeled)
    read |= task.fingerprint(unlabeled)
    calibration_set = CalibrationSet.read(
        dataset, unlabeled, task.images, data.diameter_angstrom, picking, device
    )
    dataset = _estimate_prior(task, dataset, calibration_set)
    extended = dataset
    if _uses_own_picks(task, dataset):
        with record.stage("picking"):
            extended = _add_own_picks(task, dataset, task.images)
        log.info(_describe_own_picks(dataset.labelled_particles, extended.images))
    plan = choose_plan(recipe, data)
    trained = _fit(task, extended, checkpoint, plan)
    if plan is not None:
        trained = _learn_from_several(plan, task, extended, trained, unlabeled, folder, resume)
    calibrated = _calibrate(task, dataset, calibration_set, trained)
    model = _save(task, trained, calibrated, folder)
    CompletionRecord(
        task.request,
        read,
        fingerprint_model_file(folder / MODEL),
        task.images.working_pixel_size_angstrom,
        trained.history,
        dataset.failures,
        record.notes[n_earlier_notes:],
        dict(record.seconds),
    ).write(folder)
    for own in checkpoints:
        own.remove()
    log.info(f"wrote {folder / MODEL}")
    return TrainingResult(model, trained.history, dataset.failures, task.labeled, task.images)


@dataclass(frozen=True)
class _Task:
    """What a training is asked for, and with what it works."""

    data: DataSettings
    recipe: TrainingSettings
    picking: PickSettings
    device: torch.device
    record: RunRecord
    store: ArrayStore
    #: The model to start from, if any.
    start: Model | None
    sources: list[Source]
    #: All micrographs, sorted by name, with the labels of those that have some.
    labeled: list[LabeledSource]
    label_notes: list[str]
    images: WorkingImages
    #: Fingerprint of the settings, labels and names of micrographs.
    request: str

    def start_for_diameter(self) -> Model:
        """Return the model to start from, for the particle's diameter, on the device.

        Raises
        ------
        ValueError
            If training starts from random weights.
        """
        if self.start is None:
            raise ValueError("there is no model to start from")
        model = self.start
        if model.card.any_diameter:
            model = rescale_to_diameter(model, self.data.diameter_angstrom)
        model.network.to(self.device)
        return model

    @property
    def start_network(self) -> Network | None:
        """The network to start from, if any."""
        return None if self.start is None else self.start.network

    def fingerprint(self, sources: Iterable[Source]) -> dict[int, str]:
        """Return the fingerprints of some micrographs, by their index among all."""
        return fingerprint_micrographs(find_indices(sources, self.sources), self.sources)


class _Calibrated(NamedTuple):
    """A trained network's score scale and threshold, and the dataset with its final prior."""

    scale: ScoreScale
    threshold: float
    dataset: TrainingSet


def _read_task(
    micrographs: MicrographInputs,
    labels: str | Path,
    negatives: str | Path | None,
    data: DataSettings,
    recipe: TrainingSettings,
    picking: PickSettings,
    device: torch.device,
    record: RunRecord,
    store: ArrayStore,
) -> _Task:
    """Find the micrographs, read the labels and the start; images are not read yet."""
    start = load_start_model(recipe)
    size = choose_working_pixel_size(data, recipe, start)
    sources = find_sources(micrographs)
    record.add_inputs("training", sources)
    labeled, notes = read_labels(labels, sources, negatives, data.pixel_size_angstrom)
    # Minibatches are drawn by index: the order of the arguments must not matter.
    labeled = sorted(labeled, key=lambda item: item.source.name)
    images = WorkingImages(
        size,
        data.pixel_size_angstrom,
        data.diameter_angstrom,
        finer=start is not None and start.card.finer,
        keep_bytes=min(DEFAULT_CACHE_BYTES, store.budget_bytes / 4),
        threads=torch.get_num_threads(),
    )
    request = fingerprint_request(labeled, data, recipe, picking, device, start)
    return _Task(
        data, recipe, picking, device, record, store, start, sources, labeled, notes, images,
        request,
    )  # fmt: skip


def _reuse_model(task: _Task, completed: CompletionRecord, folder: Path) -> TrainingResult:
    """Return the result of the same training, completed before in the same folder."""
    path, record, images = folder / MODEL, task.record, task.images
    log.info(f"{path} is up to date (same data and settings); training skipped")
    model = load_model(path)
    write_text(folder / "training.tsv", history_table(completed.history))
    record.notes += completed.notes
    record.failures += completed.failures
    record.seconds |= completed.seconds
    record.results |= {"model": asdict(model.card)}
    if completed.working_pixel_size_angstrom != images.working_pixel_size_angstrom:
        images.coarsen(completed.working_pixel_size_angstrom)
    return TrainingResult(model, completed.history, completed.failures, task.labeled, images)


def _load(task: _Task) -> tuple[TrainingSet, dict[int, str]]:
    """Read the training images; return them, and the fingerprints of the micrographs read."""
    data, recipe, record = task.data, task.recipe, task.record
    training, validation, choice_notes = choose_sources(
        task.labeled, data.validation_share, recipe.seed
    )
    read = task.fingerprint(item.source for item in [*training, *validation])
    log.info(
        f"training {recipe.network} ({recipe.objective}{describe_start(recipe)}) on"
        f" {count_of(len(training), 'micrograph')}, {len(validation)} kept for validation"
    )
    with record.stage("reading"), console.progress("reading micrographs") as progress:
        dataset = assemble_training_set(
            training, validation, task.images, data, progress, task.store
        )
    task.store.release_pages()
    size = task.images.working_pixel_size_angstrom
    with record.stage("reading"):
        doubts = _find_doubts(task, dataset)
    for note in [*task.label_notes, *choice_notes, *dataset.notes, *doubts]:
        record.warn(note)
    record.skip(dataset.failures)
    log.info(
        f"training at {size:.2f} Å/pixel on {dataset.labelled_particles} labeled particles"
        f"{describe_negatives(dataset.labelled_negatives)}"
    )
    return dataset, read


def _find_doubts(task: _Task, dataset: TrainingSet) -> list[str]:
    """Return warnings if the labels show another diameter or contrast, or nothing at all."""
    diameter = task.data.diameter_angstrom
    size = task.images.working_pixel_size_angstrom
    conflict = find_diameter_conflict(dataset.images, size, diameter)
    chance = None if dataset.frame is None else describe_chance(dataset.frame)
    contrast = None
    if task.start is not None:
        with console.progress("checking the labels") as progress:
            scores = measure_label_scores(
                task.start_for_diameter(), dataset.images, size, task.device, progress
            )
        contrast = scores.describe_contrast()
        if scores.fits:
            chance = None
        elif dataset.frame is not None:
            chance = describe_chance(dataset.frame, doubted=True)
    few = describe_few_labels(dataset.labelled_particles, len(dataset.names))
    return [doubt for doubt in (few, conflict, chance, contrast) if doubt is not None]


def _estimate_prior(
    task: _Task, dataset: TrainingSet, calibration_set: CalibrationSet
) -> TrainingSet:
    """Return the dataset with the estimated number of particles, if the objective needs it.

    The number is estimated by a short training with an objective that does not need it.
    """
    if not uses_prior(task.recipe.objective):
        return dataset
    if task.data.expected_particles is None:
        with task.record.stage("estimating the prior"):
            shared = {name: getattr(task.recipe, name) for name in _SHARED_FIELDS}
            if task.start is not None:
                shared["learning_rate"] = task.recipe.learning_rate
            first = train_network(
                dataset.images,
                [],
                dataset.radius_px,
                dataset.prior,
                replace(PRIOR_RECIPE, **shared),
                task.device,
                store=task.store,
                start=task.start_network,
            )
            calibration = calibration_set.measure_scale(
                first.network, task.recipe.seed
            ).calibration
            if calibration is not None:
                per_micrograph = calibration.particles[0] / calibration.micrographs
                dataset = dataset.with_expected_particles(per_micrograph)
    log.info(
        f"expected particles per micrograph: {dataset.expected_particles:.0f} (class prior"
        f" {dataset.prior:.2%} of the unlabeled regions)"
    )
    return dataset


def _uses_own_picks(task: _Task, dataset: TrainingSet) -> bool:
    """Return whether the surest picks of the starting model are to be trained on too.

    Not where there are negatives: then not everything that looks like a particle is one.
    """
    return bool(task.recipe.own_picks and task.start and not dataset.labelled_negatives)


def _add_own_picks(task: _Task, dataset: TrainingSet, images: WorkingImages) -> TrainingSet:
    """Return a training set with the surest picks of the starting model on its working images.

    They count as labels too if there are more of them than labels; see `choose_label_share`. They
    do not count as labeled particles in messages and the model card.
    """
    by_name = {item.source.name: item.source for item in task.labeled}
    sources = [by_name[name] for name in dataset.names]
    picks = find_sure_picks(
        task.start_for_diameter(),
        rank_by_fingerprint(sources)[:MICROGRAPHS_WITH_PICKS],
        images,
        task.picking,
        task.device,
        task.recipe.own_picks,
        NO_MASKS,  # masks are of the micrographs to pick
    )
    diameter_px = task.data.diameter_angstrom / images.working_pixel_size_angstrom
    extended = add_sure_picks(dataset.images, sources, picks, images, diameter_px)
    return replace(dataset, images=extended).with_expected_particles(dataset.expected_particles)


def _describe_own_picks(labels: int, images: Sequence[LabeledImage]) -> str:
    """Return what becomes of the starting model's picks."""
    picks = sum(len(item.picked_xy_px) for item in images)
    if not picks:
        return "training on the labels alone: the starting model is sure of no other particles"
    found = f"{count_of(picks, 'pick')} of the starting model"
    if choose_label_share(labels, picks) < 1:
        return f"also training on {found}"
    return (
        f"most particles are labeled; {found} that {'is' if picks == 1 else 'are'} not labeled"
        f" count{'s' if picks == 1 else ''} neither as particles nor as background"
    )


def _fit(
    task: _Task, dataset: TrainingSet, checkpoint: Checkpoint, plan: Plan | None
) -> TrainedNetwork:
    """Train the network, from the checkpoint if there is one."""
    recipe, labeled = task.recipe, dataset.labelled_particles
    epochs = recipe.epochs_for(labeled) if plan is None else plan.first_epochs(recipe, labeled)
    with task.record.stage("training"):
        return train_network(
            dataset.images,
            dataset.validation,
            dataset.radius_px,
            dataset.prior,
            replace(recipe, epochs=epochs),
            task.device,
            progress=log_epochs(epochs),
            checkpoint=checkpoint,
            store=task.store,
            start=task.start_network,
        )


def _learn_from_several(
    plan: Plan,
    task: _Task,
    dataset: TrainingSet,
    trained: TrainedNetwork,
    others: Sequence[Source],
    folder: Path,
    resume: bool,
) -> TrainedNetwork:
    """Train further models, and return the training with a network that learns from all."""
    assert task.start is not None  # such a training starts from the general model
    add_picks = partial(_add_own_picks, task) if _uses_own_picks(task, dataset) else None
    several = SeveralModelsTask(
        plan, task.data, task.recipe, task.labeled, dataset, task.images, others,
        task.start.network, add_picks, task.device, task.store, folder, resume,
    )  # fmt: skip
    updates = len(trained.history) * task.recipe.epoch_updates
    with task.record.stage("training"):
        network = learn_from_several(trained.network, updates, several)
    return replace(trained, network=network)


def _calibrate(
    task: _Task, dataset: TrainingSet, calibration_set: CalibrationSet, trained: TrainedNetwork
) -> _Calibrated:
    """Measure the scale of the scores and choose the threshold.

    A network that finds contamination at the labels needs stronger evidence of it from now on.
    """
    record, network, expected = task.record, trained.network, task.data.expected_particles
    with record.stage("calibrating"), console.progress("calibrating") as progress:
        scale = calibration_set.measure_scale(network, task.recipe.seed, progress)
    if (correction := scale.correct_contaminants(network)) is not None:
        record.warn(correction)
    calibration, threshold = scale.calibration, scale.choose_threshold(task.picking.max_fdr)
    if calibration is not None and threshold is not None:
        estimate, low, high = (count / calibration.micrographs for count in calibration.particles)
        log.info(
            f"estimated particles per micrograph: {estimate:.0f} (90% interval {low:.0f} to"
            f" {high:.0f}), labeled or not"
        )
        if expected is None:
            dataset = dataset.with_expected_particles(estimate)
        elif max(expected / high, low / expected) >= FAR_OFF:
            record.warn(
                f"{expected:g} particles per micrograph were expected, but the scores suggest"
                f" {estimate:.0f} ({low:.0f} to {high:.0f})"
            )
    else:
        threshold = calibration_set.find_threshold(network, dataset.expected_particles)
        record.warn(
            "too few labels to estimate the number of particles;"
            f" {dataset.expected_particles:.0f} per micrograph are assumed. Label more particles,"
            " or give --expected-particles"
        )
    return _Calibrated(scale, threshold, dataset)


def _save(task: _Task, trained: TrainedNetwork, calibrated: _Calibrated, folder: Path) -> Model:
    """Write the model and the table of epochs, and return the model."""
    card = build_model_card(
        task.start,
        task.data,
        task.recipe,
        calibrated.dataset,
        trained,
        calibrated.scale,
        calibrated.threshold,
        task.images.working_pixel_size_angstrom,
    )
    model = Model(trained.network, card)
    save_model(folder / MODEL, model)
    write_text(folder / "training.tsv", history_table(trained.history))
    task.record.results |= {"model": asdict(card)}
    return model


def choose_working_pixel_size(
    data: DataSettings, recipe: TrainingSettings, start: Model | None = None
) -> float:
    """Return the working pixel size in angstrom.

    It is that of the model to start from, otherwise the one in `data`, otherwise one that suits
    the network and the diameter. The general model may start at the one in `data` if that is up to
    `MOST_COARSENING` times its own.

    Raises
    ------
    BadInput
        If `data` contradicts the model to start from.
    """
    chosen = data.working_pixel_size_angstrom
    if start is not None:
        card = start.card
        size = card.working_pixel_size_angstrom * data.diameter_angstrom / card.diameter_angstrom
        if chosen is not None and not same_pixel_size(chosen, size):
            if card.any_diameter and size < chosen <= MOST_COARSENING * size:
                return chosen
            raise BadInput(
                f"the model to start from needs a working pixel size of {size:.3g} Å"
                + (f" to {MOST_COARSENING * size:.3g} Å" if card.any_diameter else "")
                + f", not {chosen:g} Å; omit --working-pixel-size, or give --from scratch"
            )
        return size
    if chosen is not None:
        return chosen
    return working_pixel_size(data.diameter_angstrom, recipe.network)


def describe_start(recipe: TrainingSettings) -> str:
    """Return which model the training starts from, to follow the objective in a sentence."""
    starts = {FROM_SCRATCH: "", GENERAL_MODEL_NAME: ", from the general model"}
    return starts.get(recipe.start, f", from {recipe.start}")


def describe_negatives(count: int) -> str:
    """Return the number of labeled negatives, to follow that of the particles in a sentence."""
    return f" and {count} negatives" if count else ""


def log_epochs(epochs: int) -> Callable[[Epoch], None]:
    """Return a callback that logs each epoch of a training of `epochs` epochs."""

    def log_epoch(epoch: Epoch) -> None:
        ap = f", validation AP {epoch.validation_ap:.3f}" if epoch.validation_ap >= 0 else ""
        log.info(
            f"epoch {epoch.epoch} of {epochs}: loss {epoch.loss:.4f}{ap}, {epoch.seconds:.0f} s"
        )

    return log_epoch
