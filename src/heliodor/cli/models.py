"""The commands on models: `heliodor model import`, `export`, `show` and `list`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.options import choice, flag, number, out_option, register
from heliodor.utils import console

model_app = typer.Typer(
    help="Import, export, show and list models.", no_args_is_help=True, rich_markup_mode=None
)

_File = Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors, or general.")]


def import_topaz(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A model of Topaz (.sav).")],
    working_pixel_size: Annotated[
        float, number("ANGSTROM", "Pixel size of the images it was trained on.", "Input")
    ],
    diameter: Annotated[
        float, number("ANGSTROM", "Longest diameter of the target particle.", "Particle")
    ],
    out: Annotated[
        Path | None,
        out_option("File for the model.", "FILE's name with .safetensors, in the current folder"),
    ] = None,
    name: Annotated[
        str | None,
        choice(
            "NAME",
            "Instead of a file: a name in $HELIODOR_MODELS (~/.config/heliodor/models).",
            "Output",
        ),
    ] = None,
    threshold: Annotated[
        float,
        number(
            "LOGODDS",
            "Candidates with this score or more are picks; 0 is a probability of one half."
            " Candidates down to -6 are listed too.",
            "Picking",
            "0",
        ),
    ] = 0.0,
    normalization: Annotated[
        str,
        choice(
            "MODE",
            "What it was trained on: micrograph, the two-Gaussian mixture (topaz preprocess or"
            " normalize); standard, mean and standard deviation; none, the images as they are.",
            "Input",
            default="micrograph",
        ),
    ] = "micrograph",
) -> None:
    """Convert a Topaz model for heliodor; no code in its file is run."""
    from heliodor.workflows import models

    if out is None and name is None:
        out = Path(f"{file.stem}.safetensors")
    models.import_model(file, working_pixel_size, diameter, out, name, threshold, normalization)


def export(
    model: _File,
    out: Annotated[
        Path | None,
        out_option("File for the network.", "MODEL's name with .onnx, in the current folder"),
    ] = None,
) -> None:
    """Write a model's network as ONNX: normalized images in, log-odds of every pixel out."""
    from heliodor.workflows import models

    models.export_model(model, Path(f"{model.stem}.onnx") if out is None else out)


def show(
    model: _File,
    as_json: Annotated[bool, flag("--json", "Print JSON, not a table.", "Output")] = False,
) -> None:
    """Show what a model is, what it was trained on, and what it needs."""
    from heliodor.workflows import models

    values = models.describe_model(model)
    console.show_result(json.dumps(values, indent=2) if as_json else models.render_table(values))


def list_all(
    as_json: Annotated[bool, flag("--json", "Print JSON, not a table.", "Output")] = False,
) -> None:
    """List the models that have a name: the general model, your own, and those of your site.

    Your own are in $HELIODOR_MODELS (~/.config/heliodor/models), those of the site in the folders
    of $HELIODOR_SITE_MODELS. Give a name in place of a file to --model.
    """
    from dataclasses import asdict

    from heliodor.workflows import models

    found = models.list_models()
    console.show_result(
        json.dumps([asdict(model) for model in found], indent=2)
        if as_json
        else models.render_models(found)
    )


register(model_app, import_topaz, "import")
register(model_app, export)
register(model_app, show)
register(model_app, list_all, "list")
