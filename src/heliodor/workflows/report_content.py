"""The content of a run's report, gathered from its results."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray, to_working
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.acquisition import find_lists, read_acquisition
from heliodor.data.micrographs.sources import Source, resolve_path
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.evaluation.metrics import Evaluation
from heliodor.models.model_file import Model, ModelCard
from heliodor.picking.batch import PickingResult
from heliodor.picking.micrograph_quality import find_outliers
from heliodor.report.calibration_section import summarize_calibration
from heliodor.report.content import EvaluationCurves, GalleryItem, ReportContent
from heliodor.workflows.ground_truth import GroundTruth
from heliodor.workflows.run_record import RunRecord
from heliodor.workflows.train import TrainingResult

#: Number of micrographs of which a report has images.
GALLERY = 6
#: Number of outlier micrographs of which it has small images.
OUTLIERS = 4


def build_report_content(
    model: Model,
    training: TrainingResult | None,
    images: WorkingImages,
    picked: PickingResult,
    sources: Sequence[Source],
    truth: GroundTruth | None,
    evaluation: Evaluation | None,
    region_ap: float | None,
    record: RunRecord,
    pixel_sizes: Mapping[str, float],
) -> ReportContent:
    """Gather what the report shows of a run.

    Parameters
    ----------
    model
        The model used for picking.
    training
        Its training, where that was part of the run.
    images
        Micrographs as the model sees them.
    picked, sources
        The candidates, and the micrographs.
    truth, evaluation, region_ap
        The truth, if there is one, and how the picks agree with it.
    record
        The run's record: settings, times, notes and skipped micrographs.
    pixel_sizes
        Of each micrograph as it is stored, in angstrom.
    """
    card = model.card
    distance = evaluation.distance if evaluation is not None else math.nan
    history = [] if training is None else training.history
    # Only generalized expectation brings the mean probability to the class prior.
    constrained = card.objective.startswith("ge-")
    return ReportContent(
        title=f"Particle picks: {_short(_data_set(record, sources))}",
        key_figures=_key_figures(picked, evaluation),
        settings=_settings(card, picked, len(history)),
        command=record.command_line,
        warnings=record.notes,
        skipped=[(failure.name, failure.reason) for failure in record.failures],
        diameter_angstrom=card.diameter_angstrom,
        history=[asdict(epoch) for epoch in history],
        expected_fraction=card.class_prior if constrained else None,
        best_epoch=card.best_epoch,
        scores=picked.sheet.candidates.values,
        score_counts=picked.sheet.candidates.counts,
        threshold=picked.threshold,
        picks_per_micrograph=[(row.name, row.picks) for row in picked.quality],
        evaluation=None if evaluation is None else _curves(evaluation, region_ap),
        gallery=_gallery(training, images, picked, sources, truth, distance),
        outliers=_outliers(images, picked, sources),
        defocus=_defocus(record, picked),
        stage_seconds=[(name.capitalize(), value) for name, value in record.seconds.items()],
        quality=picked.quality,
        calibration=summarize_calibration(
            picked.calibration, picked.expected, picked.sheet.candidates, evaluation
        ),
        overview=[
            ("Micrographs", _data_set(record, sources)),
            ("Model", _model_name(card, training, record)),
            ("Pixel size", _pixel_size(list(pixel_sizes.values()))),
            ("Particle diameter", f"{card.diameter_angstrom:g} Å"),
        ],
        started=record.started,
    )


def _inputs(record: RunRecord) -> list[str]:
    """Return the micrographs picked on as they were given."""
    inputs = record.arguments.get("pick", record.arguments.get("micrographs"))
    if inputs is None:
        return []
    return [str(inputs)] if isinstance(inputs, str | Path) else [str(one) for one in inputs]


def _defocus(record: RunRecord, picked: PickingResult) -> list[tuple[float, int]]:
    """Return the defocus and the number of picks of the micrographs whose list gives it."""
    try:
        columns = read_acquisition(find_lists(_inputs(record))).columns
    except BadInput:
        return []  # it was read to find the micrographs; a figure less is no reason to stop
    known = next((column.values for column in columns if column.key == "defocus"), {})
    return [(known[row.name], row.picks) for row in picked.quality if row.name in known]


def _data_set(record: RunRecord, sources: Sequence[Source]) -> str:
    """Return the micrographs picked on as they were given, or the folder of several."""
    inputs = _inputs(record)
    if len(inputs) == 1:
        return inputs[0]
    return os.path.commonpath([source.path.parent.absolute() for source in sources])


def _short(path: str) -> str:
    """Return the end of a path, for a title."""
    return "/".join(Path(path).parts[-2:])


def _model_name(card: ModelCard, training: TrainingResult | None, record: RunRecord) -> str:
    """Return the model's name, or how it was trained."""
    if training is not None:
        labels, micrographs = card.labelled_particles, len(card.training_micrographs)
        return f"trained in this run ({labels:,} labels on {micrographs:,} micrographs)"
    name = record.arguments.get("model")
    return "general model (pretrained)" if name is None else str(name)


