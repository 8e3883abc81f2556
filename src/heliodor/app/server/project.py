"""The project folder of the app and its settings."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import check_diameter, check_pixel_size
from heliodor.errors import BadInput
from heliodor.utils.files import (
    create_output_folder,
    create_subfolder,
    remove_partial_files,
    write_json,
)
from heliodor.utils.hashing import digest
from heliodor.utils.json_schema import StoredModel, validate

NAME = "project.json"
#: The version of the file's contents.
FORM_VERSION = 1
#: Folders of files that are made again if missing, valid for one list of micrographs.
SCORES, PREVIEWS, THUMBNAILS = "scores", "previews", "thumbnails"
MODELS, EXPORT, PICKS = "models", "export", "picks"
#: Largest absolute threshold, in log-odds.
MAX_LOG_ODDS = 100.0


@dataclass(frozen=True)
class ProjectSettings:
    """The contents of `project.json`."""

    #: The micrographs as the user typed them.
    inputs: tuple[str, ...] = ()
    pixel_size_angstrom: float | None = None
    diameter_angstrom: float | None = None
    #: Log-odds; None is automatic.
    threshold: float | None = None
    #: The number of the model in use; 0 is the general one.
    model: int = 0
    #: Names of the micrographs that the user marked as reviewed.
    done: frozenset[str] = frozenset()
    #: Digests of the list of micrographs, and of the list and diameter that the scores are for.
    pictures_of: str = ""
    scores_of: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as a JSON object."""
        return {
            "form": FORM_VERSION,
            **asdict(self),
            "inputs": list(self.inputs),
            "done": sorted(self.done),
        }


class _StoredSettings(StoredModel):
    """The fields of `project.json` that must be as the app wrote them."""

    form: int
    inputs: list[str]
    pixel_size_angstrom: float | None
    diameter_angstrom: float | None
    threshold: Annotated[float, Field(ge=-MAX_LOG_ODDS, le=MAX_LOG_ODDS)] | None
    model: Annotated[int, Field(ge=0)]
    done: list[str]
    pictures_of: str
    scores_of: str


def _read_settings(path: Path) -> ProjectSettings:
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
    values |= {"inputs": tuple(found.inputs), "done": frozenset(found.done)}
    return ProjectSettings(**values)


@dataclass
class Project:
    """One project folder, used by this process only; see `open_project`."""

    folder: Path
    sources: Sequence[Source]
    settings: ProjectSettings
    #: Whether the folder was a project before.
    existed: bool
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def scores_for(self) -> str:
        """The digest that valid scores were made for."""
        values = (self.settings.pictures_of, self.settings.diameter_angstrom)
        return digest([str(value).encode() for value in values])

    def change(self, **values: Any) -> None:
        """Change some settings; they are written if they differ."""
        with self._lock:
            changed = replace(self.settings, **values)
            if changed != self.settings:
                write_json(self.folder / NAME, changed.as_dict())
                self.settings = changed

    def forget_scores(self) -> None:
        """Delete scores and previews, and record what the next ones are for."""
        for name in (SCORES, PREVIEWS):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(exist_ok=True)
        self.change(scores_of=self.scores_for)

    def path(self, folder: str, number: int) -> Path:
        """Return the path of a micrograph's file in scores, previews or thumbnails."""
        return self.folder / folder / f"{number}{'.npz' if folder == SCORES else '.jpg'}"

    def model_file(self, number: int, suffix: str = ".safetensors") -> Path:
        """Return the path of a model, or of its record (.json)."""
        return self.folder / MODELS / f"{number:04d}{suffix}"

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
) -> Project:
    """Open the project in a folder, or create it; the caller holds the folder's lock.

    Scores and thumbnails of another list of micrographs are deleted, and so are scores for
    another diameter or pixel size. With another diameter, the general model is used again.

    Raises
    ------
    BadInput
        If the folder contains something else, or the diameter is not plausible.
    """
    path = create_output_folder(folder) / NAME
    existed = path.is_file()
    settings = _read_settings(path) if existed else ProjectSettings()
    if diameter_angstrom is not None:
        check_diameter(diameter_angstrom)
        if diameter_angstrom != settings.diameter_angstrom:
            settings = replace(settings, diameter_angstrom=diameter_angstrom, model=0)
    if pixel_size_angstrom is not None:
        settings = replace(settings, pixel_size_angstrom=pixel_size_angstrom)
    for name in (SCORES, PREVIEWS, THUMBNAILS, MODELS, EXPORT):
        create_subfolder(folder, name)
    remove_partial_files(folder)
    pictures = digest(
        [repr((s.name, str(s.path), s.pixel_size_angstrom)).encode() for s in sources]
        + [repr(settings.pixel_size_angstrom).encode()]
    )
    project = Project(folder, sources, replace(settings, inputs=tuple(inputs)), existed)
    if settings.model and not project.model_file(settings.model).is_file():
        project.settings = replace(project.settings, model=0)
    if pictures != settings.pictures_of:
        project.settings = replace(project.settings, pictures_of=pictures)
        shutil.rmtree(folder / THUMBNAILS, ignore_errors=True)
        (folder / THUMBNAILS).mkdir()
    write_json(path, project.settings.as_dict())
    if project.settings.scores_of != project.scores_for:
        project.forget_scores()
    return project
