"""An engine for tests: it finds candidates at fixed positions, and trains in no time.

``python fake_engine.py FILE.json``: the file sets what it does differently, and is read before
each piece of work: {"die_on": [ids], "die_training": true, "hold": [ids], "hold_training": true,
"refuse": sentence, "fail": [ids], "full": [ids], "shut": sentence}. On hold it waits until the
file changes, or the training is canceled; "full" are those whose results cannot be written.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heliodor.app.candidates import Candidates, write_candidates
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.picking.contamination import ContaminationMask
from heliodor.utils.hashing import stamp_file

#: Candidates of each micrograph: their scores fall from here by one each. The second one lies in
#: contamination, which lowers its score.
BEST, NUMBER, LOWERED = 6.0, 9, 6.5
#: Scores of the candidates in order along the diagonal, with and without contamination.
CLEAN_SCORES = BEST - np.arange(NUMBER, dtype=float)
SCORES = CLEAN_SCORES - LOWERED * (np.arange(NUMBER) == 1)
#: Of trained models: the calibrated log-odds are the score less 1, give or take 0.5.
CALIBRATION = {
    "score": [-10.0, 10.0], "log_odds": [-11.0, 9.0], "particles": 0.0, "micrographs": 0,
    "labels": [3.0, 4.0, 5.0, 6.0, 7.0], "clear_above": 0.0, "repeat_score": [-10.0, 10.0],
    "repeats": [[-11.5, 8.5], [-10.5, 9.5]], "repeat_particles": [0.0, 0.0],
}  # fmt: skip


def say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def places(shape: tuple[int, int]) -> np.ndarray:
    """Return where the candidates of any micrograph are: on its diagonal."""
    along = (np.arange(NUMBER) + 0.5) / NUMBER
    return np.column_stack([along * shape[1], along * shape[0]])


class Engine:
    def __init__(self, overrides: Path) -> None:
        self.overrides = overrides
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.todo: list[int] = []
        self.opened: dict[str, Any] = {}
        self.number = 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in sys.stdin:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def override(self, name: str) -> Any:
        return json.loads(self.overrides.read_text()).get(name)

    def run(self) -> None:
        while True:
            try:
                message = self.lines.get(block=not self.todo)
            except queue.Empty:
                self.score(self.todo.pop(0))
                continue
            if message is None:
                return
            {
                "open": self.open,
                "score": self.line_up,
                "focus": self.focus,
                "train": self.train,
                "cancel": lambda _: None,
            }[message["do"]](message)

    def open(self, message: dict[str, Any]) -> None:
        if self.override("shut"):
            say(event="failed", id=None, says=self.override("shut"))
            return
        self.opened, self.number, self.todo = message, message["number"], []
        say(event="ready", device="cpu")
        if self.number == 0:
            settled = not self.override("unsettled")
            say(event="level", number=0, threshold=2.5, micrographs=3, settled=settled)

    def line_up(self, message: dict[str, Any]) -> None:
        self.todo = list(message["ids"])

    def focus(self, message: dict[str, Any]) -> None:
        if message["id"] in self.todo:
            self.todo.remove(message["id"])
            self.todo.insert(0, message["id"])

    def score(self, number: int) -> None:
        while number in (self.override("hold") or []):
            time.sleep(0.01)
        if number in (self.override("die_on") or []):
            os.kill(os.getpid(), signal.SIGKILL)
        if number in (self.override("fail") or []):
            say(event="failed", id=number, says=f"micrograph {number} is no good")
            return
        if number in (self.override("full") or []):
            say(event="failed", id=number, says=f"{number}.npz cannot be written", temporary=True)
            return
        path = Path(self.opened["micrographs"][number]["path"])
        stamp = stamp_file(path)
        image = read_micrograph(path).image
        project = Path(self.opened["project"])
        order = np.argsort(-SCORES, kind="stable")
        mask = np.zeros((6, 8), bool)
        mask[1, 1] = True  # around the second one
        found = Candidates(
            self.number,
            places(image.shape)[order],
            SCORES[order] + self.number,
            order == 1,
            np.random.default_rng(number).normal(size=(NUMBER, 4)).astype(np.float16),
            {"bad": 0.25, "mean": float(image.mean())},
            stamp,
            CLEAN_SCORES[order] + self.number,
            ContaminationMask(mask, 400.0, 0.25),
        )
        write_candidates(project / "scores" / f"{number}.npz", found)
        scaled = 128 + 30 * (image - image.mean()) / image.std()
        Image.fromarray(scaled.clip(0, 255).astype(np.uint8)).save(
            project / "previews" / f"{number}.jpg", comment=stamp.encode()
        )
        say(event="scored", id=number, number=self.number, seconds=0.01)

    def train(self, message: dict[str, Any]) -> None:
        if self.override("refuse"):
            say(event="refused", says=self.override("refuse"))
            return
        say(event="phase", says="reading micrographs")
        curve = []
        for update in range(1, 6):
            curve.append([update, 1.0 / update, None])
            say(
                event="progress", update=update, of=5, loss=1.0 / update, validation=None,
                seconds=0.1 * update,
            )  # fmt: skip
            if self.override("die_training"):
                os.kill(os.getpid(), signal.SIGKILL)
            kept = []
            while self.override("hold_training") or not self.lines.empty():
                other = self.lines.get()
                if other is None:
                    self.lines.put(other)
                    break
                if other["do"] == "cancel":
                    say(event="cancelled")
                    return
                kept.append(other)
            for other in kept:
                self.lines.put(other)
        Path(message["out"]).write_text(json.dumps(message))
        self.number = message["number"]
        say(
            event="trained", number=self.number, file=message["out"], seconds=0.5, threshold=3.5,
            validation=0.9, curve=curve, calibration=CALIBRATION,
        )  # fmt: skip


if __name__ == "__main__":
    Engine(Path(sys.argv[1])).run()
