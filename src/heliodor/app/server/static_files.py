"""Files of a folder that may be shown, and nothing beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Bytes of a path; none that is meant is longer.
_LONGEST = 1000


def file_below(folder: Path, path: str, kinds: Mapping[str, str]) -> tuple[Path, str] | None:
    """Return a file below a folder, and its media type; None for whatever else is asked for.

    Parameters
    ----------
    folder
        Links out of it are not followed.
    path
        As a browser says it, with slashes.
    kinds
        The media types of what may be shown, by suffix.
    """
    parts = path.split("/")
    kind = kinds.get(Path(parts[-1]).suffix)
    if kind is None or len(path) > _LONGEST or not path.isprintable() or "\\" in path:
        return None
    if any(part.startswith(".") or not part for part in parts):
        return None
    try:
        file = folder.joinpath(*parts).resolve()
        there = file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):
        return None
    return (file, kind) if there else None
