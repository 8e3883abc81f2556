"""RELION's programs: where they are, which version, and running them.

Each process has one thread, so that the same commands give the same results; several run at a
time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from heliodor.errors import BadInput

#: Those that extract and classify in 2D, and those that reconstruct in 3D as well.
FOR_CLASSES: Final = ("relion_preprocess", "relion_refine")
FOR_MAPS: Final = ("relion_image_handler", "relion_reconstruct")
#: Versions (first, and first that is too new) whose options are known.
_FIRST, _TOO_NEW = (3, 1), (6, 0)
_VERSION = re.compile(r"version:?\s+(\d+)\.(\d+)(\S*)", re.IGNORECASE)
#: Seconds between two looks at the processes, and until one that was asked to end is killed.
_LOOK, _PATIENCE = 0.1, 5.0
#: Bytes at the end of a log that are searched for what went wrong.
_TAIL = 4000


@dataclass(frozen=True)
class Command:
    """A program with its arguments, and the files that it must leave.

    Attributes
    ----------
    outputs
        Relative to the folder in which it runs.
    """

    program: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class RelionPrograms:
    """The programs of one RELION.

    Attributes
    ----------
    paths
        By name.
    version
        As the programs print it, such as 3.1.3.
    """

    paths: dict[str, str]
    version: str

    @classmethod
    def find(cls, folder: str | Path | None, names: Sequence[str]) -> RelionPrograms:
        """Find programs in a folder, or on the PATH.

        Raises
        ------
        BadInput
            If one is missing, or they are of a version that is not known.
        """
        where = None if folder is None else os.fspath(folder)
        if where is not None and not os.path.isdir(where):
            raise BadInput(
                f"{where} is not a folder; give the folder of RELION's programs",
                parameter="relion",
            )
        found = {name: shutil.which(name, path=where) for name in names}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            place = "on the PATH" if where is None else f"in {where}"
            quick = "; --quick alone needs no RELION" if where is None else ""
            raise BadInput(
                f"RELION's program {missing[0]} is not {place}; load RELION 3.1 to 5, or give the"
                f" folder of its programs with --relion{quick}",
            )
        paths = {name: os.path.abspath(path) for name, path in found.items() if path is not None}
        return cls(paths, _read_version(paths[names[-1]]))

    def run(
        self,
        chains: Sequence[Sequence[Command]],
        folder: Path,
        logs: Sequence[Path],
        at_once: int = 1,
        done: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Run chains of commands: one after another within a chain, several chains at a time.

        Parameters
        ----------
        chains
            Of commands.
        folder
            Where they run.
        logs
            The file of each chain for what its programs print.
        at_once
            Most processes at a time.
        done
            Called with the index of each chain that is finished.

        Raises
        ------
        BadInput
            If a program fails, or does not write what it must; all others are ended.
        """
        waiting = deque(enumerate(chains))
        running: list[_Chain] = []
        with _ended(running):
            while waiting or running:
                while waiting and len(running) < at_once:
                    index, commands = waiting.popleft()
                    running.append(_Chain(self, index, commands, folder, logs[index]))
                for chain in list(running):
                    if chain.advance():
                        running.remove(chain)
                        done(chain.index)
                if running:
                    time.sleep(_LOOK)


class _Chain:
    """The commands of a chain that is running."""

    def __init__(
        self,
        programs: RelionPrograms,
        index: int,
        commands: Sequence[Command],
        folder: Path,
        log: Path,
    ) -> None:
        self.index = index
        self._programs, self._folder, self._log = programs, folder, log
        self._waiting = deque(commands)
        self._now: Command | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def advance(self) -> bool:
        """Start the next command if the last one is finished; return whether there is none."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return False
            self._process = None
            self._check(code)
        if not self._waiting:
            return True
        self._now = self._waiting.popleft()
        with self._log.open("ab") as log:
            words = [self._programs.paths[self._now.program], *self._now.arguments]
            log.write(f"$ {' '.join(words)}\n".encode())
            log.flush()
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                words,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return False

    def _check(self, code: int) -> None:
        assert self._now is not None
        if not code and all((self._folder / name).is_file() for name in self._now.outputs):
            return
        ended = f"ended with exit code {code}" if code else "did not write its results"
        raise BadInput(
            f"RELION's {self._now.program} {ended} ({_find_reason(self._log)}); see {self._log},"
            " and run the same command again to continue"
        )

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _ended(running: list[_Chain]) -> Iterator[None]:
    """End all processes that are running when the block ends, however it ends."""
    try:
        yield
    finally:
        with ExitStack() as stack:
            for chain in running:
                stack.callback(chain.end)


def _find_reason(log: Path) -> str:
    """Return the line of a log that says what went wrong."""
    with log.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL))
        lines = stream.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
    if not lines:
        return "it printed nothing"
    marked = [
        following if line.startswith("in:") or line.lower().rstrip(":") == "error" else line
        for line, following in zip(lines, [*lines[1:], lines[-1]], strict=True)
        if "error" in line.lower()
    ]
    return (marked or lines)[0 if marked else -1]


def _read_version(program: str) -> str:
    """Return the version that a program prints.

    Raises
    ------
    BadInput
        If it does not print one, or one that is not known.
    """
    try:
        ran = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"{program} cannot be run ({error}); check the RELION there") from error
    said = (ran.stdout + ran.stderr).decode("utf-8", "replace")
    found = _VERSION.search(said)
    if found is None:
        first = next(iter(said.strip().splitlines()), "nothing")
        raise BadInput(f"{program} --version prints no version of RELION, but: {first[:200]}")
    version = f"{found[1]}.{found[2]}{found[3]}"
    if not _FIRST <= (int(found[1]), int(found[2])) < _TOO_NEW:
        raise BadInput(
            f"{program} is of RELION {version}; heliodor knows the options of 3.1 to 5; give the"
            " folder of another RELION with --relion"
        )
    return version
