"""The lists that hosts write: which images there are, and which particles lie on them.

A list of images is a table ``image_name path [source]``, or a folder. The name in the list is
the micrograph's: Scipion lists ``000012`` for ``12.mrc``. Coordinates find their image by that
name, with or without a suffix, and where no image has it by the name of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.label_assignment import LabeledSource, assign_labels
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import find_name_fault, micrograph_stem, strip_image_suffix
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.errors import BadInput
from heliodor.integrations.topaz.coordinate_reader import read_coordinates
from heliodor.integrations.topaz.output import report

#: What an image is called in a list that names no files.
DEFAULT_SUFFIX = ".mrc"


def find_duplicate(names: Sequence[str]) -> str | None:
    """Return the first name that stands twice, if one does."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def read_images(where: str | Path, image_ext: str = "") -> list[Source]:
    """Read a list of images, or list a folder.

    Parameters
    ----------
    where
        The table or the folder.
    image_ext
        Of a folder only the files with this suffix; all MRC and TIFF files by default.

    Raises
    ------
    BadInput
        If there is no image, or a name stands for two of them.
    """
    path = Path(where)
    if path.is_dir():
        found = find_sources(path)
        sources = [
            Source(micrograph_stem(s.path), s.path, s.output_stem)
            for s in found
            if s.path.name.lower().endswith(image_ext.lower())
        ]
        if not sources:
            raise BadInput(f"the folder {path} holds no image that ends in {image_ext}")
    else:
        sources = [Source(name, file, name) for name, file in _read_rows(path)]
    by_name: dict[str, Source] = {}
    for source in sources:
        other = by_name.setdefault(strip_image_suffix(source.name), source)
        if other.path != source.path:
            raise BadInput(
                f"{path} has two images called {strip_image_suffix(source.name)}, {other.path} and"
                f" {source.path}; give each its own name"
            )
    return list(by_name.values())


def _read_rows(path: Path) -> list[tuple[str, Path]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the list of images {path} cannot be read ({error})") from error
    # A path may hold spaces, so tabs part the columns wherever there are any.
    rows = [_split_cells(line) for line in lines if line.strip()]
    header = [title.lower() for title in rows[0]] if rows else []
    if "image_name" not in header:
        raise BadInput(
            f"the list of images {path} has no header with the column image_name; give a table"
            " with the columns image_name and path"
        )
    name, file = header.index("image_name"), None
    if "path" in header:
        file = header.index("path")
    origin = header.index("source") if "source" in header else None
    least = max(name, file or 0, origin or 0) + 1
    listed = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) < least:
            raise BadInput(f"the list of images {path} lacks a column in its row {number}")
        for cell in (row[name], row[name if file is None else file]):
            if (fault := find_name_fault(cell)) is not None:
                raise BadInput(
                    f"the list of images {path} names {cell} in its row {number}, which {fault}"
                )
        listed.append(
            (row[name], Path(row[file] if file is not None else _default_file_name(row[name])))
        )
    if not listed:
        raise BadInput(f"the list of images {path} is empty")
    if origin is not None and len({row[origin] for row in rows[1:]}) > 1:
        report(
            "The column source is left aside: images are drawn from in proportion to their labels."
        )
    return listed


def _split_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def _default_file_name(name: str) -> str:
    return name if strip_image_suffix(name) != name else name + DEFAULT_SUFFIX


def read_labeled(
    images: str | Path, targets: str | Path, image_ext: str = "", form: str = "auto"
) -> list[LabeledSource]:
    """Read a list of images and the particles on them; images without any stay listed.

    Parameters
    ----------
    images, image_ext
        As for `read_images`.
    targets
        The coordinates.
    form
        Their format, or auto.

    Raises
    ------
    BadInput
        If a file cannot be used, or none of the particles lies on any of the images.
    """
    sources = read_images(images, image_ext)
    table = rename_as_listed(read_coordinates(targets, form), sources)
    try:
        labeled, notes = assign_labels(table, sources)
    except BadInput as error:
        raise BadInput(f"{targets}: {error}") from error
    for note in notes:
        report(note)
    # Coordinates are in the pixels of these images, whatever sampling their table may speak of.
    return [replace(item, pixel_size_angstrom=None) for item in labeled]


def rename_as_listed(table: Picks, sources: Sequence[Source]) -> Picks:
    """Call the images of a table as they are listed, where it goes by their files' names.

    Rows of one image that went by two names end up under one.
    """
    listed = {strip_image_suffix(source.name) for source in sources}
    by_file = {micrograph_stem(source.path): source.name for source in sources}

    def own(name: str) -> str:
        stem = micrograph_stem(name)
        return name if stem in listed else by_file.get(stem, name)

    return table.rename_micrographs([own(name) for name in table.micrographs])


def split_folds(
    labeled: Sequence[LabeledSource], folds: int, fold: int, seed: int
) -> tuple[list[LabeledSource], list[LabeledSource]]:
    """Return the labeled images that are trained on, and those of the fold held out.

    Raises
    ------
    BadInput
        If there are more folds than labeled images, or the fold is none of them.
    """
    having = [item for item in labeled if len(item.xy_px)]
    if not 2 <= folds <= len(having):
        raise BadInput(
            f"{len(having)} labeled images cannot be split into {folds} folds; --k-fold must be"
            " from 2 to the number of labeled images"
        )
    if not 0 <= fold < folds:
        raise BadInput(f"--fold {fold} is none of the {folds} folds, which count from 0")
    if seed < 0:
        raise BadInput(f"--cross-validation-seed must be 0 or more, not {seed}")
    held = set(np.random.default_rng(seed).permutation(len(having))[fold::folds].tolist())
    kept = [item for place, item in enumerate(having) if place not in held]
    return kept, [item for place, item in enumerate(having) if place in held]
