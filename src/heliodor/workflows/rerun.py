"""The command `rerun`: repeat the run that a run record describes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import Field

from heliodor import __version__
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.utils.json_schema import StoredModel, model_of_dataclass, validate
from heliodor.workflows.run_record import MAIN_RESULTS, digest_results

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Repeats a run, given the folder for its results and the command line; returns the failures.
Repeat = Callable[[Path, str], list[Failure]]


class _Versions(StoredModel):
    """The version of the program, among those of the libraries."""

    heliodor: str | None = None


class _StoredRecord(StoredModel):
    """The parts of ``run.json`` that are needed to repeat a run."""

    command: str
    arguments: dict[str, Any]
    versions: _Versions
    directory: str | None = None
    digests: dict[str, Any] = Field(default_factory=dict)
    threads: Any = None


class _TrainArguments(StoredModel):
    """The arguments of `train` that are not fields of its settings."""

    micrographs: str | list[str]
    labels: str
    negatives: str | None


class _FilamentTrainingArguments(StoredModel):
    """The arguments of `train --filaments` that are not fields of its settings."""

    micrographs: str | list[str]
    labels: str
    negatives: str | None = None


class _PickArguments(StoredModel):
    """The arguments of `pick` that are not fields of its settings."""

    model: str | None
    diameter_angstrom: float | None
    micrographs: str | list[str]
    pixel_size_angstrom: float | None
    report: bool = False
    adapt: bool = False
    labels: str | None = None
    negatives: str | None = None
    exclude: str | None = None
    app_scores: str | None = None
    relion_project: str | None = None
    threshold_offsets: str | None = None


class _FilamentArguments(StoredModel):
    """The arguments of `pick --filaments` that are not fields of its settings."""

    model: str | None
    micrographs: str | list[str]
    pixel_size_angstrom: float | None
    exclude: str | None
    report: bool


class _RunArguments(_TrainArguments):
    """The arguments of `run` that are not fields of its settings."""

    pick: str | list[str]
    truth: str | None
    match_distance_angstrom: float | None


@dataclass(frozen=True)
class RerunResult:
    """The outcome of a repeated run."""

    failures: list[Failure]
    #: Whether each result with a digest in the record is the same, byte for byte.
    same: dict[str, bool]


def rerun(record: str | Path, out: str | Path, command_line: str = "") -> RerunResult:
    """Repeat the run of `train`, `pick` or `run` that a ``run.json`` describes.

    Relative names are those from the folder in which the first run was started, so the record may
    be anywhere. The number of threads is that of the first run.

    Parameters
    ----------
    record
        The run.json.
    out
        Folder for the new results.

    Raises
    ------
    BadInput
        If the record cannot be read or is of another command, or an input no longer exists.
    """
    path = Path(record)
    recorded = read_record(path)
    folder, started_in = Path(out).absolute(), recorded.directory
    if folder == path.absolute().parent:
        raise BadInput(f"{path} lies in {out} itself; give another folder with -o")
    if not started_in or not os.path.isdir(started_in):  # also for names that are too long
        raise BadInput(
            f"{path} was made in the folder {started_in}, which does not exist; run this on a"
            " machine that has it"
        )
    if recorded.version != __version__:
        log.warning(
            f"{path} was made by heliodor {recorded.version}, this is {__version__}; results may"
            " differ"
        )
    with chdir(started_in):
        failures = recorded.repeat(folder, command_line)
    digests = digest_results(folder, recorded.command)
    same = {name: digests.get(name) == digest for name, digest in recorded.digests.items()}
    for name, equal in same.items():
        log.info(f"{name} {'is identical to' if equal else 'DIFFERS from'} that of the first run")
    return RerunResult(failures, same)


@dataclass(frozen=True)
class RecordedRun:
    """A run record, checked as far as possible without its input files."""

    command: str
    #: Where the run was started, for relative names.
    directory: str | None
    #: The version of the program.
    version: str
    #: Digests of the results, by their names.
    digests: Mapping[str, str]
    repeat: Repeat


def read_record(path: Path) -> RecordedRun:
    """Read a ``run.json``.

    Raises
    ------
    BadInput
        If it is not a record of a command that can be repeated, or has an impossible argument.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"the record {path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a run.json of this program") from error
    record = validate(_StoredRecord, value, f"the record {path}")
    command = record.command
    if command not in _COMMANDS:
        raise BadInput(
            f"{path} is the record of `heliodor {command}`; only those of"
            f" {', '.join(_COMMANDS)} can be repeated"
        )
    arguments = _Arguments(
        path, {**record.arguments, "threads": record.threads or record.arguments.get("threads")}
    )
    repeat = _COMMANDS[command](arguments)
    if not record.digests.keys() <= {*MAIN_RESULTS[command]}:
        raise BadInput(f"the digests in {path} are not those of the results of `{command}`")
    version = str(record.versions.heliodor)
    return RecordedRun(command, record.directory, version, record.digests, repeat)


