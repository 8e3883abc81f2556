"""The commands that RELION's External jobs call: ``heliodor relion pick`` and ``train``.

RELION writes ``--o External/jobNNN/``, an option for each input, one for each parameter that the
user has named, and ``--j``. Names of parameters may have dashes or underscores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from heliodor.cli import settings
from heliodor.cli.options import (
    Autoencoder,
    BadAreas,
    Device,
    Diameter,
    Dropout,
    EdgeMargin,
    Epochs,
    ExclusionRadius,
    Expected,
    Flatten,
    LearningRate,
    MaxContamination,
    MaxFdr,
    Negatives,
    NetworkName,
    Normalization,
    ObjectiveName,
    PickingDiameter,
    PickingModel,
    PixelSize,
    RecipeName,
    Scores,
    Seed,
    Start,
    Threshold,
    ThresholdSeries,
    TrainingRadius,
    TrustLabels,
    Updates,
    ValidationShare,
    Width,
    WorkingPixelSize,
)
from heliodor.errors import BadInput

#: The inputs of RELION's Input tab that mean something to a command, as RELION calls them.
_INPUTS = {"pick": {"--in-mics"}, "train": {"--in-mics", "--in-coords", "--in-parts"}}
#: Where the words that a command was called with are kept.
_WORDS = "heliodor.relion"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class _Job(TyperGroup):
    """A group whose commands leave RELION's exit files, whatever happens to them.

    A word that no command understands must end the job too: RELION would wait for ever.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = _with_device(args)
        return super().parse_args(ctx, ctx.meta[_WORDS])

    def invoke(self, ctx: Any) -> Any:
        words = ctx.meta[_WORDS]
        folder = _folder(words)
        if folder is None:  # no job of RELION's, as with --help
            return super().invoke(ctx)
        from heliodor.integrations.relion.external_job import job

        with job(folder):
            _check(words)
            failures = super().invoke(ctx)
        settings.end(failures)


def leave_failure(words: list[str]) -> None:
    """Tell RELION that a job has failed whose process had no time to say so."""
    folder = _folder(words)
    if folder is not None:
        from heliodor.integrations.relion.external_job import fail

        fail(Path(folder))


def _folder(words: list[str]) -> str | None:
    """Return the job's folder, where the words of a command name one."""
    folder = next((after for word, after in _pairs(words) if word == "--o"), "")
    return None if not folder or folder.startswith("--") else folder


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(words, [*words[1:], ""], strict=True))


def _with_device(words: list[str]) -> list[str]:
    """Write RELION's habit ``--gpu``, ``--gpu 0`` as a device."""
    out: list[str] = []
    for word, after in _pairs(words):
        if word == "--gpu":
            out += ["--device"] + (["cuda"] if after.startswith("--") or not after else [])
        elif out and out[-1] == "--device" and word.isdecimal():
            out.append(f"cuda:{word}")
        else:
            out.append(word)
    return out


def _check(words: list[str]) -> None:
    """Refuse inputs that a command does not take, and parameters without a value."""
    command = words[0]
    for word, after in _pairs(words):
        if not word.startswith("--"):
            continue
        name = _dashed(word)
        if name.startswith("--in-") and name not in _INPUTS.get(command, {name}):
            raise BadInput(
                f"the input {word} {after} means nothing to `relion {command}`; leave that field"
                " of the Input tab empty"
            )
        if "=" not in word and (after.startswith("--") or not after) and name != "--help":
            raise BadInput(f"the parameter {word} has no value; give one on the Params tab")


relion = typer.Typer(
    cls=_Job,
    help="Be an External job of RELION; see docs/hosts/relion.md.",
    no_args_is_help=True,
    context_settings={"token_normalize_func": _dashed},
)

Job = Annotated[Path, typer.Option("--o", metavar="JOB", help="The job's folder.")]
InMics = Annotated[str, typer.Option("--in_mics", metavar="STAR", help="Input micrographs.")]
Jobs = Annotated[int, typer.Option("--j", metavar="N", help="Number of threads.")]
Gpu = Annotated[
    str | None, typer.Option("--gpu", metavar="N", help="The same as --device cuda:N.")
]


@relion.command()
def pick(
    o: Job,
    in_mics: InMics,
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
    pixel_size: PixelSize = None,
    device: Device = "auto",
    gpu: Gpu = None,
    j: Jobs = 1,
) -> Any:
    """Pick with a model; micrographs that are done already are left as they are."""
    from heliodor.integrations.relion.jobs import pick_job
    from heliodor.utils.compute import Compute

    how = settings.pick_settings(locals())
    rest = Compute(device, j), settings.typed(), diameter
    return pick_job(o, in_mics, model, how, pixel_size, *rest)


@relion.command()
def train(
    o: Job,
    in_mics: InMics,
    diameter: Diameter,
    in_coords: Annotated[
        str | None,
        typer.Option("--in_coords", metavar="STAR", help="Coordinates of some particles."),
    ] = None,
    in_parts: Annotated[
        str | None,
        typer.Option("--in_parts", metavar="STAR", help="Or extracted particles to learn from."),
    ] = None,
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
    device: Device = "auto",
    gpu: Gpu = None,
    j: Jobs = 1,
) -> Any:
    """Learn from labelled particles; a model of the same training is left as it is."""
    from heliodor.integrations.relion.jobs import train_job
    from heliodor.utils.compute import Compute

    labels = in_coords or in_parts
    if labels is None or (in_coords and in_parts):
        raise BadInput(
            "training learns from either coordinates or particles; fill in one of the two fields"
            " of the Input tab"
        )
    how = settings.data_settings(locals()), settings.recipe_settings(locals())
    return train_job(o, in_mics, labels, *how, Compute(device, j), settings.typed(), negatives)
