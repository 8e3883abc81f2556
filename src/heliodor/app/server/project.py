"""The project folder of the app and its settings."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from heliodor.app.micrograph_list import (
    ListedMicrograph,
    describe_source,
    read_list,
    write_list,
)
from heliodor.data.micrographs.relion_project import find_relion_project
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import check_diameter, check_pixel_size
from heliodor.errors import BadInput
from heliodor.utils.files import (
    create_output_folder,
    create_subfolder,
    remove_partial_files,
    write_json,
)
from heliodor.utils.hashing import digest, fingerprint_file
from heliodor.utils.json_schema import StoredModel, validate

NAME = "project.json"
#: The version of the file's contents.
FORM_VERSION = 1
#: Folders of files that are made again if missing, valid for one list of micrographs.
SCORES, PREVIEWS, THUMBNAILS = "scores", "previews", "thumbnails"
MODELS, EXPORT, PICKS = "models", "export", "picks"
#: Contamination that the user edited, a mask per micrograph.
MASKS = "masks"
#: Largest absolute threshold, in log-odds.
MAX_LOG_ODDS = 100.0
#: Longest note on a micrograph, in characters.
MAX_NOTE = 2000
#: Largest distance between picks, or from the edge, in angstrom.
MAX_DISTANCE = 10_000.0


#: Settings that are sets of names of micrographs.
_NAME_SETS = ("done", "excluded", "ignore_contamination")


@dataclass(frozen=True)
class ProjectSettings:
    """The contents of `project.json`."""

    #: The micrographs as the user typed them.
    inputs: tuple[str, ...] = ()
    pixel_size_angstrom: float | None = None
    diameter_angstrom: float | None = None
    #: Width of filaments; None for a project of particles.
    filament_width_angstrom: float | None = None
    #: Log-odds; None is automatic.
    threshold: float | None = None
    #: The automatic threshold lets at most this share of the picks be false; None: highest F1.
    max_fdr: float | None = None
    #: By how much the threshold of micrographs is higher, log-odds, by their names.
    threshold_offsets: Mapping[str, float] = field(default_factory=dict)
    #: Of `PickSettings`; None for the default.
    exclusion_radius_angstrom: float | None = None
    edge_margin_angstrom: float | None = None
    #: The number of the model in use; 0 is the general one.
    model: int = 0
    #: Names of the micrographs that the user marked as reviewed.
    done: frozenset[str] = frozenset()
    #: Names of the micrographs that are left out of everything.
    excluded: frozenset[str] = frozenset()
    #: Names of the micrographs on which contamination is ignored.
    ignore_contamination: frozenset[str] = frozenset()
    #: What the user wrote about micrographs, by their names.
    notes: Mapping[str, str] = field(default_factory=dict)
    #: The folder in which the inputs were typed.
    directory: str = ""
    #: The RELION project that exports are for, if the user chose one.
    relion_project: str | None = None
    #: The labels that were imported; see `fingerprint_labels`.
    labels_of: str = ""
    #: Digests of the list of micrographs, and of the list and diameter that the scores are for.
    pictures_of: str = ""
    scores_of: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as a JSON object."""
        return {
            "form": FORM_VERSION,
            **asdict(self),
            "inputs": list(self.inputs),
            "threshold_offsets": dict(self.threshold_offsets),
            **{name: sorted(getattr(self, name)) for name in _NAME_SETS},
            "notes": dict(sorted(self.notes.items())),
        }


