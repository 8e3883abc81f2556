"""Compares two models on the same micrographs, each at its own threshold."""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.app.server.annotations import Annotations
from heliodor.app.server.child_process import (
    COMMAND,
    await_end,
    close_input,
    start_command,
)
from heliodor.app.server.models import read_record
from heliodor.app.server.project import Project
from heliodor.app.server.provenance import name_model
from heliodor.app.server.request_parsing import refuse
from heliodor.app.server.tiles import MicrographTiles
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.picking.corrections import SAME_DIAMETERS, near
from heliodor.utils.files import create_subfolder, remove_subfolder, write_text

#: The folder of the picks that are compared.
COMPARISON = "comparison"
#: Most micrographs that are compared: the user waits for it.
MAX_MICROGRAPHS = 20


class Comparison:
    """Picks some micrographs with two models; any thread may call.

    Parameters
    ----------
    project, annotations, tiles
        Those of the `ProjectState`.
    threads, device
        Where the picks are computed.
    note
        Called with what happens, for the log of the project.
    command
        The command before the word `pick`.
    """

    def __init__(
        self,
        project: Project,
        annotations: Annotations,
        tiles: MicrographTiles,
        threads: int,
        device: str = "auto",
        note: Callable[[str], None] = lambda text: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._project, self._annotations, self._tiles = project, annotations, tiles
        self._threads, self._device, self._note, self._command = threads, device, note, command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._worker: threading.Thread | None = None
        self._stopping = False
        self._state: dict[str, Any] = {"state": "none"}

    def state(self) -> dict[str, Any]:
        """Return the state of the comparison and, when it is done, its result."""
        with self._lock:
            return dict(self._state)

    def start(self, models: tuple[int, int], numbers: Sequence[int]) -> None:
        """Start to compare two models.

        Raises
        ------
        HTTPException
            If that cannot be done now.
        """
        if models[0] == models[1]:
            raise refuse("choose two different models")
        for number in models:
            if read_record(self._project, number) is None:
                raise refuse("there is no such model", 404)
        if 0 in models and self._project.settings.diameter_angstrom is None:
            raise refuse("set the particle's diameter first", 409)
        with self._lock:
            if self._worker is not None and self._worker.is_alive():
                raise refuse("two models are already being compared", 409)
            self._stopping = False
            self._state = {"state": "running", "models": models, "micrographs": [*numbers]}
            self._worker = threading.Thread(
                target=self._work, args=(models, [*numbers]), name="comparing", daemon=True
            )
            self._worker.start()

    def _work(self, models: tuple[int, int], numbers: list[int]) -> None:
        try:
            create_subfolder(self._project.folder, COMPARISON)
            picks = [self._pick(model, numbers) for model in models]
            result = [self._compare(number, models, picks) for number in numbers]
        except (BadInput, OSError) as error:
            state = "cancelled" if self._stopping else "failed"
            ended: dict[str, Any] = {"state": state, "says": str(error)}
        else:
            ended = {"state": "done", "result": result}
            self._note(f"{name_model(models[0])} was compared with {name_model(models[1])}")
        with self._lock:
            self._state |= ended

    def _pick(self, model: int, numbers: Sequence[int]) -> dict[str, Picks]:
        """Return the picks of a model, by the name of the micrograph.

        Raises
        ------
        BadInput
            If picking failed.
        """
        folder = self._project.folder / COMPARISON / f"{model:04d}"
        remove_subfolder(self._project.folder, f"{COMPARISON}/{folder.name}")
        log = folder.with_suffix(".log")
        words = [*self._command, *self._words(model, numbers, folder)]
        write_text(log, f"{shlex.join(words)}\n")
        with self._lock:
            if self._stopping:
                raise BadInput("canceled")
            self._process = process = start_command(words, log)
        code = process.wait()
        close_input(process)
        if code not in (0, SOME_FAILED):
            raise BadInput(f"picking with {name_model(model)} failed; see {log}")
        table = read_picks(folder / "picks.tsv")
        selected = np.array([str(own) == "1" for own in table.extra["selected"]], dtype=bool)
        return dict(table.select(selected).split_by_micrograph())

    def _words(self, model: int, numbers: Sequence[int], folder: Path) -> list[str]:
        settings = self._project.settings
        words = ["pick", "-o", str(folder), "--threads", str(self._threads)]
        if self._device != "auto":
            words += ["--device", self._device]
        if model:
            words += ["--model", str(self._project.model_file(model))]
        else:
            words += ["--diameter", repr(settings.diameter_angstrom)]
        # Each may have a pixel size of its own in its list; picking needs one for all of them.
        sizes = {round(self._tiles.pixel_size(number), 6) for number in numbers}
        if len(sizes) > 1:
            raise BadInput("the micrographs have different pixel sizes; compare one at a time")
        words += ["--pixel-size", repr(sizes.pop())]
        paths = [str(self._project.sources[number].path.absolute()) for number in numbers]
        return [*words, "--micrographs", *paths]

    def _compare(
        self, number: int, models: tuple[int, int], picks: Sequence[dict[str, Picks]]
    ) -> dict[str, Any]:
        """Return both picks of a micrograph, what they share, and how they fit the labels."""
        source = self._project.sources[number]
        diameter = self._project.settings.diameter_angstrom
        assert diameter is not None
        reach = SAME_DIAMETERS * diameter / self._tiles.pixel_size(number)
        found = [
            own.get(str(source.path.absolute()), Picks.on(source.name, _NONE)) for own in picks
        ]
        order = np.argsort(-found[0].score, kind="stable")
        matching = match_picks(found[0].xy_px[order], found[1].xy_px, reach)
        shared = np.zeros(len(order), dtype=bool)
        shared[order] = matching.is_true_positive
        shared_other = np.zeros(len(found[1]), dtype=bool)
        shared_other[matching.truth_index[matching.is_true_positive]] = True
        marks = {
            kind: self._annotations.positions(source.name, kind)
            for kind in ("particle", "negative")
        }
        sides = []
        for model, own, common in zip(models, found, (shared, shared_other), strict=True):
            sides.append(
                {
                    "model": model,
                    "x": np.round(own.xy_px[:, 0], 2).tolist(),
                    "y": np.round(own.xy_px[:, 1], 2).tolist(),
                    "shared": common.astype(int).tolist(),
                    "labels_found": int(near(marks["particle"], own.xy_px, reach).sum()),
                    "negatives_picked": int(near(marks["negative"], own.xy_px, reach).sum()),
                }
            )
        return {
            "id": number,
            "sides": sides,
            "labels": len(marks["particle"]),
            "negatives": len(marks["negative"]),
        }

    def cancel(self) -> None:
        """Stop comparing."""
        with self._lock:
            self._stopping = True
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()

    def close(self) -> None:
        """Stop comparing and wait for the end."""
        self.cancel()
        process, worker = self._process, self._worker
        await_end(process, worker)


_NONE: FloatArray = np.zeros((0, 2))
