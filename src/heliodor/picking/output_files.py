"""The files that picking leaves behind: RELION's, the tables of all micrographs, and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from heliodor.data.coordinates.formats import relion_autopick
from heliodor.data.coordinates.formats.tables import write_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source
from heliodor.evaluation.thresholds import sentences
from heliodor.picking import contamination, micrograph_quality
from heliodor.picking.batch import Picked
from heliodor.picking.journal import Journal
from heliodor.picking.series import write_series
from heliodor.picking.settings import PickSettings
from heliodor.utils import console

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
        Log-odds from which on they are picks.
    comments
        For the file's head.
    """
    chosen = candidates.select(candidates.score >= threshold)
    return relion_autopick.autopick_text(chosen.rounded(), comments)


def write_tables(
    picked: Picked,
    settings: PickSettings,
    folder: Path,
    files: Mapping[str, Path],
    journal: Journal,
) -> tuple[Picked, dict[str, float], list[str]]:
    """Write all tables, one micrograph in memory at a time.

    Parameters
    ----------
    picked, settings
        What was found, and how.
    folder
        For the tables of all micrographs.
    files
        The coordinate file of each micrograph.
    journal
        What is known of each.

    Returns
    -------
    Picked, dict, list
        With the quality of each micrograph; pixel sizes in angstrom; what to read of the
        threshold.
    """
    sizes: dict[str, float] = {}
    measured: dict[str, micrograph_quality.Measured] = {}
    refused, known = set[str](), False
    for name in picked.micrographs:
        found = journal.get(name)
        sizes[name], measured[name] = found.pixel_size_angstrom, found.measured
        refused |= {name} if found.refused else set()
        known |= found.bad_areas is not None
    rows = micrograph_quality.rows_of(picked.tables(), picked.threshold, measured, refused)
    outlook, head = picked.expected, []
    if outlook is not None:
        outlook = replace(outlook, picks=sum(row.picks for row in rows))
        head = sentences(outlook, settings.threshold, settings.max_fdr)
    picked = replace(picked, quality=rows, expected=outlook)
    changed = 0
    for name, own in picked.tables():
        # A streaming reader has had a first version, before the threshold was chosen.
        changed += not journal.write(files[name], coordinate_text(own, picked.threshold, head))
    if changed:
        console.warn(
            f"{changed} of the files *{ENDING} were changed since they were written, and are left"
            " as they are; remove them to have them written anew"
        )
    with_picks = {row.name: files[row.name] for row in rows if row.picks}
    relion_autopick.write_autopick_list(folder, with_picks, head)
    columns = [contamination.DISTANCE] if known else []
    write_picks(folder / "picks.tsv", picked.tables(), picked.threshold, sizes, columns)
    micrograph_quality.write_micrographs(folder / micrograph_quality.NAME, rows)
    write_series(folder, picked, settings, files)
    return picked, sizes, head


def write_masks(files: Mapping[str, Path], picked: Picked, wanted: bool) -> None:
    """Write the bad areas of each micrograph as an image, or remove those of an earlier run."""
    for name in picked.micrographs:
        found = picked.store.get(name).bad_areas if wanted else None
        if found is not None:
            found.write(files[name])
        elif files[name].is_file():
            files[name].unlink()
