"""The summary of a run: its results brought into the form the report shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from heliodor.conventions import FloatArray, IndexArray, to_working
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source, resolve_path
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.evaluation.metrics import Evaluation
from heliodor.models.model_file import Model
from heliodor.picking.batch import PickingResult
from heliodor.report.calibration_section import summarize_calibration
from heliodor.report.content import EvaluationCurves, GalleryItem, ReportContent
from heliodor.workflows.ground_truth import GroundTruth
from heliodor.workflows.run_record import RunRecord
from heliodor.workflows.train import TrainingResult

#: Micrographs pictured in a report.
GALLERY = 6


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
        With which was picked.
    training
        How it came about, where that was part of the run.
    images
        Micrographs as the model sees them.
    """
    card, counts = model.card, np.array([row.picks for row in picked.quality])
    distance = evaluation.distance if evaluation is not None else math.nan
    settings = {
        "Particle diameter": f"{card.diameter_angstrom:g} Å",
        "Network": f"{card.network}, width {card.width}",
        "Objective": card.objective,
        "Working pixel size": f"{card.working_pixel_size_angstrom:.3g} Å",
        "Training radius": f"{card.training_radius_angstrom:.3g} Å",
        "Normalisation": str(card.normalization["mode"]),
    }
    if card.labelled_particles:
        settings |= {
            "Labelled particles": f"{card.labelled_particles:,}",
            "Training micrographs": f"{len(card.training_micrographs):,}",
            "Validation micrographs": f"{len(card.validation_micrographs):,}",
            "Particles a micrograph in training": f"{card.expected_particles:.0f}",
            "Class prior π": f"{card.class_prior:.4f}",
        }
    history = [] if training is None else training.history
    if training is not None:
        epochs = f"{card.best_epoch} of {len(history)} ({card.updates} updates)"
        settings["Best epoch"] = epochs
    settings |= {
        "Threshold": f"{picked.threshold:.3f} log-odds",
        "Seed": str(card.seed),
        "heliodor": card.version,
    }
    return ReportContent(
        title="Particle picking report",
        key_figures=_key_figures(picked, counts, evaluation, region_ap),
        settings=list(settings.items()),
        command=record.command_line,
        warnings=record.notes,
        skipped=[(failure.name, failure.reason) for failure in record.failures],
        diameter_angstrom=card.diameter_angstrom,
        history=[asdict(epoch) for epoch in history],
        expected_fraction=card.class_prior,
        best_epoch=card.best_epoch,
        scores=picked.sheet.candidates.values,
        candidates=picked.sheet.candidates.counts,
        threshold=picked.threshold,
        picks_per_micrograph=[(row.name, row.picks) for row in picked.quality],
        evaluation=None if evaluation is None else _curves(evaluation),
        gallery=_gallery(training, images, picked, sources, truth, distance),
        stage_seconds=list(record.seconds.items()),
        quality=picked.quality,
        calibration=summarize_calibration(
            picked.calibration, picked.expected, picked.sheet.candidates, evaluation
        ),
    )


def _key_figures(
    picked: PickingResult, counts: IndexArray,
    evaluation: Evaluation | None, region_ap: float | None,
) -> list[tuple[str, str]]:  # fmt: skip
    figures = [
        ("Picks", f"{counts.sum():,}"),
        ("Micrographs", f"{len(counts):,}"),
        ("Picks a micrograph", f"{np.median(counts):.0f}"),
    ]
    if picked.expected is not None:
        particles = picked.expected.particles.value
        figures.append(("Particles there, estimated", f"{particles:,.0f}"))
    if evaluation is not None:
        figures += [
            ("Particle AP", f"{evaluation.micro.average_precision:.3f}"),
            ("Best F1", f"{evaluation.best_f1:.3f}"),
            ("F1 at the threshold", f"{evaluation.micro.f1:.3f}"),
        ]
    if region_ap is not None and not math.isnan(region_ap):
        figures.append(("Region AP", f"{region_ap:.3f}"))
    return figures


def _curves(evaluation: Evaluation) -> EvaluationCurves:
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
    )


def _gallery(
    training: TrainingResult | None,
    images: WorkingImages,
    picked: PickingResult,
    sources: Sequence[Source],
    truth: GroundTruth | None,
    distance: float,
) -> list[GalleryItem]:
    """Picture micrographs evenly from the fewest picks to the most, so that none is flattered."""
    picks = {row.name: row.picks for row in picked.quality}
    having = [source for source in sources if source.name in picks]
    if truth is not None:
        having = [source for source in having if source.name in truth.xy_px] or having
    having.sort(key=lambda source: picks[source.name])
    chosen = np.unique(np.linspace(0, len(having) - 1, min(GALLERY, len(having))).astype(int))
    labels = _labels_of([] if training is None else training.labelled, having)
    items = []
    for position in chosen[::-1]:
        source = having[position]
        xy_true = None if truth is None else truth.xy_px.get(source.name)
        own = picked.table(source.name)
        own = own.select(own.score >= picked.threshold)
        try:
            item = _item(images, source, own, labels, xy_true, distance)
            items.append(replace(item, bad_areas=picked.store.get(source.name).contamination))
        except BadInput:
            # It was readable a moment ago; a picture less is no reason to lose the report.
            continue
    return items


def _labels_of(
    labelled: Sequence[LabeledSource], sources: Sequence[Source]
) -> dict[str, FloatArray]:
    """Return the labels of micrographs picked on, which are the same only if the files are."""
    own = {resolve_path(item.source.path): item.xy_px for item in labelled}
    found = {source.name: own.get(resolve_path(source.path)) for source in sources}
    return {name: xy for name, xy in found.items() if xy is not None}


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

    marked = labels.get(source.name)
    if marked is not None:
        marked = working(marked[~mask_outside(marked, image.original_shape)])
    hits = found = None
    if xy_true is not None:
        order = np.argsort(-picks.score, kind="stable")
        picks = picks.select(order)
        matching = match_picks(picks.xy_px, xy_true, distance / image.pixel_size_angstrom)
        hits = matching.is_true_positive
        found = np.zeros(len(xy_true), dtype=bool)
        found[matching.truth_index[hits]] = True
    return GalleryItem(
        name=source.name,
        image=image.image,
        pixel_size_angstrom=image.working_pixel_size_angstrom,
        picks_xy_px=working(picks.xy_px),
        picks_score=picks.score,
        labels_xy_px=marked,
        truth_xy_px=None if xy_true is None else working(xy_true),
        picks_matched=hits,
        truth_matched=found,
    )
