"""The options that several commands share: their names, units and help."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from heliodor.errors import BadInput


def finite(param: typer.CallbackParam, value: float | None) -> float | None:
    """Refuse nan and inf, which Python takes for numbers and no option means."""
    if value is not None and not math.isfinite(value):
        raise BadInput(f"{max(param.opts, key=len)} must be a finite number, not {value:g}")
    return value


def auto_or_number(param: typer.CallbackParam, value: str | None) -> float | None:
    """Read a finite number, or auto, which is None."""
    if value is None or value == "auto":
        return None
    try:
        number = float(value)
    except ValueError as error:
        name = max(param.opts, key=len)
        raise BadInput(f"{name} must be a number or auto, not {value!r}") from error
    return finite(param, number)


def number(metavar: str, what: str) -> Any:
    """Return an option that takes a finite number."""
    return typer.Option(metavar=metavar, help=what, callback=finite)


Micrographs = Annotated[
    list[str],
    typer.Option(
        metavar="A",
        help="Micrographs: files, folders, patterns, a RELION micrographs STAR, or @list.txt.",
    ),
]
Labels = Annotated[
    str,
    typer.Option(metavar="L", help="Coordinates of some particles: STAR, TSV or CSV."),
]
Diameter = Annotated[float, number("ANGSTROM", "The particle's longest diameter.")]
PickingModel = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        help="The model.safetensors of a training [default: the general model, which needs no"
        " training but --diameter]",
    ),
]
PickingDiameter = Annotated[
    float | None, number("ANGSTROM", "The particle's longest diameter, for the general model.")
]
Expected = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        callback=auto_or_number,
        help="Particles a micrograph, labelled or not, on average; auto estimates it [auto]",
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Folder for the results.")]
PixelSize = Annotated[
    float | None,
    number(
        "ANGSTROM",
        "Pixel size of the micrographs; else from the STAR file, else from the headers.",
    ),
]
Negatives = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Coordinates of what is no particle, on the micrographs with labels."
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="fast; quick, a hundred updates; or paper, the published one. The options below"
        " change one thing in it.",
    ),
]
ObjectiveName = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="NAME",
        help="pn, pn-balanced, nnpu, ge-kl, ge-binomial or ge-binomial-exact"
        " [fast: pn-balanced; paper: ge-binomial]",
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="START",
        help="general: begin with the general model; scratch: with random weights; or a model's"
        " file [default: general, where the network is its own]",
    ),
]
NetworkName = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NAME",
        help="conv31, conv63, conv127, resnet8 or resnet16 [fast: resnet8; paper: conv31]",
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Channels of the first layer [fast: 32, as the general model has; from scratch 16;"
        " paper: 32]",
    ),
]
Dropout = Annotated[
    float | None,
    number("SHARE", "Features set to zero at random while training, after each layer [0]"),
]


def _weight(value: str | None) -> float | str | None:
    """Read the autoencoder's weight: a number, or auto."""
    if value is None or value == "auto":
        return value
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise BadInput(f"--autoencoder must be a finite number or auto, not {value!r}")
    return weight


Autoencoder = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHT",
        callback=_weight,
        help="Weight of the autoencoder's error; auto: 10 / N up to N = 250 labelled particles,"
        " else 0 [fast: 0; paper: auto]",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Epochs [fast: labels / 40, 2 to 10; from scratch labels / 20; quick: 2; paper: 10]",
    ),
]
Updates = Annotated[
    int | None, typer.Option(metavar="N", help="Minibatches an epoch [fast: 50; paper: 1000]")
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        metavar="RATE",
        help="Highest learning rate of the schedule [fast: 1e-3; from scratch 3e-3; paper: 2e-4]",
        callback=finite,
    ),
]
TrainingRadius = Annotated[
    float | None,
    number("ANGSTROM", "Regions this near to a label are positive [default: diameter / 8]"),
]
WorkingPixelSize = Annotated[
    float | None,
    number(
        "ANGSTROM",
        "Sampling to learn and pick at"
        " [default: diameter / 25 for conv31, / 35 for resnet8, / 40 for conv63 and resnet16,"
        " / 70 for conv127]",
    ),
]
Normalization = Annotated[
    str,
    typer.Option(
        metavar="MODE",
        help="micrograph: the two-component mixture, an image at a time; joint: one for the"
        " whole data set with a scale an image (the paper's); standard: mean and deviation; none:"
        " the micrographs are normalised already.",
    ),
]
Flatten = Annotated[
    float | None,
    number(
        "ANGSTROM",
        "Subtract the slow background, a Gaussian average of this standard deviation; 0: none"
        " [default: 0.6 of the diameter; recipe paper: 0]",
    ),
]
ValidationShare = Annotated[
    float,
    number(
        "SHARE",
        "Labelled micrographs kept aside to choose the best epoch (where five or more are"
        " labelled); their labels are then not learnt from.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="S", help="The same seed gives the same picks.")]
Threshold = Annotated[
    str | None,
    typer.Option(
        metavar="LOGODDS",
        callback=auto_or_number,
        help="Candidates from this score on are picks; auto: where the expected F1 on these"
        " micrographs is highest [auto]",
    ),
]
MaxFdr = Annotated[
    float | None,
    number(
        "SHARE",
        "Choose the threshold such that no larger share of the picks is expected to be false.",
    ),
]
ThresholdSeries = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Also write N nested sets of picks, at falling thresholds: OUT/series/1 ... and"
        " OUT/series.tsv [none]",
        show_default=False,
    ),
]
ExclusionRadius = Annotated[
    float | None, number("ANGSTROM", "No two picks are nearer than this [default: diameter / 2]")
]
EdgeMargin = Annotated[
    float, number("ANGSTROM", "No pick's centre is nearer to an edge than this.")
]
Scores = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="smooth: of every few pixels, with a surface through them; dense: of every pixel,"
        " several times slower.",
    ),
]
BadAreas = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="leave-out: no picks in carbon, ice and other bad areas; keep: they are picked on"
        " like the rest (models with a contaminant output only) [leave-out]",
        show_default=False,
    ),
]
MaxContamination = Annotated[
    float | None,
    number(
        "SHARE",
        "No picks on micrographs of which a larger share is bad area (models with a contaminant"
        " output only) [default: on all]",
    ),
]
Report = Annotated[
    bool,
    typer.Option("--report", help="Also draw OUT/report.html: scores, counts, micrographs."),
]
BadAreaMasks = Annotated[
    bool,
    typer.Option(
        "--bad-area-masks",
        help="Write the bad areas of each micrograph: OUT/bad_areas/MICROGRAPH.png (models with"
        " a contaminant output only).",
    ),
]
MatchDistance = Annotated[
    float | None,
    number("ANGSTROM", "A pick this near to a particle finds it [default: 0.4 of the diameter]"),
]
TrustLabels = Annotated[
    bool,
    typer.Option(
        "--trust-labels",
        help="Learn from labels even if the pictures say that they are flipped, scaled or beside"
        " the particles.",
    ),
]
Resume = Annotated[
    str,
    typer.Option(
        metavar="WHEN",
        help="auto: go on where the same command was cut short in OUT; never: begin anew.",
    ),
]
Memory = Annotated[
    float | None,
    number(
        "GB",
        "Most memory that training may take: images beyond are kept in files in OUT, which is"
        " slower and changes no result [default: no limit]",
    ),
]
#: Named, as some versions of typer take a metavar that spells the name for the name itself.
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", help="Threads [default: the CPUs this process may use]"),
]