class _StoredSettings(StoredModel):
    """The fields of `project.json` that must be as the app wrote them."""

    form: int
    inputs: list[str]
    pixel_size_angstrom: float | None
    diameter_angstrom: float | None
    filament_width_angstrom: Annotated[float, Field(gt=0, lt=1e5)] | None = None
    threshold: Annotated[float, Field(ge=-MAX_LOG_ODDS, le=MAX_LOG_ODDS)] | None
    max_fdr: Annotated[float, Field(gt=0, lt=1)] | None = None
    threshold_offsets: dict[str, Annotated[float, Field(ge=-MAX_LOG_ODDS, le=MAX_LOG_ODDS)]] = (
        Field(default_factory=dict)
    )
    exclusion_radius_angstrom: Annotated[float, Field(ge=0, le=MAX_DISTANCE)] | None = None
    edge_margin_angstrom: Annotated[float, Field(ge=0, le=MAX_DISTANCE)] | None = None
    model: Annotated[int, Field(ge=0)]
    done: list[str]
    excluded: list[str] = Field(default_factory=list)
    ignore_contamination: list[str] = Field(default_factory=list)
    notes: dict[str, Annotated[str, Field(max_length=MAX_NOTE)]] = Field(default_factory=dict)
    directory: str = ""
    relion_project: str | None = None
    labels_of: str = ""
    pictures_of: str
    scores_of: str


def read_settings(path: Path) -> ProjectSettings:
    """Read the settings of an earlier session.

    Raises
    ------
    BadInput
        If it is not the file of a project.
    """
    try:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        found = validate(_StoredSettings, value, "it")
        if found.form != FORM_VERSION:
            raise ValueError("written by another version of heliodor")
        if found.diameter_angstrom is not None:
            check_diameter(found.diameter_angstrom)
        if found.pixel_size_angstrom is not None:
            check_pixel_size(found.pixel_size_angstrom)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} is not a project of heliodor app ({error}); use another folder (-o), or"
            " remove the file (labels and models are kept)"
        ) from error
    values = found.model_dump(exclude={"form"})
    values |= {"inputs": tuple(found.inputs)}
    values |= {name: frozenset(values[name]) for name in _NAME_SETS}
    return ProjectSettings(**values)


@dataclass
class Project:
    """One project folder, used by this process only; see `open_project`."""

    folder: Path
    #: It grows while micrographs arrive; the number of one never changes.
    sources: list[Source]
    settings: ProjectSettings
    #: Whether the folder was a project before.
    existed: bool
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def scores_for(self) -> str:
        """The digest that valid scores were made for."""
        own = self.settings
        values: list[object] = [own.pictures_of, own.diameter_angstrom]
        distances = (own.exclusion_radius_angstrom, own.edge_margin_angstrom)
        if distances != (None, None):
            values += distances
        return digest([str(value).encode() for value in values])

    def change(self, **values: Any) -> None:
        """Change some settings; they are written if they differ."""
        with self._lock:
            changed = replace(self.settings, **values)
            if changed != self.settings:
                write_json(self.folder / NAME, changed.as_dict())
                self.settings = changed

    def add(self, sources: Sequence[Source]) -> None:
        """Add micrographs at the end of the list; scores of the others stay valid."""
        valid = self.settings.scores_of == self.scores_for
        self.sources.extend(sources)
        write_list(self.folder, self.sources)
        self.change(pictures_of=_digest_pictures(self.sources, self.settings))
        if valid:
            self.change(scores_of=self.scores_for)

    @property
    def included(self) -> list[int]:
        """The numbers of the micrographs that are not excluded."""
        excluded = self.settings.excluded
        return [n for n, source in enumerate(self.sources) if source.name not in excluded]

    def find_relion_project(self) -> Path | None:
        """Return the RELION project of the micrographs: the chosen one, or the one around them."""
        chosen = self.settings.relion_project
        if chosen is not None:
            return Path(chosen)
        return find_relion_project(self.settings.inputs, self.sources)

    def ignores_contamination(self, number: int) -> bool:
        """Return whether contamination is ignored on a micrograph."""
        return self.sources[number].name in self.settings.ignore_contamination

    def threshold_offset(self, number: int) -> float:
        """Return by how much the threshold of a micrograph is higher, in log-odds."""
        return self.settings.threshold_offsets.get(self.sources[number].name, 0.0)

    def forget_scores(self) -> None:
        """Delete scores and previews, and record what the next ones are for."""
        for name in (SCORES, PREVIEWS):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(exist_ok=True)
        self.change(scores_of=self.scores_for)

    def path(self, folder: str, number: int) -> Path:
        """Return the path of a micrograph's file in scores, previews or thumbnails."""
        return self.folder / folder / f"{number}{_suffix(folder)}"

    def model_file(self, number: int, suffix: str = ".safetensors") -> Path:
        """Return the path of a model, or of its record (.json)."""
        return self.folder / MODELS / f"{number:04d}{suffix}"

    def mask_file(self, number: int) -> Path:
        """Return the path of the user's mask of contamination of a micrograph."""
        return self.folder / MASKS / f"{self.sources[number].output_stem}.png"

    def next_model(self) -> int:
        """Return the number of the next model; existing models are never overwritten."""
        numbers = [int(p.stem) for p in (self.folder / MODELS).glob("*.*") if p.stem.isdecimal()]
        return max([self.settings.model, *numbers]) + 1


