"""Do heliodor's picks reconstruct as well as Topaz's, at the same number of picks? Needs RELION.

    python -m benchmarks.accuracy.judge_peers FOLDER --topaz ENVIRONMENT
        [--particles barrel trimer ribosome] [--counts 8 8 8] [--updates 500] [--splits 3]
        [--snr 0.05] [--image-px 32] [--thorough] [--new] [--maps labels topaz]

For each of --particles, micrographs with the usual contaminants are simulated: six with a hundred
labels, and --counts others to pick on. All rows have the same number of picks: those of heliodor
trained with the labels, at its automatic threshold, that have whole boxes.

general  heliodor's general model without labels, its surest picks
labels   heliodor trained with the labels
thorough with --thorough: the same with `--effort thorough`, its surest picks
topaz    Topaz's own resnet8 trained further with the same labels, told the right pi: its surest
truth    as many true particles, drawn at random; all, if there are fewer
curated  with --new: a random half of the true particles
new      with --new: the picks of `labels` that are none of these

False: the share of the picks that are no particle, by the truth. Junk said: the share that
`heliodor judge --quick` says with its own groups of crops. Resolution and area under the FSC: of
halves that RELION refines, mean and standard deviation of --splits splits. Error: the median
distance of a pick from its particle. What is there in FOLDER is used again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.accuracy.general_model import heliodor_runs, topaz_runs
from benchmarks.accuracy.general_model.data import HELIODOR, Task
from benchmarks.accuracy.judge import PIXEL, SIDE, SYMMETRY, write_reference
from benchmarks.accuracy.time_to_accuracy import kept
from benchmarks.common.tables import markdown

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.formats.relion_star import write_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.evaluation.matching import MATCH_FRACTION, match_picks
from heliodor.reconstruction.micrograph_table import MicrographTable, open_micrograph
from heliodor.reconstruction.particles import (
    PICK,
    ImageSettings,
    ImageTable,
    Positions,
    choose_box_px,
    plan_extraction,
)
from heliodor.reconstruction.programs import FOR_CLASSES, FOR_MAPS, RelionPrograms
from heliodor.reconstruction.refinement import (
    HalfSettings,
    plan_reference,
    plan_split,
    read_split,
)
from heliodor.reconstruction.steps import run_steps
from heliodor.simulation.builtin_particles import PARTICLES
from heliodor.workflows.judge_inputs import picks_on

LABELS, LEARN = 100, 6
#: Seeds of the micrographs with labels; those to pick on have the next one.
SEEDS = {"barrel": 710, "trimer": 720, "ribosome": 730}
#: Of everything that is drawn here, and of the splits.
SEED = 7
HEAD = ("picks", "number", "false", "junk said", "error, Å", "resolution, Å",
        "area under the FSC, 1/Å", "offset, Å")  # fmt: skip


def make_task(folder: Path, particle: str, count: int, snr: float) -> Task:
    """Simulate micrographs to learn from and to pick on, unless they are there."""
    learn, unseen = folder / "learn", folder / "unseen"
    for part, number, seed in ((learn, LEARN, 0), (unseen, count, 1)):
        if not (part / "truth.star").exists():
            labels = ["--labels", str(LABELS)] if part == learn else []
            subprocess.run(
                [*HELIODOR, "simulate", str(part), "--particle", particle, "--count", str(number),
                 "--snr", f"{snr:g}", "--seed", str(SEEDS[particle] + seed), *labels],
                check=True,
            )  # fmt: skip
    shutil.copyfile(learn / "labels.star", learn / f"labels_{LABELS}.star")
    return Task(
        particle, learn / "micrographs.star", unseen / "micrographs.star", unseen / "truth.star",
        PARTICLES[particle].diameter_angstrom, PIXEL,
        len(read_picks(learn / "truth.star")) / LEARN,
    )  # fmt: skip


def gather(task: Task, table: Picks) -> Picks:
    """Return the picks with whole boxes, under the names that the micrographs have in the task."""
    box, parts = choose_box_px(task.diameter, PIXEL), []
    own = {Path(name).stem: each for name, each in table.split_by_micrograph()}
    for source in task.sources("unseen"):
        each = own.get(source.path.stem)
        if each is None:
            continue
        whole = mask_whole_boxes(np.floor(each.xy_px + 0.5), (SIDE, SIDE), box)
        parts.append(Picks.on(source.name, each.xy_px[whole], each.score[whole]))
    return Picks.concatenate(parts)


def choose_surest(candidates: Picks, number: int) -> Picks:
    """Return the candidates with the highest scores."""
    order = np.argsort(-candidates.score, kind="stable")[:number]
    return candidates.select(np.sort(order))


def draw(particles: Picks, number: int) -> Picks:
    """Return particles drawn at random; all, if there are fewer."""
    order = np.random.default_rng(SEED).permutation(len(particles))[:number]
    return particles.select(np.sort(order))


def leave_out(picks: Picks, known: Picks, reach_px: float) -> Picks:
    """Return the picks that are paired with none of the known particles, one to one."""
    places = dict(known.split_by_micrograph())
    parts = []
    for name, own in picks.split_by_micrograph():
        own = own.select(np.argsort(-own.score, kind="stable"))
        if name in places:
            matched = match_picks(own.xy_px, places[name].xy_px, reach_px).is_true_positive
            own = own.select(~matched)
        parts.append(own)
    return Picks.concatenate(parts)


def compare(picks: Picks, truth: Picks, reach_px: float) -> dict[str, float]:
    """Return the share of false picks, and the median distance of the others, pixels."""
    places = dict(truth.split_by_micrograph())
    false, distances = 0, []
    for name, own in picks.split_by_micrograph():
        own = own.select(np.argsort(-own.score, kind="stable"))
        matched = match_picks(own.xy_px, places[name].xy_px, reach_px)
        false += int((~matched.is_true_positive).sum())
        distances.append(matched.distance[matched.is_true_positive])
    return {
        "false": false / len(picks),
        "error_px": float(np.median(np.concatenate(distances))),
    }


def judge_quickly(picks: Picks, task: Task, folder: Path) -> dict[str, float]:
    """Return the share of junk that `judge --quick` says without RELION, and its error."""
    folder.mkdir(parents=True, exist_ok=True)
    # All are one set, whatever their scores mean.
    same = Picks.concatenate(
        Picks.on(name, own.xy_px, np.ones(len(own))) for name, own in picks.split_by_micrograph()
    )
    write_picks(folder / "picks.star", same)
    command = [*HELIODOR, "judge", str(folder / "picks.star"), "--micrographs", str(task.unseen)]
    command += ["--diameter", f"{task.diameter:g}", "--thresholds", "1", "--quick"]
    # Where there are no programs there is no RELION.
    subprocess.run(
        [*command, "--threads", "1", "-o", str(folder / "quick")],
        check=True, env={**os.environ, "PATH": str(folder)},
    )  # fmt: skip
    record = json.loads((folder / "quick" / "judge.json").read_text())
    (only,) = record["judgement"]["bins"]
    return {"junk": only["junk"]["value"], "junk_error": only["junk"]["error"]}


@dataclass(frozen=True)
class Maps:
    """What the splits of one set gave."""

    resolution: np.ndarray
    area: np.ndarray
    offset: float
    limited: bool


def refine(picks: Picks, task: Task, folder: Path, reference: Path, image_px: int,
           splits: int) -> Maps:  # fmt: skip
    """Let RELION refine halves of the picks; halves that are there are not refined again."""
    programs = RelionPrograms.find(None, (*FOR_CLASSES, *FOR_MAPS))
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    sources = task.sources("unseen")
    table = MicrographTable([open_micrograph(source) for source in sources], [task.unseen])
    settings = ImageSettings(choose_box_px(task.diameter, PIXEL), image_px, PIXEL, task.diameter)
    own = picks_on(picks, sources)
    positions = Positions.of_kind(PICK, own.micrograph_index, own.xy_px, own.score)
    positions = positions.round_to_pixels()
    table.link(work)
    extraction, start = plan_extraction("images", positions, table, settings), plan_reference(
        reference, settings
    )  # fmt: skip
    run_steps(work, [extraction, start], programs)
    images = ImageTable.read(work, extraction, positions)
    halves = HalfSettings(SYMMETRY[task.name], SEED, splits)
    plans = [
        plan_split("maps", images, np.arange(len(images)), settings, halves, number,
                   (extraction.key, start.key))
        for number in range(splits)
    ]  # fmt: skip
    run_steps(work, [step for plan in plans for step in plan.steps], programs)
    done = [read_split(work, plan, images, settings) for plan in plans]
    return Maps(
        np.array([one.shells.resolution_angstrom for one in done]),
        np.array([one.shells.area for one in done]),
        float(np.median(np.concatenate([one.offsets_angstrom for one in done]))),
        any(one.shells.reaches_nyquist for one in done),
    )


def collect(
    task: Task, folder: Path, topaz: Path, updates: int, with_thorough: bool, with_new: bool
) -> dict[str, Any]:
    """Pick with each program, and return the sets of picks, all of the same size."""
    general, labels = folder / "general", folder / f"trained_{LABELS}"
    kept(folder / "general.json", heliodor_runs.as_shipped, task, heliodor_runs.General(None),
         general)  # fmt: skip
    kept(folder / "labels.json", heliodor_runs.trained, task, task.labels(LABELS), "general", 0,
         labels)  # fmt: skip
    kept(folder / f"topaz_{updates}.json", topaz_runs.trained, task, LABELS, updates, 1,
         folder / "topaz", topaz)  # fmt: skip
    (its,) = (folder / "topaz" / f"trained_{LABELS}_{updates}").glob("model_epoch*.txt")
    chosen = gather(task, read_picks(labels / "unseen" / "picks.tsv"))
    truth = gather(task, read_picks(task.truth))
    sets = {"general": gather(task, read_picks(general / "picks.tsv", candidates=True))}
    if with_thorough:
        thorough = folder / f"thorough_{LABELS}"
        kept(folder / "thorough.json", heliodor_runs.trained, task, task.labels(LABELS),
             "general", 0, thorough, "thorough")  # fmt: skip
        found = read_picks(thorough / "unseen" / "picks.tsv", candidates=True)
        sets["thorough"] = gather(task, found)
    sets["topaz"] = gather(task, read_picks(its, candidates=True))
    rows = {name: choose_surest(each, len(chosen)) for name, each in sets.items()}
    rows = {"general": rows.pop("general"), "labels": chosen, **rows}
    rows["truth"] = draw(truth, len(chosen))
    if with_new:
        rows["curated"] = draw(truth, len(truth) // 2)
        rows["new"] = leave_out(chosen, rows["curated"], MATCH_FRACTION * task.diameter / PIXEL)
    return rows


def measure(
    task: Task, rows: dict[str, Picks], folder: Path, image_px: int, splits: int, maps: list[str]
) -> None:
    """Judge all sets of one particle, with maps of some of them, and print them as a table."""
    truth = gather_all(task)
    reach = MATCH_FRACTION * task.diameter / PIXEL
    reference = write_reference(folder / "reference.mrc", task.name, PIXEL, 128)
    print(f"{task.name}, {SYMMETRY[task.name]}, {len(truth)} particles")
    table = {}
    for name, picks in rows.items():
        own = folder / "judged" / name
        said = kept(own / "quick.json", judge_quickly, picks, task, own)
        known = compare(picks, truth, reach)
        table[name] = [
            name, str(len(picks)), f"{known['false']:.3f}",
            f"{said['junk']:.3f} ± {said['junk_error']:.3f}",
            f"{known['error_px'] * PIXEL:.1f}",
        ]  # fmt: skip
    print(markdown(HEAD[:5], table.values()), flush=True)
    for name in maps:
        own = folder / "judged" / name
        found = refine(rows[name], task, own, reference, image_px, splits)
        resolution = f"{found.resolution.mean():.1f} ± {found.resolution.std(ddof=1):.1f}"
        table[name] += [
            resolution + (", limited by the pixel size" if found.limited else ""),
            f"{found.area.mean():.4f} ± {found.area.std(ddof=1):.4f}",
            f"{found.offset:.1f}",
        ]  # fmt: skip
        print("  ".join(table[name]), flush=True)
    filled = (row + ["–"] * (len(HEAD) - len(row)) for row in table.values())
    print(markdown(HEAD, filled), flush=True)


def gather_all(task: Task) -> Picks:
    """Return all true particles under the names that the micrographs have in the task."""
    own = {Path(name).stem: each for name, each in read_picks(task.truth).split_by_micrograph()}
    return Picks.concatenate(
        Picks.on(source.name, own[source.path.stem].xy_px, own[source.path.stem].score)
        for source in task.sources("unseen")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--topaz", type=Path, required=True, help="its environment")
    parser.add_argument("--particles", nargs="+", choices=SEEDS, default=[*SEEDS])
    parser.add_argument("--counts", type=int, nargs="+", default=[8], help="one, or one for each")
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--snr", type=float, default=0.05)
    parser.add_argument("--image-px", type=int, default=32)
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--maps", nargs="*", help="rows of which maps are made [all]")
    given = parser.parse_args()
    counts = given.counts * (len(given.particles) if len(given.counts) == 1 else 1)
    for particle, count in zip(given.particles, counts, strict=True):
        folder = given.folder / particle
        task = make_task(folder, particle, count, given.snr)
        rows = collect(task, folder, given.topaz / "bin" / "topaz", given.updates,
                       given.thorough, given.new)  # fmt: skip
        maps = [*rows] if given.maps is None else given.maps
        measure(task, rows, folder, given.image_px, given.splits, maps)


if __name__ == "__main__":
    main()
