"""The command `check`, also of whole projects of RELION and cryoSPARC."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from heliodor.data.micrographs.names import is_micrograph_name
from heliodor.errors import BadInput
from heliodor.integrations.cryosparc import project as cryosparc
from heliodor.integrations.projects import FoundSet, Project
from heliodor.integrations.relion import project as relion
from heliodor.utils.console import count_of
from heliodor.workflows.check import Diagnostic
from heliodor.workflows.check import check as check_files
from heliodor.workflows.settings import CheckSettings

Progress = Callable[[int, int], None] | None

#: Sets of each kind that are listed, the newest first, and notes on them.
MOST_LISTED = 20
#: Files that could not be read that are listed.
MOST_UNREAD = 20
#: Labels that `suggest` needs.
_ENOUGH_TO_MEASURE = 20
#: Where the commands that are suggested write.
_MODEL, _PICKS = "heliodor/model", "heliodor/picks"


def check(
    inputs: Sequence[str | Path],
    micrographs: Sequence[str | Path] | None = None,
    settings: CheckSettings = CheckSettings(),
    progress: Progress = None,
) -> list[Diagnostic]:
    """Check files of any kind, and folders of projects.

    Parameters
    ----------
    inputs
        As those of `heliodor.workflows.check.check`, and folders of RELION and cryoSPARC
        projects, cryoSPARC jobs and exports.
    micrographs
        The micrographs of the coordinates; by default those that the project lists, or those
        named in the coordinate files.

    Raises
    ------
    BadInput
        If an input matches no file.
    """
    findings: list[Diagnostic] = []
    files: list[str | Path] = []
    projects: list[Project] = []
    for one in inputs:
        project = _find_project(Path(one), progress)
        if project is None:
            files.append(one)
        else:
            projects.append(project)
    if files or not projects:
        findings += check_files(files, micrographs, settings, progress)
    for project in projects:
        findings += _check_project(project, micrographs, settings, progress)
    return findings


def _find_project(folder: Path, progress: Progress) -> Project | None:
    """Return what a project contains, or None if this is not the folder of a project."""
    if folder.suffix == ".csg" and os.path.isfile(folder):
        folder = folder.parent  # it describes the tables beside it
    if not os.path.isdir(folder):
        return None
    if relion.is_project(folder):
        return relion.find_sets(folder, progress)
    return cryosparc.find_sets(folder, progress) if cryosparc.is_project(folder) else None


def _check_project(
    project: Project,
    given: Sequence[str | Path] | None,
    settings: CheckSettings,
    progress: Progress,
) -> Iterator[Diagnostic]:
    """List the sets of a project and what to do with them, and check what would be used."""
    where = str(project.folder)
    lists, labels = project.list_sets("micrographs"), project.list_sets("coordinates")
    yield Diagnostic(
        "good" if project.sets else "note",
        where,
        f"{project.what}: {count_of(project.jobs, 'job')},"
        f" {count_of(len(lists), 'list')} of micrographs and {count_of(len(labels), 'set')} of"
        " coordinates",
    )
    if any(is_micrograph_name(name) for name in os.listdir(project.folder)):
        yield Diagnostic(
            "note",
            where,
            f"the folder is checked as a project; to check the micrographs in it, give"
            f" '{where}/*.mrc'",
        )
    yield from _list_sets(project, lists)
    yield from _list_sets(project, labels)
    for path, why in project.unread[:MOST_UNREAD]:
        yield Diagnostic("note", str(path), why)
    if len(project.unread) > MOST_UNREAD:
        yield Diagnostic(
            "note", where, f"{len(project.unread) - MOST_UNREAD} more files were not read"
        )
    yield from _compare_pixel_sizes(project)
    yield from _choose(project, given, settings, progress)


def _list_sets(project: Project, sets: Sequence[FoundSet]) -> Iterator[Diagnostic]:
    for found in sets[:MOST_LISTED]:
        yield Diagnostic("good", str(found.path), found.describe())
    if len(sets) > MOST_LISTED:
        yield Diagnostic(
            "good",
            str(project.folder),
            f"{len(sets) - MOST_LISTED} more {_name_kind(sets[0])} of older jobs",
        )
    doubts = [(found, doubt) for found in sets for doubt in found.find_doubts()]
    for found, doubt in doubts[:MOST_LISTED]:
        yield Diagnostic("note", str(found.path), doubt)
    if len(doubts) > MOST_LISTED:
        yield Diagnostic(
            "note",
            str(project.folder),
            f"{len(doubts) - MOST_LISTED} more notes on {_name_kind(sets[0])} of older jobs",
        )


def _name_kind(found: FoundSet) -> str:
    return "lists of micrographs" if found.kind == "micrographs" else "sets of coordinates"


def _compare_pixel_sizes(project: Project) -> Iterator[Diagnostic]:
    groups = project.find_pixel_sizes()
    if len(groups) > 1:
        parts = []
        for size, sets in groups:
            jobs = list(dict.fromkeys(found.job for found in sets))
            more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
            parts.append(f"{size:.4g} ({jobs[0]}{more})")
        yield Diagnostic(
            "note",
            str(project.folder),
            f"pixel sizes of micrographs in Å differ between jobs: {', '.join(parts)}",
        )


def _choose(
    project: Project,
    given: Sequence[str | Path] | None,
    settings: CheckSettings,
    progress: Progress,
) -> Iterator[Diagnostic]:
    """Say what would be used, and with which commands, and check it."""
    listed, labels = project.choose_micrographs(), project.choose_coordinates()
    if listed is None and given is None and labels is not None:
        exists = len(labels.missing) < len(labels.micrographs)
        listed = labels if exists else None
    for chosen, kind in ((listed if given is None else None, "micrographs"), (labels, "labels")):
        if chosen is not None:
            yield Diagnostic("good", str(chosen.path), _explain_choice(project, chosen, kind))
    micrographs = [*map(str, given)] if given is not None else listed and [str(listed.path)]
    if not micrographs:
        yield Diagnostic(
            "note",
            str(project.folder),
            "no list of existing micrographs was found; give micrographs with --micrographs",
        )
        return
    for command in _suggest_commands(micrographs, labels, settings):
        yield Diagnostic("good", str(project.folder), f"next: {command}")
    taken = (labels,) if given is not None else (listed, labels)
    inputs = dict.fromkeys(found.path for found in taken if found is not None)
    try:
        yield from check_files([*inputs], micrographs, settings, progress)
    except BadInput as error:  # what was found stays said
        yield Diagnostic("error", str(project.folder), str(error))


def _explain_choice(project: Project, chosen: FoundSet, kind: str) -> str:
    """Return why a set is the one to use, and which others there are."""
    if chosen.kind == "coordinates" and kind == "micrographs":
        return "taken as micrographs: those of the newest coordinates, as there is no list of them"
    why = f"taken as {kind}: the newest {'list' if kind == 'micrographs' else 'coordinates'}"
    usable = [found for found in project.list_sets(chosen.kind) if found.is_usable]
    if chosen.has_ctf and any(found.number > chosen.number for found in usable):
        why += " with CTF"
    same = [s for s in usable if s.number == chosen.number and s is not chosen]
    if same:
        why += f", and the largest of {len(same) + 1} in its job"
    others = [s for s in usable if s is not chosen and s not in same]
    if others:
        why += f"; others: {', '.join(str(s.path) for s in others[:3])}"
        why += ", ..." if len(others) > 3 else ""
    return why


def _suggest_commands(
    micrographs: Sequence[str], labels: FoundSet | None, settings: CheckSettings
) -> list[str]:
    """Return the command lines to continue with."""
    words = " ".join(f"--micrographs {shlex.quote(one)}" for one in micrographs)
    diameter = settings.diameter_angstrom
    size = f" --diameter {'DIAMETER' if diameter is None else format(diameter, 'g')}"
    pixel = settings.pixel_size_angstrom
    more = "" if pixel is None else f" --pixel-size {pixel:g}"
    if labels is None:
        return [f"heliodor pick {words}{size}{more} -o {_PICKS}"]
    own = f"--labels {shlex.quote(str(labels.path))}"
    commands = []
    if diameter is None and (labels.particles or 0) >= _ENOUGH_TO_MEASURE:
        commands.append(f"heliodor suggest {words} {own}{more}")
    return [
        *commands,
        f"heliodor train {words} {own}{size}{more} -o {_MODEL}",
        f"heliodor pick {words} --model {_MODEL}/model.safetensors{more} -o {_PICKS}",
    ]