def open_project(
    folder: Path,
    sources: Sequence[Source],
    inputs: Sequence[str],
    pixel_size_angstrom: float | None = None,
    diameter_angstrom: float | None = None,
    replace_settings: bool = False,
    filament_width_angstrom: float | None = None,
) -> Project:
    """Open the project in a folder, or create it; the caller holds the folder's lock.

    Scores are kept for micrographs that the project had before. With another diameter, they are
    deleted, and the general model is used again.

    Parameters
    ----------
    replace_settings
        Whether an existing project may be given another diameter or pixel size, or lose
        micrographs.
    filament_width_angstrom
        For a project of filaments: their width; None: as it is.

    Raises
    ------
    BadInput
        If the folder contains something else, the diameter is not plausible, or the project would
        have to be changed and must not be.
    """
    path = create_output_folder(folder) / NAME
    existed = path.is_file()
    settings = read_settings(path) if existed else ProjectSettings()
    if diameter_angstrom is not None:
        check_diameter(diameter_angstrom)
    before = _read_list_before(folder) if existed else []
    if existed and filament_width_angstrom is not None:
        _check_width(folder, settings, filament_width_angstrom)
    if existed and not replace_settings:
        _check_same(folder, settings, before, sources, pixel_size_angstrom, diameter_angstrom)
    for name in (SCORES, PREVIEWS, THUMBNAILS, MODELS, EXPORT):
        create_subfolder(folder, name)
    remove_partial_files(folder)
    same_size = pixel_size_angstrom in (None, settings.pixel_size_angstrom)
    project = Project(folder, [*sources], settings, existed)
    if diameter_angstrom is not None and diameter_angstrom != settings.diameter_angstrom:
        project.settings = replace(settings, diameter_angstrom=diameter_angstrom, model=0)
    if filament_width_angstrom is not None:
        project.settings = replace(
            project.settings, filament_width_angstrom=filament_width_angstrom
        )
    if pixel_size_angstrom is not None:
        project.settings = replace(project.settings, pixel_size_angstrom=pixel_size_angstrom)
    names = _rename(settings, before, sources)
    project.settings = replace(
        project.settings, inputs=tuple(inputs), directory=os.getcwd(), **names
    )
    settings = project.settings
    if settings.model and not project.model_file(settings.model).is_file():
        project.settings = replace(project.settings, model=0)
    pictures = _digest_pictures(sources, settings)
    if pictures != settings.pictures_of:
        valid = same_size and settings.scores_of == project.scores_for
        project.settings = replace(project.settings, pictures_of=pictures)
        _renumber_files(folder, before if same_size else [], sources)
        if valid:
            project.settings = replace(project.settings, scores_of=project.scores_for)
    write_list(folder, sources)
    write_json(path, project.settings.as_dict())
    if project.settings.scores_of != project.scores_for:
        project.forget_scores()
    return project


