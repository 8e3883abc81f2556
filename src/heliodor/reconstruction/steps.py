"""Steps of a reconstruction: what is finished is recorded, so that it is never done twice.

A step is a folder with the files that its commands need, what they wrote, and, once all of them
have ended well, a record of what it was made from. A step that was interrupted is done again from
its beginning, and so is one whose commands or inputs have changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heliodor.errors import BadInput
from heliodor.reconstruction.programs import Command, RelionPrograms
from heliodor.utils.files import create_subfolder, write_json, write_text
from heliodor.utils.hashing import digest

#: The record of a finished step, and the log of its programs.
RECORD, LOG = "finished.json", "relion.log"


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes
    ----------
    name
        Its folder, relative to that of the work.
    commands
        Run one after another in the folder of the work.
    files
        Texts that are written before, by names relative to the step's folder.
    depends
        Keys of the steps whose results it uses, or other texts that identify its input.
    keep
        Names of the files in its folder that remain; None: all. The rest only takes space.
    """

    name: str
    commands: tuple[Command, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    keep: frozenset[str] | None = None

    @property
    def key(self) -> str:
        """What the results follow from, as a hash."""
        commands = [[c.program, *c.arguments] for c in self.commands]
        return digest(
            text.encode()
            for text in (
                self.name,
                json.dumps(commands),
                json.dumps(dict(self.files), sort_keys=True),
                *self.depends,
            )
        )

    def path(self, name: str) -> str:
        """Return the path of a file of the step, relative to the folder of the work."""
        return f"{self.name}/{name}"


def is_finished(work: Path, step: Step) -> bool:
    """Return whether a step was finished, with the same commands and inputs, and is whole."""
    try:
        record = json.loads((work / step.path(RECORD)).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    is_whole = all((work / step.path(name)).is_file() for name in step.keep or ())
    return is_whole and isinstance(record, dict) and record.get("key") == step.key


def run_steps(
    work: Path,
    steps: Sequence[Step],
    programs: RelionPrograms,
    at_once: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Do the steps that are not finished; none of them needs another one's results.

    Parameters
    ----------
    work
        The folder of the work.
    at_once
        Most programs that run at a time.

    Raises
    ------
    BadInput
        If a program fails, or a file cannot be written.
    """
    todo = [step for step in steps if not is_finished(work, step)]
    finished = len(steps) - len(todo)

    def report() -> None:
        if progress is not None:
            progress(finished, len(steps))

    if finished and todo:
        report()
    for step in todo:
        _prepare(work, step)

    def done(index: int) -> None:
        nonlocal finished
        step = todo[index]
        _remove_rest(work / step.name, step)
        record = {"key": step.key, "relion": programs.version}
        write_json(work / step.path(RECORD), record)
        finished += 1
        report()

    logs = [work / step.path(LOG) for step in todo]
    programs.run([step.commands for step in todo], work, logs, at_once, done)


def _prepare(work: Path, step: Step) -> None:
    """Empty the folder of a step and write its files."""
    folder = create_subfolder(work, step.name)
    try:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise BadInput(f"{folder} cannot be emptied ({error.strerror})") from error
    for name, text in step.files.items():
        write_text(folder / name, text)


def _remove_rest(folder: Path, step: Step) -> None:
    """Remove the files of a step that nothing needs any more."""
    if step.keep is None:
        return
    for path in folder.iterdir():
        if path.is_file() and path.name not in {*step.keep, *step.files, LOG}:
            path.unlink()
