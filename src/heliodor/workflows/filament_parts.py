"""Tracing filaments by several processes, on one or more hosts, into one output folder.

As for particles; see `heliodor.workflows.parts`.
"""

from __future__ import annotations

from pathlib import Path

from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from heliodor.picking.claims import Claims, Member, Presence
from heliodor.picking.filaments.batch import TracingResult
from heliodor.picking.filaments.codec import FILAMENTS
from heliodor.picking.joined_journals import ENDING, FOLDER, JoinedJournals
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.files import create_output_folder, create_subfolder, remove_partial_files
from heliodor.utils.locking import lock_folder
from heliodor.workflows.parts import (
    Part,
    PartResult,
    PartWork,
    agree,
    describe_processes,
    finish_part,
    refuse_incomplete,
)
from heliodor.workflows.pick_filaments import (
    refuse_particles,
    remove_filament_outputs,
    trace_and_record,
)
from heliodor.workflows.picking_job import PickingJob
from heliodor.workflows.run_record import RunRecord
from heliodor.workflows.tracing_setup import FilamentRequest, TracingSetup


def pick_filament_part(
    part: Part,
    request: FilamentRequest,
    out: str | Path,
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
) -> PartResult[TracingResult]:
    """Trace a part of the micrographs; the process that finds all of them done merges the parts.

    Parameters
    ----------
    part
        Which micrographs.
    request
        What to trace, the same for all parts.
    out
        The output folder, which all processes see.

    Raises
    ------
    BadInput
        If an input cannot be used, the other parts were started with another request, or the
        same part is being picked by another process.
    """
    device = compute.start()
    predictor = request.load_predictor(device)
    folder = create_output_folder(out)
    refuse_particles(folder)
    where = create_subfolder(folder, FOLDER).absolute()
    sources = request.find_sources()
    own = PickingJob.create(request, predictor.fingerprint, sources, out, command_line)
    with Presence(where, Member.this_process(str(part))).kept() as presence:
        job = agree(own, folder, presence)
        claims = Claims(where / job.claims_name, presence)
        setup = TracingSetup.create(request, predictor, sources, device)
        name = f"{FOLDER}/{presence.member.name}{ENDING}"
        journal = JoinedJournals(folder, setup.key, FILAMENTS, name=name)
        work = PartWork(part, job, setup.start(journal), sources, folder, claims)
        return finish_part(
            work, lambda: merge_filaments(job, folder, claims, compute, is_complete=True)
        )


def merge_filaments(
    job: PickingJob, folder: Path, claims: Claims, compute: ComputeSettings, is_complete: bool
) -> TracingResult:
    """Merge the parts, as the process that has claimed to.

    Parameters
    ----------
    is_complete
        Whether it is known that all micrographs are done.

    Raises
    ------
    BadInput
        If parts are missing, or the model is another one.
    """
    with job.as_started(folder) as out, lock_folder(out):
        remove_partial_files(out)
        refuse_particles(out)
        request = job.read_filament_request(out)
        record = RunRecord("pick", request.as_arguments(compute), job.command_line)
        device = compute.start()
        predictor = request.load_predictor(device)
        if predictor.fingerprint != job.model:
            raise BadInput(
                f"the model {request.model} is not the one that the parts in {out} were picked"
                " with; restore it, or pick all parts again"
            )
        setup = TracingSetup.create(request, predictor, job.list_sources(), device)
        journal = JoinedJournals(out, setup.key, FILAMENTS)
        if not is_complete:
            refuse_incomplete(job, setup.start(journal), setup.sources, out, claims.presence)
        record.results["parts"] = describe_processes(journal, job)
        given = setup.sources if request.exclude is None else find_sources(request.micrographs)
        remove_filament_outputs(out, given)
        picked = trace_and_record(setup, out, record, journal, request.report)
        job.note_merged(out)
    claims.remove()
    return picked.result
