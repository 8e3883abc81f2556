"""A judgement as tables, for files and the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from heliodor.conventions import FloatArray
from heliodor.reconstruction.judgement import Judgement
from heliodor.reconstruction.junk import Share
from heliodor.utils.console import align_columns

#: Which averages they are if RELION did not make them.
OWN_AVERAGES: Final = (
    "the class averages are heliodor's own, as there is no RELION on the PATH: quick groups of"
    " crops that look alike, not a 2D classification"
)


def as_dict(judgement: Judgement) -> dict[str, Any]:
    """Return a judgement as dictionaries and lists; numbers may be nan or infinite."""
    sets = []
    for one in judgement.sets:
        maps = None
        if one.maps is not None:
            maps = asdict(one.maps) | {
                "resolution_angstrom": one.maps.resolution_angstrom.tolist(),
                "area": one.maps.area.tolist(),
            }
        sets.append(
            {
                "threshold": one.threshold,
                "picks": one.picks,
                "false_share": one.false_share,
                "maps": maps,
            }
        )
    found = {
        "bins": [asdict(each) for each in judgement.bins],
        "sets": sets,
        "by_classes": None if judgement.by_classes is None else asdict(judgement.by_classes),
        "by_maps": None if judgement.by_maps is None else asdict(judgement.by_maps),
        "junk_below": judgement.junk_below,
        "worse_below": judgement.worse_below,
        "left_out": judgement.left_out,
        "reversed_known": judgement.reversed_known,
        "classes_by": judgement.classes_by,
    }
    return found


_SET_COLUMNS = (
    *("threshold", "picks", "false_share", "resolution_angstrom", "resolution_scatter"),
    *("fsc_area", "fsc_area_scatter", "offset_angstrom"),
)
_BIN_COLUMNS = (
    *("low", "high", "picks", "junk_share", "junk_share_error", "reversed_picks", "false_share"),
    *("map_junk_share", "map_junk_share_error"),
)


def _cell(value: float | None, digits: int = 3) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def render_sets(judgement: Judgement) -> str:
    """Return the table of the sets as TSV."""
    return _to_tsv(_SET_COLUMNS, _set_rows(judgement))


def render_bins(judgement: Judgement) -> str:
    """Return the table of the picks between thresholds as TSV."""
    return _to_tsv(_BIN_COLUMNS, _bin_rows(judgement))


def _set_rows(judgement: Judgement) -> list[list[str]]:
    rows = []
    for one in judgement.sets:
        maps = one.maps
        row = [_cell(one.threshold), str(one.picks), _cell(one.false_share)]
        row += (
            [""] * 5
            if maps is None
            else [
                _cell(float(maps.resolution_angstrom.mean()), 2),
                _cell(float(maps.resolution_angstrom.std(ddof=1)), 2),
                _cell(float(maps.area.mean()), 5),
                _cell(float(maps.area.std(ddof=1)), 5),
                _cell(maps.offset_angstrom, 1),
            ]
        )
        rows.append(row)
    return rows


def _bin_rows(judgement: Judgement) -> list[list[str]]:
    return [
        [
            *(_cell(each.low), _cell(each.high), str(each.picks)),
            *(_cell(each.junk.value), _cell(each.junk.error)),
            *(_cell(each.reversed_picks, 1), _cell(each.false_share)),
            *_map_cells(each.as_decoys_in_map),
        ]
        for each in judgement.bins
    ]


def _map_cells(share: Share | None) -> list[str]:
    return ["", ""] if share is None else [_cell(share.value), _cell(share.error)]


def _to_tsv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("\t".join(row) for row in [columns, *rows]) + "\n"


def render_judgement(judgement: Judgement) -> str:
    """Return the judgement as text for the terminal."""
    head = ("threshold", "picks", "false", "resolution Å", "FSC area", "offset Å")
    rows = [head]
    for one in judgement.sets:
        maps = one.maps
        rows.append(
            (
                "–" if math.isnan(one.threshold) else f"{one.threshold:.3f}",
                str(one.picks),
                "–" if math.isnan(one.false_share) else f"{one.false_share:.2f}",
                "" if maps is None else spell_scatter(maps.resolution_angstrom, 2),
                "" if maps is None else spell_scatter(maps.area, 4),
                "" if maps is None else f"{maps.offset_angstrom:.1f}",
            )
        )
    lines = align_columns(rows)
    if judgement.classes_by == "heliodor":
        lines.append(OWN_AVERAGES)
    if any(one.maps is not None and one.maps.reaches_nyquist for one in judgement.sets):
        lines.append("the resolution is limited by the pixel size of the images: --image-px")
    if judgement.junk_below is not None:
        lines.append(describe_junk(judgement.junk_below))
    if judgement.worse_below is not None:
        lines.append(f"below {judgement.worse_below:.3f}, added picks make the map worse")
    if (chosen := judgement.recommendation) is not None:
        lines.append(f"recommended: --threshold {chosen.threshold:.3f}: {chosen.reason}")
    return "\n".join(lines)


def spell_scatter(values: FloatArray, digits: int) -> str:
    """Return the mean and the standard deviation of the splits."""
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def describe_junk(below: float) -> str:
    """Return the sentence about the threshold below which most of the added picks are false."""
    if math.isinf(below):
        return "most of the picks are false, even those with the highest scores"
    return f"below {below:.3f}, most of the added picks are false"
