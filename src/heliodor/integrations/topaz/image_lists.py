"""Read the lists of images and particles that hosts write.

A list of images is a table ``image_name path [source]``, or a folder. The name in the list is that
of the micrograph: Scipion lists ``000012`` for ``12.mrc``. Coordinates are assigned to the image
with that name, with or without suffix, or otherwise to the image with that file name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.formats.filament_columns import HoldsFilaments, describe_filaments
from heliodor.data.coordinates.label_assignment import LabeledSource, assign_labels
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import find_name_fault, micrograph_stem, strip_image_suffix
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.errors import BadInput
from heliodor.integrations.topaz.coordinate_reader import read_coordinates
from heliodor.integrations.topaz.output import report

#: Suffix of image files in a list without paths.
DEFAULT_SUFFIX = ".mrc"


def find_duplicate(names: Sequence[str]) -> str | None:
    """Return the first name that occurs more than once, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def read_images(where: str | Path, image_ext: str = "") -> list[Source]:
    """Read a list of images, or list the images of a folder.

    Parameters
    ----------
    where
        The table or the folder.
    image_ext
        Suffix of the files to use of a folder; all MRC and TIFF files if empty.

    Raises
    ------
    BadInput
        If there is no image, or two images have the same name.
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
            raise BadInput(f"the folder {path} contains no image that ends in {image_ext}")
    else:
        sources = [Source(name, file, name) for name, file in _read_rows(path)]
    by_name: dict[str, Source] = {}
    for source in sources:
        other = by_name.setdefault(strip_image_suffix(source.name), source)
        if other.path != source.path:
            raise BadInput(
                f"{path} has two images called {strip_image_suffix(source.name)}, {other.path} and"
                f" {source.path}; rename one of them"
            )
    return list(by_name.values())


def _read_rows(path: Path) -> list[tuple[str, Path]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the list of images {path} cannot be read ({error})") from error
    # Paths may contain spaces, so lines with tabs are split only at tabs.
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
        if row == rows[0]:
            continue  # lists written one behind another
        if len(row) < least:
            raise BadInput(f"the list of images {path} lacks a column in row {number}")
        for cell in (row[name], row[name if file is None else file]):
            if (fault := find_name_fault(cell)) is not None:
                raise BadInput(
                    f"the list of images {path} names {cell} in row {number}, which {fault}"
                )
        listed.append(
            (row[name], Path(row[file] if file is not None else _default_file_name(row[name])))
        )
    if not listed:
        raise BadInput(f"the list of images {path} is empty")
    if origin is not None and len({row[origin] for row in rows[1:]}) > 1:
        report("the column source has no effect: images are sampled in proportion to their labels")
    return listed


def _split_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def _default_file_name(name: str) -> str:
    return name if strip_image_suffix(name) != name else name + DEFAULT_SUFFIX


def read_labeled(
    images: str | Path, targets: str | Path, image_ext: str = "", form: str = "auto"
) -> list[LabeledSource]:
    """Read a list of images and their particles; images without particles are included.

    Parameters
    ----------
    images, image_ext
        As for `read_images`.
    targets
        Coordinates of the particles.
    form
        Format of the coordinates, or ``auto``.

    Raises
    ------
    BadInput
        If a file cannot be used, it holds filaments, or none of the particles is on one of the
        images.
    """
    sources = read_images(images, image_ext)
    table = rename_as_listed(read_coordinates(targets, form), sources)
    if (why := describe_filaments(table)) is not None:
        raise HoldsFilaments(targets, why)
    try:
        labeled, notes = assign_labels(table, sources)
    except BadInput as error:
        raise BadInput(f"{targets}: {error}") from error
    for note in notes:
        report(note)
    # Coordinates are in pixels of these images, even if their table has another pixel size.
    return [replace(item, pixel_size_angstrom=None) for item in labeled]


def rename_as_listed(table: Picks, sources: Sequence[Source]) -> Picks:
    """Rename the images of a table that uses file names instead of the listed names.

    Rows of one image that had two names are merged.
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
    """Return the labeled images for training, and those of the fold for testing.

    Raises
    ------
    BadInput
        If there are more folds than labeled images, or the fold does not exist.
    """
    having = [item for item in labeled if len(item.xy_px)]
    if not 2 <= folds <= len(having):
        raise BadInput(
            f"{len(having)} labeled images cannot be split into {folds} folds; --k-fold must be"
            " between 2 and the number of labeled images"
        )
    if not 0 <= fold < folds:
        raise BadInput(f"--fold must be between 0 and {folds - 1}, not {fold}")
    if seed < 0:
        raise BadInput(f"--cross-validation-seed must be 0 or more, not {seed}")
    held = set(np.random.default_rng(seed).permutation(len(having))[fold::folds].tolist())
    kept = [item for place, item in enumerate(having) if place not in held]
    return kept, [item for place, item in enumerate(having) if place in held]
