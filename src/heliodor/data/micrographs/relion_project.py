"""The RELION project that micrographs belong to: paths in its files are relative to its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heliodor.data.micrographs.sources import Source, resolve_path
from heliodor.errors import BadInput

#: What RELION keeps in the folder of each project: this file, and files with this beginning.
PIPELINE, HIDDEN = "default_pipeline.star", ".relion_"


@dataclass(frozen=True)
class RelionProject:
    """A RELION project, and what it calls some micrographs."""

    root: Path
    #: The name of each micrograph in the project, by its name in results.
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, root: str | Path, sources: Sequence[Source]) -> RelionProject:
        """Return the project in a folder.

        Raises
        ------
        BadInput
            If there is no such folder.
        """
        root = Path(root)
        if not root.is_dir():
            raise BadInput(f"the RELION project folder {root} does not exist; check the name")
        whole = root.absolute()
        return cls(whole, {source.name: _name_in(whole, source) for source in sources})

    def relative(self, path: Path) -> str:
        """Return a path relative to the project; an absolute one if it lies outside."""
        return _relative(self.root, path)


def find_relion_project(inputs: Iterable[str], sources: Sequence[Source]) -> Path | None:
    """Find the RELION project of some micrographs.

    The nearest folder above the STAR files or the first micrograph that RELION has written in.

    Parameters
    ----------
    inputs
        The micrographs as they were typed.
    sources
        The micrographs.

    Returns
    -------
    Path or None
        Absolute; None if there is none.
    """
    files = [Path(text.removeprefix("@")) for text in inputs if text.lower().endswith(".star")]
    files += [source.path for source in sources[:1]]
    for path in [*(file.absolute() for file in files), *map(resolve_path, files)]:
        for folder in path.parents:
            if _is_project(folder):
                return folder
    return None


def _is_project(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(own.name == PIPELINE or own.name.startswith(HIDDEN) for own in entries)
    except OSError:
        return False  # not readable by this user


def _name_in(root: Path, source: Source) -> str:
    inside = root / source.name
    if not os.path.isabs(source.name) and os.path.exists(inside):
        if os.path.exists(source.path) and os.path.samefile(inside, source.path):
            return source.name
    return _relative(root, source.path)


def _relative(root: Path, path: Path) -> str:
    for base, own in ((root, path.absolute()), (resolve_path(root), resolve_path(path))):
        relative = os.path.relpath(own, base)
        if relative.split(os.sep)[0] != "..":
            return relative
    return str(path.absolute())
