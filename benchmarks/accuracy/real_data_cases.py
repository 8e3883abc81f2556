"""The cases of `real_data`: train on a draw of labels, pick, and compare with the truth."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.accuracy.general_model import topaz_runs
from benchmarks.accuracy.general_model.data import Task
from benchmarks.common import real_sets
from benchmarks.common.real_sets import REAL_SETS, RealSet, Split

import heliodor
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.evaluation.metrics import Evaluation, evaluate_picks
from heliodor.utils.files import write_json

#: Candidates down to this log-odds are ranked: far below the program's own floor, so that the best
#: threshold is found even where all scores are too low.
FLOOR = -14.0
#: The settings of picking that are compared; the first is the default.
MASKS: dict[str, dict[str, Any]] = {"leave-out": {}, "keep": {"bad_areas": "keep"}}
#: What the program states about its picks.
STATED = ("precision", "recall")
#: Topaz's default threshold, and the pixel size its authors advise.
TOPAZ_THRESHOLD, TOPAZ_PIXEL = -6.0, 8.0


@dataclass(frozen=True)
class Case:
    """A set, and a draw of labels; without labels the general model picks."""

    name: str
    split: Split
    labels: int
    draw: int
    #: The most micrographs to pick on; None: all.
    most: int | None = None
    #: Whether the general model is first adapted to the micrographs to pick on.
    adapt: bool = False
    #: Of training, where there are labels: quick, normal or thorough.
    effort: str = "normal"

    @property
    def real(self) -> RealSet:
        """The set."""
        return REAL_SETS[self.name]

    @property
    def words(self) -> str:
        """What the case is called in a line."""
        if not self.labels:
            return f"{self.name}, no labels{', adapted' if self.adapt else ''}"
        return f"{self.name}, {self.labels} labels, draw {self.draw}{self.words_of_effort}"

    @property
    def words_of_effort(self) -> str:
        """How thoroughly it is trained, to follow other words; nothing if as usual."""
        return "" if self.effort == "normal" else f", {self.effort}"

    def file(self, out: Path) -> Path:
        """Return where the result is kept: under another name once the program has changed."""
        key = hashlib.sha256(fingerprint_program().encode() + self.real.fingerprint())
        effort = "" if self.effort == "normal" else f"_{self.effort}"
        return out / "cases" / f"{self._stem}{effort}_{key.hexdigest()[:12]}.json"

    def topaz_file(self, out: Path, updates: int) -> Path:
        """Return where Topaz's result is kept, whatever becomes of heliodor."""
        return out / "topaz" / f"{self._stem}_{updates if self.labels else 0}.json"

    @property
    def _stem(self) -> str:
        few = "" if self.most is None else f"_{self.most}"
        adapted = "_adapted" if self.adapt else ""
        return f"{self.name}_{self.split}{few}_{self.labels}_{self.draw}{adapted}"


@cache
def fingerprint_program() -> str:
    """Return a fingerprint of the package's files, with the general model, and of these scripts.

    Not the version or the commit, which stay the same while the program is being changed.
    """
    package = Path(heliodor.__file__).parent
    found = hashlib.sha256(heliodor.__version__.encode())
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(str(path.relative_to(package)).encode() + b"\0")
            found.update(hashlib.sha256(path.read_bytes()).digest())
    for file in (__file__, real_sets.__file__):
        found.update(Path(file).read_bytes())
    return found.hexdigest()


def wanted_cases(
    names: list[str],
    split: Split,
    labels: list[int],
    draws: int,
    most: int | None = None,
    adapt: bool = False,
    efforts: Sequence[str] = ("normal",),
) -> list[Case]:
    """Return the cases, each once; without labels there is one draw. Further draws come last.

    Parameters
    ----------
    adapt
        Whether to adapt the general model as well, where there are no labels.
    efforts
        Of training, where there are labels.
    """
    cases = (
        Case(name, split, number, draw if number else 0, most, adapted, effort)
        for draw in range(draws)
        for name in names
        for number in labels
        for adapted in ([False, True] if adapt and not number else [False])
        for effort in (efforts if number else ["normal"])
    )
    return list(dict.fromkeys(cases))


def carry_out(case: Case, out: Path) -> dict[str, Any]:
    """Train and pick; return the figures, ready for JSON."""
    task = case.real.task(case.split, out, case.draw, case.most)
    before = time.process_time()
    if case.labels:
        picker = heliodor.train(
            str(task.learn), str(task.labels(case.labels)), diameter=task.diameter,
            seed=case.draw, trust_labels=True, device="cpu", threads=1, effort=case.effort,
        )  # fmt: skip
    else:
        picker = heliodor.Picker.from_pretrained(diameter=task.diameter, device="cpu")
        if case.adapt:
            picker = picker.adapt(str(task.unseen), threads=1)
    trained = time.process_time()
    truth = case.real.truth(task.sources("unseen"))
    # A model that does not detect contamination refuses to keep it.
    settings = MASKS if picker.card.contaminant else {"leave-out": {}}
    masks = {name: pick(picker, task, truth, options) for name, options in settings.items()}
    return {
        **asdict(case),
        "masks": masks,
        "training_cpu_seconds": (
            round(trained - before, 2) if case.labels or case.adapt else None
        ),
        "picking_cpu_seconds": round(time.process_time() - trained, 2),
        "version": heliodor.__version__,
    }


