"""Stages of whole processes: start, preprocessing, picking, and the calls of RELION."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.common import data, tables
from benchmarks.common.data import (
    DROP_IN,
    HELIODOR,
    PARTICLE,
    Simulated,
)
from benchmarks.common.processes import (
    Run,
    Worker,
    in_turn,
    median,
    run,
)
from benchmarks.common.setup import Setup
from benchmarks.common.tables import (
    Row,
    at_least,
    at_most,
)
from benchmarks.speed.machine_limits import SIDE_PX, multiply_adds

from heliodor.models.model_file import load_model
from heliodor.picking.score_maps import card_step

FLOORS = "benchmarks.speed.machine_limits"
#: Of micrographs with 1 A a pixel, by which Topaz shrinks them, and to which heliodor does.
SCALE = 8
BULK, BULK_QUICK = 100, 8
PICKED, PICKED_QUICK = 100, 6
#: Micrographs on which Topaz is measured instead, of which follows what the others would take.
FEW, FEW_QUICK = (1, 5), (1, 3)
HUGE_PX = (8184, 11520)

START_SECONDS = 0.3
PREPROCESS_FASTER, PREPROCESS_MEMORY = 8.0, 0.5
BULK_FLOORS = 1.5
PICK_FASTER, PICK_FLOORS = 10.0, 2.0
CALL_SHARE = 0.25
HUGE_MB = 2000.0

Command = Sequence[str | Path]


def afresh(folder: Path, command: Command) -> Callable[[], Run]:
    """Return what runs a command that writes to a folder, which it finds empty."""

    def measured() -> Run:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return run(command)

    return measured


def start(setup: Setup) -> str:
    """Measure how soon the programs answer."""
    lines = {
        "heliodor --help": [HELIODOR, "--help"],
        "heliodor --version": [HELIODOR, "--version"],
        "heliodor-topaz --version": [DROP_IN, "--version"],
    }
    own = {what: lambda line=line: run(line) for what, line in lines.items()}
    peer = {} if setup.quick else {"topaz": lambda: run([setup.topaz, "--version"])}
    took = in_turn(peer | own, setup.repeats)
    rows = [
        Row(
            what,
            took[what],
            took.get("topaz") if "topaz" in what else None,
            None,
            [at_most(took[what].seconds, START_SECONDS, "seconds")],
        )
        for what in lines
    ]
    return f"Start\n\n{tables.table(rows)}"


def preprocess(setup: Setup) -> str:
    """Measure one large micrograph."""
    file, out = data.large(setup.work, setup.quick)[0], setup.work / "one"
    lines: dict[str, Command] = {
        "topaz": [setup.topaz, "normalize", "-s", str(SCALE), "-o", f"{out}/", file],
        "heliodor-topaz preprocess": [
            *(DROP_IN, "preprocess", "-s", str(SCALE), "-o", f"{out}/", file)
        ],
        "heliodor preprocess": shrink(file, out),
    }
    programs = {name: afresh(out, line) for name, line in lines.items()}
    with floor_of(setup, [file]) as floor:
        took = in_turn(programs | {"floor": floor.turn}, setup.repeats)
    theirs, least = took.pop("topaz"), took.pop("floor").seconds
    rows = []
    for name, ours in took.items():
        row = Row(f"{name}, 4096 x 4096 to 512 x 512", ours, theirs, least)
        asked = [
            at_least(row.ratio, PREPROCESS_FASTER, "ratio"),
            at_most(ours.peak_mb / theirs.peak_mb, PREPROCESS_MEMORY, "share of the memory"),
        ]
        rows.append(Row(row.what, ours, theirs, row.floor, asked))
    return (
        "Preprocessing one micrograph, whole processes (Topaz: `normalize -s 8`)\n\n"
        + tables.table(rows)
    )


def floor_of(setup: Setup, files: Sequence[Path]) -> Worker:
    """Return what reads and transforms files, behind a turn that is not counted."""
    worker = Worker([sys.executable, "-m", FLOORS, "bulk", str(setup.threads), *files])
    worker.turn()
    return worker


def shrink(micrographs: Path, out: Path) -> Command:
    """Return the command that crops micrographs of 1 A a pixel by the scale."""
    return [
        *(HELIODOR, "preprocess", "--micrographs", micrographs, "-o", out),
        *("--working-pixel-size", str(SCALE), "--pixel-size", "1"),
    ]


def bulk(setup: Setup) -> str:
    """Measure many large micrographs, against reading and transforming the same files."""
    number = BULK_QUICK if setup.quick else BULK
    distinct = data.large(setup.work, setup.quick)
    folder = data.linked(distinct, number, setup.work / f"bulk_{number}")
    files, out = sorted(folder.glob("*.mrc")), setup.work / "bulk_out"
    with floor_of(setup, files) as floor:
        whole = {"floor": floor.turn, "ours": afresh(out, shrink(folder, out))}
        took = in_turn(whole, setup.repeats)
    each = {name: Run(one.seconds / number, one.peak_mb) for name, one in took.items()}
    times = each["ours"].seconds / each["floor"].seconds
    row = Row(
        f"each of {number} (links to {len(distinct)})",
        each["ours"],
        None,
        each["floor"].seconds,
        [at_most(times, BULK_FLOORS, "time / floor")],
    )
    return (
        "Preprocessing in bulk, 4096 x 4096 to 512 x 512, one process; the floor reads and"
        f" transforms the same files\n\n{tables.table([row])}"
    )


def imported(setup: Setup) -> Path:
    """Import Topaz's resnet8_u32 as a model for images of 8 A a pixel."""
    path = setup.work / "resnet8_u32.safetensors"
    if not path.exists():
        command: Command = [HELIODOR, "model", "import", setup.weights, "-o", path]
        diameter = f"{data.diameter(PARTICLE):g}"
        run([*command, "--working-pixel-size", str(SCALE), "--diameter", diameter])
    return path


