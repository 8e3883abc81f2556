"""The list of a project's micrographs: the position of one is the number in the names of files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.utils.files import write_json
from heliodor.utils.json_schema import StoredModel, validate

NAME = "micrographs.json"


class ListedMicrograph(NamedTuple):
    """A micrograph as it was when the list was written."""

    name: str
    #: Absolute.
    path: Path
    #: The one of its STAR file.
    pixel_size_angstrom: float | None


class _StoredList(StoredModel):
    names: list[str]
    paths: list[str]
    pixel_sizes: list[float | None]


def write_list(project: Path, sources: Sequence[Source]) -> None:
    """Write the list of a project's micrographs, whole or not at all."""
    write_json(
        project / NAME,
        {
            "names": [source.name for source in sources],
            "paths": [str(source.path.absolute()) for source in sources],
            "pixel_sizes": [source.pixel_size_angstrom for source in sources],
        },
    )


def describe_source(source: Source) -> ListedMicrograph:
    """Return how a micrograph is listed."""
    return ListedMicrograph(source.name, source.path.absolute(), source.pixel_size_angstrom)


def read_list(project: Path) -> list[ListedMicrograph]:
    """Return a project's micrographs, in order.

    Raises
    ------
    BadInput
        If the folder is not a project, or the list is damaged.
    """
    path = project / NAME
    try:
        found = validate(_StoredList, json.loads(path.read_text(encoding="utf-8")), "it")
        columns = (found.names, map(Path, found.paths), found.pixel_sizes)
        return [ListedMicrograph(*own) for own in zip(*columns, strict=True)]
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} is not the list of a project of heliodor app ({error}); open the project with"
            " heliodor app, which writes it again"
        ) from error
