"""The command `rerun`: a record of a run in, the same run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from heliodor import __version__, console
from heliodor.errors import BadInput
from heliodor.preparation import Failure
from heliodor.record import digests_of

T = TypeVar("T")


@dataclass(frozen=True)
class Rerun:
    """What a run that was done again gave."""

    failures: list[Failure]
    #: Results of which the record has a fingerprint: are they the same to the last byte?
    same: dict[str, bool]


def rerun(record: str | Path, out: str | Path, command_line: str = "") -> Rerun:
    """Do again what a ``run.json`` of `train`, `pick` or `run` says was done.

    Files are looked for from the folder in which the first run was started, so the record may lie
    anywhere. As many threads are used as then.

    Parameters
    ----------
    record
        The run.json.
    out
        Folder for the new results.

    Raises
    ------
    BadInput
        If the record is none, is of another command, or what it used is no longer there.
    """
    path = Path(record)
    known = _read(path)
    command, given = known["command"], known["arguments"]
    if command not in _COMMANDS:
        raise BadInput(
            f"{path} is the record of `heliodor {command}`; only those of"
            f" {', '.join(_COMMANDS)} can be run again"
        )
    folder, started_in = Path(out).absolute(), known.get("directory")
    if folder == path.absolute().parent:
        raise BadInput(f"{path} lies in {out} itself; give another folder with -o")
    if started_in is None or not Path(started_in).is_dir():
        raise BadInput(
            f"{path} was made in the folder {started_in}, which is not there; go to a machine"
            " where it is"
        )
    if known["versions"].get("heliodor") != __version__:
        console.warn(
            f"{path} was made by heliodor {known['versions'].get('heliodor')}, this is"
            f" {__version__}; results may differ"
        )
    given = {**given, "threads": known.get("threads") or given.get("threads")}
    with chdir(started_in):
        try:
            failures = _COMMANDS[command](given, folder, command_line)
        except (KeyError, TypeError) as error:
            raise BadInput(
                f"{path} lacks what this version needs to run it again ({error})"
            ) from error
    now, before = digests_of(folder, command), known.get("digests", {})
    same = {name: now.get(name) == digest for name, digest in before.items()}
    for name, equal in same.items():
        console.say(f"{name} is {'the same to the last byte' if equal else 'ANOTHER than then'}")
    return Rerun(failures, same)


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"the record {path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the record {path} is no run.json of this program") from error
    parts = {"command": str, "arguments": dict, "versions": dict}
    if not isinstance(known, dict) or not all(
        isinstance(known.get(name), kind) for name, kind in parts.items()
    ):
        raise BadInput(f"the record {path} is no run.json of this program")
    return known


def _made(kind: Callable[..., T], given: dict[str, Any]) -> T:
    """Return settings of a kind from a record's arguments."""
    names = {field.name for field in fields(kind) if field.init}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in given.items() if name in names})


def _compute(given: dict[str, Any]) -> Any:
    from heliodor.compute import Compute

    return _made(Compute, given)


def _train(given: dict[str, Any], folder: Path, command_line: str) -> list[Failure]:
    from heliodor.dataset import DataSettings
    from heliodor.recipe import TrainingSettings
    from heliodor.training_run import train

    trained = train(
        given["micrographs"],
        given["labels"],
        folder,
        _made(DataSettings, given),
        _made(TrainingSettings, given),
        _compute(given),
        command_line,
        given["negatives"],
    )
    return trained.failures


def _pick(given: dict[str, Any], folder: Path, command_line: str) -> list[Failure]:
    from heliodor.picking import PickSettings
    from heliodor.picking_run import pick

    picked = pick(
        given["model"],
        given["micrographs"],
        folder,
        _made(PickSettings, given),
        given["pixel_size_angstrom"],
        _compute(given),
        command_line,
        diameter_angstrom=given.get("diameter_angstrom"),
    )
    return picked.failures


def _run(given: dict[str, Any], folder: Path, command_line: str) -> list[Failure]:
    from heliodor.dataset import DataSettings
    from heliodor.picking import PickSettings
    from heliodor.pipeline import run
    from heliodor.recipe import TrainingSettings

    outcome = run(
        given["micrographs"],
        given["labels"],
        folder,
        _made(DataSettings, given),
        _made(TrainingSettings, given),
        given["pick"],
        given["truth"],
        given["match_distance_angstrom"] if given["truth"] is not None else None,
        _made(PickSettings, given),
        _compute(given),
        command_line,
        given["negatives"],
    )
    return outcome.record.failures


_COMMANDS: dict[str, Callable[[dict[str, Any], Path, str], list[Failure]]] = {
    "train": _train,
    "pick": _pick,
    "run": _run,
}