def own_model(setup: Setup) -> Path:
    """Train the default model on simulated micrographs of the same particle."""
    number = 6 if setup.quick else 20
    return Simulated(PARTICLE, setup.work / PARTICLE, number).make().model()


def pick_line(model: Path, micrographs: Path, out: Path) -> Command:
    """Return the command that picks on micrographs of 1 A a pixel."""
    command: Command = [HELIODOR, "pick", "--model", model, "--micrographs", micrographs]
    return [*command, "-o", out, "--pixel-size", "1", "--device", "cpu"]


def pick_floor(setup: Setup, model: Path, shape: tuple[int, int]) -> tuple[float, tuple[int, int]]:
    """Return the floor of picking on a micrograph of 1 A a pixel, and its shape when scored."""
    opened = load_model(model)
    small = tuple(round(side / opened.card.working_pixel_size_angstrom) for side in shape)
    scored = (small[0], small[1])
    adds = multiply_adds(
        opened.network, scored, card_step(opened, opened.card.working_pixel_size_angstrom)
    )
    read = setup.read_and_transform * math.prod(shape) / SIDE_PX**2
    return read + adds / setup.rates["convolution_float32"], scored


def pick(setup: Setup) -> str:
    """Measure picking from many large micrographs, end to end."""
    number, few = (PICKED_QUICK, FEW_QUICK) if setup.quick else (PICKED, FEW)
    distinct = data.large(setup.work, setup.quick)
    folder = data.linked(distinct, number, setup.work / f"picked_{number}")
    files, out = sorted(folder.glob("*.mrc")), setup.work / "picks_out"
    models = {"resnet8_u32, imported": imported(setup), "own default": own_model(setup)}
    programs = {name: afresh(out, pick_line(model, folder, out)) for name, model in models.items()}
    for count in few:
        programs[f"topaz {count}"] = topaz_pick(setup, files[:count])
    took = in_turn(programs, 1 if setup.quick else setup.repeats)
    one, more = (took[f"topaz {count}"] for count in few)
    slope = (more.seconds - one.seconds) / (few[1] - few[0])
    theirs = Run((one.seconds + slope * (number - few[0])) / number, more.peak_mb)
    rows = []
    for name, model in models.items():
        ours = Run(took[name].seconds / number, took[name].peak_mb)
        floor, scored = pick_floor(setup, model, (SIDE_PX, SIDE_PX))
        asked = [at_least(theirs.seconds / ours.seconds, PICK_FASTER, "ratio")]
        asked.append(at_most(ours.seconds / floor, PICK_FLOORS, "times the floors"))
        what = f"{name}, scored at {scored[0]} x {scored[1]}"
        rows.append(Row(what, ours, theirs, floor, asked))
    return (
        f"Picking on {number} micrographs of 4096 x 4096, one process, seconds a micrograph."
        f" Topaz: `preprocess -s {SCALE}` and `extract` with resnet8_u32 at 512 x 512, measured on"
        f" {few[0]} and {few[1]} micrographs and drawn out to {number}"
        f"\n\n{tables.table(rows)}"
    )


