"""Files of picks as Topaz writes them: one table of all images, or a file an image."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from heliodor.errors import BadInput
from heliodor.files import output_folder, write_text
from heliodor.picks import Picks

#: The columns of the table.
HEADER = "image_name\tx_coord\ty_coord\tscore\n"
#: The table in a folder.
IN_FOLDER = "extracted_particles.txt"
#: Formats whose files hold the picks of one micrograph.
ONE_MICROGRAPH = ("json", "box")
#: The columns of the VGG Image Annotator, and what it shows.
_ANNOTATIONS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)
_ANNOTATED = ".png"


class PickWriter:
    """Takes the picks of one image after another and writes them.

    Parameters
    ----------
    output
        A file or folder; standard output, or beside each image, where None.
    form
        coord, csv, star, json or box.
    per_micrograph
        Whether each image has its own file.
    suffix
        What follows the image's name in the names of such files.
    box_px
        Side of the boxes of box files.

    Raises
    ------
    BadInput
        If the format cannot be written there.
    """

    def __init__(
        self,
        output: str | None,
        form: str,
        per_micrograph: bool = False,
        suffix: str = "",
        box_px: int = 2,
    ) -> None:
        if form in ONE_MICROGRAPH and not per_micrograph:
            raise BadInput(
                f"a {form} file holds the picks of one micrograph; give --per-micrograph too"
            )
        if form == "star" and output is None and not per_micrograph:
            raise BadInput("a STAR file is not written to standard output; name it with -o")
        self._output = None if output is None else Path(output)
        self._form, self._suffix = form, suffix
        self._box_px = box_px
        self._per_micrograph = per_micrograph
        if per_micrograph and self._output is not None:
            output_folder(self._output)
        elif self._output is not None and self._output.is_dir():
            self._output = self._output / IN_FOLDER
        self._tables: list[Picks] = []

    def add(self, path: Path, picks: Picks) -> None:
        """Take the picks of one image, best first; their own file is written at once."""
        if not self._per_micrograph:
            self._tables.append(picks)
            return
        folder = path.parent if self._output is None else self._output
        name = f"{picks.micrographs[0]}{self._suffix}.{self._form}"
        write_picks(folder / name, self._form, [picks], self._box_px)

    def finish(self) -> None:
        """Write what is left: the table of all images."""
        if self._per_micrograph:
            return
        if self._output is None:
            sys.stdout.write(_text(self._form, self._tables))
            sys.stdout.flush()
            return
        write_picks(self._output, self._form, self._tables, self._box_px)


def write_picks(path: Path, form: str, tables: Iterable[Picks], box_px: int) -> None:
    """Write the picks of one or more images, each in its own table."""
    if form == "star":
        from heliodor.formats import star

        star.write_picks(path, Picks.concatenate(tables))
    elif form == "json":
        from heliodor.formats import eman2

        eman2.write_picks(path, Picks.concatenate(tables))
    elif form == "box":
        from heliodor.formats import box

        box.write_picks(path, Picks.concatenate(tables), box_px)
    else:
        write_text(path, _text(form, tables))


def _text(form: str, tables: Iterable[Picks]) -> str:
    return _annotations(tables) if form == "csv" else _table(tables)


def _table(tables: Iterable[Picks]) -> str:
    lines = [HEADER]
    for table in tables:
        name = table.micrographs[0]
        lines += [
            f"{name}\t{x:.0f}\t{y:.0f}\t{score}\n"
            for (x, y), score in zip(table.xy_px.tolist(), table.score.tolist(), strict=True)
        ]
    return "".join(lines)


def _annotations(tables: Iterable[Picks]) -> str:
    """Return the points as the VGG Image Annotator has them, which Topaz's csv means."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_ANNOTATIONS)
    for table in tables:
        name, rows = table.micrographs[0] + _ANNOTATED, zip(table.xy_px, table.score, strict=True)
        for number, ((x, y), score) in enumerate(rows):
            point = json.dumps({"name": "point", "cx": int(x), "cy": int(y)})
            own = json.dumps({"score": str(float(score))})
            writer.writerow([name, -1, "{}", len(table), number, point, own])
    return text.getvalue()
