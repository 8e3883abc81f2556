"""The option `train --watch`: train again whenever the labels have changed."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

from heliodor.data.coordinates.formats import find_files
from heliodor.data.micrographs.sources import MicrographInputs
from heliodor.errors import BadInput
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils.compute import ComputeSettings
from heliodor.workflows.train import MODEL, TrainingResult, train

log = logging.getLogger(__name__)

#: Seconds between two looks at the labels.
POLL_SECONDS: Final = 1.0
#: Labels are trained on when they have not changed for so long: people label one after the other.
SETTLED_SECONDS: Final = 10.0

#: Path, size and time of change of each file.
_State = list[tuple[str, int, int]]


def train_while_labels_change(
    micrographs: MicrographInputs,
    labels: str | Path,
    out: str | Path,
    data: DataSettings,
    recipe: TrainingSettings,
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
    negatives: str | Path | None = None,
    resume: bool = True,
    until_minutes: float | None = None,
) -> TrainingResult:
    """Train, and again whenever the labels have changed; see `train`.

    Each model is the same as that of `train` with the labels of that moment. It replaces the one
    before in ``model.safetensors`` at once, so that a program that reads the file finds either. A
    training that is refused, for example because a label file is not complete, is reported; the
    next one follows when the labels have changed again.

    Parameters
    ----------
    until_minutes
        End when the labels have not changed for so long; None: never.

    Returns
    -------
    TrainingResult
        That of the last training that succeeded.

    Raises
    ------
    BadInput
        If the first training is refused.
    """
    if until_minutes is not None and not 0 < until_minutes < 1e6:
        raise BadInput(
            f"the minutes to wait for labels must be more than 0, not {until_minutes:g}",
            parameter="until",
        )
    files = [labels] if negatives is None else [labels, negatives]

    def learn() -> TrainingResult:
        return train(
            micrographs, labels, out, data, recipe, compute, command_line, negatives, resume
        )

    trained_on = _read_state(files)
    result = learn()
    seen, since = trained_on, time.monotonic()
    log.info(f"waiting for other labels; the model is {Path(out) / MODEL}")
    while until_minutes is None or time.monotonic() - since < 60 * until_minutes:
        time.sleep(POLL_SECONDS)
        now = _read_state(files)
        if now != seen:
            seen, since = now, time.monotonic()
        if seen == trained_on or time.monotonic() - since < SETTLED_SECONDS:
            continue
        trained_on = seen
        log.info("the labels have changed; training again")
        try:
            result = learn()
        except BadInput as error:
            log.warning(f"not trained: {error}; waiting for other labels")
        since = time.monotonic()
    return result


def _read_state(files: list[str | Path]) -> _State:
    """Return the state of the label files; of those that are missing or being replaced, none."""
    state: _State = []
    for where in files:
        try:
            for path in find_files(where, False):
                found = os.stat(path)
                state.append((str(path), found.st_size, found.st_mtime_ns))
        except (BadInput, OSError):
            state.append((str(where), -1, -1))
    return state
