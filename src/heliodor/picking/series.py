"""Nested sets of picks at falling thresholds, each ready for extraction (Bepler et al., Fig. 3).

How many particles a reconstruction wants is known only afterwards. With the sets side by side
each can be extracted, classified and compared without picking again.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.formats import relion_autopick
from heliodor.errors import BadInput
from heliodor.evaluation.thresholds import (
    Estimate,
    falling_thresholds,
    outlooks,
    sentences,
)
from heliodor.picking.batch import Picked
from heliodor.picking.settings import PickSettings
from heliodor.utils.files import output_folder, write_text

#: The folder of the sets, in that of the picks.
FOLDER = "series"


def write_series(
    folder: Path, picked: Picked, settings: PickSettings, files: Mapping[str, Path]
) -> None:
    """Write the sets and ``series.tsv``, or remove an older series where none is wanted.

    Parameters
    ----------
    folder
        Of the picks. Set k becomes ``series/k/autopick.star`` with a file a micrograph.
    picked
        The candidates and the threshold in force, which is one of the series.
    settings
        Say how many sets.
    files
        The coordinate file of each micrograph, after which those of the sets are named.
    """
    where = folder / FOLDER
    for old in check_series(folder, files.values(), settings.threshold_series):
        shutil.rmtree(old)
    if where.is_dir() and not any(where.iterdir()):
        where.rmdir()
    (folder / "series.tsv").unlink(missing_ok=True)
    if not settings.threshold_series:
        return
    scores, calibration = picked.sheet.candidates, picked.calibration
    thresholds = falling_thresholds(
        calibration, scores, picked.threshold, settings.threshold_series
    )
    known = None if calibration is None else outlooks(calibration, scores, thresholds)
    rows = ["\t".join(COLUMNS)]
    for number, threshold in enumerate(thresholds, 1):
        head, figures = [f"set {number} of {len(thresholds)}, log-odds from {threshold:.3f}"], ""
        if known is not None:
            outlook = known[number - 1]
            head += sentences(outlook, threshold, None)[1:]
            figures = "\t".join(map(_cells, (outlook.precision, outlook.recall)))
        own = output_folder(where / str(number))
        nested, counts = {}, []
        for name, candidates in picked.tables():
            picks = candidates.select(candidates.score >= threshold)
            counts.append(len(picks))
            if len(picks):
                nested[name] = own / files[name].relative_to(folder)
                relion_autopick.write_one_autopick(nested[name], picks.rounded(), head)
        relion_autopick.write_autopick_list(own, nested, head)
        in_force = int(threshold == picked.threshold)
        rows.append(
            f"{number}\t{threshold:.3f}\t{in_force}\t{sum(counts)}\t{len(nested)}"
            f"\t{np.median(counts):g}\t{figures or _EMPTY}"
        )
    write_text(folder / "series.tsv", "\n".join(rows) + "\n")


def check_series(folder: Path, files: Iterable[Path], sets: int) -> set[Path]:
    """Return the sets of an older series, among which no picks lie: micrographs may lie there too.

    Parameters
    ----------
    folder, files
        As for `write_series`.
    sets
        How many are wanted; 0: none.

    Raises
    ------
    BadInput
        If the picks of micrographs lie where sets were, or are to be.
    """
    where = folder / FOLDER
    old = {path.parent for path in where.glob("[0-9]*/autopick.star")}
    taken = {where / str(number) for number in range(1, sets + 1)} | old
    for file in files:
        if not taken.isdisjoint(file.parents):
            raise BadInput(
                f"the picks {file} lie in the folder of the series; rename the folder"
                f" {FOLDER} of micrographs or pick without --threshold-series into a new folder"
            )
    return old


#: Columns of ``series.tsv``.
COLUMNS = (
    *("set", "threshold", "in_force", "picks", "micrographs", "median_picks"),
    *("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"),
)
_EMPTY = "\t" * 5


def _cells(estimate: Estimate) -> str:
    """Return an estimate and its band as cells of a table, empty where there is none."""
    values = (estimate.value, estimate.low, estimate.high)
    return "\t".join(f"{value:.4f}" if math.isfinite(value) else "" for value in values)
