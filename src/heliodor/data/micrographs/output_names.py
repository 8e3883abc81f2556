"""Micrographs whose results cannot be written under their names."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Final

from heliodor.utils.files import LINK, LOCK_FILE, find_link, fits_path_limits

#: Files that commands write into an output folder itself, some of them with certain options.
RESULT_FILES: Final = frozenset(
    (
        *("autopick.star", "picks.tsv", "micrographs.tsv", "run.json", "failed.tsv"),
        *("report.html", "series.tsv", "model.safetensors", "training.tsv", "evaluation.json"),
        *("curve.tsv", ".picking.jsonl", ".training.safetensors", ".trained.json", LOCK_FILE),
        *("adapted.safetensors", ".picking"),
    )
)


def find_unwritable(
    folder: Path, files: Mapping[str, Path], series: Set[Path] = frozenset()
) -> dict[str, str]:
    """Return the micrographs whose results cannot be written, and why.

    Parameters
    ----------
    folder
        The output folder.
    files
        The file of each micrograph in it, by the micrograph's name.
    series
        The folders of a threshold series.
    """
    taken, unwritable = set(files.values()), {}
    links = {parent: find_link(folder, parent) for parent in {p.parent for p in files.values()}}
    for name, path in files.items():
        above = [own for own in path.parents if folder in own.parents]
        place = next((own for own in above if own in taken), None)
        if above and above[-1].name in RESULT_FILES:
            place = above[-1]
        if not fits_path_limits(path):
            why = f"the name {path} is too long; rename the micrograph"
        elif (link := links[path.parent]) is not None:
            why = LINK.format(link=link)
        elif not series.isdisjoint(above):
            why = (
                f"{path} would be in the folder of the threshold series; rename the micrograph's"
                " folder, or pick into a new folder without a threshold series"
            )
        elif place is not None:
            why = (
                f"{place} is the name of another file of the results; rename the micrograph's"
                " folder"
            )
        else:
            continue
        unwritable[name] = f"its results cannot be written: {why}"
    return unwritable
