"""The files that picking writes: RELION's, the tables of all micrographs, and masks."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from heliodor.data.coordinates.formats import relion_autopick
from heliodor.data.coordinates.formats.relion_suffix import PREFIX
from heliodor.data.coordinates.formats.tables import write_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.relion_project import RelionProject
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.evaluation.thresholds import (
    IntervalEstimate,
    choose_threshold_series,
    describe_threshold,
    predict_performances,
)
from heliodor.picking import contamination, micrograph_quality
from heliodor.picking.batch import PickingResult
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.journal import MicrographResult
from heliodor.picking.settings import PickSettings
from heliodor.utils.files import (
    LINK,
    create_subfolder,
    find_link,
    write_text,
)

log = logging.getLogger(__name__)

#: What the names of coordinate files end with.
ENDING = "_autopick.star"


def autopick_name(source: Source) -> str:
    """Return the name of a micrograph's coordinate file, as RELION has it."""
    return f"{source.output_stem}{ENDING}"


def coordinate_text(candidates: Picks, threshold: float, comments: Sequence[str] = ()) -> str:
    """Return the coordinate file of one micrograph's picks, as exact as picks.tsv.

    Parameters
    ----------
    candidates
        Of one micrograph.
    threshold
        Log-odds at or above which they are picks.
    comments
        For the head of the file.
    """
    chosen = candidates.select(candidates.score >= threshold)
    return relion_autopick.render_autopick(chosen.round_values(), comments)


def write_tables(
    picked: PickingResult,
    settings: PickSettings,
    folder: Path,
    files: Mapping[str, Path],
    journal: JoinedJournals[MicrographResult],
    whole_paths: bool = False,
    project: RelionProject | None = None,
    micrographs_star: Path | None = None,
    offsets: Mapping[str, float] = MappingProxyType({}),
) -> tuple[PickingResult, dict[str, float], list[str]]:
    """Write all tables, one micrograph in memory at a time.

    Parameters
    ----------
    picked, settings
        The result of picking, and its settings.
    folder
        For the tables of all micrographs.
    files
        The coordinate file of each micrograph.
    journal
        Has the result of each micrograph.
    whole_paths
        Whether RELION's lists have absolute paths of the coordinate files.
    project
        The RELION project whose paths the lists have, if it is known.
    micrographs_star
        The STAR file that lists the micrographs, if there is one.
    offsets
        By how much the threshold of some is higher, by name; their scores are lowered by as much.

    Returns
    -------
    Picked, dict, list
        The result with the quality of each micrograph; pixel sizes in angstrom; sentences about
        the threshold.
    """
    sizes: dict[str, float] = {}
    measured: dict[str, micrograph_quality.MicrographMeasurements] = {}
    refused, known = set[str](), False
    for name in picked.micrographs:
        found = picked.store.get(name)
        sizes[name], measured[name] = found.pixel_size_angstrom, found.measured
        refused |= {name} if found.refused else set()
        known |= found.contamination is not None
    rows = micrograph_quality.assess_micrographs(
        picked.tables(), picked.threshold, measured, refused, offsets
    )
    outlook, head = picked.expected, []
    if outlook is not None:
        outlook = replace(outlook, picks=sum(row.picks for row in rows))
        head = describe_threshold(outlook, settings.threshold, settings.max_fdr)
    picked = replace(picked, quality=rows, expected=outlook)
    changed = 0
    for name, own in picked.tables():
        # A first version was written before the threshold was chosen.
        changed += not journal.write(files[name], coordinate_text(own, picked.threshold, head))
    if changed:
        log.warning(
            f"{changed} of the files *{ENDING} were changed since they were written and are kept;"
            " remove them to have them written again"
        )
    with_picks = {row.name: files[row.name] for row in rows if row.picks}
    relion_autopick.write_autopick_list(folder, with_picks, head, whole_paths, project)
    columns = [contamination.DISTANCE] if known else []
    write_picks(folder / "picks.tsv", picked.tables(), picked.threshold, sizes, columns)
    micrograph_quality.write_micrographs(folder / micrograph_quality.NAME, rows)
    write_series(folder, picked, settings, files, whole_paths, project, micrographs_star)
    return picked, sizes, head


