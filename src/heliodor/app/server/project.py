"""The folder of a picking room: what it is about, and where it was left."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import check_diameter
from heliodor.errors import BadInput
from heliodor.utils.files import (
    create_output_folder,
    remove_partial_files,
    write_json,
)
from heliodor.utils.hashing import digest
from heliodor.utils.locking import lock_folder

NAME = "project.json"
#: Changes with what the file holds.
FORM_VERSION = 1
#: Folders of what is made again where it is missing, and holds for one list of micrographs only.
SCORES, PREVIEWS, THUMBNAILS = "scores", "previews", "thumbnails"
MODELS, EXPORT, PICKS = "models", "export", "picks"
#: Thresholds are log-odds; none is beyond this.
MAX_LOG_ODDS = 100.0


@dataclass(frozen=True)
class ProjectSettings:
    """What `project.json` keeps."""

    #: What the user typed for micrographs.
    inputs: tuple[str, ...] = ()
    pixel_size_angstrom: float | None = None
    diameter_angstrom: float | None = None
    #: Log-odds; None is automatic.
    threshold: float | None = None
    #: Number of the model in use, 0 being the general one.
    model: int = 0
    #: Names of the micrographs the user is done with.
    done: frozenset[str] = frozenset()
    #: What the list of micrographs was, and for which diameter they were scored.
    pictures_of: str = ""
    scores_of: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        own = asdict(self)
        return {
            "form": FORM_VERSION,
            **own,
            "inputs": list(self.inputs),
            "done": sorted(self.done),
        }


def _read_settings(path: Path) -> ProjectSettings:
    """Read what an earlier session left.

    Raises
    ------
    BadInput
        If the file is no project's.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("form") != FORM_VERSION:
            raise ValueError("of another version of the program")
        value["inputs"] = tuple(map(str, value["inputs"]))
        value["done"] = frozenset(map(str, value["done"]))
        own = ProjectSettings(**value)
        for number in (own.pixel_size_angstrom, own.diameter_angstrom, own.threshold):
            if number is not None and not math.isfinite(float(number)):
                raise ValueError(f"{number} is no finite number")
        if not (isinstance(own.model, int) and own.model >= 0):
            raise ValueError(f"{own.model} is no number of a model")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{path} is no project of heliodor app ({error}); give another folder with -o, or"
            " remove the file: labels and models stay"
        ) from error
    return own


@dataclass
class Project:
    """One project folder, of which this process is the only user; see `opened`."""

    folder: Path
    sources: Sequence[Source]
    settings: ProjectSettings
    #: Whether it was there before.
    existed: bool
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def scores_for(self) -> str:
        """Return what the scores of the project must have been made for."""
        own = self.settings
        return digest([str(v).encode() for v in (own.pictures_of, own.diameter_angstrom)])

    def change(self, **values: Any) -> None:
        """Change some settings, and write them if that changes anything."""
        with self._lock:
            changed = replace(self.settings, **values)
            if changed != self.settings:
                write_json(self.folder / NAME, changed.as_dict())
                self.settings = changed

    def forget_scores(self) -> None:
        """Throw away scores and previews, and note what the next ones are for."""
        for name in (SCORES, PREVIEWS):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(exist_ok=True)
        self.change(scores_of=self.scores_for)

    def path(self, folder: str, number: int) -> Path:
        """Return where something of a micrograph lies: in scores, previews or thumbnails."""
        return self.folder / folder / f"{number}{'.npz' if folder == SCORES else '.jpg'}"

    def model_file(self, number: int, suffix: str = ".safetensors") -> Path:
        """Return where a model lies, or what was said of it (.json)."""
        return self.folder / MODELS / f"{number:04d}{suffix}"

    def next_model(self) -> int:
        """Return the number of the next model: no older one is ever written over."""
        there = [int(p.stem) for p in (self.folder / MODELS).glob("*.*") if p.stem.isdecimal()]
        return max([self.settings.model, *there]) + 1


def open_project(
    folder: Path,
    sources: Sequence[Source],
    inputs: Sequence[str],
    pixel_size_angstrom: float | None = None,
    diameter_angstrom: float | None = None,
) -> Project:
    """Open the project in a folder, or begin one; to be called by who is alone in it.

    Scores and pictures of another list of micrographs are thrown away; so are scores for
    another diameter or pixel size. The model in use must fit the diameter, else it is the
    general one again.

    Raises
    ------
    BadInput
        If the folder holds something else, or the diameter is absurd.
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
        (folder / name).mkdir(exist_ok=True)
    _remove_partial_files(folder)
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


def _remove_partial_files(folder: Path) -> None:
    """Remove what was half written, but for what a whole run that still goes on is writing."""
    picks = folder / PICKS
    if not picks.is_dir():
        remove_partial_files(folder)
        return
    try:
        with lock_folder(picks):
            remove_partial_files(folder)
    except BadInput:
        for name in (SCORES, PREVIEWS, THUMBNAILS, MODELS, EXPORT):
            remove_partial_files(folder / name)
