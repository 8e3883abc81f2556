"""The command `pick`: find particles with a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from heliodor.conventions import Image
from heliodor.data.micrographs.headers import TIFF_NOTE
from heliodor.data.micrographs.names import is_tiff
from heliodor.data.micrographs.output_names import find_unwritable
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    are_named_from_here,
    find_sources,
)
from heliodor.data.micrographs.working_images import Failure, WorkingImage, WorkingImages
from heliodor.errors import BadInput
from heliodor.models.model_file import Model
from heliodor.picking import contamination, micrograph_quality
from heliodor.picking.batch import NothingPicked, PickingResult, add_probability
from heliodor.picking.claims import Member, find_active
from heliodor.picking.corrected_store import CorrectedStore
from heliodor.picking.decoys import describe_inverted_contrast
from heliodor.picking.joined_journals import FOLDER, JoinedJournals, discard_parts, forget_job
from heliodor.picking.journal import PARTICLES, MicrographResult, Session
from heliodor.picking.output_files import (
    autopick_name,
    coordinate_text,
    list_series_folders,
    write_masks,
    write_tables,
)
from heliodor.picking.recalibration import calibrate_picks, needs_decoys
from heliodor.picking.run_key import journal_key
from heliodor.picking.scale_check import describe_wrong_scale
from heliodor.picking.settings import PickSettings
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.console import count_of
from heliodor.utils.files import (
    create_output_folder,
    remove_partial_files,
)
from heliodor.utils.locking import lock_folder
from heliodor.workflows.app_scores import take_app_scores
from heliodor.workflows.picking_setup import (
    NO_ADDITIONS,
    PickAdditions,
    PickingSetup,
    PickRequest,
    prepare_picking,
)
from heliodor.workflows.run_record import RunRecord, write_failures

if TYPE_CHECKING:
    from heliodor.report.content import ReportContent
    from heliodor.workflows.ground_truth import RegionEvaluator

log = logging.getLogger(__name__)

#: The table of the axes of filaments, the result of tracing them.
FILAMENTS_STAR = "filaments.star"
#: The results of all micrographs together.
LISTS = ("autopick.star", "picks.tsv", micrograph_quality.NAME, "run.json", "report.html")


def pick(
    model: str | Path | Model | None,
    micrographs: MicrographInputs,
    out: str | Path,
    settings: PickSettings = PickSettings(),
    pixel_size_angstrom: float | None = None,
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
    resume: bool = True,
    diameter_angstrom: float | None = None,
    report: bool = False,
    adapt: bool = False,
    labels: str | Path | None = None,
    negatives: str | Path | None = None,
    exclude: str | Path | None = None,
    app_scores: str | Path | None = None,
    relion_project: str | Path | None = None,
    threshold_offsets: str | Path | None = None,
) -> PickingResult:
    """Pick particles with a model and write the picks and ``run.json``.

    Writes one ``*_autopick.star`` per micrograph as soon as it is done, then ``autopick.star``,
    ``picks.tsv`` (all in pixels of the original files) and ``micrographs.tsv``.

    Parameters
    ----------
    model
        A trained model or its file; None for the general model.
    diameter_angstrom
        The particle diameter: for the general model, and others that serve any diameter.
    resume
        Whether to keep what an earlier run into the same folder found with the same model and
        settings on unchanged micrographs.
    report
        Whether to write ``report.html`` too.
    adapt
        Whether the general model first learns from its surest picks on these micrographs; the
        result is kept as ``adapted.safetensors``.
    labels, negatives
        Particles that are picks whatever their scores, and positions without picks nearby.
    exclude
        A text file of micrographs that are left out, a name per line.
    app_scores
        A project of heliodor app: the scores that it keeps are used where the model, the settings
        and the micrograph are the same.
    relion_project
        The folder of the RELION project whose paths ``autopick.star`` has; None: the current
        folder.
    threshold_offsets
        A text file: by how much the threshold of some micrographs is higher, and their names.

    Raises
    ------
    BadInput
        If an input cannot be used.
    """
    request = PickRequest(
        model,
        micrographs,
        settings,
        pixel_size_angstrom,
        diameter_angstrom,
        report,
        adapt,
        labels,
        negatives,
        exclude,
        app_scores,
        relion_project,
        threshold_offsets,
    )
    record = RunRecord("pick", request.as_arguments(compute), command_line)
    loaded = request.load_model()
    folder = create_output_folder(out)
    with lock_for_picking(folder):
        refuse_filaments(folder)
        given = find_sources(micrographs)
        sources = request.leave_out(given)
        additions = request.read_additions(sources)
        setup = prepare_picking(request, loaded, sources, folder, compute, record, resume)
        picked = pick_and_record(setup, folder, record, report, resume, additions=additions)
        remove_outputs(folder, given, {source.name for source in sources})
        forget_job(folder)
    return picked


def refuse_filaments(folder: Path) -> None:
    """Refuse a folder with picked filaments, whose files would stay beside the particles."""
    if (folder / FILAMENTS_STAR).exists():
        raise BadInput(
            f"{folder} holds filaments; choose another folder for particles", parameter="out"
        )


def remove_outputs(folder: Path, given: Sequence[Source], kept: Container[str]) -> None:
    """Remove what an earlier run wrote for micrographs that are excluded now."""
    for source in given:
        if source.name not in kept:
            (folder / autopick_name(source)).unlink(missing_ok=True)
            mask = folder / contamination.FOLDER / f"{source.output_stem}.png"
            mask.unlink(missing_ok=True)


def pick_and_record(
    setup: PickingSetup,
    folder: Path,
    record: RunRecord,
    report: bool,
    resume: bool = True,
    journal: JoinedJournals[MicrographResult] | None = None,
    additions: PickAdditions = NO_ADDITIONS,
) -> PickingResult:
    """Pick, and write all results; see `pick_with`."""
    picked, pixel_sizes = pick_with(
        setup, folder, record, resume=resume, journal=journal, additions=additions
    )
    if report:
        from heliodor.workflows.report_content import build_report_content

        write_report_and_record(
            folder,
            record,
            lambda: build_report_content(
                setup.model, None, setup.images, picked, setup.sources, None, None, None, record,
                pixel_sizes,
            ),
        )  # fmt: skip
    else:
        record.write(folder)
    return picked


@contextmanager
def lock_for_picking(folder: Path) -> Iterator[None]:
    """Keep other processes out of an output folder, and remove what one that was killed left.

    Raises
    ------
    BadInput
        If another process is at work there, or parts are being picked.
    """
    with lock_folder(folder):
        if (member := find_active(folder / FOLDER)) is not None:
            raise BadInput(
                f"parts are being picked in {folder} ({member}); wait until they have finished,"
                " stop them, or choose another folder"
            )
        remove_partial_files(folder)
        yield


def write_report_and_record(
    folder: Path, record: RunRecord, build_content: Callable[[], ReportContent]
) -> None:
    """Write the report, and the record before and after it."""
    from heliodor.report.report import write_report  # imports matplotlib, which takes a second

    record.write(folder)  # a report that fails must not cost the record
    with record.stage("report"):
        write_report(folder / "report.html", build_content())
    record.write(folder)
    log.info(f"report: {folder / 'report.html'}")


def pick_step(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    folder: Path,
    device: torch.device,
    record: RunRecord,
    regions: RegionEvaluator | None = None,
    resume: bool = True,
) -> tuple[PickingResult, dict[str, float]]:
    """Pick as one step of a longer run that keeps the record; see `pick` and `pick_with`."""
    setup = PickingSetup.create(model, sources, images, settings, device)
    return pick_with(setup, folder, record, regions, resume)


def pick_with(
    setup: PickingSetup,
    folder: Path,
    record: RunRecord,
    regions: RegionEvaluator | None = None,
    resume: bool = True,
    journal: JoinedJournals[MicrographResult] | None = None,
    additions: PickAdditions = NO_ADDITIONS,
) -> tuple[PickingResult, dict[str, float]]:
    """Pick the micrographs that no journal of the folder has, calibrate, and write the results.

    Parameters
    ----------
    regions
        Collects the score maps of the micrographs with ground truth. Score maps are not stored,
        so these micrographs are always picked again.
    journal
        The journals, if the caller has them open. The lists of an earlier run then stay until they
        are replaced, for programs that read them meanwhile.
    additions
        What the user adds to the results.

    Returns
    -------
    PickingResult, dict
        The candidates, and the pixel size of each micrograph in angstrom.
    """
    model, sources, settings = setup.model, setup.sources, setup.settings
    record.add_inputs("picking", sources)
    _log_start(model, sources, settings)
    files = OutputFiles.choose(folder, sources, settings.threshold_series)
    if journal is None:
        # An interrupted run must not leave the lists of an earlier one beside its picks.
        for name in LISTS:
            (folder / name).unlink(missing_ok=True)
        if not resume:
            discard_parts(folder)
        journal = JoinedJournals(folder, setup.key, PARTICLES, not resume)
        journal.remove_unusable()
    if additions.app_scores is not None:
        key = journal_key(model, settings, setup.images)
        used = take_app_scores(additions.app_scores, sources, key, setup.masks, journal)
        log.info(f"scores of the app are used for {count_of(used, 'micrograph')}")
    picked = _find_candidates(setup, journal, files, record, regions, folder)
    with record.stage("calibrating"):
        picked = calibrate_picks(model, picked, settings, additions.level)
    if settings.max_fdr is not None and picked.calibration is None:
        record.warn(
            "too little data to calibrate the scores, so --max-fdr cannot be applied; using"
            f" threshold {picked.threshold:.2f}"
        )
    if (inverted := describe_inverted_contrast(picked.sheet)) is not None:
        record.warn(inverted)
    elif needs_decoys(model):
        with record.stage("testing the scale"):
            doubt = describe_wrong_scale(
                model, picked, sources, setup.images.pixel_size_angstrom, setup.device
            )
        if doubt is not None:
            record.warn(doubt)
    files.remove_outputs_of(picked.failures)
    record.skip(picked.failures)
    if additions.corrections:
        diameter = model.card.diameter_angstrom
        store = CorrectedStore(picked.store, additions.corrections, picked.threshold, diameter)
        picked = replace(picked, store=store)
    with record.stage("writing"):
        elsewhere = not are_named_from_here(sources)
        picked, pixel_sizes, summary = write_tables(
            picked, settings, folder, files.picks, journal, elsewhere, additions.relion_project,
            _find_star(record), additions.corrections.offsets,
        )  # fmt: skip
        write_masks(files.masks, picked, settings.bad_area_masks)
    _record_results(record, model, picked)
    _log_results(model, picked, pixel_sizes, settings, folder, summary)
    _report_quality(picked.quality, record)
    if any(is_tiff(source.path.name) for source in sources):
        log.warning(TIFF_NOTE)
    return picked, pixel_sizes


def _find_star(record: RunRecord) -> Path | None:
    """Return the STAR file that all micrographs were given by, if there is one."""
    given = record.arguments.get("pick_micrographs") or record.arguments.get("micrographs")
    inputs = [given] if isinstance(given, str | Path) else list(given or [])
    star = Path(inputs[0]) if len(inputs) == 1 else Path()
    return star if star.suffix.lower() == ".star" else None


@dataclass(frozen=True)
class OutputFiles:
    """The files that are written for each micrograph, by its name."""

    picks: dict[str, Path]
    #: Contamination masks.
    masks: dict[str, Path]
    #: Micrographs for which no file can be written, and why; they are not picked.
    excluded: dict[str, str]

    @classmethod
    def choose(cls, folder: Path, sources: Sequence[Source], sets: int) -> OutputFiles:
        """Return the names of the files of some micrographs.

        Parameters
        ----------
        sets
            Number of sets of a threshold series.
        """
        picks = {source.name: folder / autopick_name(source) for source in sources}
        masks = folder / contamination.FOLDER
        return cls(
            picks,
            {source.name: masks / f"{source.output_stem}.png" for source in sources},
            find_unwritable(folder, picks, list_series_folders(folder, sets)),
        )

    def remove_outputs_of(self, failures: Iterable[Failure]) -> None:
        """Remove what an earlier run wrote for micrographs that now failed."""
        for failure in failures:
            if failure.name not in self.excluded:
                self.picks[failure.name].unlink(missing_ok=True)
                self.masks[failure.name].unlink(missing_ok=True)


def _find_candidates(
    setup: PickingSetup,
    journal: JoinedJournals[MicrographResult],
    files: OutputFiles,
    record: RunRecord,
    regions: RegionEvaluator | None,
    folder: Path,
) -> PickingResult:
    """Score the micrographs that the journals lack, and write the picks of each."""
    model, sources = setup.model, setup.sources
    threshold, calibration = setup.settings.threshold_for(model), model.calibration
    repeat = frozenset(
        s.name for s in sources if regions is not None and regions.has_truth(s.name)
    )
    finished = sum(journal.has(s) for s in sources if s.name not in repeat)
    if finished:
        log.info(f"already picked: {finished} of {count_of(len(sources), 'micrograph')}")
    if finished < len(sources):
        journal.own.add_session(Session.begin(Member.this_process(""), len(sources), finished))

    def write_picks(image: WorkingImage, score: Image, result: MicrographResult) -> None:
        picks = add_probability(result.candidates, calibration)
        journal.write(files.picks[image.source.name], coordinate_text(picks, threshold))
        if regions is not None:
            regions.add(image, score)

    with record.stage("picking"), console.progress("picking") as progress:
        try:
            work = setup.start(journal, files.excluded)
            return work.run(sources, write_picks, progress, repeat)
        except BadInput as error:
            if isinstance(error, NothingPicked):  # programs that started the command read it
                write_failures(folder / "failed.tsv", error.failures)
            journal.own.remove_if_empty()
            raise


def _record_results(record: RunRecord, model: Model, picked: PickingResult) -> None:
    """Record the threshold and the number of picks."""
    counts = {row.name: row.picks for row in picked.quality}
    record.results |= {
        "threshold": picked.threshold,
        "expected": None if picked.expected is None else picked.expected.as_dict(),
        "picks": sum(counts.values()),
        "picks_per_micrograph": counts,
    }
    if any(row.measured.contaminated_fraction is not None for row in picked.quality):
        record.results["bad_areas"] = {
            "fraction": {row.name: row.measured.contaminated_fraction for row in picked.quality},
            "no_picks_on": [row.name for row in picked.quality if row.refused],
        }


def _log_start(model: Model, sources: Sequence[Source], settings: PickSettings) -> None:
    if settings.box_px is not None:
        log.info(
            f"picks for which an edge would cut off a box of {settings.box_px} pixels are left out"
        )
    automatic = settings.threshold is None and needs_decoys(model)
    threshold = (
        "automatic threshold"
        if automatic
        else f"threshold {settings.threshold_for(model):.2f} log-odds"
    )
    log.info(
        f"picking {count_of(len(sources), 'micrograph')} (diameter"
        f" {model.card.diameter_angstrom:g} Å, {threshold})"
    )


def _log_results(
    model: Model,
    picked: PickingResult,
    pixel_sizes: Mapping[str, float],
    settings: PickSettings,
    folder: Path,
    summary: Iterable[str],
) -> None:
    rows = picked.quality
    contaminated = sum(row.refused for row in rows)
    if contaminated:
        log.warning(
            f"{contaminated} of {len(rows)} micrographs have no picks, as more than"
            f" {settings.max_contamination:g} of the area of each is contaminated; see"
            f" {micrograph_quality.NAME}"
        )
    sizes = sorted({f"{size:.4g}" for size in pixel_sizes.values()}, key=float)
    log.info(
        f"{count_of(sum(row.picks for row in rows), 'pick')} on"
        f" {count_of(len(rows), 'micrograph')}"
        f" ({', '.join(sizes)} Å/pixel) in {folder}/autopick.star"
    )
    for sentence in summary:
        log.info(sentence)
    if picked.expected is None:
        log.info(
            f"threshold {picked.threshold:.3f} (log-odds); expected precision and recall: unknown"
        )


def _report_quality(
    rows: Sequence[micrograph_quality.MicrographQuality], record: RunRecord
) -> None:
    """Record the outlier micrographs, and log a summary of them."""
    record.results["outliers"] = [
        {"micrograph": row.name, "flags": list(row.flags)}
        for row in micrograph_quality.find_outliers(rows)
    ]
    if (warning := micrograph_quality.describe_mismatch(rows)) is not None:
        record.warn(warning)
    if (sentence := micrograph_quality.describe_outliers(rows)) is not None:
        log.info(sentence)
