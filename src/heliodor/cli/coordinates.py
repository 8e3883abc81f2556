"""The commands on files of coordinates: convert, check, suggest and evaluate."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli import settings as asked
from heliodor.cli.options import (
    Device,
    Labels,
    Micrographs,
    PixelSize,
    Seed,
    Threads,
    number,
)
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.utils import console


def convert(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IN...", help="Files, folders or patterns of coordinates."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="OUT", help="The file, or the folder for a file a micrograph."
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="star, autopick (RELION's folder), box (EMAN1), eman2, cbox (crYOLO), cs"
            " (cryoSPARC), topaz, csv or tsv [default: by the suffix of OUT]",
        ),
    ] = None,
    micrographs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="B",
            help="The micrographs that the result is for: names, sizes and pixel sizes are"
            " theirs, and the pictures must not show that the particles are elsewhere.",
        ),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Find swaps, flips and the scale from the pictures.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Write what does not fit the pictures all the same.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw the fullest micrograph with its picks."),
    ] = None,
    scale: Annotated[
        float,
        number("FACTOR", "Multiply coordinates: 0.5 for micrographs binned by two."),
    ] = 1.0,
    swap_xy: Annotated[bool, typer.Option("--swap-xy", help="Swap x and y (first).")] = False,
    flip_x: Annotated[
        bool, typer.Option("--flip-x", help="Mirror x within the micrograph.")
    ] = False,
    flip_y: Annotated[
        bool, typer.Option("--flip-y", help="Mirror y within the micrograph.")
    ] = False,
    shift_px: Annotated[
        str, typer.Option(metavar="DX,DY", help="Add to coordinates (last), in pixels.")
    ] = "0,0",
    threshold: Annotated[
        float | None,
        number("SCORE", "Keep picks with this score or more (of picks.tsv, of all candidates)."),
    ] = None,
    box_px: Annotated[
        int | None,
        typer.Option(metavar="N", help="Side of the boxes in pixels [default: as they are]"),
    ] = None,
    shape_px: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Width and height of all micrographs, where they are not at hand."
        ),
    ] = None,
    pixel_size: Annotated[
        float | None, number("ANGSTROM", "Pixel size of the micrographs of the result.")
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Name micrographs as in this folder."),
    ] = None,
    image_suffix: Annotated[
        str | None, typer.Option(metavar=".EXT", help="Name micrographs with this suffix.")
    ] = None,
    strip_uid: Annotated[
        bool,
        typer.Option("--strip-uid", help="Name micrographs without cryoSPARC's 21-digit uid."),
    ] = False,
) -> None:
    """Convert coordinates between RELION, EMAN, crYOLO, cryoSPARC, Topaz and tables."""
    from heliodor.data.coordinates.frame_detection import Frame
    from heliodor.workflows import convert as conversion

    settings = conversion.ConversionSettings(
        frame=Frame(swap_xy, flip_x, flip_y, scale),
        shift_px=_pair(shift_px, ",", "--shift-px"),
        fit=fit,
        trust=trust,
        threshold=threshold,
        box_px=box_px,
        shape=None if shape_px is None else shape_of(shape_px, "--shape-px"),
        pixel_size_angstrom=pixel_size,
        root=root,
        image_suffix=image_suffix,
        strip_uid=strip_uid,
    )
    conversion.convert(inputs, out, to, settings, micrographs or None, picture)


def _pair(text: str, separator: str, option: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(separator))
    except ValueError as error:
        raise BadInput(f"{option} must be two numbers, as in 3,-2, not {text!r}") from error
    if not abs(first) + abs(second) < 1e6:
        raise BadInput(f"{option} must be two numbers of pixels, not {text!r}")
    return first, second


def shape_of(text: str, option: str) -> tuple[int, int]:
    """Read WxH, or one side of a square, into (height, width)."""
    sides = text.lower().split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) not in (1, 2):
        raise BadInput(f"{option} must be like 1024 or 5760x4092 (width x height), not {text!r}")
    return int(sides[-1]), int(sides[0])


def check(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...",
            help="Micrographs, their STAR file, coordinates, models; files, folders or patterns.",
        ),
    ],
    micrographs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="B",
            help="The micrographs that the coordinates are for [default: those they name]",
        ),
    ] = None,
    distance: Annotated[
        float | None,
        number("ANGSTROM", "Picks nearer than this are one particle [default: 2 pixels]"),
    ] = None,
    pixel_size: Annotated[float | None, number("ANGSTROM", "Pixel size of micrographs.")] = None,
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="Read no pixels: fast, but sees less.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is wrong with micrographs, coordinates and models; exit code 2 if anything is."""
    from heliodor.workflows import check as checking

    settings = checking.CheckSettings(distance, pixel_size, headers_only)
    with console.progress("checking") as progress:
        findings = checking.check(inputs, micrographs or None, settings, progress)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.level}: {finding.where}: {finding.sentence}")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(2)


def suggest(
    micrographs: Micrographs,
    labels: Labels,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="OUT", help="Folder for average.png and geometry.json."
        ),
    ] = None,
    pixel_size: PixelSize = None,
    trust_labels: Annotated[
        bool,
        typer.Option(
            "--trust-labels",
            help="Measure even if the pictures say that the labels are flipped, scaled or beside"
            " the particles.",
        ),
    ] = False,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Measure the particle's diameter from labels, and suggest all lengths that follow."""
    from heliodor.workflows import suggest as suggest_run

    geometry, failures = suggest_run.suggest(
        micrographs,
        labels,
        out,
        pixel_size,
        trust_labels,
        seed,
        threads,
        asked.typed(),
    )
    if as_json:
        print(json.dumps(geometry.as_dict(), indent=2))
    else:
        print(suggest_run.table(geometry, micrographs, labels))
    if failures:
        raise typer.Exit(SOME_FAILED)


def evaluate(
    picks: Annotated[str, typer.Option(metavar="P", help="Picks: picks.tsv, STAR, text.")],
    truth: Annotated[str, typer.Option(metavar="T", help="Coordinates of all particles.")],
    match_distance: Annotated[
        float, number("ANGSTROM", "A pick this near to a particle finds it.")
    ],
    threshold: Annotated[
        float | None,
        number(
            "LOGODDS",
            "Operating threshold [default: the one picks.tsv was selected with, else none]",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="M", help="Also the region AP of this model (needs --micrographs)."),
    ] = None,
    micrographs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="B",
            help="The micrographs to judge; those without picks then count as missed"
            " [default: those with picks]",
        ),
    ] = None,
    pixel_size: Annotated[
        float | None,
        number(
            "ANGSTROM",
            "Pixel size of the micrographs; else from the files of picks and truth, else from"
            " the micrographs' STAR file.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="OUT", help="Folder for evaluation.json and curve.tsv."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (without the curve), not a table.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Judge picks against the truth: AP, precision, recall and F1, micro and macro."""
    from heliodor.workflows import evaluate as evaluation_run

    evaluation, region_ap, failures = evaluation_run.evaluate_files(
        picks,
        truth,
        match_distance,
        threshold=threshold,
        model=model,
        micrographs=micrographs or None,
        pixel_size_angstrom=pixel_size,
        out=out,
        compute=asked.computing(locals()),
        command_line=asked.typed(),
    )
    if as_json:
        print(json.dumps(evaluation_run.figures(evaluation, region_ap), indent=2))
    else:
        print(evaluation_run.table(evaluation, region_ap))
    if failures:
        raise typer.Exit(SOME_FAILED)