def _pixel_size(sizes: Sequence[float]) -> str:
    if not sizes:
        return "–"
    low, high = f"{min(sizes):.4g}", f"{max(sizes):.4g}"
    return f"{low} Å" if low == high else f"{low} to {high} Å"


def _settings(card: ModelCard, picked: PickingResult, epochs: int) -> list[tuple[str, str]]:
    settings = {
        "Particle diameter": f"{card.diameter_angstrom:g} Å",
        "Network": f"{card.network}, width {card.width}",
        "Objective": card.objective,
        "Working pixel size": f"{card.working_pixel_size_angstrom:.3g} Å",
        "Training radius": f"{card.training_radius_angstrom:.3g} Å",
        "Normalization": str(card.normalization["mode"]),
    }
    if card.labelled_particles:
        settings |= {
            "Labeled particles": f"{card.labelled_particles:,}",
            "Training micrographs": f"{len(card.training_micrographs):,}",
            "Validation micrographs": f"{len(card.validation_micrographs):,}",
            "Particles per micrograph": f"{card.expected_particles:.0f}, estimated",
            "Class prior π": f"{card.class_prior:.4f}",
        }
    if epochs:
        settings["Best epoch"] = f"{card.best_epoch} of {epochs} ({card.updates} updates)"
    settings |= {
        "Threshold": f"score {picked.threshold:.3f}",
        "Seed": str(card.seed),
        "Model made by": f"heliodor {card.version}",
    }
    return list(settings.items())


def _key_figures(picked: PickingResult, evaluation: Evaluation | None) -> list[tuple[str, str]]:
    """Return five results in plain words, measured where there is truth, otherwise estimated."""
    counts = np.array([row.picks for row in picked.quality])
    figures = [
        ("Picks", f"{counts.sum():,}"),
        ("Micrographs", f"{len(counts):,}"),
        ("Picks per micrograph (median)", f"{np.median(counts):.0f}"),
    ]
    if evaluation is not None:
        shares, how = (evaluation.micro.precision, evaluation.micro.recall), "measured"
    elif picked.expected is not None:
        expected = picked.expected
        shares, how = (expected.precision.value, expected.recall.value), "estimated"
    else:
        return figures
    names = ("Picks that are particles", "Particles that are picked")
    return figures + [
        (f"{name} ({how})", _percent(share)) for name, share in zip(names, shares, strict=True)
    ]


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "–"


def _curves(evaluation: Evaluation, region_ap: float | None) -> EvaluationCurves:
    curve, micro = evaluation.curve, evaluation.micro
    rows = [
        (
            row.name,
            row.n_picks,
            row.n_truth,
            row.n_true_positives,
            row.scores.precision,
            row.scores.recall,
            row.scores.f1,
            row.scores.average_precision,
        )
        for row in evaluation.micrographs
    ]
    return EvaluationCurves(
        threshold=curve.threshold,
        precision=curve.precision,
        recall=curve.recall,
        f1=curve.f1,
        average_precision=micro.average_precision,
        best_f1=evaluation.best_f1,
        best_f1_threshold=evaluation.best_f1_threshold,
        at_threshold=(micro.precision, micro.recall, micro.f1),
        match_distance_angstrom=evaluation.distance,
        rows=rows,
        region_average_precision=None if region_ap is None or math.isnan(region_ap) else region_ap,
    )


