"""The record of a run: ``run.json``, enough to know what was done and to do it again."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from heliodor import __version__
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import Failure
from heliodor.utils.files import write_json

#: Results that a run of the same must give again, to the last byte.
MAIN_RESULTS = {
    "train": ("model.safetensors",),
    "pick": ("picks.tsv",),
    "run": ("model.safetensors", "picks.tsv"),
}


@dataclass
class RunRecord:
    """What a command was asked for, with what it ran, and how long each stage took."""

    command: str
    arguments: Mapping[str, Any]
    #: The command line as typed, for the reader.
    command_line: str = ""
    #: The micrographs that what was typed stands for, by what they were used for.
    inputs: dict[str, list[str]] = field(default_factory=dict)
    #: Seconds of each stage, in order.
    seconds: dict[str, float] = field(default_factory=dict)
    #: Whatever else the command wants to keep: figures, the model's card, the threshold.
    results: dict[str, Any] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: When the command started: local time with its offset from UTC, ISO 8601.
    started: str = field(
        default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds")
    )

    def add_inputs(self, purpose: str, sources: Sequence[Source]) -> None:
        """Note the files of micrographs."""
        self.inputs[purpose] = [str(source.path) for source in sources]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time a block takes to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + elapsed, 3)

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
            "arguments": {key: _plain(value) for key, value in self.arguments.items()},
            "inputs": self.inputs,
            "versions": versions(),
            "threads": _threads(),
            "seconds": self.seconds,
            **{key: _plain(value) for key, value in self.results.items()},
            "notes": self.notes,
            "failed": [{"micrograph": f.name, "reason": f.reason} for f in self.failures],
        }


def digest_results(folder: Path, command: str) -> dict[str, str]:
    """Return the fingerprints of a command's main results, by their names, where they are."""
    found = {}
    for name in MAIN_RESULTS.get(command, ()):
        with suppress(FileNotFoundError), (folder / name).open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _threads() -> int | None:
    """Return the number of threads that networks compute with, if one did."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def flatten_settings(*settings: Any) -> dict[str, Any]:
    """Return the fields of settings objects in one dictionary, for a record's arguments."""
    return {key: value for part in settings for key, value in asdict(part).items()}


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Write the micrographs that failed, or remove an older list where none did."""
    from heliodor.utils.files import write_text

    if failures:
        rows = [f"{f.name}\t{' '.join(f.reason.split())}" for f in failures]
        write_text(path, "\n".join(["micrograph\treason", *rows]) + "\n")
    else:
        path.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Return the versions of this program and of what its numbers depend on."""
    # What was not even imported had no part in it, and PyTorch takes seconds to import.
    used = {name: sys.modules.get(name) for name in ("torch", "numpy", "scipy")}
    return {
        "heliodor": __version__,
        "python": platform.python_version(),
        **{name: str(module.__version__) for name, module in used.items() if module is not None},
        "platform": f"{platform.system()} {platform.machine()}",
        "executable": Path(sys.argv[0]).name,
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: paths as text, non-finite numbers as None."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