def _digest_pictures(sources: Sequence[Source], settings: ProjectSettings) -> str:
    """Return the digest of a list of micrographs, with their pixel sizes."""
    return digest(
        [repr((s.name, str(s.path), s.pixel_size_angstrom)).encode() for s in sources]
        + [repr(settings.pixel_size_angstrom).encode()]
    )


def _read_list_before(folder: Path) -> list[ListedMicrograph]:
    """Return the micrographs that a project had; nothing if the list is missing or damaged."""
    try:
        return read_list(folder)
    except BadInput:
        return []


def _check_same(
    folder: Path,
    settings: ProjectSettings,
    before: Sequence[ListedMicrograph],
    sources: Sequence[Source],
    pixel_size_angstrom: float | None,
    diameter_angstrom: float | None,
) -> None:
    """Refuse what would change an existing project; more micrographs are welcome."""
    changes = []
    there = {source.path.absolute() for source in sources}
    gone = sum(own.path not in there for own in before)
    if gone:
        changes.append(f"{gone} of its {len(before)} micrographs are not among those given")
    for given, own, what in (
        (diameter_angstrom, settings.diameter_angstrom, "particle diameter"),
        (pixel_size_angstrom, settings.pixel_size_angstrom, "pixel size"),
    ):
        if None not in (given, own) and given != own:
            changes.append(f"its {what} is {own:g} Å, not {given:g} Å")
    if changes:
        raise BadInput(
            f"{folder} is a project already, and {' and '.join(changes)}; use another folder (-o),"
            " or confirm the change with --replace; labels and models are kept"
        )


def _check_width(folder: Path, settings: ProjectSettings, width_angstrom: float) -> None:
    """Refuse a project of particles, or of filaments of another width."""
    known = settings.filament_width_angstrom
    if known is None:
        raise BadInput(f"{folder} is a project of particles; use another folder (-o)")
    if known != width_angstrom:
        raise BadInput(
            f"{folder} is a project of filaments that are {known:g} Å wide, not"
            f" {width_angstrom:g} Å; use another folder (-o)",
            parameter="width",
        )


def _rename(
    settings: ProjectSettings, before: Sequence[ListedMicrograph], sources: Sequence[Source]
) -> dict[str, Any]:
    """Return the settings that name micrographs, for names that are spelled differently now."""
    by_path = {source.path.absolute(): source.name for source in sources}
    names = {own.name: by_path.get(own.path, own.name) for own in before}
    renamed: dict[str, Any] = {
        each: frozenset(names.get(name, name) for name in getattr(settings, each))
        for each in _NAME_SETS
    }
    offsets = settings.threshold_offsets
    return renamed | {
        "notes": {names.get(name, name): note for name, note in settings.notes.items()},
        "threshold_offsets": {names.get(n, n): own for n, own in offsets.items()},
    }


def _renumber_files(
    folder: Path, before: Sequence[ListedMicrograph], sources: Sequence[Source]
) -> None:
    """Keep scores and images of the micrographs that are in the old list and in the new one."""
    numbers = {entry: number for number, entry in enumerate(before)}
    for kind in (SCORES, PREVIEWS, THUMBNAILS):
        where, aside = folder / kind, folder / f"{kind}.old"
        shutil.rmtree(aside, ignore_errors=True)
        where.rename(aside)
        where.mkdir()
        suffix = _suffix(kind)
        for number, source in enumerate(sources):
            old = numbers.get(describe_source(source))
            if old is not None and (aside / f"{old}{suffix}").is_file():
                (aside / f"{old}{suffix}").rename(where / f"{number}{suffix}")
        shutil.rmtree(aside)


def _suffix(kind: str) -> str:
    return ".npz" if kind == SCORES else ".jpg"


def fingerprint_labels(path: str) -> str:
    """Return a hash of a file of labels; of its name if it is not one file."""
    try:
        return fingerprint_file(Path(path))
    except BadInput:
        return digest([path.encode()])