def topaz_pick(setup: Setup, files: Sequence[Path]) -> Callable[[], Run]:
    """Return what picks as users of Topaz do: two processes."""
    small = setup.work / "topaz_small"
    radius = int(data.diameter(PARTICLE) / 2 / SCALE)
    extract: Command = [setup.topaz, "extract", "-m", "resnet8_u32", "-r", str(radius), "-d", "-1"]
    extract = [*extract, "-x", str(SCALE), "-o", small / "picks.txt"]
    shrunk = [small / file.name for file in files]
    first = afresh(small, [setup.topaz, "preprocess", "-s", str(SCALE), "-o", f"{small}/", *files])

    def measured() -> Run:
        parts = [first(), run([*extract, *shrunk])]
        return Run(sum(part.seconds for part in parts), max(part.peak_mb for part in parts))

    return measured


def calls(setup: Setup) -> str:
    """Measure extraction called once a micrograph, as RELION does, by each program's own job."""
    images = data.scored_images(setup.work, 1 if setup.quick else 3)[512]
    files = data.image_files(images, setup.work / "handed")
    took: dict[str, list[Run]] = {"topaz": [], "ours": []}
    programs = {"topaz": (setup.topaz, "resnet8_u32"), "ours": (DROP_IN, setup.weights)}
    jobs = {name: setup.work / f"AutoPick_{name}" for name in programs}
    for job in jobs.values():
        shutil.rmtree(job, ignore_errors=True)
        (job / "proc").mkdir(parents=True)
    for number in range(setup.repeats + 1):
        for name, (program, model) in programs.items():
            image = jobs[name] / "proc" / "rank000000.mrc"
            shutil.copyfile(files[number % len(files)], image)
            line: Command = [
                program,
                "extract",
                "-t",
                "-6",
                "-r",
                "8",
                "-d",
                "-1",
                "-x",
                "1",
                "-m",
                model,
            ]
            took[name].append(run([*line, "-o", image.with_suffix(".txt"), image], jobs[name]))
    first = Row("the first call of a job", took["ours"][0], took["topaz"][0])
    ours, theirs = (median(took[name][1:]) for name in ("ours", "topaz"))
    share = at_most(ours.seconds / theirs.seconds, CALL_SHARE, "share of the time")
    return (
        "`extract` of one 512 x 512 image a call, resnet8_u32; memory is the caller's\n\n"
        + tables.table([first, Row("later calls", ours, theirs, None, [share])])
    )


def huge(setup: Setup) -> str:
    """Measure picking on one micrograph of a super-resolution detector."""
    source = data.large(setup.work, setup.quick)[0]
    file, out = data.huge(source, setup.work / "huge", HUGE_PX), setup.work / "huge_out"
    models = {"own default": own_model(setup)}
    if not setup.quick:
        models["resnet8_u32, imported"] = imported(setup)
    rows = []
    for name, model in models.items():
        program = {"ours": afresh(out, pick_line(model, file, out))}
        ours = in_turn(program, 1 if setup.quick else setup.repeats)["ours"]
        floor, scored = pick_floor(setup, model, HUGE_PX)
        asked = [at_most(ours.peak_mb, HUGE_MB, "MB")]
        rows.append(Row(f"{name}, scored at {scored[0]} x {scored[1]}", ours, None, floor, asked))
    height, width = HUGE_PX
    return f"Picking on one float32 micrograph of {width} x {height} pixels\n\n" + tables.table(
        rows
    )
