"""The report of `pick --filaments`, gathered from its results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heliodor.data.filaments.filament import Filament
from heliodor.data.micrographs.micrograph import open_micrograph
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.picking.filaments.batch import TracedMicrograph
from heliodor.picking.filaments.width import profile_positions
from heliodor.report.filament_page import FilamentItem, FilamentReport, render_filament_page
from heliodor.utils.files import write_text
from heliodor.workflows.pick_filaments import FilamentPicks

#: Number of micrographs that are drawn, and the longest side of their images in pixels.
GALLERY, LONGEST_PX = 6, 1400


def write_filament_report(path: Path, picked: FilamentPicks, sources: Sequence[Source]) -> None:
    """Write the report to a file, whole or not at all."""
    write_text(path, render_filament_page(gather(picked, sources)))


def gather(picked: FilamentPicks, sources: Sequence[Source]) -> FilamentReport:
    """Return what the report shows."""
    result, table, record = picked.result, picked.filaments, picked.record
    own = dict(table.split_by_micrograph())
    sizes = table.pixel_sizes
    rows = [
        (name, len(found), sum(one.length_px for one in found) * sizes[name])
        for name, found in own.items()
    ]
    lengths = np.array([one.length_px * sizes[one.micrograph] for one in table])
    straight = np.array([_straightness(one) for one in table])
    expected = result.expected
    figures = [
        ("Filaments", f"{len(table):,}"),
        ("Micrographs", f"{len(rows):,}"),
        ("Length in all", f"{lengths.sum() / 1e4:,.1f} µm"),
    ]
    if not math.isnan(expected.precision):
        figures.append(("Length that is correct (estimated)", f"{expected.precision:.0%}"))
    settings = [
        ("Model", str(record.arguments.get("model") or "general filament model")),
        ("Width", f"{result.width_angstrom:g} Å"),
        ("Threshold", f"{result.threshold:.3f} (log-odds)"),
    ]
    if not math.isnan(picked.measured_width_angstrom):
        measured = f"{picked.measured_width_angstrom:.0f} Å"
        settings.append(("Width that the filaments show", measured))
    return FilamentReport(
        title=f"{len(table):,} filaments on {len(rows):,} micrographs",
        command=record.command_line,
        warnings=record.notes,
        skipped=[(failure.name, failure.reason) for failure in record.failures],
        settings=settings,
        key_figures=figures,
        width_angstrom=result.width_angstrom,
        lengths_angstrom=lengths,
        straightness=straight,
        scores=np.concatenate([np.zeros(0), *(one.scores() for one in result.micrographs)]),
        threshold=result.threshold,
        profile=result.mean_profile(),
        profile_positions=profile_positions(),
        micrographs=rows,
        gallery=_choose_items(picked, sources),
    )


def _straightness(one: Filament) -> float:
    """Return the distance of the ends over the length."""
    return float(np.hypot(*(one.axis_px[-1] - one.axis_px[0])) / one.length_px)


def _choose_items(picked: FilamentPicks, sources: Sequence[Source]) -> list[FilamentItem]:
    """Return micrographs from the most filaments to the fewest, evenly."""
    by_name = {source.name: source for source in sources}
    own = dict(picked.filaments.split_by_micrograph())
    ranked = sorted(picked.result.micrographs, key=lambda one: -len(own[one.name]))
    count = min(GALLERY, len(ranked))
    chosen = np.unique(np.linspace(0, len(ranked) - 1, count).astype(int))
    items = (_make_item(by_name[ranked[n].name], ranked[n], own[ranked[n].name]) for n in chosen)
    return [item for item in items if item is not None]


def _make_item(
    source: Source, traced: TracedMicrograph, filaments: Sequence[Filament]
) -> FilamentItem | None:
    height, width = traced.shape
    scale = min(1.0, LONGEST_PX / max(height, width))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    try:
        with open_micrograph(source.path) as micrograph:
            image = micrograph.read_cropped(shape)
    except BadInput:
        # It was readable a moment ago; one image less is no reason to lose the report.
        return None
    factor = np.array([shape[1] / width, shape[0] / height])
    return FilamentItem(
        traced.name,
        image,
        traced.pixel_size_angstrom / factor[0],
        [one.axis_px * factor for one in filaments],
    )