def _gallery(
    training: TrainingResult | None,
    images: WorkingImages,
    picked: PickingResult,
    sources: Sequence[Source],
    truth: GroundTruth | None,
    distance: float,
) -> list[GalleryItem]:
    """Return micrographs from the fewest picks to the most, evenly, so that none is flattered."""
    pick_counts = {row.name: row.picks for row in picked.quality}
    eligible = [source for source in sources if source.name in pick_counts]
    if truth is not None:
        eligible = [source for source in eligible if source.name in truth.xy_px] or eligible
    eligible.sort(key=lambda source: pick_counts[source.name])
    number = min(GALLERY, len(eligible))
    chosen = np.unique(np.linspace(0, len(eligible) - 1, number).astype(int))
    labels = _labels_of([] if training is None else training.labelled, eligible)
    items = []
    for index in chosen[::-1]:
        source = eligible[index]
        xy_true = None if truth is None else truth.xy_px.get(source.name)
        if (item := _picked_item(images, picked, source, labels, xy_true, distance)) is not None:
            items.append(item)
    return items


def _outliers(
    images: WorkingImages, picked: PickingResult, sources: Sequence[Source]
) -> list[GalleryItem]:
    """Return the first outlier micrographs."""
    by_name = {source.name: source for source in sources}
    found = (
        _picked_item(images, picked, by_name[row.name], {}, None, math.nan)
        for row in find_outliers(picked.quality)[:OUTLIERS]
        if row.name in by_name
    )
    return [item for item in found if item is not None]


def _picked_item(
    images: WorkingImages,
    picked: PickingResult,
    source: Source,
    labels: dict[str, FloatArray],
    xy_true: FloatArray | None,
    distance: float,
) -> GalleryItem | None:
    """Return a micrograph with its picks, None if it cannot be read any more."""
    candidates = picked.table(source.name)
    picks = candidates.select(candidates.score >= picked.threshold)
    try:
        item = _item(images, source, picks, labels, xy_true, distance)
    except BadInput:
        # It was readable a moment ago; one image less is no reason to lose the report.
        return None
    known = picked.calibration
    return replace(
        item,
        contamination=picked.store.get(source.name).contamination,
        picks_probability=None if known is None else known.probability(item.picks_score),
    )


def _labels_of(
    labelled: Sequence[LabeledSource], sources: Sequence[Source]
) -> dict[str, FloatArray]:
    """Return the labels of micrographs picked on, which are the same only if the files are."""
    by_path = {resolve_path(item.source.path): item.xy_px for item in labelled}
    by_name = {source.name: by_path.get(resolve_path(source.path)) for source in sources}
    return {name: xy for name, xy in by_name.items() if xy is not None}


def _item(
    images: WorkingImages,
    source: Source,
    picks: Picks,
    labels: dict[str, FloatArray],
    xy_true: FloatArray | None,
    distance: float,
) -> GalleryItem:
    image = images.get(source)

    def working(xy: FloatArray) -> FloatArray:
        return to_working(xy, image.original_shape, image.shape)

    xy_labels = labels.get(source.name)
    if xy_labels is not None:
        xy_labels = working(xy_labels[~mask_outside(xy_labels, image.original_shape)])
    picks_matched = truth_matched = None
    if xy_true is not None:
        order = np.argsort(-picks.score, kind="stable")
        picks = picks.select(order)
        matching = match_picks(picks.xy_px, xy_true, distance / image.pixel_size_angstrom)
        picks_matched = matching.is_true_positive
        truth_matched = np.zeros(len(xy_true), dtype=bool)
        truth_matched[matching.truth_index[picks_matched]] = True
    return GalleryItem(
        name=source.name,
        image=image.image,
        pixel_size_angstrom=image.working_pixel_size_angstrom,
        picks_xy_px=working(picks.xy_px),
        picks_score=picks.score,
        labels_xy_px=xy_labels,
        truth_xy_px=None if xy_true is None else working(xy_true),
        picks_matched=picks_matched,
        truth_matched=truth_matched,
    )
