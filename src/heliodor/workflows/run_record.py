"""The run record, ``run.json``: what a command did, in enough detail to repeat it."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from heliodor import __version__
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import Failure
from heliodor.utils.files import write_json, write_text

log = logging.getLogger(__name__)

#: Results that a repeated run must reproduce byte for byte, by command.
MAIN_RESULTS = {
    "train": ("model.safetensors",),
    "pick": ("picks.tsv", "filaments.star"),
    "run": ("model.safetensors", "picks.tsv"),
}


@dataclass
class RunRecord:
    """The arguments, inputs, software versions, times and results of a command."""

    command: str
    arguments: Mapping[str, Any]
    #: The command line as typed.
    command_line: str = ""
    #: Paths of the micrographs, by what they were used for.
    inputs: dict[str, list[str]] = field(default_factory=dict)
    #: Seconds of each stage, in order.
    seconds: dict[str, float] = field(default_factory=dict)
    #: Further results: statistics, the model card, the threshold.
    results: dict[str, Any] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: When the command started: local time with its offset from UTC, ISO 8601.
    started: str = field(
        default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds")
    )

    def add_inputs(self, purpose: str, sources: Sequence[Source]) -> None:
        """Record the paths of micrographs."""
        self.inputs[purpose] = [str(source.path) for source in sources]

    def warn(self, note: str) -> None:
        """Keep a note for the report, and log it as a warning."""
        self.notes.append(note)
        log.warning(note)

    def skip(self, failures: Iterable[Failure]) -> None:
        """Record micrographs that could not be used, and log why."""
        recorded = set(self.failures)
        for failure in failures:
            log.warning(f"skipped {failure.name}: {failure.reason}")
            if failure not in recorded:
                self.failures.append(failure)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the duration of a block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + elapsed, 3)
            log.debug(f"{name} took {elapsed:.1f} s")

    def write(self, folder: Path) -> None:
        """Write ``run.json`` and, where micrographs failed, ``failed.tsv``."""
        self.results["digests"] = digest_results(folder, self.command)
        write_json(folder / "run.json", self.as_dict())
        write_failures(folder / "failed.tsv", self.failures)

    def as_dict(self) -> dict[str, Any]:
        """Return the record, ready for JSON."""
        return {
            "command": self.command,
            "command_line": self.command_line,
            "started": self.started,
            "directory": os.getcwd(),
            "arguments": {key: as_json(value) for key, value in self.arguments.items()},
            "inputs": self.inputs,
            "versions": versions(),
            "threads": _threads(),
            "seconds": self.seconds,
            **{key: as_json(value) for key, value in self.results.items()},
            "notes": self.notes,
            "failed": [{"micrograph": f.name, "reason": f.reason} for f in self.failures],
        }


def digest_results(folder: Path, command: str) -> dict[str, str]:
    """Return the SHA-256 digests of those main results of a command that exist, by file name."""
    digests = {}
    for name in MAIN_RESULTS.get(command, ()):
        with suppress(FileNotFoundError), (folder / name).open("rb") as stream:
            digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _threads() -> int | None:
    """Return the number of threads of PyTorch, if it has been imported."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def flatten_settings(*settings: Any) -> dict[str, Any]:
    """Return the fields of several settings objects in one dictionary."""
    return {key: value for part in settings for key, value in asdict(part).items()}


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Write the list of skipped micrographs, or remove an older list if none was skipped."""
    if failures:
        rows = [f"{f.name}\t{' '.join(f.reason.split())}" for f in failures]
        write_text(path, "\n".join(["micrograph\treason", *rows]) + "\n")
    else:
        path.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Return the versions of this program and of the libraries its results depend on."""
    # Only what was imported: importing PyTorch just for its version would take seconds.
    used = {name: sys.modules.get(name) for name in ("torch", "numpy", "scipy")}
    return {
        "heliodor": __version__,
        "python": platform.python_version(),
        **{name: str(module.__version__) for name, module in used.items() if module is not None},
        "platform": f"{platform.system()} {platform.machine()}",
        "executable": Path(sys.argv[0]).name,
    }


def as_json(value: Any) -> Any:
    """Return a value as JSON can store it: paths as text, non-finite numbers as None."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value
