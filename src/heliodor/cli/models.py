"""The commands on models: `heliodor model import`, `export` and `show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.options import number

model_app = typer.Typer(
    help="Import, export and show models.", no_args_is_help=True, rich_markup_mode=None
)

_File = Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors, or general.")]


@model_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A model of Topaz (.sav).")],
    working_pixel_size: Annotated[
        float, number("ANGSTROM", "Pixel size of the images it was trained on.")
    ],
    diameter: Annotated[float, number("ANGSTROM", "The longest diameter of what it is to find.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="OUT", help="File for the model.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of a file: a name in $HELIODOR_MODELS [~/.config/heliodor/models]",
        ),
    ] = None,
    threshold: Annotated[
        float,
        number(
            "LOGODDS",
            "Candidates from this score on are picks; 0 is a probability of one half. Candidates"
            " down to -6 are listed too.",
        ),
    ] = 0.0,
    normalization: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="What it was trained on: micrograph, the two-component mixture (topaz"
            " preprocess or normalize); standard, mean and deviation; none, as the images come.",
        ),
    ] = "micrograph",
) -> None:
    """Turn a model of Topaz into one of this program; nothing in its file is run."""
    from heliodor.workflows import models

    models.import_model(file, working_pixel_size, diameter, out, name, threshold, normalization)


@model_app.command("export")
def export(
    model: _File,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="File, model.onnx.")],
) -> None:
    """Write a model's network as ONNX: normalised images in, log-odds of every pixel out."""
    from heliodor.workflows import models

    models.export_model(model, out)


@model_app.command("show")
def show(
    model: _File,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Say what a model is, what it was trained on, and what it needs."""
    from heliodor.workflows import models

    values = models.description(model)
    print(json.dumps(values, indent=2) if as_json else models.table(values))
