"""Coordinate files in the layouts that Topaz writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data.coordinates.formats import eman2, via
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import strip_image_suffix
from heliodor.errors import BadInput
from heliodor.integrations.topaz.output import table_file, write_output
from heliodor.utils.files import create_output_folder, write_text

#: What names the score in the STAR files that are written, and in those of an older command.
SCORE, OLD_SCORE = "AutopickFigureOfMerit", "ParticleScore"


def format_numbers(column: Any) -> list[str]:
    """Return a column as text: whole numbers if all are whole, else as short as is exact."""
    values = np.asarray(column, dtype=np.float64)
    if np.isfinite(values).all() and (values == np.rint(values)).all():
        return [str(int(value)) for value in values]
    return [repr(float(value)) for value in values]


def _format_scores(picks: Picks) -> list[str] | None:
    if len(picks) and np.isnan(picks.score).all():
        return None
    return ["" if np.isnan(s) else repr(float(s)) for s in picks.score]


def render_coordinates(picks: Picks, extra: bool = False) -> str:
    """Return a table ``image_name x_coord y_coord [score]``, tabs between the columns.

    Parameters
    ----------
    picks
        The picks; a column of scores is there if any pick has one.
    extra
        Whether the columns that mean nothing here follow.
    """
    columns = {
        "image_name": picks.names(),
        "x_coord": format_numbers(picks.xy_px[:, 0]),
        "y_coord": format_numbers(picks.xy_px[:, 1]),
    }
    if extra:
        columns |= {name: [str(v) for v in values] for name, values in picks.extra.items()}
    scores = _format_scores(picks)
    if scores is not None:
        columns["score"] = scores
    return _render_table(columns, "\t")


def _render_table(
    columns: Mapping[str, Sequence[str]], delimiter: str, header: bool = True
) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return stream.getvalue()


def render_star(picks: Picks, image_ext: str, more: Mapping[str, float] | None = None) -> str:
    """Return one STAR block of picks, micrographs called by their name and `image_ext`.

    Parameters
    ----------
    picks
        The picks.
    image_ext
        What micrographs' names end with, such as ``.mrc``.
    more
        Further columns by name without ``rln``, each of one value.
    """
    scores = _format_scores(picks)
    columns = {} if scores is None else {SCORE: [score or "nan" for score in scores]}
    columns |= {
        "MicrographName": [f"{name}{image_ext}" for name in picks.names()],
        "CoordinateX": format_numbers(picks.xy_px[:, 0]),
        "CoordinateY": format_numbers(picks.xy_px[:, 1]),
    }
    columns |= {name: [repr(float(v))] * len(picks) for name, v in (more or {}).items()}
    return render_star_block("images", {f"rln{name}": column for name, column in columns.items()})


def render_star_block(name: str, columns: Mapping[str, Sequence[str]]) -> str:
    """Return one table as a block of a STAR file, tabs between the columns."""
    lines = [f"data_{name}", "loop_"]
    lines += [f"_{title} #{number}" for number, title in enumerate(columns, 1)]
    lines += ["\t".join(map(_quote_cell, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n"


def _quote_cell(text: str) -> str:
    return f'"{text}"' if not text or any(c.isspace() for c in text) else text


def render_via(picks: Picks) -> str:
    """Return a CSV file of the VGG Image Annotator, one point a pick of a PNG picture."""
    counts = picks.counts()
    seen = [0] * len(picks.micrographs)
    rows: list[tuple[str, ...]] = [via.COLUMNS]
    x, y = (format_numbers(column) for column in picks.xy_px.T)
    scores = _format_scores(picks) or [""] * len(picks)
    for i, number in enumerate(picks.micrograph_index):
        shape = f'{{"name":"point","cx":{x[i]},"cy":{y[i]}}}'
        known = json.dumps({"score": scores[i]} if scores[i] else {}, separators=(",", ":"))
        count, ident = str(counts[number]), str(seen[number])
        name = f"{picks.micrographs[number]}.png"
        rows.append((name, "-1", "{}", count, ident, shape, known))
        seen[number] += 1
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def render_boxes(picks: Picks, box_px: int) -> str:
    """Return lines ``x y width height``, x and y of the corner nearest to pixel (0, 0).

    Boxes may be of an odd size, whose middle is then the pixel at half the size rounded down.
    """
    corners = np.rint(picks.xy_px).astype(int) - box_px // 2
    return "".join(f"{x}\t{y}\t{box_px}\t{box_px}\n" for x, y in corners)


def write_boxes(folder: str | Path, picks: Picks, box_px: int, suffix: str = "") -> None:
    """Write a ``.box`` file for each micrograph with picks.

    Raises
    ------
    BadInput
        If the size of the boxes is not positive.
    """
    if box_px <= 0:
        raise BadInput(f"boxes of {box_px} pixels cannot be written; give --boxsize")
    for file, own in assign_files(folder, picks, f"{suffix}.box").items():
        write_text(file, render_boxes(own, box_px))


def write_eman2(folder: str | Path, picks: Picks, suffix: str = "") -> None:
    """Write an ``_info.json`` file for each micrograph with picks, in place of its boxes."""
    for file, own in assign_files(folder, picks, f"{suffix}{eman2.SUFFIX}").items():
        write_eman2_file(file, own)


def write_eman2_file(path: Path, picks: Picks) -> None:
    """Write the picks of one micrograph into a file of EMAN2's, in place of its boxes."""
    kind = {eman2.TYPE: np.full(len(picks), "manual", dtype=object)}
    # A score would be taken for that of EMAN2's own picker.
    eman2.write_picks(path, replace(picks, score=np.full(len(picks), np.nan), extra=kind))


def assign_files(folder: str | Path, picks: Picks, ending: str) -> dict[Path, Picks]:
    """Return the file of each micrograph with picks: below the folder, wherever its name leads.

    Raises
    ------
    BadInput
        If two micrographs would share a file.
    """
    files: dict[Path, Picks] = {}
    for name, own in picks.split_by_micrograph():
        file = _file_below(folder, strip_image_suffix(name), ending)
        if len(own) and (other := files.setdefault(file, own)) is not own:
            raise BadInput(
                f"the picks of {other.micrographs[0]} and of {name} would both be in {file}; give"
                " the folders apart"
            )
    return files


def _file_below(folder: str | Path, name: str, ending: str) -> Path:
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return Path(folder, *parts[:-1], f"{parts[-1] if parts else 'micrograph'}{ending}")


#: Formats whose files hold the picks of one micrograph.
ONE_MICROGRAPH = ("json", "box")


#: What STAR files call images by.
IMAGE_EXT = ".mrc"


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
            create_output_folder(self._output)
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
            write_eman2_file(file, picks)
        else:
            write_output(self._text(picks), file)

    def finish(self) -> None:
        """Write the table of all images, if they are to share one."""
        if not self._per_micrograph:
            write_output(self._text(Picks.concatenate(self._tables)), self._output)

    def _text(self, picks: Picks) -> str:
        if self._form == "box":
            return render_boxes(picks, self._box_px)
        if self._form == "star":
            return render_star(picks, IMAGE_EXT)
        return render_via(picks) if self._form == "csv" else render_coordinates(picks)
