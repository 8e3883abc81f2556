"""Write coordinate files in the layouts of Topaz."""

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
from heliodor.data.star import quote_column
from heliodor.errors import BadInput
from heliodor.integrations.topaz.output import table_file, write_output
from heliodor.utils.files import create_output_folder, write_text

#: STAR column of the score, and that of an older command.
SCORE, OLD_SCORE = "AutopickFigureOfMerit", "ParticleScore"


def format_numbers(column: Any) -> list[str]:
    """Format a column as text: integers if all are, otherwise the shortest exact decimals."""
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
        The picks; there is a column of scores if any pick has a score.
    extra
        Whether to add the extra columns of the picks.
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
    """Return one STAR block of picks, with `image_ext` appended to the micrographs' names.

    Parameters
    ----------
    picks
        The picks.
    image_ext
        Suffix of the micrographs' names, such as ``.mrc``.
    more
        Further columns by name without ``rln``, each with one constant value.
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
    """Return one table as a block of a STAR file, with tabs between the columns."""
    lines = [f"data_{name}", "loop_"]
    lines += [f"_{title} #{number}" for number, title in enumerate(columns, 1)]
    cells = [quote_column(title, [*values]) for title, values in columns.items()]
    lines += ["\t".join(row) for row in zip(*cells, strict=True)]
    return "\n".join(lines) + "\n"


def render_via(picks: Picks) -> str:
    """Return a CSV file of the VGG Image Annotator, one point per pick on a PNG image."""
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
    """Return lines ``x y width height`` with x and y of the corner nearest to pixel (0, 0).

    The center of a box is the pixel at half its size, rounded down.
    """
    corners = np.rint(picks.xy_px).astype(int) - box_px // 2
    return "".join(f"{x}\t{y}\t{box_px}\t{box_px}\n" for x, y in corners)


def write_boxes(folder: str | Path, picks: Picks, box_px: int, suffix: str = "") -> None:
    """Write a ``.box`` file for each micrograph with picks.

    Raises
    ------
    BadInput
        If the box size is not positive.
    """
    if box_px <= 0:
        raise BadInput(f"the box size must be 1 or more pixels, not {box_px}; give --boxsize")
    for file, own in assign_files(folder, picks, f"{suffix}.box").items():
        write_text(file, render_boxes(own, box_px))


def write_eman2(folder: str | Path, picks: Picks, suffix: str = "") -> None:
    """Write an EMAN2 ``_info.json`` file for each micrograph with picks, replacing its boxes."""
    for file, own in assign_files(folder, picks, f"{suffix}{eman2.SUFFIX}").items():
        write_eman2_file(file, own)


def write_eman2_file(path: Path, picks: Picks) -> None:
    """Write the picks of one micrograph to an EMAN2 file, replacing its boxes."""
    kind = {eman2.TYPE: np.full(len(picks), "manual", dtype=object)}
    # EMAN2 would mistake a score for one of its own picker.
    eman2.write_picks(path, replace(picks, score=np.full(len(picks), np.nan), extra=kind))


def assign_files(folder: str | Path, picks: Picks, ending: str) -> dict[Path, Picks]:
    """Return the file for each micrograph with picks, in subfolders as in the micrograph's name.

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
                f"the picks of {other.micrographs[0]} and {name} would have the same file {file};"
                " convert the folders separately"
            )
    return files


def _file_below(folder: str | Path, name: str, ending: str) -> Path:
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return Path(folder, *parts[:-1], f"{parts[-1] if parts else 'micrograph'}{ending}")


#: Formats with one file per micrograph.
ONE_MICROGRAPH = ("json", "box")


#: Suffix of the images in STAR files.
IMAGE_EXT = ".mrc"


class PickWriter:
    """Write the picks of one image after another.

    Parameters
    ----------
    output
        A file or folder; None writes to standard output, or next to each image.
    form
        coord, csv, star, json or box.
    per_micrograph
        Whether each image has its own file.
    suffix
        Suffix that such files append to the image's name.
    box_px
        Box size of box files.

    Raises
    ------
    BadInput
        If the format cannot be written to one file.
    """

    def __init__(
        self, output: str | None, form: str, per_micrograph: bool, suffix: str, box_px: int
    ) -> None:
        if form in ONE_MICROGRAPH and not per_micrograph:
            raise BadInput(f"a {form} file can hold only one micrograph; add --per-micrograph")
        self._output = None if output is None else Path(output)
        self._form, self._suffix, self._box_px = form, suffix, box_px
        self._per_micrograph = per_micrograph
        if per_micrograph and self._output is not None:
            create_output_folder(self._output)
        elif not per_micrograph:
            self._output = table_file(output)
        self._tables: list[Picks] = []

    def add(self, path: Path, picks: Picks) -> None:
        """Add the picks of one image, best first; if it has its own file, write it now."""
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
        """Write the table of all images, if they share one."""
        if not self._per_micrograph:
            write_output(self._text(Picks.concatenate(self._tables)), self._output)

    def _text(self, picks: Picks) -> str:
        if self._form == "box":
            return render_boxes(picks, self._box_px)
        if self._form == "star":
            return render_star(picks, IMAGE_EXT)
        return render_via(picks) if self._form == "csv" else render_coordinates(picks)
