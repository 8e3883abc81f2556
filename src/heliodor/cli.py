"""The command line: one command is one function of the library, and nothing more.

Modules that take long to import are imported inside the commands, so ``--help`` is instant.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from heliodor import __version__, cli_app, cli_files, cli_simulate, console, settings
from heliodor.cli_model import model_app
from heliodor.cli_relion import relion
from heliodor.errors import BAD_INPUT, SOME_FAILED, BadInput
from heliodor.options import (
    Autoencoder,
    BadAreaMasks,
    BadAreas,
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
    MaxContamination,
    MaxFdr,
    Memory,
    Micrographs,
    Negatives,
    NetworkName,
    Normalization,
    ObjectiveName,
    Out,
    PickingDiameter,
    PickingModel,
    PixelSize,
    RecipeName,
    Resume,
    Scores,
    Seed,
    Start,
    Threads,
    Threshold,
    ThresholdSeries,
    TrainingRadius,
    TrustLabels,
    Updates,
    ValidationShare,
    Width,
    WorkingPixelSize,
    number,
)
from heliodor.stopping import SIGNALLED, Stopped, listening
from heliodor.threads import spare_threads

#: Options that take any number of values, as a shell's expanded pattern gives them.
_MANY = ("--micrographs", "--pick")

#: Commands on many micrographs, which can be gone on with.
GUARDED = (["pick"], ["run"], ["relion", "pick"])
_ENTRY = "from heliodor.cli import main; main()"

app = typer.Typer(
    help="Find the particles in cryoEM micrographs from a few labelled examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99},
)
app.add_typer(relion, name="relion")
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
    threshold: Threshold = None,
    max_fdr: MaxFdr = None,
    threshold_series: ThresholdSeries = 0,
    exclusion_radius: ExclusionRadius = None,
    edge_margin: EdgeMargin = 0.0,
    scores: Scores = "smooth",
    bad_areas: BadAreas = None,
    max_contamination: MaxContamination = None,
    bad_area_masks: BadAreaMasks = False,
    seed: Seed = 0,
    resume: Resume = "auto",
    memory: Memory = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train, pick, judge and report in one go: the whole job."""
    from heliodor import pipeline

    outcome = pipeline.run(
        micrographs,
        labels,
        out,
        settings.data_settings(locals()),
        settings.recipe_settings(locals()),
        pick_micrographs=pick or None,
        truth=truth,
        match_distance_angstrom=match_distance,
        settings=settings.pick_settings(locals()),
        compute=settings.computing(locals()),
        command_line=settings.typed(),
        negatives=negatives,
        resume=settings.resuming(locals()),
    )
    settings.end(outcome.record.failures)


@app.command()
def train(
    micrographs: Micrographs,
    labels: Labels,
    diameter: Diameter,
    out: Out,
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
    resume: Resume = "auto",
    memory: Memory = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Learn from labelled particles: OUT/model.safetensors and OUT/training.tsv."""
    from heliodor import training_run

    trained = training_run.train(
        micrographs,
        labels,
        out,
        settings.data_settings(locals()),
        settings.recipe_settings(locals()),
        settings.computing(locals()),
        settings.typed(),
        negatives,
        settings.resuming(locals()),
    )
    settings.end(trained.failures)


@app.command()
def pick(
    micrographs: Micrographs,
    out: Out,
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
    bad_area_masks: BadAreaMasks = False,
    pixel_size: PixelSize = None,
    resume: Resume = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Pick, trained or not: OUT/autopick.star, a STAR a micrograph, picks.tsv, micrographs.tsv."""
    from heliodor import picking_run

    picked = picking_run.pick(
        model,
        micrographs,
        out,
        settings.pick_settings(locals()),
        pixel_size,
        settings.computing(locals()),
        settings.typed(),
        settings.resuming(locals()),
        diameter,
    )
    settings.end(picked.failures)


@app.command()
def rerun(
    record: Annotated[Path, typer.Argument(metavar="RUN.JSON", help="What a run left behind.")],
    out: Out,
) -> None:
    """Do again what a run.json says was done, and tell whether the results are the same."""
    from heliodor import rerun as again

    settings.end(again.rerun(record, out, settings.typed()).failures)


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
        compute=settings.computing(locals()),
        command_line=settings.typed(),
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
        settings.typed(),
    )
    settings.end(failures)


app.command()(cli_simulate.simulate)


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

    outcome = demonstration.demo(out, settings.computing(locals()), settings.typed())
    settings.end(outcome.record.failures)


app.command()(cli_files.convert)
app.command()(cli_files.check)
app.command()(cli_files.suggest)
app.command()(cli_app.app)


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


def entry() -> None:
    """Be the program `heliodor`: as `main`, but long commands are guarded against crashes."""
    from heliodor.guard import guarded, has_crashed, is_guarded

    words = sys.argv[1:]
    long = any(words[: len(own)] == own for own in GUARDED) and not {"-h", "--help"} & {*words}
    if long and os.name == "posix" and not is_guarded():
        code = guarded([sys.executable, "-c", _ENTRY, *words])
        if has_crashed(code) and words[0] == "relion":
            from heliodor.cli_relion import leave_failure

            leave_failure(words[1:])
        sys.exit(code)
    main()


def main() -> None:
    """Run the command line; a `BadInput` becomes its sentence and exit code 2."""
    spare_threads()
    # Python would look through all that was imported for garbage once more as it ends, which
    # takes a small command a sixth of its time.
    atexit.register(gc.freeze)
    try:
        with listening():
            app(_gather_values(sys.argv[1:]), prog_name="heliodor")
    except Stopped as stopped:
        from heliodor.lookahead import at_work

        console.say(f"heliodor: {stopped}; what was done is kept")
        if at_work():  # Python would wait for threads whose results nobody will take
            sys.stdout.flush()
            os._exit(SIGNALLED + stopped.number)
        raise
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
