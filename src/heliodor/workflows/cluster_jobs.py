"""The jobs of ``--cluster``: what each command becomes, checked before anything starts."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heliodor.data.coordinates.label_assignment import read_labels
from heliodor.data.micrographs.sources import MicrographInputs, find_sources
from heliodor.models.pretrained import load_filament_model_for_picking
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks
from heliodor.training.filaments.settings import FilamentTraining
from heliodor.training.initialization import load_start_model
from heliodor.training.settings import TrainSettings
from heliodor.utils.compute import ComputeSettings, choose_device
from heliodor.workflows.cluster import (
    JUDGING,
    PICKING,
    RESULTS,
    TRAINING,
    StepPlan,
    complete_settings,
    submit,
)
from heliodor.workflows.cluster_settings import ClusterSettings
from heliodor.workflows.filament_parts import pick_filament_part
from heliodor.workflows.judge import check_inputs
from heliodor.workflows.judge_settings import JudgeSettings
from heliodor.workflows.parts import CLAIM, Part, pick_part
from heliodor.workflows.picking_setup import PickRequest
from heliodor.workflows.run import RunInputs
from heliodor.workflows.tracing_setup import FilamentRequest
from heliodor.workflows.train_filaments import LabelsOfFilaments


@dataclass(frozen=True)
class Outcome:
    """What came of starting a job."""

    #: The job scripts, if they were only to be shown; otherwise empty.
    scripts: str
    #: The micrographs that are known to have failed.
    failed: list[str]


def submit_picking(
    words: Sequence[str],
    request: PickRequest,
    out: str | Path,
    settings: ClusterSettings,
    compute: ComputeSettings = ComputeSettings(),
) -> Outcome:
    """Let several processes pick in parts, and the last one write the results.

    Parameters
    ----------
    words
        The command line of one process, from ``pick`` on, without ``--part``.
    request
        What they pick, to refuse what can be refused at once.
    compute
        The device and the number of threads of each process. This process is one of them where
        they are on this computer and use no GPU, and it would use none.

    Raises
    ------
    BadInput
        If an input cannot be used, there is no SLURM, or the processes did not finish.
    """
    model = request.load_model()
    request.settings.check_for(model.card.contaminant)
    sources = request.leave_out(find_sources(request.micrographs))
    request.read_additions(sources)
    return _submit_claiming(
        words,
        lambda own, line: pick_part(Part.parse(CLAIM), request, out, own, line),
        out, settings, compute, len(sources),
    )  # fmt: skip


def submit_tracing(
    words: Sequence[str],
    request: FilamentRequest,
    out: str | Path,
    settings: ClusterSettings,
    compute: ComputeSettings = ComputeSettings(),
) -> Outcome:
    """Let several processes trace filaments in parts, and the last one write the results.

    Parameters
    ----------
    words
        The command line of one process, from ``pick`` on, without ``--part``.
    request
        What they trace, to refuse what can be refused at once.
    compute
        As for `submit_picking`.

    Raises
    ------
    BadInput
        If an input cannot be used, there is no SLURM, or the processes did not finish.
    """
    load_filament_model_for_picking(request.model, request.settings.width_angstrom)
    sources = request.find_sources()
    UserMasks.find(request.mask, sources)
    return _submit_claiming(
        words,
        lambda own, line: pick_filament_part(Part.parse(CLAIM), request, out, own, line),
        out, settings, compute, len(sources),
    )  # fmt: skip


def submit_filament_training(
    words: Sequence[str],
    micrographs: MicrographInputs,
    labels: str | Path,
    training: FilamentTraining,
    out: str | Path,
    settings: ClusterSettings,
    compute: ComputeSettings,
    negatives: str | Path | None = None,
) -> Outcome:
    """Let another process train on filaments.

    Parameters
    ----------
    words
        Its command line, from ``train`` on.
    negatives
        As of `train_filament_model`.

    Raises
    ------
    BadInput
        If an input cannot be used, there is no SLURM, or the process failed.
    """
    LabelsOfFilaments.read(micrographs, labels, training, negatives)
    settings = complete_settings(_with_memory(settings, compute))
    plan = StepPlan(TRAINING, words)
    return Outcome(*submit("train", [plan], out, settings, compute.threads))


def submit_training(
    words: Sequence[str],
    micrographs: MicrographInputs,
    labels: str | Path,
    negatives: str | Path | None,
    training: TrainSettings,
    out: str | Path,
    settings: ClusterSettings,
    compute: ComputeSettings,
) -> Outcome:
    """Let another process train.

    Parameters
    ----------
    words
        Its command line, from ``train`` on.

    Raises
    ------
    BadInput
        If an input cannot be used, there is no SLURM, or the process failed.
    """
    _check_training(micrographs, labels, negatives, training)
    settings = complete_settings(_with_memory(settings, compute))
    plan = StepPlan(TRAINING, words)
    return Outcome(*submit("train", [plan], out, settings, compute.threads))


def submit_run(
    words: Sequence[str],
    picking_words: Sequence[str],
    micrographs: MicrographInputs,
    labels: str | Path,
    negatives: str | Path | None,
    training: TrainSettings,
    picking: PickSettings,
    pick_micrographs: MicrographInputs | None,
    truth: str | Path | None,
    match_distance_angstrom: float | None,
    out: str | Path,
    settings: ClusterSettings,
    compute: ComputeSettings,
) -> Outcome:
    """Let one process train, several pick with its model, and one write all results.

    The first is the same run, stopped after the training. The last is the run itself, which finds
    the model and the candidates of all micrographs, as after an interruption.

    Parameters
    ----------
    words
        The command line of the run, from ``run`` on.
    picking_words
        The command line of one process that picks with the model of this run, from ``pick`` on,
        without ``--part``.

    Raises
    ------
    BadInput
        If an input cannot be used, there is no SLURM, or the processes did not finish.
    """
    _check_training(micrographs, labels, negatives, training)
    inputs = RunInputs.read(
        micrographs, training.data, training.training, pick_micrographs, truth,
        match_distance_angstrom, picking,
    )  # fmt: skip
    settings = complete_settings(_with_memory(settings, compute))
    plans = [
        StepPlan(TRAINING, [*words, "--stop-after", "training"]),
        StepPlan(PICKING, [*picking_words, "--part", CLAIM], settings.processes),
        StepPlan(RESULTS, words),
    ]
    return Outcome(*submit("run", plans, out, settings, compute.threads, len(inputs.sources)))


def submit_judging(
    words: Sequence[str],
    picks: str | Path,
    micrographs: MicrographInputs,
    judging: JudgeSettings,
    pixel_size_angstrom: float | None,
    out: str | Path,
    settings: ClusterSettings,
    threads: int | None = None,
) -> Outcome:
    """Let another process judge picks: it runs several of RELION's programs at a time.

    Parameters
    ----------
    words
        Its command line, from ``judge`` on.
    threads
        Its CPUs.

    Raises
    ------
    BadInput
        If an input cannot be used, there is no SLURM, or the process failed.
    """
    check_inputs(picks, micrographs, judging, pixel_size_angstrom)
    # What a site has set for processes that pick is not meant: these programs use no GPU.
    settings = replace(complete_settings(settings), gpus=None, array_parallelism=None)
    return Outcome(*submit("judge", [StepPlan(JUDGING, words)], out, settings, threads))


def _submit_claiming(
    words: Sequence[str],
    pick_claimed: Callable[[ComputeSettings, str], object],
    out: str | Path,
    settings: ClusterSettings,
    compute: ComputeSettings,
    micrographs: int,
) -> Outcome:
    """Start processes that claim micrographs; this one is one of them where it can be.

    Parameters
    ----------
    words
        The command line of one process, from ``pick`` on, without ``--part``.
    pick_claimed
        Does in this process what the command line does, with these settings and under this
        command line.
    micrographs
        The number of all micrographs.
    """
    settings = complete_settings(settings)
    claiming = [*words, "--part", CLAIM]

    def work(threads: int) -> None:
        pick_claimed(replace(compute, threads=threads), shlex.join(["heliodor", *claiming]))

    own = work if _picks_here(settings, compute) else None
    plan = StepPlan(PICKING, claiming, settings.processes, own)
    return Outcome(*submit("pick", [plan], out, settings, compute.threads, micrographs))


def _picks_here(settings: ClusterSettings, compute: ComputeSettings) -> bool:
    """Return whether this process is one of those that pick: it uses what they use.

    Raises
    ------
    BadInput
        If the processes are on this computer and the device cannot be used.
    """
    if settings.cluster == "slurm" or settings.gpus:
        return False
    # The others see no GPU of CUDA.
    return choose_device(compute.device).type != "cuda"


def _check_training(
    micrographs: MicrographInputs,
    labels: str | Path,
    negatives: str | Path | None,
    training: TrainSettings,
) -> None:
    """Refuse what can be refused before a training."""
    load_start_model(training.training)
    read_labels(labels, find_sources(micrographs), negatives, training.data.pixel_size_angstrom)


def _with_memory(settings: ClusterSettings, compute: ComputeSettings) -> ClusterSettings:
    """Return the settings with the memory that training may take as that of each process."""
    if settings.cluster != "slurm":
        return settings
    return replace(settings, memory_gb=compute.memory_gb)
