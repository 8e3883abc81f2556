"""The command `rerun`: a record of a run in, the same run again."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from heliodor import __version__
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.workflows.run_record import MAIN_RESULTS, digest_results

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Files and folders as a record spells them.
_INPUTS: Final = str | list[str]
#: What a command's arguments are, but for those that are fields of its settings.
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "train": {"micrographs": _INPUTS, "labels": str, "negatives": str | None},
    "pick": {
        "model": str | None,
        "diameter_angstrom": float | None,
        "micrographs": _INPUTS,
        "pixel_size_angstrom": float | None,
    },
    "run": {
        "micrographs": _INPUTS,
        "labels": str,
        "negatives": str | None,
        "pick": _INPUTS,
        "truth": str | None,
        "match_distance_angstrom": float | None,
    },
}


@dataclass(frozen=True)
class RerunResult:
    """What a run that was done again gave."""

    failures: list[Failure]
    #: Results of which the record has a fingerprint: are they the same to the last byte?
    same: dict[str, bool]


def rerun(record: str | Path, out: str | Path, command_line: str = "") -> RerunResult:
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
    known = read_record(path)
    folder, started_in = Path(out).absolute(), known.directory
    if folder == path.absolute().parent:
        raise BadInput(f"{path} lies in {out} itself; give another folder with -o")
    if not started_in or not Path(started_in).is_dir():
        raise BadInput(
            f"{path} was made in the folder {started_in}, which is not there; go to a machine"
            " where it is"
        )
    if known.version != __version__:
        log.warning(
            f"{path} was made by heliodor {known.version}, this is {__version__}; results may"
            " differ"
        )
    with chdir(started_in):
        failures = known.call(folder, command_line)
    now = digest_results(folder, known.command)
    same = {name: now.get(name) == digest for name, digest in known.digests.items()}
    for name, equal in same.items():
        log.info(f"{name} is {'the same to the last byte' if equal else 'ANOTHER than then'}")
    return RerunResult(failures, same)


@dataclass(frozen=True)
class RecordedRun:
    """What a record says, checked as far as that is possible without its files."""

    command: str
    #: Where the run was started; relative names are looked for from there.
    directory: str | None
    #: Of the program.
    version: str
    #: Fingerprints of the results, by their names.
    digests: Mapping[str, str]
    #: Does the run again, into a folder, under a command line.
    call: Callable[[Path, str], list[Failure]]


def read_record(path: Path) -> RecordedRun:
    """Read a ``run.json``.

    Raises
    ------
    BadInput
        If it is none of a command that can be run again, or an argument is not what the command
        takes.
    """
    known = _read(path)
    command, given = known["command"], known["arguments"]
    if command not in _COMMANDS:
        raise BadInput(
            f"{path} is the record of `heliodor {command}`; only those of"
            f" {', '.join(_COMMANDS)} can be run again"
        )
    given = {**given, "threads": known.get("threads") or given.get("threads")}
    for name, hint in _ARGUMENTS[command].items():
        if name not in given:
            raise BadInput(f"{path} lacks what this version needs to run it again ({name})")
        _check(name, given[name], hint)
    try:
        call = _COMMANDS[command](given)
    except TypeError as error:  # a setting without a default is missing
        raise BadInput(
            f"{path} lacks what this version needs to run it again ({error})"
        ) from error
    digests, version = known.get("digests", {}), known["versions"].get("heliodor")
    _check("directory", known.get("directory"), str | None)
    _check("version", version, str | None)
    if not isinstance(digests, dict) or not digests.keys() <= {*MAIN_RESULTS[command]}:
        raise BadInput(f"the digests in {path} are not those of the results of `{command}`")
    return RecordedRun(command, known.get("directory"), str(version), digests, call)


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


def _check(name: str, value: Any, hint: Any) -> None:
    """Refuse a value that is not of a type."""
    if not _fits(value, hint):
        spelt = ascii(value)
        raise BadInput(
            f"the record's {name} cannot be {spelt if len(spelt) < 80 else f'{spelt[:80]}...'}"
        )


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value from JSON is of a type, and of use as such."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return isinstance(value, str) and value in parts
    if kind is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if hint is float:
        return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    if hint is str:
        return isinstance(value, str) and _is_name(value)
    if hint in (bool, NoneType):
        return isinstance(value, hint)
    raise TypeError(f"no record holds a {hint}")


def _is_name(text: str) -> bool:
    """Tell whether the system takes a text for a file's name."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _made(kind: Callable[..., T], given: dict[str, Any]) -> T:
    """Return settings of a kind from a record's arguments."""
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind) if field.init}  # type: ignore[arg-type]
    for name in names & given.keys():
        _check(name, given[name], hints[name])
    return kind(**{name: value for name, value in given.items() if name in names})


def _compute(given: dict[str, Any]) -> Any:
    from heliodor.utils.compute import ComputeSettings

    return _made(ComputeSettings, given)


def _train(given: dict[str, Any]) -> Callable[[Path, str], list[Failure]]:
    from heliodor.training.settings import DataSettings, TrainingSettings
    from heliodor.workflows.train import train

    data, recipe = _made(DataSettings, given), _made(TrainingSettings, given)
    compute = _compute(given)
    return lambda folder, command_line: (
        train(
            given["micrographs"],
            given["labels"],
            folder,
            data,
            recipe,
            compute,
            command_line,
            given["negatives"],
        ).failures
    )


def _pick(given: dict[str, Any]) -> Callable[[Path, str], list[Failure]]:
    from heliodor.picking.settings import PickSettings
    from heliodor.workflows.pick import pick

    settings, compute = _made(PickSettings, given), _compute(given)
    return lambda folder, command_line: (
        pick(
            given["model"],
            given["micrographs"],
            folder,
            settings,
            given["pixel_size_angstrom"],
            compute,
            command_line,
            diameter_angstrom=given.get("diameter_angstrom"),
            report=given.get("report", False),
        ).failures
    )


def _run(given: dict[str, Any]) -> Callable[[Path, str], list[Failure]]:
    from heliodor.picking.settings import PickSettings
    from heliodor.training.settings import DataSettings, TrainingSettings
    from heliodor.workflows.run import run

    data, recipe = _made(DataSettings, given), _made(TrainingSettings, given)
    settings, compute = _made(PickSettings, given), _compute(given)
    return lambda folder, command_line: (
        run(
            given["micrographs"],
            given["labels"],
            folder,
            data,
            recipe,
            given["pick"],
            given["truth"],
            given["match_distance_angstrom"] if given["truth"] is not None else None,
            settings,
            compute,
            command_line,
            given["negatives"],
        ).record.failures
    )


_COMMANDS: Final[dict[str, Callable[[dict[str, Any]], Callable[[Path, str], list[Failure]]]]] = {
    "train": _train,
    "pick": _pick,
    "run": _run,
}
