"""The commands of the main job: run, train, pick, rerun and preprocess."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.options import (
    Adapt,
    Labels,
    MatchDistance,
    Micrographs,
    Negatives,
    Only,
    PickingDiameter,
    PickingModel,
    PixelSize,
    Report,
    Resume,
    Threads,
    choice,
    number,
    out_option,
)
from heliodor.cli.session import (
    command_line,
    end,
    should_resume,
)
from heliodor.picking.settings import PickSettings
from heliodor.training.settings import DataSettings, TrainSettings
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.settings import options_of

_NORMALIZATION = options_of(DataSettings)["normalization"].option


def run(
    micrographs: Micrographs,
    labels: Labels,
    settings: TrainSettings,
    picking: PickSettings,
    compute: ComputeSettings,
    out: Annotated[Path, out_option("Folder for the results.", "results")] = Path("results"),
    negatives: Negatives = None,
    pick: Annotated[
        list[str] | None,
        choice("FILE", "Micrographs to pick.", "Input", default="those trained on"),
    ] = None,
    truth: Annotated[
        str | None,
        choice("FILE", "Coordinates of all particles, to evaluate the picks.", "Evaluation"),
    ] = None,
    match_distance: MatchDistance = None,
    resume: Resume = "auto",
) -> None:
    """Train, pick, evaluate and report: the whole job in one command."""
    from heliodor.workflows.run import run as run_all

    outcome = run_all(
        micrographs,
        labels,
        out,
        settings.data,
        settings.training,
        pick_micrographs=pick or None,
        truth=truth,
        match_distance_angstrom=match_distance,
        settings=picking,
        compute=compute,
        command_line=command_line(),
        negatives=negatives,
        resume=should_resume(resume),
    )
    end(outcome.record.failures)


def train(
    micrographs: Micrographs,
    labels: Labels,
    settings: TrainSettings,
    compute: ComputeSettings,
    out: Annotated[
        Path, out_option("Folder for model.safetensors and training.tsv.", "training")
    ] = Path("training"),
    negatives: Negatives = None,
    resume: Resume = "auto",
) -> None:
    """Train a model on labeled particles: OUT/model.safetensors and OUT/training.tsv."""
    from heliodor.workflows.train import train as train_model

    trained = train_model(
        micrographs,
        labels,
        out,
        settings.data,
        settings.training,
        compute,
        command_line(),
        negatives,
        should_resume(resume),
    )
    end(trained.failures)


def pick(
    micrographs: Micrographs,
    picking: PickSettings,
    compute: Annotated[ComputeSettings, Only(but=("memory",))],
    out: Annotated[Path, out_option("Folder for the picks.", "picks")] = Path("picks"),
    model: PickingModel = None,
    diameter: PickingDiameter = None,
    pixel_size: PixelSize = None,
    adapt: Adapt = False,
    labels: Annotated[
        str | None,
        choice(
            "FILE",
            "Particles that are picks whatever their scores, such as labels.star of heliodor app.",
            "Corrections",
        ),
    ] = None,
    negatives: Annotated[
        str | None,
        choice(
            "FILE",
            "Positions that are not particles: no pick within 0.4 diameters of one.",
            "Corrections",
        ),
    ] = None,
    exclude: Annotated[
        str | None,
        choice("FILE", "Text file of micrographs to leave out, one name per line.", "Corrections"),
    ] = None,
    app_scores: Annotated[
        str | None,
        choice(
            "PROJECT",
            "Use the scores that this project of heliodor app has of unchanged micrographs, if"
            " they are of the same model.",
            "Corrections",
        ),
    ] = None,
    relion_project: Annotated[
        str | None,
        choice(
            "FOLDER",
            "RELION project whose paths OUT/autopick.star has.",
            "Output",
            default="the current folder",
        ),
    ] = None,
    report: Report = False,
    resume: Resume = "auto",
) -> None:
    """Pick particles with the general model or your own.

    Writes OUT/autopick.star with one STAR file per micrograph, picks.tsv and micrographs.tsv.
    """
    from heliodor.workflows.pick import pick as pick_particles

    picked = pick_particles(
        model,
        micrographs,
        out,
        picking,
        pixel_size,
        compute,
        command_line(),
        should_resume(resume),
        diameter,
        report,
        adapt,
        labels,
        negatives,
        exclude,
        app_scores,
        relion_project,
    )
    end(picked.failures)


def rerun(
    record: Annotated[
        Path, typer.Argument(metavar="RUN.JSON", help="The run.json of an earlier run.")
    ],
    out: Annotated[Path, out_option("Folder for the results.", "rerun")] = Path("rerun"),
) -> None:
    """Repeat the run recorded in a run.json and compare the results."""
    from heliodor.workflows.rerun import rerun as repeat

    end(repeat(record, out, command_line()).failures)


def preprocess(
    micrographs: Micrographs,
    working_pixel_size: Annotated[
        float, number("ANGSTROM", "Pixel size of the results.", "Output")
    ],
    out: Annotated[
        Path, out_option("Folder for the preprocessed micrographs.", "preprocessed")
    ] = Path("preprocessed"),
    normalization: Annotated[
        str,
        choice(_NORMALIZATION.metavar or "", _NORMALIZATION.help, "Output", default="micrograph"),
    ] = "micrograph",
    pixel_size: PixelSize = None,
    threads: Threads = None,
) -> None:
    """Fourier-crop and normalize micrographs into float32 MRC files."""
    from heliodor.workflows.preprocess import preprocess as preprocess_micrographs

    failures = preprocess_micrographs(
        micrographs,
        out,
        working_pixel_size,
        normalization,  # type: ignore[arg-type]
        pixel_size,
        threads,
        command_line(),
    )
    end(failures)
