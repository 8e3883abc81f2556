"""The commands on files of coordinates: convert, check, suggest and evaluate."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.options import (
    Labels,
    Micrographs,
    Only,
    PixelSize,
    Seed,
    Threads,
    choice,
    flag,
    number,
    out_option,
)
from heliodor.cli.session import command_line
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.workflows.settings import CheckSettings, ConversionSettings

_COORDINATES, _EVALUATION = "Coordinates", "Evaluation"


def convert(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IN...", help="Files, folders or patterns of coordinates."),
    ],
    out: Annotated[
        Path | None,
        out_option(
            "The file, or the folder for one file per micrograph.",
            "converted.star, or the folder or file `converted` in the format of --to",
        ),
    ] = None,
    to: Annotated[
        str | None,
        choice(
            "FORMAT",
            "star, autopick (RELION's folder), box (EMAN1), eman2, cbox (crYOLO), cs (cryoSPARC),"
            " topaz, csv or tsv; of filaments filaments (STAR), start-end (RELION), box, helix"
            " (EMAN2), cbox or cs.",
            "Output",
            default="by the suffix of OUT",
        ),
    ] = None,
    micrographs: Annotated[
        list[str] | None,
        choice(
            "FILE",
            "The micrographs that the result is for. Their names, sizes and pixel sizes are used,"
            " and nothing is written if the coordinates do not match the images.",
            "Input",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        choice("PNG", "Save an image of the micrograph with the most picks.", "Output"),
    ] = None,
    *,
    settings: ConversionSettings,
) -> None:
    """Convert coordinates of particles or filaments between programs."""
    from heliodor.workflows.convert import convert as convert_files

    if out is None:
        out = _default_output(to)
    convert_files(inputs, out, to, settings, micrographs or None, picture)


def _default_output(to: str | None) -> Path:
    """Return where a conversion goes without ``--out``."""
    from heliodor.data.coordinates.writers import choose_format
    from heliodor.data.filaments import writers

    if to in {*writers.FORMATS} - {"box", "cbox", "cs"}:
        return Path("converted.star" if to == "filaments" else "converted")
    form = choose_format("star" if to is None else to, Path())
    return Path("converted" if form.file_of is not None else f"converted{form.suffix}")


def check(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...",
            help="Micrographs, their lists, coordinates, models (files, folders or patterns), or"
            " the folder of a RELION or cryoSPARC project.",
        ),
    ],
    micrographs: Annotated[
        list[str] | None,
        choice(
            "FILE",
            "The micrographs that the coordinates are for.",
            "Input",
            default="those the coordinates name",
        ),
    ] = None,
    as_json: Annotated[bool, flag("--json", "Print JSON.", "Output")] = False,
    *,
    settings: CheckSettings,
) -> None:
    """Check micrographs, coordinates, models and projects; exit code 2 if there are problems."""
    from heliodor.integrations.project_check import check as check_inputs

    with console.progress("checking") as progress:
        findings = check_inputs(inputs, micrographs or None, settings, progress)
    if as_json:
        console.show_result(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            console.show_result(f"{finding.level}: {finding.where}: {finding.sentence}")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(2)


def suggest(
    micrographs: Micrographs,
    labels: Labels,
    out: Annotated[
        Path | None, out_option("Folder for average.png and geometry.json.", "write no files")
    ] = None,
    pixel_size: PixelSize = None,
    trust_labels: Annotated[
        bool,
        flag(
            "--trust-labels",
            "Measure even if the micrographs suggest that the labels are flipped, scaled or"
            " displaced.",
            _COORDINATES,
        ),
    ] = False,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Annotated[bool, flag("--json", "Print JSON, not a table.", "Output")] = False,
) -> None:
    """Measure the particle's diameter from labels, and suggest all lengths that follow."""
    from heliodor.workflows import suggest as suggestion

    geometry, failures = suggestion.suggest(
        micrographs,
        labels,
        out,
        pixel_size,
        trust_labels,
        seed,
        threads,
        command_line(),
    )
    if as_json:
        console.show_result(json.dumps(geometry.as_dict(), indent=2))
    else:
        console.show_result(suggestion.render_table(geometry, micrographs, labels))
    if failures:
        raise typer.Exit(SOME_FAILED)


def evaluate(
    picks: Annotated[
        str, choice("FILE", "Picks or filaments, in any format that convert reads.", "Input")
    ],
    truth: Annotated[str, choice("FILE", "All particles, or all filaments.", "Input")],
    compute: Annotated[ComputeSettings, Only(("device", "threads"))],
    match_distance: Annotated[
        float | None,
        number(
            "ANGSTROM",
            "Maximum distance between a pick and a true particle, or between axes of filaments,"
            " to count as a match.",
            _EVALUATION,
            "a quarter of the width of filaments; required for particles",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        number(
            "LOGODDS",
            "Score at which precision, recall and F1 are computed.",
            "Picking",
            "the one used to make picks.tsv, otherwise none",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        choice(
            "FILE",
            "Also compute the region AP of this model (needs --micrographs).",
            _EVALUATION,
        ),
    ] = None,
    micrographs: Annotated[
        list[str] | None,
        choice(
            "FILE",
            "The micrographs to evaluate; particles on those without picks count as missed.",
            "Input",
            default="those with picks",
        ),
    ] = None,
    pixel_size: Annotated[
        float | None,
        number(
            "ANGSTROM",
            "Pixel size of the micrographs.",
            "Input",
            "from the files of picks and truth, otherwise from the micrographs' STAR file or"
            " headers",
        ),
    ] = None,
    out: Annotated[
        Path | None, out_option("Folder for evaluation.json and curve.tsv.", "write no files")
    ] = None,
    as_json: Annotated[
        bool, flag("--json", "Print JSON (without the curve), not a table.", "Output")
    ] = False,
) -> None:
    """Compare picks with the truth: AP, precision, recall and F1, micro and macro averages.

    Of filaments, precision and recall of the length of their axes.
    """
    from heliodor.data.coordinates.formats.filament_columns import HoldsFilaments
    from heliodor.workflows import evaluate as evaluation_run
    from heliodor.workflows import evaluate_filaments as of_filaments

    def judge_filaments() -> None:
        if model is not None:
            raise BadInput("--model scores particles; leave it out for filaments")
        found = of_filaments.evaluate_filament_files(
            picks,
            truth,
            match_distance,
            threshold,
            micrographs or None,
            pixel_size,
            out,
            command_line(),
        )
        values, table = found.as_dict(), of_filaments.render_table(found)
        console.show_result(json.dumps(values, indent=2) if as_json else table)

    if match_distance is None:
        if not of_filaments.holds_filaments(truth):
            raise BadInput("particles need --match-distance, in Å; give about half their diameter")
        judge_filaments()
        return
    try:
        evaluation, region_ap, failures = evaluation_run.evaluate_files(
            picks,
            truth,
            match_distance,
            threshold=threshold,
            model=model,
            micrographs=micrographs or None,
            pixel_size_angstrom=pixel_size,
            out=out,
            compute=compute,
            command_line=command_line(),
        )
    except HoldsFilaments:
        judge_filaments()
        return
    if as_json:
        values = evaluation_run.evaluation_as_dict(evaluation, region_ap)
        console.show_result(json.dumps(values, indent=2))
    else:
        console.show_result(evaluation_run.render_table(evaluation, region_ap))
    if failures:
        raise typer.Exit(SOME_FAILED)
