"""Files of picks as `extract` writes them: one table of all images, or a file an image."""

from __future__ import annotations

from pathlib import Path

from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput
from heliodor.integrations.topaz.coordinate_writer import (
    box_text,
    coordinate_text,
    star_text,
    via_text,
    write_info,
)
from heliodor.integrations.topaz.reports import emit, table_file
from heliodor.utils.files import output_folder

#: Formats whose files hold the picks of one micrograph.
ONE_MICROGRAPH = ("json", "box")
#: What STAR files call images by.
IMAGE_EXT = ".mrc"


class PickFiles:
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
        self, output: str | None, form: str, per_micrograph: bool, suffix: str, box_px: int
    ) -> None:
        if form in ONE_MICROGRAPH and not per_micrograph:
            raise BadInput(
                f"a {form} file holds the picks of one micrograph; give --per-micrograph too"
            )
        self._output = None if output is None else Path(output)
        self._form, self._suffix, self._box_px = form, suffix, box_px
        self._per_micrograph = per_micrograph
        if per_micrograph and self._output is not None:
            output_folder(self._output)
        elif not per_micrograph:
            self._output = table_file(output)
        self._tables: list[Picks] = []

    def add(self, path: Path, picks: Picks) -> None:
        """Take the picks of one image, best first; its own file is written at once."""
        if not self._per_micrograph:
            self._tables.append(picks)
            return
        folder = path.parent if self._output is None else self._output
        file = folder / f"{picks.micrographs[0]}{self._suffix}.{self._form}"
        if self._form == "json":
            write_info(file, picks)
        else:
            emit(self._text(picks), file)

    def finish(self) -> None:
        """Write the table of all images, if they are to share one."""
        if not self._per_micrograph:
            emit(self._text(Picks.concatenate(self._tables)), self._output)

    def _text(self, picks: Picks) -> str:
        if self._form == "box":
            return box_text(picks, self._box_px)
        if self._form == "star":
            return star_text(picks, IMAGE_EXT)
        return via_text(picks) if self._form == "csv" else coordinate_text(picks)
