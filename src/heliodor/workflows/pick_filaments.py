"""The command `pick --filaments`: trace filaments with a model."""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from heliodor.data.coordinates import writers as particle_writers
from heliodor.data.coordinates.writers import WriteContext
from heliodor.data.filaments.filament import Filaments, to_points
from heliodor.data.filaments.geometry import simplify_axis
from heliodor.data.filaments.segments import (
    SEGMENTS_FOLDER,
    SEGMENTS_STAR,
    cut_segments,
    write_segments,
)
from heliodor.data.filaments.writers import FORMATS, MANUAL_LIST, write_filaments
from heliodor.data.micrographs.sources import Source, are_named_from_here, find_sources
from heliodor.errors import BadInput
from heliodor.picking import contamination
from heliodor.picking.batch import InMemoryResults, NothingPicked
from heliodor.picking.claims import Member
from heliodor.picking.filaments.batch import (
    Predictor,
    TracedMicrograph,
    TracingResult,
    trace_with,
)
from heliodor.picking.filaments.codec import FILAMENTS
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.picking.filaments.width import measure_width
from heliodor.picking.joined_journals import JoinedJournals, discard_parts, forget_job
from heliodor.picking.journal import Session
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.console import count_of
from heliodor.utils.files import create_output_folder, write_text
from heliodor.workflows.pick import FILAMENTS_STAR, lock_for_picking
from heliodor.workflows.run_record import RunRecord, write_failures
from heliodor.workflows.tracing_setup import FilamentRequest, TracingSetup

log = logging.getLogger(__name__)

#: The table of the result.
TABLE = "micrographs.tsv"
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
        predictor = request.load_predictor(device)
    folder = create_output_folder(out)
    with lock_for_picking(folder):
        refuse_particles(folder)
        given = find_sources(request.micrographs)
        setup = TracingSetup.create(request, predictor, request.leave_out(given), device)
        if not resume:
            discard_parts(folder)
        journal = JoinedJournals(folder, setup.key, FILAMENTS, not resume)
        journal.remove_unusable()
        remove_filament_outputs(folder, given)
        picked = trace_and_record(setup, folder, record, journal, request.report)
        forget_job(folder)
    return picked


def trace_and_record(
    setup: TracingSetup,
    folder: Path,
    record: RunRecord,
    journal: JoinedJournals[TracedMicrograph],
    report: bool,
) -> FilamentPicks:
    """Trace the micrographs that the journals lack, and write all results.

    Raises
    ------
    BadInput
        If not a single micrograph can be used.
    """
    sources, picking = setup.sources, setup.request.picking
    record.add_inputs("picking", sources)
    log.info(
        f"tracing filaments on {count_of(len(sources), 'micrograph')} (width"
        f" {setup.predictor.width_angstrom:g} Å)"
    )
    finished = sum(journal.has(source) for source in sources)
    if finished < len(sources):
        journal.own.add_session(Session.begin(Member.this_process(""), len(sources), finished))
    with record.stage("picking"), console.progress("picking") as progress:
        try:
            result = setup.start(journal).run(sources, picking.threshold, progress)
        except NothingPicked as error:  # programs that started the command read it
            write_failures(folder / "failed.tsv", error.failures)
            journal.own.remove_if_empty()
            raise
    record.skip(result.failures)
    picked = FilamentPicks.summarize(result, record)
    write_filament_results(setup, picked, folder, report)
    return picked


def write_filament_results(
    setup: TracingSetup,
    picked: FilamentPicks,
    folder: Path,
    report: bool,
    level: int = logging.INFO,
) -> None:
    """Record what was found, and write all results, each file as a whole.

    Parameters
    ----------
    level
        Of the messages that say what was found.
    """
    record, sources = picked.record, setup.sources
    _record_results(picked, level)
    with record.stage("writing"):
        if setup.request.picking.bad_area_masks:
            _write_masks(folder, picked.result, sources)
        _write_outputs(folder, picked, setup.request.settings, sources, level)
    record.write(folder)
    if report:
        from heliodor.workflows.filament_report import write_filament_report

        with record.stage("report"):
            write_filament_report(folder / "report.html", picked, sources)
        record.write(folder)
        log.info(f"report: {folder / 'report.html'}")


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
    setup = TracingSetup.create(request, request.load_predictor(device), sources, device)
    result = trace_with(
        setup.tracer,
        sources,
        request.picking.threshold,
        InMemoryResults(),
        threads=torch.get_num_threads(),
        on_cpu=setup.on_cpu,
    )
    return FilamentPicks.summarize(result, RunRecord("pick", request.as_arguments(compute)))


