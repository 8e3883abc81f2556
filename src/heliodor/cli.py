"""The command line: one command is one function of the library, and nothing more.

Modules that take long to import are imported inside the commands, so ``--help`` is instant.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from heliodor import __version__, console
from heliodor.cli_model import model_app
from heliodor.errors import BadInput
from heliodor.options import (
    Autoencoder,
    Device,
    Diameter,
    Dropout,
    EdgeMargin,
    Epochs,
    ExclusionRadius,
    Expected,
    Flatten,
    Labels,
    LearningRate,
    MatchDistance,
    Micrographs,
    Negatives,
    NetworkName,
    Normalization,
    ObjectiveName,
    Out,
    PixelSize,
    RecipeName,
    Seed,
    Threads,
    Threshold,
    TrainingRadius,
    Updates,
    ValidationShare,
    Width,
    WorkingPixelSize,
    number,
)

#: Exit codes beside 0: something given cannot be used; some micrographs failed.
BAD_INPUT, SOME_FAILED = 2, 3

#: Options that take any number of values, as a shell's expanded pattern gives them.
_MANY = ("--micrographs", "--pick")

app = typer.Typer(
    help="Find the particles in cryoEM micrographs from a few labelled examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99},
)
app.add_typer(model_app, name="model")


def _version(value: bool) -> None:
    if value:
        print(f"heliodor {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    micrographs: Micrographs,
    labels: Labels,
    diameter: Diameter,
    out: Out,
    negatives: Negatives = None,
    expected_particles: Expected = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(metavar="B", help="Micrographs to pick on [default: those trained on]"),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(metavar="T", help="Coordinates of all particles, to judge the picks by."),
    ] = None,
    match_distance: MatchDistance = None,
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
    threshold: Threshold = None,
    exclusion_radius: ExclusionRadius = None,
    edge_margin: EdgeMargin = 0.0,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train, pick, judge and report in one go: the whole job."""
    from heliodor import pipeline

    outcome = pipeline.run(
        micrographs,
        labels,
        out,
        _data(locals()),
        _recipe(locals()),
        pick_micrographs=pick or None,
        truth=truth,
        match_distance_angstrom=match_distance,
        settings=_pick_settings(locals()),
        compute=_compute(locals()),
        command_line=_typed(),
        negatives=negatives,
    )
    _end(outcome.record.failures)


