"""The commands that RELION's External jobs call: ``heliodor relion pick`` and ``train``.

RELION writes ``--o External/jobNNN/``, an option for each input, one for each parameter that the
user has named, and ``--j``. Names of parameters may have dashes or underscores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from heliodor.cli.options import (
    Adapt,
    Negatives,
    Only,
    PickingDiameter,
    PickingModel,
    PixelSize,
    choice,
    register,
)
from heliodor.cli.session import command_line, end
from heliodor.errors import BadInput
from heliodor.picking.settings import PickSettings
from heliodor.training.settings import TrainSettings
from heliodor.utils.compute import ComputeSettings

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
        from heliodor.integrations.relion.external_job import run_as_job

        with run_as_job(folder):
            _check(words)
            failures = super().invoke(ctx)
        end(failures)


def leave_failure(words: list[str]) -> None:
    """Tell RELION that a job has failed whose process had no time to say so."""
    folder = _folder(words)
    if folder is not None:
        from heliodor.integrations.relion.external_job import mark_failed

        mark_failed(Path(folder))


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
    help="Run as a RELION External job; see docs/integrations/relion.md.",
    no_args_is_help=True,
    context_settings={"token_normalize_func": _dashed},
)

Job = Annotated[Path, choice("JOB", "The job's folder.", "Output", "--o")]
InMics = Annotated[str, choice("STAR", "Input micrographs.", "Input", "--in_mics")]
Jobs = Annotated[int, choice("N", "Number of threads.", "Compute", "--j", default="1")]
Gpu = Annotated[
    str | None, choice("N", "GPU number; the same as --device cuda:N.", "Compute", "--gpu")
]
#: RELION gives the number of threads as ``--j``.
Device = Annotated[ComputeSettings, Only(("device",))]


def pick(
    o: Job,
    in_mics: InMics,
    picking: Annotated[PickSettings, Only(but=("bad_area_masks",))],
    compute: Device,
    model: PickingModel = None,
    diameter: PickingDiameter = None,
    pixel_size: PixelSize = None,
    adapt: Adapt = False,
    gpu: Gpu = None,
    j: Jobs = 1,
) -> Any:
    """Pick particles; micrographs that are already picked are skipped."""
    from heliodor.integrations.relion.jobs import pick_job

    where = ComputeSettings(compute.device, j)
    return pick_job(o, in_mics, model, picking, pixel_size, where, command_line(), diameter, adapt)


def train(
    o: Job,
    in_mics: InMics,
    settings: TrainSettings,
    compute: Device,
    in_coords: Annotated[
        str | None, choice("STAR", "Coordinates of some particles.", "Input", "--in_coords")
    ] = None,
    in_parts: Annotated[
        str | None,
        choice("STAR", "Extracted particles to train on instead.", "Input", "--in_parts"),
    ] = None,
    negatives: Negatives = None,
    gpu: Gpu = None,
    j: Jobs = 1,
) -> Any:
    """Train on labeled particles; an up-to-date model is kept."""
    from heliodor.integrations.relion.jobs import train_job

    labels = in_coords or in_parts
    if labels is None or (in_coords and in_parts):
        raise BadInput(
            "training needs either coordinates or particles; fill in exactly one of the two fields"
            " of the Input tab"
        )
    where = ComputeSettings(compute.device, j)
    chosen = settings.data, settings.training
    return train_job(o, in_mics, labels, *chosen, where, command_line(), negatives)


register(relion, pick)
register(relion, train)
