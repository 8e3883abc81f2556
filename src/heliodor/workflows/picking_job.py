"""The job that several processes share: what they pick together, in ``.picking/job.json``.

The first process writes it, and the others must have been asked for the same. Merging needs
nothing else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from heliodor import __version__
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.picking.corrections import NO_CORRECTIONS, Corrections
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.picking.joined_journals import CLAIMS, FOLDER, JOB, MERGED
from heliodor.picking.settings import InBadAreas, PickSettings
from heliodor.picking.user_masks import UserMasks
from heliodor.utils.files import create_text, write_json
from heliodor.utils.hashing import digest
from heliodor.utils.json_schema import StoredModel, model_of_dataclass, validate
from heliodor.workflows.picking_setup import PickRequest
from heliodor.workflows.run_record import as_json
from heliodor.workflows.tracing_setup import FilamentRequest

#: How often, and how long apart in seconds, a file is read that another process may be writing.
_ATTEMPTS, _PAUSE = 20, 0.1
#: What the corrections are called among that which processes agree on.
_CORRECTIONS = "corrections"
#: Arguments that are compared by their content.
_BY_CONTENT = frozenset({"model", "micrographs", "mask"})


class _StoredJob(StoredModel):
    """The content of the file."""

    heliodor: str
    directory: str
    out: str
    command_line: str
    arguments: dict[str, Any]
    model: str
    masks: str
    sources: list[Any]
    corrections: dict[str, Any] | None


class _StoredSource(StoredModel):
    """One micrograph."""

    name: str
    path: str
    stem: str
    pixel_size_angstrom: float | None


class _StoredRequest(StoredModel):
    """The arguments of picking that are not fields of its settings."""

    model: str | None
    micrographs: str | list[str]
    pixel_size_angstrom: float | None
    diameter_angstrom: float | None
    report: bool
    adapt: bool
    labels: str | None
    negatives: str | None
    exclude: str | None
    app_scores: str | None
    relion_project: str | None


class _StoredFilamentRequest(StoredModel):
    """The arguments of tracing that are not fields of its settings."""

    model: str | None
    micrographs: str | list[str]
    threshold: float | None
    bad_areas: InBadAreas
    bad_area_masks: bool = False
    mask: str | list[str] | None
    pixel_size_angstrom: float | None
    exclude: str | None
    report: bool


@dataclass(frozen=True)
class PickingJob:
    """What several processes pick together."""

    #: The version of the program.
    heliodor: str
    #: The folder in which the first process was started, and the output folder as it was typed.
    directory: str
    out: str
    #: That of the first process.
    command_line: str
    #: Of the request, without those of the computer.
    arguments: Mapping[str, Any]
    #: Fingerprints of the model, before it adapts, and of the masks of contamination.
    model: str
    masks: str
    #: Name, path, output stem and pixel size of each micrograph.
    sources: Sequence[tuple[str, str, str, float | None]]
    #: What the user corrected when the first process was started; see `Corrections.as_lists`. None
    #: if there are no corrections.
    corrections: Mapping[str, Any] | None = None

    @classmethod
    def create(
        cls,
        request: PickRequest | FilamentRequest,
        model: str,
        sources: Sequence[Source],
        out: str | Path,
        command_line: str,
        corrections: Corrections = NO_CORRECTIONS,
    ) -> PickingJob:
        """Return the job of a request.

        Parameters
        ----------
        model
            The fingerprint of the model.
        sources
            The micrographs, without those that the user excludes.

        Raises
        ------
        BadInput
            If a mask cannot be used.
        """
        masks = UserMasks.find(request.mask, sources).fingerprints()
        return cls(
            __version__,
            os.getcwd(),
            str(out),
            command_line,
            as_json(request.as_arguments()),
            model,
            digest([json.dumps(masks, sort_keys=True).encode()]) if masks else "",
            tuple((s.name, str(s.path), s.output_stem, s.pixel_size_angstrom) for s in sources),
            corrections.as_lists() if corrections else None,
        )

    @classmethod
    def read(cls, folder: Path) -> PickingJob | None:
        """Read the job of an output folder; None if there is none.

        Raises
        ------
        BadInput
            If the file is damaged.
        """
        path = folder / FOLDER / JOB
        value: Any = None
        for attempt in range(_ATTEMPTS):
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
                break
            except FileNotFoundError:
                return None
            except OSError as error:
                raise BadInput(f"{path} cannot be read ({error.strerror})") from error
            except (ValueError, RecursionError) as error:
                if attempt == _ATTEMPTS - 1:
                    raise BadInput(f"{path} is damaged; remove it and run a part again") from error
                time.sleep(_PAUSE)
        stored = validate(_StoredJob, value, str(path))
        names = list(_StoredSource.model_fields)
        sources = []
        for row in stored.sources:
            item = dict(zip(names, row, strict=False)) if isinstance(row, list) else None
            own = validate(_StoredSource, item, f"a micrograph in {path}")
            sources.append((own.name, own.path, own.stem, own.pixel_size_angstrom))
        known = {each.name: getattr(stored, each.name) for each in fields(cls)}
        return cls(**{**known, "sources": tuple(sources)})

    def write(self, folder: Path) -> bool:
        """Write the job into an output folder that has none; return whether this process did."""
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        return create_text(folder / FOLDER / JOB, json.dumps(value, allow_nan=False) + "\n")

    @cached_property
    def digest(self) -> str:
        """A fingerprint of all that the processes must agree on."""
        return digest([json.dumps(self._agreed, sort_keys=True).encode()])

    @property
    def _agreed(self) -> dict[str, Any]:
        corrections = json.dumps(self.corrections, sort_keys=True).encode()
        listed = [[name, stem, size] for name, _, stem, size in self.sources]
        return {
            "heliodor": self.heliodor,
            "model": self.model,
            "masks": self.masks,
            "micrographs": listed,
            _CORRECTIONS: None if self.corrections is None else digest([corrections]),
            **{k: v for k, v in self.arguments.items() if k not in _BY_CONTENT},
        }

    def describe_difference(self, other: PickingJob) -> str:
        """Return what another job has that differs from this one, as part of a sentence."""
        mine, its = self._agreed, other._agreed
        name = next(k for k in sorted(mine.keys() | its.keys()) if mine.get(k) != its.get(k))
        if name in ("model", "masks"):
            return f"another content of the {name}"
        if name == _CORRECTIONS:
            return "other positions in the labels or negatives"
        if name != "micrographs":
            what = name.removesuffix("_angstrom").replace("_", " ")
            return f"{what} {its.get(name)} instead of {mine.get(name)}"
        first, second = ([row[0] for row in rows["micrographs"]] for rows in (mine, its))
        for here, there, how in ((first, second, "without"), (second, first, "with")):
            if more := set(here) - set(there):
                return f"another list of micrographs, {how} {min(more)}"
        if first != second:
            return "the micrographs in another order"
        return "other pixel sizes or names of results in the list of micrographs"

    def is_corrected_otherwise(self, other: PickingJob) -> bool:
        """Return whether another job differs from this one in the user's corrections alone."""
        mine, its = self._agreed, other._agreed
        return [key for key in mine if mine[key] != its.get(key)] == [_CORRECTIONS]

    def read_corrections(self, folder: Path) -> Corrections:
        """Return what the user corrected.

        Raises
        ------
        BadInput
            If the stored positions are damaged.
        """
        if self.corrections is None:
            return NO_CORRECTIONS
        try:
            return Corrections.from_lists(self.corrections)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise BadInput(
                f"{folder / FOLDER / JOB} is damaged; remove it and run a part again"
            ) from error

    def has_been_merged(self, folder: Path) -> bool:
        """Return whether the results of this job have been written."""
        try:
            value = json.loads((folder / FOLDER / MERGED).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(value, dict) and value.get("job") == self.digest

    def note_merged(self, folder: Path) -> None:
        """Note that the results of this job have been written."""
        write_json(folder / FOLDER / MERGED, {"job": self.digest})

    def forget_merged(self, folder: Path) -> None:
        """Note that the results are out of date."""
        (folder / FOLDER / MERGED).unlink(missing_ok=True)

    @property
    def claims_name(self) -> str:
        """The name of the folder of the claims of this job, beside the job."""
        return f"{CLAIMS}{self.digest[:12]}"

    def list_sources(self) -> list[Source]:
        """Return the micrographs."""
        return [Source(name, Path(path), stem, size) for name, path, stem, size in self.sources]

    def read_request(self, folder: Path) -> PickRequest:
        """Return the request.

        Raises
        ------
        BadInput
            If a stored argument is damaged.
        """
        subject = str(folder / FOLDER / JOB)
        values = dict(self.arguments)
        validate(_StoredRequest, values, subject)
        validate(model_of_dataclass(PickSettings), values, subject)
        names = {each.name for each in fields(PickSettings)}
        settings = PickSettings(**{name: values[name] for name in names & values.keys()})
        own = {each.name for each in fields(PickRequest)} - {"settings"}
        _refuse_missing(own, values, subject)
        return PickRequest(settings=settings, **{name: values[name] for name in own})

    @property
    def is_of_filaments(self) -> bool:
        """Whether filaments are traced."""
        return self.arguments.get("filaments") is True

    def read_filament_request(self, folder: Path) -> FilamentRequest:
        """Return the request of tracing filaments.

        Raises
        ------
        BadInput
            If a stored argument is damaged.
        """
        subject, values = str(folder / FOLDER / JOB), dict(self.arguments)
        stored = validate(_StoredFilamentRequest, values, subject)
        validate(model_of_dataclass(FilamentSettings), values, subject)
        names = [each.name for each in fields(FilamentSettings)]
        _refuse_missing(names, values, subject)
        return FilamentRequest(
            stored.model,
            stored.micrographs,
            FilamentSettings(**{name: values[name] for name in names}),
            PickSettings(
                threshold=stored.threshold,
                bad_areas=stored.bad_areas,
                bad_area_masks=stored.bad_area_masks,
                mask=stored.mask,
            ),
            stored.pixel_size_angstrom,
            stored.exclude,
            stored.report,
        )

    @contextmanager
    def as_started(self, folder: Path) -> Iterator[Path]:
        """Change to the folder in which the job was started.

        Names in results begin there, and so do relative paths of micrographs.

        Parameters
        ----------
        folder
            The output folder, by whatever path.

        Yields
        ------
        Path
            The output folder as it was typed then, or where it is now if it was moved.
        """
        absolute = folder.absolute()
        if not os.path.isdir(self.directory):
            raise BadInput(
                f"the parts in {folder} were picked in the folder {self.directory}, which does not"
                " exist here; run this on a machine that has it"
            )
        with chdir(self.directory):
            typed = Path(self.out)
            yield typed if typed.is_dir() and os.path.samefile(typed, absolute) else absolute


def _refuse_missing(names: Iterable[str], values: Mapping[str, Any], subject: str) -> None:
    if missing := sorted({*names} - values.keys()):
        raise BadInput(f"{subject} is damaged: it has no {missing[0]}; run all parts again")