@app.command()
def train(
    micrographs: Micrographs,
    labels: Labels,
    diameter: Diameter,
    out: Out,
    negatives: Negatives = None,
    expected_particles: Expected = None,
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
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Learn from labelled particles: OUT/model.safetensors and OUT/training.tsv."""
    from heliodor import training_run

    trained = training_run.train(
        micrographs,
        labels,
        out,
        _data(locals()),
        _recipe(locals()),
        _compute(locals()),
        _typed(),
        negatives,
    )
    _end(trained.failures)


@app.command()
def pick(
    model: Annotated[Path, typer.Option(metavar="M", help="The model.safetensors of a training.")],
    micrographs: Micrographs,
    out: Out,
    threshold: Threshold = None,
    exclusion_radius: ExclusionRadius = None,
    edge_margin: EdgeMargin = 0.0,
    pixel_size: PixelSize = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Pick with a model: OUT/autopick.star, a STAR a micrograph, OUT/picks.tsv."""
    from heliodor import picking_run

    picked = picking_run.pick(
        model,
        micrographs,
        out,
        _pick_settings(locals()),
        pixel_size,
        _compute(locals()),
        _typed(),
    )
    _end(picked.failures)


@app.command()
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
    from heliodor import evaluation_run

    evaluation, region_ap, failures = evaluation_run.evaluate_files(
        picks,
        truth,
        match_distance,
        threshold=threshold,
        model=model,
        micrographs=micrographs or None,
        pixel_size_angstrom=pixel_size,
        out=out,
        compute=_compute(locals()),
        command_line=_typed(),
    )
    if as_json:
        print(json.dumps(evaluation_run.figures(evaluation, region_ap), indent=2))
    else:
        print(evaluation_run.table(evaluation, region_ap))
    if failures:
        raise typer.Exit(SOME_FAILED)


@app.command()
def preprocess(
    micrographs: Micrographs,
    out: Out,
    working_pixel_size: Annotated[float, number("ANGSTROM", "Pixel size of the results.")],
    normalization: Normalization = "micrograph",
    pixel_size: PixelSize = None,
    threads: Threads = None,
) -> None:
    """Fourier-crop and normalise micrographs into float32 MRC files."""
    from heliodor import preprocessing_run

    failures = preprocessing_run.preprocess(
        micrographs,
        out,
        working_pixel_size,
        normalization,  # type: ignore[arg-type]
        pixel_size,
        threads,
        _typed(),
    )
    _end(failures)


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the results.")],
    particle: Annotated[
        str, typer.Option(metavar="NAME", help="barrel, ribosome, trimer, shell or stick.")
    ] = "barrel",
    count: Annotated[int, typer.Option(metavar="N", help="Number of micrographs.")] = 16,
    size_px: Annotated[
        str, typer.Option("--size-px", metavar="WxH", help="Width and height in pixels.")
    ] = "1024x1024",
    pixel_size: Annotated[float, number("ANGSTROM", "Sampling.")] = 4.0,
    particles: Annotated[
        int | None, typer.Option(metavar="N", help="Particles a micrograph [default: usual]")
    ] = None,
    snr: Annotated[float, number("RATIO", "Signal-to-noise of particles at 4 A a pixel.")] = 0.12,
    defocus_min: Annotated[float, number("UM", "Least underfocus.")] = 1.0,
    defocus_max: Annotated[float, number("UM", "Most underfocus.")] = 2.2,
    voltage: Annotated[float, number("KV", "Acceleration voltage.")] = 300.0,
    b_factor: Annotated[float, number("ANGSTROM2", "Envelope of the contrast transfer.")] = 150.0,
    contaminants: Annotated[
        float, number("LEVEL", "Carbon, ice, gold, aggregates: 0 none, 1 usual.")
    ] = 1.0,
    orientations: Annotated[
        str, typer.Option(metavar="HOW", help="random or preferred.")
    ] = "random",
    overlap: Annotated[bool, typer.Option("--overlap", help="Let particles overlap.")] = False,
    labels: Annotated[
        int, typer.Option(metavar="N", help="Also write N random labels to labels.star.")
    ] = 0,
    seed: Seed = 0,
) -> None:
    """Make synthetic micrographs with known truth: MRC files, micrographs.star, truth.star."""
    from heliodor.simulate import SimulationSettings
    from heliodor.simulate import simulate as make

    settings = SimulationSettings(
        particle=particle,
        count=count,
        shape=_shape(size_px),
        pixel_size_angstrom=pixel_size,
        particles_per_micrograph=particles,
        snr=snr,
        defocus_um=(defocus_min, defocus_max),
        voltage_kv=voltage,
        b_factor=b_factor,
        contaminants=contaminants,
        orientations=orientations,  # type: ignore[arg-type]
        overlap=overlap,
        labels=labels,
        seed=seed,
    )
    with console.progress(f"simulating {particle}") as progress:
        made = make(out, settings, progress)
    console.say(
        f"{made.micrograph_count} micrographs with {made.particle_count} particles in {out}"
    )


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="Folder for the results.")
    ] = Path("demo"),
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Simulate micrographs, label 100 particles, and do the whole job on them."""
    from heliodor import demo as demonstration

    outcome = demonstration.demo(out, _compute(locals()), _typed())
    _end(outcome.record.failures)


def _data(options: dict[str, Any]) -> Any:
    from heliodor.dataset import DataSettings

    flatten = options["flatten"]
    if flatten is None and options["recipe"] == "paper":
        flatten = 0.0
    return DataSettings(
        diameter_angstrom=options["diameter"],
        expected_particles=options["expected_particles"],
        training_radius_angstrom=options["training_radius"],
        working_pixel_size_angstrom=options["working_pixel_size"],
        pixel_size_angstrom=options["pixel_size"],
        normalization=options["normalization"],
        flatten_angstrom=flatten,
        validation_share=options["validation_share"],
        seed=options["seed"],
    )


def _recipe(options: dict[str, Any]) -> Any:
    from heliodor.recipe import recipe

    names = (
        "network",
        "width",
        "dropout",
        "objective",
        "autoencoder",
        "epoch_updates",
        "epochs",
        "learning_rate",
        "seed",
    )
    return recipe(options["recipe"], **{name: options[name] for name in names})


def _pick_settings(options: dict[str, Any]) -> Any:
    from heliodor.picking import PickSettings

    return PickSettings(
        threshold=options["threshold"],
        exclusion_radius_angstrom=options["exclusion_radius"],
        edge_margin_angstrom=options["edge_margin"],
    )


def _compute(options: dict[str, Any]) -> Any:
    from heliodor.compute import Compute

    return Compute(options["device"], options["threads"])


def _shape(text: str) -> tuple[int, int]:
    """Read WxH (or one side of a square) into (height, width)."""
    sides = text.lower().split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) not in (1, 2):
        raise BadInput(f"--size-px must be like 1024 or 5760x4092 (width x height), not {text!r}")
    return int(sides[-1]), int(sides[0])


def _typed() -> str:
    return shlex.join(["heliodor", *sys.argv[1:]])


def _end(failures: list[Any]) -> None:
    if failures:
        console.say(f"{len(failures)} micrographs failed; see failed.tsv in the output folder")
        raise typer.Exit(SOME_FAILED)


def _gather_values(arguments: list[str]) -> list[str]:
    """Repeat an option before each of its values: ``--micrographs a b`` for ``*.mrc``."""
    out: list[str] = []
    many: str | None = None
    for argument in arguments:
        if argument.startswith("-"):
            many = argument if argument in _MANY else None
            out.append(argument)
        elif many is not None and out[-1] != many:
            out += [many, argument]
        else:
            out.append(argument)
    return out


def main() -> None:
    """Run the command line; a `BadInput` becomes its sentence and exit code 2."""
    try:
        app(_gather_values(sys.argv[1:]), prog_name="heliodor")
    except BadInput as error:
        # What a library said, quoted in the sentence, may have had several lines.
        console.say(f"heliodor: {' '.join(str(error).split())}")
        sys.exit(BAD_INPUT)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        console.say("heliodor: the device has too little memory; give --device cpu")
        sys.exit(BAD_INPUT)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        console.say(f"heliodor: {error.filename} cannot be used ({error.strerror})")
        sys.exit(BAD_INPUT)