def write_masks(files: Mapping[str, Path], picked: PickingResult, wanted: bool) -> None:
    """Write the contamination of each micrograph as an image, or remove that of an earlier run."""
    for name in picked.micrographs:
        found = picked.store.get(name).contamination if wanted else None
        if found is not None:
            found.write(files[name])
        elif files[name].is_file():
            files[name].unlink()


#: The folder of the sets, in that of the picks.
FOLDER = "series"


def write_series(
    folder: Path,
    picked: PickingResult,
    settings: PickSettings,
    files: Mapping[str, Path],
    whole_paths: bool = False,
    project: RelionProject | None = None,
    micrographs_star: Path | None = None,
) -> None:
    """Write the sets and ``series.tsv``, or remove an older series if none is wanted.

    Parameters
    ----------
    folder
        Of the picks. Set k becomes ``series/k/autopick.star`` with a file per micrograph.
    picked
        The candidates, and the threshold in force, which is one of the series.
    settings
        With the number of sets.
    files
        The coordinate file of each micrograph, after which those of the sets are named.
    whole_paths
        Whether RELION's lists have absolute paths of the coordinate files.
    project
        The RELION project whose paths the lists have, if it is known.
    micrographs_star
        The STAR file that lists the micrographs, if there is one; RELION 3.1 finds coordinates by
        a file that names it.
    """
    where = folder / FOLDER
    for old in list_series_folders(folder):
        shutil.rmtree(old)
    if where.is_dir() and not any(where.iterdir()):
        where.rmdir()
    (folder / "series.tsv").unlink(missing_ok=True)
    if not settings.threshold_series:
        return
    scores, calibration = picked.sheet.candidates, picked.calibration
    thresholds = choose_threshold_series(
        calibration, scores, picked.threshold, settings.threshold_series
    )
    known = None if calibration is None else predict_performances(calibration, scores, thresholds)
    rows = ["\t".join(COLUMNS)]
    for number, threshold in enumerate(thresholds, 1):
        head, figures = [f"set {number} of {len(thresholds)}, log-odds from {threshold:.3f}"], ""
        if known is not None:
            outlook = known[number - 1]
            head += describe_threshold(outlook, threshold, None)[1:]
            figures = "\t".join(map(_cells, (outlook.precision, outlook.recall)))
        own = create_subfolder(folder, f"{FOLDER}/{number}")
        nested, counts = {}, []
        for name, candidates in picked.tables():
            picks = candidates.select(candidates.score >= threshold)
            counts.append(len(picks))
            if len(picks):
                nested[name] = own / files[name].relative_to(folder)
                relion_autopick.write_one_autopick(nested[name], picks.round_values(), head)
        relion_autopick.write_autopick_list(own, nested, head, whole_paths, project)
        suffix = own / f"{PREFIX}{ENDING}"
        if micrographs_star is not None and suffix not in nested.values():
            named = (
                micrographs_star.absolute().as_posix()
                if whole_paths and project is None
                else micrographs_star.as_posix()
                if project is None
                else project.relative(micrographs_star)
            )
            write_text(suffix, f"{named}\n")
        in_force = int(threshold == picked.threshold)
        rows.append(
            f"{number}\t{threshold:.3f}\t{in_force}\t{sum(counts)}\t{len(nested)}"
            f"\t{np.median(counts):g}\t{figures or _EMPTY}"
        )
    write_text(folder / "series.tsv", "\n".join(rows) + "\n")


def list_series_folders(folder: Path, sets: int = 0) -> set[Path]:
    """Return the folders of an older series, and those of a new one of so many sets.

    Raises
    ------
    BadInput
        If one of them is a link.
    """
    where = folder / FOLDER
    old = {path.parent for path in where.glob("[0-9]*/autopick.star")}
    taken = {where / str(number) for number in range(1, sets + 1)} | old
    for own in taken:
        if (link := find_link(folder, own)) is not None:
            raise BadInput(LINK.format(link=link))
    return taken


#: Columns of ``series.tsv``.
COLUMNS = (
    *("set", "threshold", "in_force", "picks", "micrographs", "median_picks"),
    *("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"),
)


_EMPTY = "\t" * 5


def _cells(estimate: IntervalEstimate) -> str:
    """Return an estimate and its band as cells of a table, empty where they are not known."""
    values = (estimate.value, estimate.low, estimate.high)
    return "\t".join(f"{value:.4f}" if math.isfinite(value) else "" for value in values)