def pick(
    picker: heliodor.Picker, task: Task, truth: dict[str, FloatArray], options: dict[str, Any]
) -> dict[str, Any]:
    """Pick at the automatic threshold, and once more down to the floor for all thresholds.

    Raises
    ------
    SystemExit
        If a micrograph could not be used.
    """
    chosen = picker.pick(str(task.unseen), threads=1, **options)
    every = picker.pick(str(task.unseen), threads=1, threshold=FLOOR, **options)
    if chosen.failures:
        raise SystemExit(f"{chosen.failures[0].name}: {chosen.failures[0].reason}")
    at, ranked = (compare(own, truth, task) for own in (chosen, every.candidates))
    return {
        "ap": ranked.micro.average_precision,
        "best_f1": ranked.best_f1,
        "best_threshold": finite(ranked.best_f1_threshold),
        "threshold": finite(chosen.threshold),
        "f1": at.micro.f1,
        "precision": finite(at.micro.precision),
        "recall": at.micro.recall,
        "picks": at.n_picks,
        "truth": at.n_truth,
        "centers": [
            finite(value * task.pixel / task.diameter)
            for value in (*at.median_shift, at.median_distance, at.distance_90)
        ],
        "stated": {name: stated(chosen.expected, name) for name in STATED},
    }


def compare(picks: Picks, truth: dict[str, FloatArray], task: Task) -> Evaluation:
    """Match picks with the truth, within 0.4 of the diameter."""
    found = {Path(n).stem: (own.xy_px, own.score) for n, own in picks.split_by_micrograph()}
    return evaluate_picks(found, truth, MATCH_FRACTION * task.diameter / task.pixel)


def stated(expected: Any, name: str) -> list[float | None] | None:
    """Return what a program states: the value and its interval; None where it states nothing."""
    estimate = getattr(expected, name, None)
    if estimate is None or finite(estimate.value) is None:
        return None
    return [finite(value) for value in (estimate.value, estimate.low, estimate.high)]


def finite(value: float) -> float | None:
    """Return a number for JSON; None if it is infinite or unknown."""
    return float(value) if math.isfinite(value) else None


def carry_out_topaz(case: Case, out: Path, topaz: Path, updates: int) -> dict[str, Any]:
    """Pick with Topaz's own model, or after training it on the same labels."""
    task = case.real.task(case.split, out, case.draw, case.most)
    folder = out / "topaz" / task.learn.parent.name
    scale = max(1, round(TOPAZ_PIXEL / task.pixel))
    if case.labels:
        took = topaz_runs.trained(task, case.labels, updates, 1, folder, topaz, scale)
        (picks,) = (folder / f"trained_{case.labels}_{updates}").glob("model_epoch*.txt")
    else:
        took = topaz_runs.as_shipped(task, scale, folder, topaz)
        picks = folder / f"shipped_{scale}.txt"
    table = read_picks(picks, candidates=True)
    truth = case.real.truth(task.sources("unseen"))
    ranked = compare(table, truth, task)
    at = compare(table.select(table.score >= TOPAZ_THRESHOLD), truth, task)
    return {
        **asdict(case),
        "ap": ranked.micro.average_precision,
        "best_f1": ranked.best_f1,
        "f1": at.micro.f1,
        "picks": at.n_picks,
        "updates": updates if case.labels else 0,
        "cpu_seconds": round(took["cpu"], 1),
    }


def attempt(case: Case, out: Path, file: Path) -> str:
    """Carry a case out and keep its result; return a line about it.

    Parameters
    ----------
    file
        Where the result is kept. Its name has the fingerprint of the program that this process
        imported, even if the program's files were changed since.
    """
    try:
        result = carry_out(case, out)
        write_json(file, result)
    except (Exception, SystemExit) as error:  # whatever it is, the other cases go on
        return f"FAILED {case.words}: {type(error).__name__}: {error}"
    own, cpu = result["masks"]["leave-out"], result["training_cpu_seconds"] or 0.0
    return (
        f"{case.words}: AP {own['ap']:.3f}, F1 {own['f1']:.3f} of {own['best_f1']:.3f},"
        f" {cpu:.0f} + {result['picking_cpu_seconds']:.0f} CPU s"
    )


def attempt_topaz(cases: Sequence[Case], out: Path, topaz: Path, updates: int) -> str:
    """Carry out the cases of one set with Topaz and keep the results; return a line for each.

    One after the other, as they share the preprocessed micrographs.
    """
    lines = []
    for case in cases:
        try:
            result = carry_out_topaz(case, out, topaz, updates)
            write_json(case.topaz_file(out, updates), result)
        except (Exception, SystemExit) as error:
            lines.append(f"FAILED Topaz, {case.words}: {type(error).__name__}: {error}")
        else:
            lines.append(
                f"Topaz, {case.words}: AP {result['ap']:.3f}, F1 {result['f1']:.3f} of"
                f" {result['best_f1']:.3f}, {result['cpu_seconds']:.0f} CPU s"
            )
    return "\n".join(lines)
