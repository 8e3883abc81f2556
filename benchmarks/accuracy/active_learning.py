"""Active learning against random labeling: a simulated user on beta-galactosidase.

    python -m benchmarks.accuracy.active_learning OUT [--how asking|random] [--seeds 1]

Study, 2026-11. The user answers from the published list (`dense.star`) whether a position is a
particle. After 10, 20, 40, 60 and 120 answers the app's fine-tuning runs on all of them (first
from the general model, then from the model before) and is evaluated on the test micrographs by
particle AP. `asking` takes the questions that the app would ask; `random` takes, in turns, a
particle of the list and a candidate of the general model, from any training micrograph. Results
are kept in OUT, and a table of all of them is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.accuracy.general_model.data import DATA

from heliodor.app.active_learning import choose_questions
from heliodor.app.candidates import Candidates
from heliodor.app.engine.fine_tuning import TrainingCallbacks, fine_tune
from heliodor.app.engine.prediction import predict
from heliodor.app.engine.running_threshold import RunningThreshold
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.evaluation.metrics import evaluate_picks
from heliodor.models.model_file import Model
from heliodor.models.pretrained import load_general_model, rescale_to_diameter
from heliodor.picking.score_maps import open_working_images

DIAMETER, PIXEL = 180.0, 3.54
STEPS = (10, 20, 40, 60, 120)
CPU = torch.device("cpu")


@dataclass
class Answers:
    """What the user has said so far: (x, y, whether it is a particle) by micrograph."""

    split_by_micrograph: dict[int, list[tuple[float, float, bool]]]

    def add(self, i: int, x: float, y: float, particle: bool) -> None:
        """Take one more."""
        self.split_by_micrograph.setdefault(i, []).append((x, y, particle))

    def part(self, particle: bool) -> dict[int, FloatArray]:
        """Return the places that are particles, or none, by micrograph."""
        return {
            i: np.array([own[:2] for own in said if own[2] is particle]).reshape(-1, 2)
            for i, said in self.split_by_micrograph.items()
        }

    def __len__(self) -> int:
        return sum(map(len, self.split_by_micrograph.values()))


class User:
    """The published list, and the micrographs that it is of."""

    def __init__(self, model: Model, learn: int, test: int) -> None:
        folder = DATA / "betagal"
        truth = {
            Path(n).stem: own for n, own in read_picks(folder / "dense.star").split_by_micrograph()
        }
        self.images = open_working_images(model)
        self.images.keep_bytes = 2**30
        self.learn = find_sources(str(folder / "train.star"))[:learn]
        self.test = find_sources(str(folder / "test.star"))[:test]
        self.truth = {s: truth[s.path.stem].xy_px for s in [*self.learn, *self.test]}

    def says(self, i: int, xy: tuple[float, float]) -> bool:
        """Tell whether there is a particle at a place."""
        away = np.hypot(*(self.truth[self.learn[i]] - xy).T)
        return bool(away.min() <= MATCH_FRACTION * DIAMETER / PIXEL)

    def look(self, model: Model, sources: list[Source]) -> dict[int, Candidates]:
        """Return what a model finds on micrographs."""
        return {
            i: predict(model, self.images.get(source), 0, CPU).candidates
            for i, source in enumerate(sources)
        }

    def ap(self, model: Model) -> float:
        """Return the particle AP on the test micrographs, bad areas left out."""
        found = self.look(model, self.test)
        ranked = {
            s.name: (found[i].xy_px[~found[i].bad], found[i].score[~found[i].bad])
            for i, s in enumerate(self.test)
        }
        truth = {s.name: self.truth[s] for s in self.test}
        distance = MATCH_FRACTION * DIAMETER / PIXEL
        return evaluate_picks(ranked, truth, distance).micro.average_precision

    def labelled(self, answers: Answers) -> list[LabeledSource]:
        """Return the answers as a lesson takes them."""
        labels, negatives = answers.part(True), answers.part(False)
        return [
            LabeledSource(self.learn[i], labels[i], None, negatives[i])
            for i in sorted(answers.split_by_micrograph)
        ]


def ask(user: User, model: Model, answers: Answers, count: int, seed: int) -> None:
    """Have the user answer what the model asks."""
    found = user.look(model, user.learn)
    threshold = model.card.threshold
    running = RunningThreshold(model, CPU, [source.name for source in user.learn])
    for i in sorted(running.chosen)[:1]:  # as the engine finds the general model's
        prediction = predict(model, user.images.get(user.learn[i]), 0, CPU)
        own = prediction.candidates
        assert own.record is not None
        record = replace(own.record, decoys=running.search_decoys(prediction))
        result = replace(own, record=record).as_result(user.learn[i].name)
        assert result is not None
        level = running.add(i, result.scores)
        threshold = threshold if level is None else level.threshold
    diameters = dict.fromkeys(found, DIAMETER / PIXEL)
    labels, negatives = answers.part(True), answers.part(False)
    for own in choose_questions(found, labels, negatives, diameters, threshold, count, seed):
        answers.add(own.micrograph, *own.xy_px, user.says(own.micrograph, own.xy_px))


def at_random(user: User, general: dict[int, Candidates], answers: Answers, count: int,
              random: np.random.Generator) -> None:  # fmt: skip
    """Have the user label particles of the list, and judge candidates, in turns."""
    for _ in range(count):
        i = int(random.integers(len(user.learn)))
        every = general[i].xy_px[~general[i].bad]
        if len(answers) % 2 == 0:
            every = user.truth[user.learn[i]]
        x, y = every[random.integers(len(every))].tolist()
        answers.add(i, x, y, user.says(i, (x, y)))


def curve(user: User, general: Model, how: str, seed: int, out: Path) -> None:
    """Measure AP against answers, and keep each figure."""
    model = general
    first = user.look(general, user.learn)
    answers, random = Answers({}), np.random.default_rng(seed)
    rows = []
    for step in STEPS:
        wanted = step - len(answers)
        if how == "random":
            at_random(user, first, answers, wanted, random)
        else:
            ask(user, model, answers, wanted, seed)
        began = time.process_time()
        told = TrainingCallbacks(lambda _: None, lambda *_: None)
        lesson = fine_tune(model, user.labelled(answers), user.images, CPU, seed, told)
        cpu, model = time.process_time() - began, lesson.model
        row = {
            "answers": len(answers), "particles": sum(map(len, answers.part(True).values())),
            "ap": user.ap(model), "validation": lesson.validation, "cpu": cpu,
        }  # fmt: skip
        print(how, seed, row, flush=True)
        rows.append(row)
        (out / f"{how}_{seed}.json").write_text(json.dumps(rows, indent=1) + "\n")


def table(out: Path) -> None:
    """Print what is there."""
    print("\n| answers | asked: AP | at random: AP |\n|---|---|---|")
    for n, step in enumerate(STEPS):
        cells = []
        for how in ("asking", "random"):
            runs = [json.loads(path.read_text()) for path in sorted(out.glob(f"{how}_*.json"))]
            own = [rows[n]["ap"] for rows in runs if len(rows) > n]
            each = ", ".join(f"{ap:.3f}" for ap in own)
            cells.append(f"{np.median(own):.3f} ({each})" if own else "")
        print(f"| {step} | {' | '.join(cells)} |")


def main() -> None:
    """Measure what is asked for and print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder that keeps the results")
    parser.add_argument(
        "--how", choices=["asking", "random"], action="append", help="how labels are chosen [both]"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... [1]")
    parser.add_argument("--learn", type=int, default=10, help="training micrographs [10]")
    parser.add_argument("--test", type=int, default=4, help="test micrographs [4]")
    given = parser.parse_args()
    if not (DATA / "betagal").is_dir():
        print(f"no {DATA / 'betagal'}: skipped (set HELIODOR_DATA)")
        return
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    general = rescale_to_diameter(load_general_model(), DIAMETER)
    user = User(general, given.learn, given.test)
    print(f"the general model alone: AP {user.ap(general):.3f}", flush=True)
    for seed in range(given.seeds):
        for how in given.how or ["asking", "random"]:
            curve(user, general, how, seed, given.out)
    table(given.out)


if __name__ == "__main__":
    main()
