"""The command `train --filaments`: learn filaments from labels."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from heliodor import __version__
from heliodor.conventions import FloatArray, to_working
from heliodor.data.filaments.curve import fit_curve
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import MicrographInputs, Source, find_sources
from heliodor.data.micrographs.working_images import (
    MAX_UPSAMPLING,
    Failure,
    WorkingImage,
    WorkingImages,
    prepare_working_images,
    same_binning,
)
from heliodor.errors import BadInput
from heliodor.models.filament_model_file import (
    FilamentModel,
    check_filament_width,
    save_filament_model,
)
from heliodor.models.pretrained import (
    FROM_SCRATCH,
    GENERAL_MODEL_NAME,
    load_filament_model_or_general,
)
from heliodor.training.filaments.learner import RECIPE, train_filaments
from heliodor.training.filaments.settings import FilamentTraining
from heliodor.training.filaments.teaching import LabeledFilaments
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.console import count_of
from heliodor.utils.files import create_output_folder, remove_partial_files
from heliodor.utils.locking import lock_folder
from heliodor.workflows.run_record import RunRecord, flatten_settings

log = logging.getLogger(__name__)

#: The file of the model in an output folder.
MODEL = "model.safetensors"
#: Distance between the points of an axis that is learned, working pixels.
POINT_PX = 0.5
#: Labels whose widths differ by more than this factor are not of one kind.
MOST_WIDTH_RATIO = 1.5


@dataclass(frozen=True)
class FilamentTrainingResult:
    """A trained model, and the micrographs that could not be used."""

    model: FilamentModel
    failures: list[Failure]


@dataclass(frozen=True)
class LabelsOfFilaments:
    """What a training begins with: labels on micrographs, and a model.

    `rejected` has the axes that are not filaments, of each micrograph that has some.
    """

    start: FilamentModel
    table: Filaments
    width_angstrom: float
    sources: list[Source]
    #: The labels of each micrograph that has some.
    labeled: dict[Source, tuple[Filament, ...]]
    rejected: dict[Source, tuple[Filament, ...]]
    #: The pixel sizes in the file of these, by its names of micrographs.
    rejected_pixel_sizes: Mapping[str, float]

    @classmethod
    def read(
        cls,
        micrographs: MicrographInputs,
        labels: str | Path,
        settings: FilamentTraining,
        negatives: str | Path | None = None,
    ) -> LabelsOfFilaments:
        """Read the labels and the model, but not the micrographs.

        Raises
        ------
        BadInput
            If an input cannot be used.
        """
        if settings.start == FROM_SCRATCH:
            raise BadInput(
                "training on filaments starts from a model of filaments; leave this out for the"
                " general filament model",
                parameter="from",
            )
        # The general model of filaments is the one that is meant here.
        general = settings.start in (None, GENERAL_MODEL_NAME)
        start = load_filament_model_or_general(None if general else settings.start)
        table = read_filaments(labels, settings.start_end)
        width = choose_width(settings.width_angstrom, start, table, labels)
        sources = find_sources(micrographs)
        labeled = _assign(table, sources, labels)
        if negatives is None:
            return cls(start, table, width, sources, labeled, {}, {})
        false = read_filaments(negatives, settings.start_end)
        rejected = _assign(false, sources, negatives)
        return cls(start, table, width, sources, labeled, rejected, false.pixel_sizes)


def train_filament_model(
    micrographs: MicrographInputs,
    labels: str | Path,
    out: str | Path,
    settings: FilamentTraining,
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
    negatives: str | Path | None = None,
) -> FilamentTrainingResult:
    """Train a model of filaments and write ``model.safetensors`` and ``run.json``.

    Parameters
    ----------
    micrographs
        Files, folders, globs, STAR files or @lists.
    labels
        Axes of some filaments on some of the micrographs.
    out
        Folder for the results.
    negatives
        Axes that are not filaments, such as traced ones that are false; None: none are known.

    Raises
    ------
    BadInput
        If an input cannot be used.
    """
    arguments: dict[str, object] = {"micrographs": micrographs, "labels": labels}
    arguments |= {"negatives": negatives, "filaments": True}
    arguments |= flatten_settings(settings, compute)
    record = RunRecord("train", arguments, command_line)
    device = compute.start()
    given = LabelsOfFilaments.read(micrographs, labels, settings, negatives)
    start, width = given.start, given.width_angstrom
    record.add_inputs("training", given.sources)
    folder = create_output_folder(out)
    with lock_folder(folder):
        remove_partial_files(folder)
        with record.stage("reading"):
            items, failures = _read(given, settings)
        record.skip(failures)
        count = sum(len(item.axes_px) for item in items)
        rejected = sum(len(item.rejected_px) for item in items)
        log.info(
            f"training on {count_of(count, 'labeled filament')} {width:g} Å wide"
            + (f" and {count_of(rejected, 'rejected one')}" if rejected else "")
            + f", on {count_of(len(items), 'micrograph')}"
        )
        recipe = replace(RECIPE, seed=settings.seed)
        with record.stage("training"), console.progress("training") as progress:
            trained = train_filaments(start, items, recipe, device, progress)
        names = [item.name for item in items]
        pixel = width / start.card.working_width_px
        lengths = [len(axis) * POINT_PX * pixel for item in items for axis in item.axes_px]
        card = replace(
            trained.card,
            width_angstrom=width,
            version=__version__,
            training_micrographs=names,
            labelled_filaments=count,
            labelled_length_angstrom=round(float(sum(lengths)), 1),
        )
        model = FilamentModel(trained.network, card)
        save_filament_model(folder / MODEL, model)
        record.results |= {"model": asdict(card)}
        record.write(folder)
    log.info(f"wrote {folder / MODEL}")
    return FilamentTrainingResult(model, failures)


def choose_width(
    given: float | None, start: FilamentModel, table: Filaments, labels: str | Path
) -> float:
    """Return the width of the filaments: the one given, that of the labels, or of the start.

    Raises
    ------
    BadInput
        If none is known, or the widths of the labels differ.
    """
    if given is not None:
        return check_filament_width(given)
    known = np.array([one.width_angstrom for one in table if not math.isnan(one.width_angstrom)])
    if len(known):
        if known.max() > MOST_WIDTH_RATIO * known.min():
            raise BadInput(
                f"{labels} has filaments from {known.min():g} to {known.max():g} Å wide; give the"
                " width of those to find, and only label these",
                parameter="width",
            )
        return check_filament_width(float(np.median(known)))
    if start.card.width_angstrom is not None:
        return start.card.width_angstrom
    raise BadInput(
        f"{labels} does not say how wide the filaments are; give their width in angstrom",
        parameter="width",
    )


def _assign(
    table: Filaments, sources: Sequence[Source], labels: str | Path
) -> dict[Source, tuple[Filament, ...]]:
    """Return the labels of each micrograph that has some."""
    if not len(table):
        raise BadInput(f"{labels} contains no filaments; label some first")
    matches = match_names(table.micrographs, sources, table.file_stems)
    own = {name: filaments for name, filaments in table.split_by_micrograph() if len(filaments)}
    missing = [name for name in own if name not in matches]
    if len(missing) == len(own):
        raise BadInput(
            f"{labels} has no filaments on the micrographs given: it has micrographs like"
            f" {missing[0]}, they are like {sources[0].name}"
        )
    if missing:
        log.warning(
            f"the labels on {count_of(len(missing), 'micrograph')} (such as {missing[0]}) are"
            " ignored: no matching micrograph was given"
        )
    # Fields are drawn by index: the order of the arguments must not matter.
    found = [(matches[name], filaments) for name, filaments in own.items() if name in matches]
    return dict(sorted(found, key=lambda item: item[0].name))


def _read(
    given: LabelsOfFilaments, settings: FilamentTraining
) -> tuple[list[LabeledFilaments], list[Failure]]:
    """Read the labeled micrographs, at the scale of the network."""
    size = given.width_angstrom / given.start.card.working_width_px
    images = WorkingImages(
        size,
        settings.pixel_size_angstrom,
        coarsest_angstrom=MAX_UPSAMPLING * size,
        finer=True,
    )
    wanted = [*given.labeled]
    wanted += [source for source in given.rejected if source not in given.labeled]
    with console.progress("reading micrographs") as progress:
        good, failures = prepare_working_images(wanted, images, progress)
    items = []
    for image in good:
        labeled, rejected = (
            _draw_axes(own.get(image.source, ()), image, sizes, what)
            for own, sizes, what in (
                (given.labeled, given.table.pixel_sizes, "labeled"),
                (given.rejected, given.rejected_pixel_sizes, "rejected"),
            )
        )
        normalized = given.start.normalizer.apply(image.image)
        items.append(LabeledFilaments(image.source.name, normalized, labeled, rejected))
    return items, failures


def _draw_axes(
    filaments: Sequence[Filament],
    image: WorkingImage,
    pixel_sizes: Mapping[str, float],
    what: str,
) -> tuple[FloatArray, ...]:
    """Return the axes of filaments in pixels of a working image.

    Parameters
    ----------
    pixel_sizes
        Of the micrographs in the file of filaments, where it says so.
    what
        What the filaments are, for messages.

    Raises
    ------
    BadInput
        If they are those of other micrographs.
    """
    if not filaments:
        return ()
    in_file = pixel_sizes.get(filaments[0].micrograph)
    if in_file is not None and not same_binning(in_file, image.pixel_size_angstrom):
        raise BadInput(
            f"the labels on {image.source.name} have {in_file:.4g} Å/pixel, but the micrograph"
            f" has {image.pixel_size_angstrom:.4g}; use the micrographs that were labeled, or"
            " convert the labels with --scale"
        )
    axes = []
    for one in filaments:
        axis = to_working(one.axis_px, image.original_shape, image.shape)
        axes.append(fit_curve(axis).resample(POINT_PX))
    last = np.array(image.shape[::-1], float) - 1.0
    inside = [bool(((axis >= 0.0) & (axis <= last)).all(axis=1).any()) for axis in axes]
    if not all(inside):
        raise BadInput(
            f"a {what} filament lies outside {image.source.name}; check that the labels are"
            " in pixels of these micrographs"
        )
    return tuple(axes)
