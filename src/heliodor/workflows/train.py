"""The command `train`: micrographs and labels in, a model out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from heliodor.data.coordinates.label_assignment import LabeledSource, read_labels
from heliodor.data.coordinates.particle_diameter import check_diameter
from heliodor.data.micrographs.sources import MicrographInputs, find_sources
from heliodor.data.micrographs.working_images import (
    DEFAULT_CACHE_BYTES,
    Failure,
    WorkingImages,
    same_pixel_size,
    working_pixel_size,
)
from heliodor.errors import BadInput
from heliodor.evaluation.thresholds import choose_threshold
from heliodor.models.model_file import (
    Model,
    load_model,
    save_model,
)
from heliodor.models.pretrained import FROM_SCRATCH, GENERAL_MODEL_NAME
from heliodor.picking.settings import PickSettings
from heliodor.training.checkpoint import NAME as CHECKPOINT
from heliodor.training.checkpoint import Checkpoint
from heliodor.training.completion_record import (
    CompletionRecord,
    find_indices,
    fingerprint_micrographs,
    fingerprint_model_file,
    fingerprint_request,
)
from heliodor.training.dataset import assemble_training_set, choose_sources
from heliodor.training.history import Epoch, history_table
from heliodor.training.initialization import load_start_model
from heliodor.training.loop import train_network
from heliodor.training.model_card import build_model_card
from heliodor.training.objectives import uses_prior
from heliodor.training.recipes import RECIPES
from heliodor.training.score_calibration import (
    CONTRADICTED,
    CalibrationSet,
    choose_unlabeled,
)
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils import console
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.files import (
    create_output_folder,
    remove_partial_files,
    write_text,
)
from heliodor.utils.locking import lock_folder
from heliodor.workflows.run_record import RunRecord, flatten_settings

log = logging.getLogger(__name__)

#: The training that counts the particles for one whose objective must know.
PRIOR_RECIPE = RECIPES["quick"]
#: What it has in common with the training that it counts for.
_SHARED_FIELDS = (
    "network",
    "width",
    "norm",
    "start",
    "keep",
    "keep_contaminant",
    "freeze",
    "seed",
)
#: The model in a folder of results.
MODEL = "model.safetensors"


@dataclass(frozen=True)
class TrainingResult:
    """What `train` leaves behind for the steps after it."""

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
        Coordinates of some particles on some of them.
    out
        Folder for the results.
    negatives
        Coordinates of what is no particle, if the user has any.
    resume
        Whether to go on with the same training where one in the folder was cut short, and to
        leave its model as it is where it had ended.

    Raises
    ------
    BadInput
        As the steps do, with a sentence for the user.
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
            shelf=compute.shelf(folder),
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
    shelf: ArrayStore | None = None,
) -> TrainingResult:
    """Train as one stage of a longer run, which keeps the record; see `train`.

    The distances of `picking` are those at which the model's own threshold is set. The images
    are kept on the shelf; in memory by default.
    """
    shelf = shelf or ArrayStore()
    start = load_start_model(recipe)
    size = choose_working_pixel_size(data, recipe, start)
    before = len(record.notes)
    sources = find_sources(micrographs)
    record.add_inputs("training", sources)
    labelled, notes = read_labels(labels, sources, negatives)
    # In whatever order they were given: minibatches are drawn from them by their place.
    labelled = sorted(labelled, key=lambda item: item.source.name)
    asked = fingerprint_request(labelled, data, recipe, picking, device, start)
    images = WorkingImages(
        size,
        data.pixel_size_angstrom,
        data.diameter_angstrom,
        finer=start is not None and start.card.finer,
        keep_bytes=min(DEFAULT_CACHE_BYTES, shelf.budget_bytes / 4),
        threads=torch.get_num_threads(),
    )
    receipt = CompletionRecord.find(folder, asked, sources) if resume else None
    checkpoint = Checkpoint(folder / CHECKPOINT, resume)
    if receipt is not None:
        checkpoint.remove()
        return _trained_before(folder, receipt, record, labelled, images)
    training, validation, more = choose_sources(labelled, data)
    read = fingerprint_micrographs(
        find_indices([i.source for i in [*training, *validation]], sources), sources
    )
    log.info(
        f"training {recipe.network} ({recipe.objective}{describe_start(recipe)}) on"
        f" {len(training)} micrographs, {len(validation)} kept for validation"
    )
    with record.stage("reading"), console.progress("reading micrographs") as progress:
        dataset = assemble_training_set(training, validation, images, data, progress, shelf)
    record.notes += [*notes, *more, *dataset.notes]
    shelf.release_pages()
    doubt = check_diameter(
        dataset.images, images.working_pixel_size_angstrom, data.diameter_angstrom
    )
    record.notes += [doubt] if doubt else []
    for note in record.notes:
        log.warning(note)
    size = images.working_pixel_size_angstrom
    for failure in dataset.failures:
        log.warning(f"{failure.name} was left out: {failure.reason}")
    record.failures += dataset.failures
    log.info(
        f"learning at {size:.2f} A a pixel from {dataset.labelled_particles} labelled particles"
        f"{describe_negatives(dataset.labelled_negatives)}"
    )
    begin = None if start is None else start.network
    others = choose_unlabeled(dataset, labelled)
    read |= fingerprint_micrographs(find_indices(others, sources), sources)
    probe = CalibrationSet.read(dataset, others, images, data.diameter_angstrom, picking, device)
    estimated = data.expected_particles is None
    if estimated and uses_prior(recipe.objective):
        with record.stage("estimating the prior"):
            # An objective that needs no prior, and few updates, count well enough for one that
            # does.
            same = {name: getattr(recipe, name) for name in _SHARED_FIELDS}
            if begin is not None:
                same["learning_rate"] = recipe.learning_rate
            quick = replace(PRIOR_RECIPE, **same)
            learn, radius_px = dataset.images, dataset.radius_px
            first = train_network(
                learn, [], radius_px, dataset.prior, quick, device, shelf=shelf, start=begin
            )
            found = probe.measure_scale(first.network, recipe.seed).calibration
            if found is not None:
                dataset = dataset.with_expected_particles(found.particles[0] / found.micrographs)
    if uses_prior(recipe.objective):
        log.info(
            f"{dataset.expected_particles:.0f} particles are expected a micrograph, so"
            f" {dataset.prior:.2%} of the unlabelled regions are taken to be on a particle"
        )
    with record.stage("training"):
        trained = train_network(
            dataset.images,
            dataset.validation,
            dataset.radius_px,
            dataset.prior,
            recipe,
            device,
            progress=log_epochs(recipe.epochs_for(dataset.labelled_particles)),
            checkpoint=checkpoint,
            shelf=shelf,
            start=begin,
        )
    with record.stage("calibrating"):
        level = probe.measure_scale(trained.network, recipe.seed)
    if level.labels_in_contamination > CONTRADICTED and trained.network.contaminant is not None:
        trained.network.contaminant = None
        record.notes.append(
            f"{level.labels_in_contamination:.0%} of the labels lie where the model told"
            " contaminants, so it is not to tell them any more"
        )
        log.warning(record.notes[-1])
    calibration = level.calibration
    if calibration is not None:
        threshold = choose_threshold(calibration, level.scores, picking.max_fdr)
        counts = [count / calibration.micrographs for count in calibration.particles]
        if estimated:
            dataset = dataset.with_expected_particles(counts[0])
        note = compare_particle_counts(counts, data.expected_particles)
    else:
        threshold = probe.find_threshold(trained.network, dataset.expected_particles)
        note = (
            "there are too few labels to estimate how many particles there are, so"
            f" {dataset.expected_particles:.0f} a micrograph are assumed; label some more, or give"
            " --expected-particles"
        )
    if note:
        record.notes.append(note)
        log.warning(note)
    card = build_model_card(start, data, recipe, dataset, trained, level, threshold, size)
    model = Model(trained.network, card)
    path = folder / MODEL
    save_model(path, model)
    write_text(folder / "training.tsv", history_table(trained.history))
    record.results |= {"model": asdict(card)}
    CompletionRecord(
        asked,
        read,
        fingerprint_model_file(path),
        size,
        trained.history,
        dataset.failures,
        record.notes[before:],
        dict(record.seconds),
    ).write(folder)
    checkpoint.remove()
    log.info(f"wrote {path}")
    return TrainingResult(model, trained.history, dataset.failures, labelled, images)


def _trained_before(
    folder: Path,
    receipt: CompletionRecord,
    record: RunRecord,
    labelled: list[LabeledSource],
    images: WorkingImages,
) -> TrainingResult:
    """Return what the same training left behind when it ended before."""
    path = folder / MODEL
    log.info(f"{path} was trained already on the same with the same settings; it stays")
    model = load_model(path)
    write_text(folder / "training.tsv", history_table(receipt.history))
    record.notes += receipt.notes
    record.failures += receipt.failures
    record.seconds |= receipt.seconds
    record.results |= {"model": asdict(model.card)}
    if receipt.working_pixel_size_angstrom != images.working_pixel_size_angstrom:
        images.coarsen(receipt.working_pixel_size_angstrom)
    return TrainingResult(model, receipt.history, receipt.failures, labelled, images)


def choose_working_pixel_size(
    data: DataSettings, recipe: TrainingSettings, start: Model | None = None
) -> float:
    """Return the working pixel size: as given, else what suits the network, or its start."""
    if start is not None:
        card = start.card
        size = card.working_pixel_size_angstrom * data.diameter_angstrom / card.diameter_angstrom
        given = data.working_pixel_size_angstrom
        if given is not None and not same_pixel_size(given, size):
            raise BadInput(
                f"a model to start from fixes the working pixel size, here at {size:.3g} A, and"
                f" {given:g} A was given; leave --working-pixel-size out, or give --from scratch"
            )
        return size
    if data.working_pixel_size_angstrom is not None:
        return data.working_pixel_size_angstrom
    return working_pixel_size(data.diameter_angstrom, recipe.network)


#: A number of particles this many times off the estimate's band is worth a word.
FAR_OFF = 1.5


def compare_particle_counts(counts: Sequence[float], given: float | None) -> str:
    """Say the estimated particles a micrograph; return a note where the user's are others."""
    estimate, low, high = counts
    log.info(
        f"an estimated {estimate:.0f} particles a micrograph ({low:.0f} to {high:.0f}), labelled"
        " or not"
    )
    if given is None or max(given / high, low / given) < FAR_OFF:
        return ""
    return (
        f"{given:g} particles a micrograph were expected, but the scores speak for {estimate:.0f}"
        f" ({low:.0f} to {high:.0f})"
    )


def describe_start(recipe: TrainingSettings) -> str:
    """Say what a training starts from, where it is a model."""
    starts = {FROM_SCRATCH: "", GENERAL_MODEL_NAME: ", from the general model"}
    return starts.get(recipe.start, f", from {recipe.start}")


def describe_negatives(number: int) -> str:
    """Name the labelled negatives, where there are some."""
    return f" and {number} labelled negatives" if number else ""


def log_epochs(epochs: int) -> Callable[[Epoch], None]:
    """Return what says how an epoch went, of so many."""

    def say(epoch: Epoch) -> None:
        ap = f", validation AP {epoch.validation_ap:.3f}" if epoch.validation_ap >= 0 else ""
        log.info(
            f"epoch {epoch.epoch} of {epochs}: loss {epoch.loss:.4f}{ap}, {epoch.seconds:.0f} s"
        )

    return say
