"""The commands of the main job: run, train, pick, rerun and preprocess."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli import settings
from heliodor.cli.options import (
    Autoencoder,
    BadAreaMasks,
    BadAreas,
    Device,
    Diameter,
    Dropout,
    EdgeMargin,
    Epochs,
    ExclusionRadius,
    Expected,
    Flatten,
    Labels,
    LearningRate,
    MatchDistance,
    MaxContamination,
    MaxFdr,
    Memory,
    Micrographs,
    Negatives,
    NetworkName,
    Normalization,
    ObjectiveName,
    Out,
    PickingDiameter,
    PickingModel,
    PixelSize,
    RecipeName,
    Report,
    Resume,
    Scores,
    Seed,
    Start,
    Threads,
    Threshold,
    ThresholdSeries,
    TrainingRadius,
    TrustLabels,
    Updates,
    ValidationShare,
    Width,
    WorkingPixelSize,
    number,
)


def run(
    micrographs: Micrographs,
    labels: Labels,
    diameter: Diameter,
    out: Out,
    negatives: Negatives = None,
    expected_particles: Expected = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(metavar="B", help="Micrographs to pick on [default: those trained on]"),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(metavar="T", help="Coordinates of all particles, to judge the picks by."),
    ] = None,
    match_distance: MatchDistance = None,
    start: Start = None,
    recipe: RecipeName = "fast",
    objective: ObjectiveName = None,
    network: NetworkName = None,
    width: Width = None,
    dropout: Dropout = None,
    autoencoder: Autoencoder = None,
    epochs: Epochs = None,
    epoch_updates: Updates = None,
    learning_rate: LearningRate = None,
    training_radius: TrainingRadius = None,
    working_pixel_size: WorkingPixelSize = None,
    pixel_size: PixelSize = None,
    normalization: Normalization = "micrograph",
    flatten: Flatten = None,
    validation_share: ValidationShare = 0.0,
    trust_labels: TrustLabels = False,
    threshold: Threshold = None,
    max_fdr: MaxFdr = None,
    threshold_series: ThresholdSeries = 0,
    exclusion_radius: ExclusionRadius = None,
    edge_margin: EdgeMargin = 0.0,
    scores: Scores = "smooth",
    bad_areas: BadAreas = None,
    max_contamination: MaxContamination = None,
    bad_area_masks: BadAreaMasks = False,
    seed: Seed = 0,
    resume: Resume = "auto",
    memory: Memory = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train, pick, judge and report in one go: the whole job."""
    from heliodor.workflows import run as pipeline

    outcome = pipeline.run(
        micrographs,
        labels,
        out,
        settings.data_settings(locals()),
        settings.recipe_settings(locals()),
        pick_micrographs=pick or None,
        truth=truth,
        match_distance_angstrom=match_distance,
        settings=settings.pick_settings(locals()),
        compute=settings.computing(locals()),
        command_line=settings.typed(),
        negatives=negatives,
        resume=settings.resuming(locals()),
    )
    settings.end(outcome.record.failures)


def train(
    micrographs: Micrographs,
    labels: Labels,
    diameter: Diameter,
    out: Out,
    negatives: Negatives = None,
    expected_particles: Expected = None,
    start: Start = None,
    recipe: RecipeName = "fast",
    objective: ObjectiveName = None,
    network: NetworkName = None,
    width: Width = None,
    dropout: Dropout = None,
    autoencoder: Autoencoder = None,
    epochs: Epochs = None,
    epoch_updates: Updates = None,
    learning_rate: LearningRate = None,
    training_radius: TrainingRadius = None,
    working_pixel_size: WorkingPixelSize = None,
    pixel_size: PixelSize = None,
    normalization: Normalization = "micrograph",
    flatten: Flatten = None,
    validation_share: ValidationShare = 0.0,
    trust_labels: TrustLabels = False,
    seed: Seed = 0,
    resume: Resume = "auto",
    memory: Memory = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Learn from labelled particles: OUT/model.safetensors and OUT/training.tsv."""
    from heliodor.workflows import train as training_run

    trained = training_run.train(
        micrographs,
        labels,
        out,
        settings.data_settings(locals()),
        settings.recipe_settings(locals()),
        settings.computing(locals()),
        settings.typed(),
        negatives,
        settings.resuming(locals()),
    )
    settings.end(trained.failures)


def pick(
    micrographs: Micrographs,
    out: Out,
    model: PickingModel = None,
    diameter: PickingDiameter = None,
    threshold: Threshold = None,
    max_fdr: MaxFdr = None,
    threshold_series: ThresholdSeries = 0,
    exclusion_radius: ExclusionRadius = None,
    edge_margin: EdgeMargin = 0.0,
    scores: Scores = "smooth",
    bad_areas: BadAreas = None,
    max_contamination: MaxContamination = None,
    bad_area_masks: BadAreaMasks = False,
    report: Report = False,
    pixel_size: PixelSize = None,
    resume: Resume = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Pick, trained or not: OUT/autopick.star, a STAR a micrograph, picks.tsv, micrographs.tsv."""
    from heliodor.workflows import pick as picking_run

    picked = picking_run.pick(
        model,
        micrographs,
        out,
        settings.pick_settings(locals()),
        pixel_size,
        settings.computing(locals()),
        settings.typed(),
        settings.resuming(locals()),
        diameter,
        report,
    )
    settings.end(picked.failures)


def rerun(
    record: Annotated[Path, typer.Argument(metavar="RUN.JSON", help="What a run left behind.")],
    out: Out,
) -> None:
    """Do again what a run.json says was done, and tell whether the results are the same."""
    from heliodor.workflows import rerun as again

    settings.end(again.rerun(record, out, settings.typed()).failures)


def preprocess(
    micrographs: Micrographs,
    out: Out,
    working_pixel_size: Annotated[float, number("ANGSTROM", "Pixel size of the results.")],
    normalization: Normalization = "micrograph",
    pixel_size: PixelSize = None,
    threads: Threads = None,
) -> None:
    """Fourier-crop and normalise micrographs into float32 MRC files."""
    from heliodor.workflows import preprocess as preprocessing_run

    failures = preprocessing_run.preprocess(
        micrographs,
        out,
        working_pixel_size,
        normalization,  # type: ignore[arg-type]
        pixel_size,
        threads,
        settings.typed(),
    )
    settings.end(failures)