@dataclass(frozen=True)
class _Arguments:
    """The arguments in a record; they are used as they were stored once they are checked."""

    path: Path
    values: dict[str, Any]

    def check(self, model: type[StoredModel]) -> dict[str, Any]:
        """Return all arguments, if those of a model are valid."""
        validate(model, self.values, f"the record {self.path}")
        return self.values

    def build(self, settings: type[T]) -> T:
        """Return settings of a class from the arguments."""
        self.check(model_of_dataclass(settings))
        names = {field.name for field in fields(settings) if field.init}  # type: ignore[arg-type]
        return settings(**{name: self.values[name] for name in names & self.values.keys()})


def _prepare_train(arguments: _Arguments) -> Repeat:
    from heliodor.training.settings import DataSettings, TrainingSettings
    from heliodor.utils.compute import ComputeSettings
    from heliodor.workflows.train import train

    if arguments.values.get("filaments") is True:
        return _prepare_filament_training(arguments)
    values = arguments.check(_TrainArguments)
    data, recipe = arguments.build(DataSettings), arguments.build(TrainingSettings)
    compute = arguments.build(ComputeSettings)
    return lambda folder, command_line: (
        train(
            values["micrographs"],
            values["labels"],
            folder,
            data,
            recipe,
            compute,
            command_line,
            values["negatives"],
        ).failures
    )


def _prepare_filaments(arguments: _Arguments) -> Repeat:
    from heliodor.picking.filaments.settings import FilamentSettings
    from heliodor.picking.settings import PickSettings
    from heliodor.utils.compute import ComputeSettings
    from heliodor.workflows.pick_filaments import pick_filaments
    from heliodor.workflows.tracing_setup import FilamentRequest

    values = arguments.check(_FilamentArguments)
    settings, picking = arguments.build(FilamentSettings), arguments.build(PickSettings)
    compute = arguments.build(ComputeSettings)
    request = FilamentRequest(
        values["model"],
        values["micrographs"],
        settings,
        picking,
        values["pixel_size_angstrom"],
        values["exclude"],
        values["report"],
    )
    return lambda folder, command_line: (
        pick_filaments(request, folder, compute, command_line).result.failures
    )


def _prepare_filament_training(arguments: _Arguments) -> Repeat:
    from heliodor.training.filaments.settings import FilamentTraining
    from heliodor.utils.compute import ComputeSettings
    from heliodor.workflows.train_filaments import train_filament_model

    values = arguments.check(_FilamentTrainingArguments)
    settings, compute = arguments.build(FilamentTraining), arguments.build(ComputeSettings)
    return lambda folder, command_line: (
        train_filament_model(
            values["micrographs"],
            values["labels"],
            folder,
            settings,
            compute,
            command_line,
            values["negatives"],
        ).failures
    )


def _prepare_pick(arguments: _Arguments) -> Repeat:
    if arguments.values.get("filaments") is True:
        return _prepare_filaments(arguments)
    from heliodor.picking.settings import PickSettings
    from heliodor.utils.compute import ComputeSettings
    from heliodor.workflows.pick import pick

    values = arguments.check(_PickArguments)
    settings, compute = arguments.build(PickSettings), arguments.build(ComputeSettings)
    return lambda folder, command_line: (
        pick(
            values["model"],
            values["micrographs"],
            folder,
            settings,
            values["pixel_size_angstrom"],
            compute,
            command_line,
            diameter_angstrom=values["diameter_angstrom"],
            report=values.get("report", False),
            adapt=values.get("adapt", False),
            labels=values.get("labels"),
            negatives=values.get("negatives"),
            exclude=values.get("exclude"),
            app_scores=values.get("app_scores"),
            relion_project=values.get("relion_project"),
            threshold_offsets=values.get("threshold_offsets"),
        ).failures
    )


def _prepare_run(arguments: _Arguments) -> Repeat:
    from heliodor.picking.settings import PickSettings
    from heliodor.training.settings import DataSettings, TrainingSettings
    from heliodor.utils.compute import ComputeSettings
    from heliodor.workflows.run import run

    values = arguments.check(_RunArguments)
    data, recipe = arguments.build(DataSettings), arguments.build(TrainingSettings)
    settings, compute = arguments.build(PickSettings), arguments.build(ComputeSettings)
    return lambda folder, command_line: (
        run(
            values["micrographs"],
            values["labels"],
            folder,
            data,
            recipe,
            values["pick"],
            values["truth"],
            values["match_distance_angstrom"] if values["truth"] is not None else None,
            settings,
            compute,
            command_line,
            values["negatives"],
        ).record.failures
    )


_COMMANDS: Final[dict[str, Callable[[_Arguments], Repeat]]] = {
    "train": _prepare_train,
    "pick": _prepare_pick,
    "run": _prepare_run,
}
