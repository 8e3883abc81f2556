"""The commands of the main job: run, train, pick, rerun and preprocess."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    flag,
    number,
    out_option,
)
from heliodor.cli.process_words import without_cluster_options, words_of_settings
from heliodor.cli.session import (
    command_line,
    end,
    import_jobs,
    should_resume,
    show_outcome,
)
from heliodor.errors import BadInput
from heliodor.picking.filaments.settings import FilamentSettings, refuse_particle_options
from heliodor.picking.settings import PickSettings
from heliodor.training.choice import TrainingChoice
from heliodor.training.settings import DataSettings, TrainSettings
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.settings import options_of
from heliodor.workflows.cluster_settings import ClusterSettings

if TYPE_CHECKING:
    from heliodor.workflows.tracing_setup import FilamentRequest

#: Options of the cluster that training has for itself, and those of processes that pick in parts.
_MEANT_FOR_TRAINING = ("memory",)
_OF_SEVERAL = ("jobs", "array_parallelism")

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
    stop_after: Annotated[
        str | None,
        choice(
            "STEP",
            "training: end when the model is there; the same command without this continues.",
            "Output",
            default="all is done",
        ),
    ] = None,
    resume: Resume = "auto",
    *,
    cluster: Annotated[ClusterSettings, Only(but=_MEANT_FOR_TRAINING)],
) -> None:
    """Train, pick, evaluate and report: the whole job in one command."""
    if stop_after not in (None, "training"):
        raise BadInput(
            f"the step to stop after must be training, not {stop_after!r}", parameter="stop_after"
        )
    if cluster.cluster is not None:
        _refuse_starting_over(resume)
        if stop_after is not None:
            raise BadInput(
                "--cluster starts all steps; leave out --stop-after", parameter="stop_after"
            )
        jobs = import_jobs()
        picking_words = [
            *("pick", "--model", str(out / "model.safetensors"), "-o", str(out)),
            *words_of_settings(picking),
            *words_of_settings(compute, but=_MEANT_FOR_TRAINING),
        ]
        if (size := settings.data.pixel_size_angstrom) is not None:
            picking_words.append(f"--pixel-size={size}")
        outcome = jobs.submit_run(
            without_cluster_options(sys.argv[1:], kept=_MEANT_FOR_TRAINING),
            [*picking_words, "--micrographs", *(pick or micrographs)],
            micrographs,
            labels,
            negatives,
            settings,
            picking,
            pick or None,
            truth,
            match_distance,
            out,
            cluster,
            compute,
        )
        show_outcome(outcome)
        return
    if stop_after is not None:
        from heliodor.workflows.run import train_for_run

        trained = train_for_run(
            micrographs,
            labels,
            out,
            settings.data,
            settings.training,
            picking,
            compute,
            command_line(),
            negatives,
            should_resume(resume),
            pick or None,
            truth,
            match_distance,
        )
        end(trained.failures)
        return
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
    wanted: TrainingChoice,
    compute: ComputeSettings,
    out: Annotated[
        Path, out_option("Folder for model.safetensors and training.tsv.", "training")
    ] = Path("training"),
    negatives: Negatives = None,
    watch: Annotated[
        bool,
        flag(
            "--watch",
            "Train again whenever the labels have changed, until stopped; heliodor watch takes"
            " each new model.",
            "Training",
        ),
    ] = False,
    until: Annotated[
        float | None,
        number(
            "MINUTES",
            "End --watch when the labels have not changed for so long.",
            "Training",
            "never",
        ),
    ] = None,
    resume: Resume = "auto",
    *,
    cluster: Annotated[ClusterSettings, Only(but=(*_MEANT_FOR_TRAINING, *_OF_SEVERAL))],
) -> None:
    """Train a model on labeled particles: OUT/model.safetensors and OUT/training.tsv.

    With --filaments: on labeled filaments, OUT/model.safetensors.
    """
    if wanted.filaments is not None:
        _refuse_with_filaments(watch, until, cluster, compute)
        if cluster.cluster is not None:
            jobs = import_jobs()
            words = without_cluster_options(sys.argv[1:])
            show_outcome(
                jobs.submit_filament_training(
                    words, micrographs, labels, wanted.filaments, out, cluster, compute, negatives
                )
            )
            return
        should_resume(resume)  # either way a training begins at its start: it is short
        from heliodor.workflows.train_filaments import train_filament_model

        learned = train_filament_model(
            micrographs, labels, out, wanted.filaments, compute, command_line(), negatives
        )
        end(learned.failures)
        return
    assert wanted.particles is not None
    settings = wanted.particles
    if until is not None and not watch:
        raise BadInput("this is an option of --watch, which is not given", parameter="until")
    if cluster.cluster is not None:
        _refuse_starting_over(resume)
        if watch:
            raise BadInput(
                "a training that goes on for days is not for a cluster; leave out --watch or"
                " --cluster",
                parameter="watch",
            )
        jobs = import_jobs()
        words = without_cluster_options(sys.argv[1:], kept=_MEANT_FOR_TRAINING)
        outcome = jobs.submit_training(
            words, micrographs, labels, negatives, settings, out, cluster, compute
        )
        show_outcome(outcome)
        return
    inputs = (
        micrographs, labels, out, settings.data, settings.training, compute, command_line(),
        negatives, should_resume(resume),
    )  # fmt: skip
    if watch:
        from heliodor.workflows.train_watch import train_while_labels_change

        trained = train_while_labels_change(*inputs, until)
    else:
        from heliodor.workflows.train import train as train_model

        trained = train_model(*inputs)
    end(trained.failures)


def _refuse_with_filaments(
    watch: bool,
    until: float | None,
    cluster: ClusterSettings,
    compute: ComputeSettings,
) -> None:
    """Refuse options that training on filaments does not have."""
    given = {
        "watch": watch,
        "until": until is not None,
        # Otherwise it is what SLURM is asked for.
        "memory": compute.memory_gb is not None and cluster.cluster is None,
    }
    for name, is_given in given.items():
        if is_given:
            raise BadInput(
                "this is an option for training on particles; leave it out with --filaments",
                parameter=name,
            )


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
    threshold_offsets: Annotated[
        str | None,
        choice(
            "FILE",
            "Text file of micrographs with another threshold: by how much it is higher (log-odds),"
            " and the name, one per line.",
            "Corrections",
        ),
    ] = None,
    report: Report = False,
    resume: Resume = "auto",
    part: Annotated[
        str | None,
        choice(
            "I/N",
            "Pick one of N parts of the micrographs, while other processes, on any hosts, pick the"
            " others into the same OUT; claim: micrographs that no process has taken yet. The last"
            " one merges all.",
            "Cluster",
            default="all micrographs",
        ),
    ] = None,
    *,
    tracing: FilamentSettings,
    cluster: ClusterSettings,
) -> None:
    """Pick particles, or trace filaments, with the general model or your own.

    Writes OUT/autopick.star with one STAR file per micrograph, picks.tsv and micrographs.tsv; with
    --filaments OUT/filaments.star and micrographs.tsv.
    """
    if tracing.filaments:
        refuse_particle_options(
            picking,
            {
                "diameter": diameter, "adapt": adapt, "labels": labels, "negatives": negatives,
                "app_scores": app_scores, "relion_project": relion_project,
                "threshold_offsets": threshold_offsets,
            },
        )  # fmt: skip
        from heliodor.workflows.tracing_setup import FilamentRequest

        wanted = FilamentRequest(model, micrographs, tracing, picking, pixel_size, exclude, report)
        _trace(wanted, out, compute, resume, part, cluster)
        return
    from heliodor.workflows.pick import pick as pick_particles
    from heliodor.workflows.picking_setup import PickRequest

    request = PickRequest(
        model, micrographs, picking, pixel_size, diameter, report, adapt, labels, negatives,
        exclude, app_scores, relion_project, threshold_offsets,
    )  # fmt: skip
    _check_parts(resume, part, cluster)
    if cluster.cluster is not None:
        words = without_cluster_options(sys.argv[1:])
        jobs = import_jobs()
        show_outcome(jobs.submit_picking(words, request, out, cluster, compute))
        return
    if part is not None:
        from heliodor.workflows.parts import Part, pick_part

        own = pick_part(Part.parse(part), request, out, compute, command_line())
        end(own.failures if own.merged is None else own.merged.failures, own.merged is not None)
        return
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
        threshold_offsets,
    )
    end(picked.failures)


def _trace(
    request: FilamentRequest,
    out: Path,
    compute: ComputeSettings,
    resume: str,
    part: str | None,
    cluster: ClusterSettings,
) -> None:
    """Trace filaments: all, a part of the micrographs, or by several processes."""
    _check_parts(resume, part, cluster)
    if cluster.cluster is not None:
        jobs = import_jobs()
        words = without_cluster_options(sys.argv[1:])
        show_outcome(jobs.submit_tracing(words, request, out, cluster, compute))
        return
    if part is not None:
        from heliodor.workflows.filament_parts import pick_filament_part
        from heliodor.workflows.parts import Part

        own = pick_filament_part(Part.parse(part), request, out, compute, command_line())
        end(own.failures if own.merged is None else own.merged.failures, own.merged is not None)
        return
    from heliodor.workflows.pick_filaments import pick_filaments

    traced = pick_filaments(request, out, compute, command_line(), should_resume(resume))
    end(traced.result.failures)


def _check_parts(resume: str, part: str | None, cluster: ClusterSettings) -> None:
    """Refuse options that several processes cannot have together."""
    if cluster.cluster or part:
        _refuse_starting_over(resume)
    if cluster.cluster is not None and part is not None:
        raise BadInput(
            "the processes that --cluster starts claim micrographs; leave out --part",
            parameter="part",
        )


def watch(
    micrographs: Micrographs,
    picking: PickSettings,
    compute: Annotated[ComputeSettings, Only(but=("memory",))],
    out: Annotated[Path, out_option("Folder for the picks.", "picks")] = Path("picks"),
    model: PickingModel = None,
    diameter: PickingDiameter = None,
    pixel_size: PixelSize = None,
    every: Annotated[float, number("SECONDS", "Time between two looks.", "Input")] = 1.0,
    until: Annotated[
        float | None,
        number(
            "MINUTES", "End when no micrograph has arrived for so long.", "Input", default="never"
        ),
    ] = None,
    events: Annotated[
        Path | None,
        choice(
            "FILE",
            "Add a line of JSON for each micrograph and each new threshold to this file.",
            "Output",
            default="standard output",
        ),
    ] = None,
    report: Report = False,
    *,
    tracing: FilamentSettings,
) -> None:
    """Pick micrographs as they arrive, while the microscope records them.

    Looks again and again at the folders, patterns and STAR files given, and picks each micrograph
    when it is complete. OUT has the same files as after heliodor pick; OUT/watch.html shows how
    far it is. Started again, it continues.
    """
    if tracing.filaments:
        refuse_particle_options(picking, {"diameter": diameter})
        from heliodor.workflows.tracing_setup import FilamentRequest
        from heliodor.workflows.watch_filaments import watch_filaments

        wanted = FilamentRequest(model, micrographs, tracing, picking, pixel_size, report=report)
        watched = watch_filaments(wanted, out, compute, every, until, events, command_line())
        end(watched.result.failures)
        return
    from heliodor.workflows.picking_setup import PickRequest
    from heliodor.workflows.watch import watch as watch_micrographs

    request = PickRequest(model, micrographs, picking, pixel_size, diameter, report)
    end(watch_micrographs(request, out, compute, every, until, events, command_line()).failures)


def _refuse_starting_over(resume: str) -> None:
    """Refuse to start over where a process that is queued again continues."""
    if not should_resume(resume):
        raise BadInput(
            "processes that share a folder, or are queued again, keep what has been found; to"
            " start over, choose another folder, or run once without --part and --cluster",
            parameter="resume",
        )


def cancel(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The folder of the results. [default: picks]",
            show_default=False,
        ),
    ] = Path("picks"),
) -> None:
    """Stop the processes that --cluster started for a folder; what they have done is kept."""
    from heliodor.workflows.cluster import cancel as cancel_processes

    cancel_processes(out)


def merge(
    compute: Annotated[ComputeSettings, Only(("device", "threads"))],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The folder that the parts were picked into. [default: picks]",
            show_default=False,
        ),
    ] = Path("picks"),
) -> None:
    """Merge the parts of pick --part: calibrate the scores and write all results.

    The last part does so by itself. OUT is then as if one process had picked all micrographs.
    """
    from heliodor.workflows.parts import merge as merge_parts

    end(merge_parts(out, compute).failures)


def status(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The folder that is picked into. [default: picks]",
            show_default=False,
        ),
    ] = Path("picks"),
    as_json: Annotated[bool, flag("--json", "Print JSON, not a table.", "Output")] = False,
) -> None:
    """Show how far picking has come: micrographs done, failed and remaining, time left, hosts.

    It also shows what --cluster submitted, and works for a run that was interrupted. It only
    reads.
    """
    from heliodor.workflows.picking_status import read_status, render_status

    found = read_status(out)
    console.show_result(
        json.dumps(asdict(found), indent=2, ensure_ascii=False)
        if as_json
        else render_status(found)
    )


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