def refuse_particles(folder: Path) -> None:
    """Refuse a folder with picks of particles, whose files would stay beside the filaments."""
    if (folder / "autopick.star").exists() or (folder / "picks.tsv").exists():
        raise BadInput(
            f"{folder} holds picks of particles; choose another folder for filaments",
            parameter="out",
        )


def remove_filament_outputs(
    folder: Path, sources: Sequence[Source], kept: Container[str] = ()
) -> None:
    """Remove the results of an earlier run, whose files would not belong together.

    Parameters
    ----------
    kept
        Names of files, of formats, and of the folders of segments and of masks, that stay.
    """
    for name in (FILAMENTS_STAR, SEGMENTS_STAR, TABLE, "run.json", "report.html"):
        if name not in kept:
            (folder / name).unlink(missing_ok=True)
    masks = folder / contamination.FOLDER
    if contamination.FOLDER not in kept:
        for source in sources:
            (masks / f"{source.output_stem}.png").unlink(missing_ok=True)
        _remove_empty(masks)
    autopick = particle_writers.FORMATS["autopick"]
    places = [(form.name, form) for form in FORMATS.values()]
    for name, form in [*places, (SEGMENTS_FOLDER, autopick)]:
        if name in kept:
            continue
        place = folder / name
        for listed in (MANUAL_LIST, "autopick.star"):
            (place / listed).unlink(missing_ok=True)
        (place / f"filaments{form.suffix}").unlink(missing_ok=True)
        if form.file_of is not None:
            for source in sources:
                (place / form.file_of(source.name)).unlink(missing_ok=True)
        _remove_empty(place)


def _remove_empty(place: Path) -> None:
    """Remove a folder, and those in it, if nothing is in them."""
    for below in sorted([place, *place.rglob("*")], reverse=True):
        if below.is_dir() and not below.is_symlink() and not any(below.iterdir()):
            below.rmdir()


def _write_masks(folder: Path, result: TracingResult, sources: Sequence[Source]) -> None:
    """Write the contamination of each micrograph as an image."""
    stems = {source.name: source.output_stem for source in sources}
    for traced in result.micrographs:
        if traced.contamination is not None:
            path = folder / contamination.FOLDER / f"{stems[traced.name]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            traced.contamination.write(path)


def _record_results(picked: FilamentPicks, level: int) -> None:
    """Record and log what was found."""
    warn = picked.record.warn if level >= logging.INFO else picked.record.notes.append
    result, filaments, record = picked.result, picked.filaments, picked.record
    measured, expected, count = picked.measured_width_angstrom, result.expected, len(filaments)
    total = sum(one.length_px * filaments.pixel_sizes[one.micrograph] for one in filaments)
    log.log(
        level,
        f"{count_of(count, 'filament')}, {total / 1e4:.1f} µm in all, on"
        f" {count_of(len(result.micrographs), 'micrograph')}",
    )
    known = not math.isnan(expected.precision)
    log.log(
        level,
        f"threshold {expected.threshold:.3f} (log-odds)"
        + (f"; expected: {expected.precision:.0%} of the length correct,"
           f" {expected.recall:.0%} of the candidates' found" if known else ""),
    )  # fmt: skip
    if not math.isnan(measured):
        log.log(level, f"the filaments look {measured:.0f} Å wide")
        ratio = max(measured / result.width_angstrom, result.width_angstrom / measured)
        if ratio > MOST_WIDTH_ERROR:
            warn(
                f"the filaments look {measured:.0f} Å wide, not {result.width_angstrom:g} Å; if"
                " that is so, pick again with another --width"
            )
    if not count:
        warn("no filaments were found; look at the micrographs, and check --width")
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
    folder: Path,
    picked: FilamentPicks,
    settings: FilamentSettings,
    sources: Sequence[Source],
    level: int,
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
        segments = cut_segments(table, settings.segments_angstrom)
        write_segments(folder, segments, given)
        log.log(level, f"{count_of(len(segments), 'segment')} in {folder / SEGMENTS_STAR}")
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
        log.log(level, f"{place}: {form.description}")


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
