"""The command `pick --filaments`: trace filaments with a model."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heliodor import __version__
from heliodor.data.coordinates import writers as particle_writers
from heliodor.data.coordinates.writers import WriteContext
from heliodor.data.filaments.filament import Filaments, to_points
from heliodor.data.filaments.geometry import simplify_axis
from heliodor.data.filaments.segments import cut_segments
from heliodor.data.filaments.writers import FORMATS, MANUAL_LIST, write_filaments
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    are_named_from_here,
    find_sources,
    leave_out,
    read_names,
)
from heliodor.errors import BadInput
from heliodor.picking.filaments.batch import Predictor, TracingResult, trace_micrographs
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.picking.filaments.store import FolderStore
from heliodor.picking.filaments.width import measure_width
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import UserMasks
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.console import count_of
from heliodor.utils.files import create_output_folder, remove_partial_files, write_text
from heliodor.utils.locking import lock_folder
from heliodor.workflows.convert_filaments import add_optics
from heliodor.workflows.filament_model import load_predictor
from heliodor.workflows.run_record import RunRecord, flatten_settings

log = logging.getLogger(__name__)

#: The files of the result.
FILAMENTS_STAR, SEGMENTS_STAR, TABLE = "filaments.star", "segments.star", "micrographs.tsv"
#: Formats in which each straight part of an axis is a helix of its own for the program that reads
#: it; how far such parts may be from the axis, in widths.
OF_STRAIGHT_PARTS, PART_WIDTHS = ("start-end", "box"), 0.1
#: A measured width that differs by more than this factor from the given one is reported.
MOST_WIDTH_ERROR = 2.0


@dataclass(frozen=True)
class FilamentPicks:
    """What `pick_filaments` found."""

    result: TracingResult
    #: Those at or above the threshold.
    filaments: Filaments
    #: Where the mean profile across sure filaments reaches the background, nan if unknown.
    measured_width_angstrom: float
    record: RunRecord

    @classmethod
    def summarize(cls, result: TracingResult, record: RunRecord) -> FilamentPicks:
        """Return the filaments of a result, and how wide they look."""
        measured = measure_width(result.mean_profile()) * result.width_angstrom
        return cls(result, result.filaments(), measured, record)


@dataclass(frozen=True)
class FilamentRequest:
    """What to trace, with what; for the fields see `pick_filaments`."""

    model: str | Path | None
    micrographs: MicrographInputs
    settings: FilamentSettings
    picking: PickSettings = PickSettings()
    pixel_size_angstrom: float | None = None
    exclude: str | Path | None = None
    report: bool = False

    def as_arguments(self, compute: ComputeSettings | None = None) -> dict[str, Any]:
        """Return the arguments for the record."""
        settings = [self.settings] if compute is None else [self.settings, compute]
        return {
            "model": self.model,
            "micrographs": self.micrographs,
            **flatten_settings(*settings),
            "threshold": self.picking.threshold,
            "bad_areas": self.picking.bad_areas,
            "mask": self.picking.mask,
            "pixel_size_angstrom": self.pixel_size_angstrom,
            "exclude": self.exclude,
            "report": self.report,
        }

    def find_sources(self) -> list[Source]:
        """Return the micrographs without those that the user excludes.

        Raises
        ------
        BadInput
            If none is left, or the list cannot be read.
        """
        sources = find_sources(self.micrographs)
        return sources if self.exclude is None else leave_out(sources, read_names(self.exclude))


def pick_filaments(
    request: FilamentRequest,
    out: str | Path,
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
    resume: bool = True,
    predictor: Predictor | None = None,
) -> FilamentPicks:
    """Trace filaments, and write them and ``run.json``.

    Writes ``filaments.star``, ``micrographs.tsv`` and what the settings ask for.

    Parameters
    ----------
    request
        What to trace.
    resume
        Whether to keep what an earlier run into the same folder found in the same way on
        unchanged micrographs.
    predictor
        The network, if it is loaded already.

    Raises
    ------
    BadInput
        If an input cannot be used.
    """
    record = RunRecord("pick", request.as_arguments(compute), command_line)
    device = compute.start()
    if predictor is None:
        predictor = load_predictor(request.model, request.settings.width_angstrom, device)
    folder = create_output_folder(out)
    with lock_folder(folder):
        remove_partial_files(folder)
        _refuse_particles(folder)
        sources = request.find_sources()
        record.add_inputs("picking", sources)
        masks = UserMasks.find(request.picking.mask, sources)
        settings = request.settings
        log.info(
            f"tracing filaments on {count_of(len(sources), 'micrograph')} (width"
            f" {predictor.width_angstrom:g} Å)"
        )
        store = FolderStore(folder, _make_key(request, predictor, masks))
        if not resume:
            store.clear()
        _remove_outputs(folder, sources)
        with record.stage("picking"), console.progress("picking") as progress:
            result = trace_micrographs(
                predictor,
                sources,
                settings,
                request.pixel_size_angstrom,
                request.picking.threshold,
                request.picking.bad_areas,
                masks,
                store,
                progress,
                torch.get_num_threads(),
                device.type == "cpu",
            )
        record.skip(result.failures)
        picked = FilamentPicks.summarize(result, record)
        _record_results(picked)
        with record.stage("writing"):
            _write_outputs(folder, picked, settings, sources)
        record.write(folder)
        if request.report:
            from heliodor.workflows.filament_report import write_filament_report

            with record.stage("report"):
                write_filament_report(folder / "report.html", picked, sources)
            record.write(folder)
            log.info(f"report: {folder / 'report.html'}")
    return picked


def trace_in_memory(
    request: FilamentRequest, sources: Sequence[Source], compute: ComputeSettings
) -> FilamentPicks:
    """Trace filaments as `pick_filaments` does, with the same results, but write nothing.

    Parameters
    ----------
    sources
        The micrographs, in place of those that the request names.

    Raises
    ------
    BadInput
        If an input cannot be used.
    """
    device = compute.start()
    predictor = load_predictor(request.model, request.settings.width_angstrom, device)
    picking = request.picking
    result = trace_micrographs(
        predictor,
        sources,
        request.settings,
        request.pixel_size_angstrom,
        picking.threshold,
        picking.bad_areas,
        UserMasks.find(picking.mask, sources),
        threads=torch.get_num_threads(),
        on_cpu=device.type == "cpu",
    )
    return FilamentPicks.summarize(result, RunRecord("pick", request.as_arguments(compute)))


def _refuse_particles(folder: Path) -> None:
    """Refuse a folder with picks of particles, whose files would stay beside the filaments."""
    if (folder / "autopick.star").exists() or (folder / "picks.tsv").exists():
        raise BadInput(
            f"{folder} holds picks of particles; choose another folder for filaments",
            parameter="out",
        )


def _make_key(
    request: FilamentRequest, predictor: Predictor, masks: UserMasks
) -> Mapping[str, Any]:
    """Return all that determines the candidates of a given micrograph, ready for JSON."""
    after = {"filaments", "segments_angstrom", "to"}
    settings = {k: v for k, v in asdict(request.settings).items() if k not in after}
    return {
        "heliodor": __version__,
        "model": predictor.fingerprint,
        **settings,
        "pixel_size_angstrom": request.pixel_size_angstrom,
        "bad_areas": request.picking.bad_areas,
        "masks": masks.fingerprints(),
    }


def _remove_outputs(folder: Path, sources: list[Source]) -> None:
    """Remove the results of an earlier run, whose files would not belong together."""
    for name in (FILAMENTS_STAR, SEGMENTS_STAR, TABLE, "run.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    for form in FORMATS.values():
        place = folder / form.name
        (place / MANUAL_LIST).unlink(missing_ok=True)
        (place / f"filaments{form.suffix}").unlink(missing_ok=True)
        if form.file_of is not None:
            for source in sources:
                (place / form.file_of(source.name)).unlink(missing_ok=True)
        for below in sorted([place, *place.rglob("*")], reverse=True):
            if below.is_dir() and not below.is_symlink() and not any(below.iterdir()):
                below.rmdir()


def _record_results(picked: FilamentPicks) -> None:
    """Record and log what was found."""
    result, filaments, record = picked.result, picked.filaments, picked.record
    measured, expected, count = picked.measured_width_angstrom, result.expected, len(filaments)
    total = sum(one.length_px * filaments.pixel_sizes[one.micrograph] for one in filaments)
    log.info(
        f"{count_of(count, 'filament')}, {total / 1e4:.1f} µm in all, on"
        f" {count_of(len(result.micrographs), 'micrograph')}"
    )
    known = not math.isnan(expected.precision)
    log.info(
        f"threshold {expected.threshold:.3f} (log-odds)"
        + (f"; expected: {expected.precision:.0%} of the length correct,"
           f" {expected.recall:.0%} of the candidates' found" if known else "")
    )  # fmt: skip
    if not math.isnan(measured):
        log.info(f"the filaments look {measured:.0f} Å wide")
        ratio = max(measured / result.width_angstrom, result.width_angstrom / measured)
        if ratio > MOST_WIDTH_ERROR:
            record.warn(
                f"the filaments look {measured:.0f} Å wide, not {result.width_angstrom:g} Å; if"
                " that is so, pick again with another --width"
            )
    if not count:
        record.warn("no filaments were found; look at the micrographs, and check --width")
    record.results |= {
        "threshold": expected.threshold,
        "expected": {"precision": expected.precision, "recall": expected.recall},
        "filaments": count,
        "filaments_per_micrograph": {
            name: len(own) for name, own in filaments.split_by_micrograph()
        },
        "length_angstrom": total,
        "measured_width_angstrom": measured,
    }


def _write_outputs(
    folder: Path, picked: FilamentPicks, settings: FilamentSettings, sources: list[Source]
) -> None:
    table = picked.filaments
    points = to_points(table)
    given = WriteContext(
        shapes=table.shapes,
        pixel_sizes=table.pixel_sizes,
        whole_paths=not are_named_from_here(sources),
    )
    write_filaments(folder / FILAMENTS_STAR, points, FORMATS["filaments"], given)
    write_text(folder / TABLE, _render_table(picked))
    if settings.segments_angstrom is not None:
        segments = add_optics(cut_segments(table, settings.segments_angstrom))
        star = particle_writers.FORMATS["star"]
        particle_writers.write_picks(folder / SEGMENTS_STAR, segments, star, given)
        log.info(f"{count_of(len(segments), 'segment')} in {folder / SEGMENTS_STAR}")
    for name in settings.to or ():
        form = FORMATS[name]
        place = folder / name
        place.mkdir(exist_ok=True)
        write_filaments(
            place if form.file_of is not None else place / f"filaments{form.suffix}",
            to_points(_simplify(table)) if name in OF_STRAIGHT_PARTS else points,
            form,
            given,
        )
        log.info(f"{place}: {form.description}")


def _simplify(table: Filaments) -> Filaments:
    """Return filaments of few straight parts."""
    simple = []
    for one in table:
        tolerance = PART_WIDTHS * one.width_angstrom / table.pixel_sizes[one.micrograph]
        simple.append(one.with_axis(simplify_axis(one.axis_px, tolerance)))
    return replace(table, filaments=tuple(simple))


def _render_table(picked: FilamentPicks) -> str:
    """Return a table with a row for each micrograph."""
    rows = ["micrograph\tfilaments\tlength_angstrom\tmean_score"]
    sizes = picked.filaments.pixel_sizes
    for name, own in picked.filaments.split_by_micrograph():
        length = sum(one.length_px for one in own) * sizes[name]
        mean = f"{np.mean([one.score for one in own]):.3f}" if own else ""
        rows.append(f"{name}\t{len(own)}\t{length:.1f}\t{mean}")
    return "\n".join(rows) + "\n"
