"""The command `pick`: a model and micrographs in, ranked picks out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from heliodor import __version__
from heliodor.conventions import Image
from heliodor.data.micrographs.headers import TIFF_NOTE
from heliodor.data.micrographs.names import is_tiff
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    find_sources,
)
from heliodor.data.micrographs.working_images import WorkingImage, WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import MIN_MICROGRAPHS
from heliodor.models.model_file import Model, fingerprint_model
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking import contamination, micrograph_quality
from heliodor.picking.batch import (
    CRASHED,
    MAX_PARALLEL,
    DecoySearch,
    PickingResult,
    add_probability,
    count_scores,
    pick_micrographs,
)
from heliodor.picking.candidates import FLOOR
from heliodor.picking.journal import Journal, MicrographResult
from heliodor.picking.output_files import (
    autopick_name,
    check_series,
    coordinate_text,
    write_masks,
    write_tables,
)
from heliodor.picking.recalibration import (
    calibrate_picks,
    choose_decoy_micrographs,
    get_clear_above,
)
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings, settings_that_change_picks
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.crash_recovery import crash_count
from heliodor.utils.files import (
    create_output_folder,
    fits_path_limits,
    remove_partial_files,
)
from heliodor.utils.locking import lock_folder
from heliodor.workflows.run_record import RunRecord, flatten_settings

if TYPE_CHECKING:
    from heliodor.workflows.ground_truth import RegionEvaluator

log = logging.getLogger(__name__)


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
) -> PickingResult:
    """Pick with a model and write the picks and ``run.json``.

    Writes a ``*_autopick.star`` a micrograph as soon as it is done, then ``autopick.star``
    and ``picks.tsv``, all in the pixels of the original files, and ``micrographs.tsv``.

    Parameters
    ----------
    model
        A trained model or its file; None for the general model.
    diameter_angstrom
        The particle's: for the general model, and for others that serve any diameter.
    resume
        Take over what an earlier run into the same folder found with the same model and settings
        on micrographs that hold the same; else all are picked on anew.
    report
        Also write ``report.html``.
    """
    name = "(in memory)" if isinstance(model, Model) else model
    arguments = {"model": name, "micrographs": micrographs, **flatten_settings(settings, compute)}
    arguments["pixel_size_angstrom"] = pixel_size_angstrom
    arguments |= {"diameter_angstrom": diameter_angstrom, "report": report}
    record = RunRecord("pick", arguments, command_line)
    loaded = (
        model if isinstance(model, Model) else load_model_for_picking(model, diameter_angstrom)
    )
    folder = create_output_folder(out)
    with lock_folder(folder):
        remove_partial_files(folder)
        sources = find_sources(micrographs)
        images = open_working_images(loaded, pixel_size_angstrom)
        picked, pixel_sizes = pick_step(
            loaded, sources, images, settings, folder, compute.start(), record, resume=resume
        )
        record.write(folder)
        if report:
            from heliodor.report.report import write_report  # draws, and takes its time to import
            from heliodor.workflows.report_content import build_report_content

            with record.stage("report"):
                content = build_report_content(
                    loaded, None, images, picked, sources, None, None, None, record, pixel_sizes
                )
                write_report(folder / "report.html", content)
            record.write(folder)
            log.info(f"the report is {folder / 'report.html'}")
    return picked


def pick_step(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    folder: Path,
    device: torch.device,
    record: RunRecord,
    judge: RegionEvaluator | None = None,
    resume: bool = True,
) -> tuple[PickingResult, dict[str, float]]:
    """Pick as one stage of a longer run, which keeps the record; see `pick`.

    Micrographs that are to be judged by regions are always picked on: score maps are not kept.

    Returns
    -------
    Picked, dict
        The candidates, and the pixel size of each micrograph in angstrom.
    """
    settings.check_for(model.card.contaminant)
    threshold = settings.threshold_for(model)
    known = model.calibration
    record.add_inputs("picking", sources)
    chosen = settings.threshold is None and get_clear_above(model) is not None
    log.info(
        f"picking on {len(sources)} micrographs, particles of {model.card.diameter_angstrom:g} A,"
        + (" at a threshold of their own" if chosen else f" log-odds from {threshold:.2f}")
    )
    model.network.to(device)
    files = {source.name: folder / autopick_name(source) for source in sources}
    check_series(folder, files.values(), settings.threshold_series)
    # What no file can be written for is not picked on.
    refused = {
        name: TOO_LONG.format(path=p) for name, p in files.items() if not fits_path_limits(p)
    }
    # Lists of an earlier run must not lie beside picks of this one, should it be interrupted.
    for name in ("autopick.star", "picks.tsv", micrograph_quality.NAME, "run.json", "report.html"):
        (folder / name).unlink(missing_ok=True)

    search = None
    above = get_clear_above(model)
    if above is not None and len(sources) >= MIN_MICROGRAPHS:
        search = DecoySearch(choose_decoy_micrographs(s.name for s in sources), above)
    journal = Journal(folder, journal_key(model, settings, images), not resume)
    again = frozenset(s.name for s in sources if judge is not None and judge.has_truth(s.name))
    if finished := sum(journal.has(s) for s in sources if s.name not in again):
        log.info(f"{finished} of them are done already and left as they are")

    def done(image: WorkingImage, score: Image, found: MicrographResult) -> None:
        own = add_probability(found.candidates, known)
        journal.write(files[image.source.name], coordinate_text(own, threshold))
        if judge is not None:
            judge.add(image, score)

    with record.stage("picking"), console.progress("picking") as progress:
        work = _ResumablePicking(model, images, settings, device, journal, search, refused)
        try:
            picked = work.through(sources, done, progress, again)
        except BadInput:
            journal.remove_if_empty()
            raise
    with record.stage("calibrating"):
        picked = calibrate_picks(model, picked, settings)
    if settings.max_fdr is not None and picked.calibration is None and search is None:
        record.notes.append(
            "too little is known of what scores mean here to keep to --max-fdr: picks are"
            f" candidates from {picked.threshold:.2f} on"
        )
        log.warning(record.notes[-1])
    masks = {s.name: folder / contamination.FOLDER / f"{s.output_stem}.png" for s in sources}
    for failure in picked.failures:
        if failure.name not in refused:
            files[failure.name].unlink(missing_ok=True)
            masks[failure.name].unlink(missing_ok=True)
        log.warning(f"{failure.name} was left out: {failure.reason}")
    with record.stage("writing"):
        picked, sizes, head = write_tables(picked, settings, folder, files, journal)
        write_masks(masks, picked, settings.bad_area_masks)
    record.failures += [f for f in picked.failures if f not in record.failures]
    counts = {row.name: row.picks for row in picked.quality}
    total = sum(counts.values())
    record.results |= {
        "threshold": picked.threshold,
        "expected": None if picked.expected is None else picked.expected.as_dict(),
        "picks": total,
        "picks_per_micrograph": counts,
    }
    if model.card.contaminant:
        record.results["bad_areas"] = {
            "fraction": {row.name: row.measured.contaminated_fraction for row in picked.quality},
            "no_picks_on": [row.name for row in picked.quality if row.refused],
        }
        if left_out := sum(row.refused for row in picked.quality):
            log.warning(
                f"{left_out} of {len(counts)} micrographs have no picks, as more than"
                f" {settings.max_contamination:g} of each is bad area;"
                f" see {micrograph_quality.NAME}"
            )
    found = sorted({f"{size:.4g}" for size in sizes.values()}, key=float)
    log.info(
        f"{total} picks on {len(counts)} micrographs of {', '.join(found)} A a pixel, in"
        f" {folder}/autopick.star"
    )
    for sentence in head:
        log.info(sentence)
    _report_quality(picked.quality, record)
    if any(is_tiff(source.path.name) for source in sources):
        log.warning(TIFF_NOTE)
    return picked, sizes


@dataclass(frozen=True)
class _ResumablePicking:
    """Picking on micrographs through crashes of the process."""

    model: Model
    images: WorkingImages
    settings: PickSettings
    device: torch.device
    journal: Journal
    search: DecoySearch | None
    #: Micrographs that cannot be used, and why.
    refused: Mapping[str, str]

    def _on(
        self, sources: Sequence[Source], search: DecoySearch | None, **more: Any
    ) -> PickingResult:
        return pick_micrographs(
            self.model, sources, self.images, self.settings, self.device,
            store=self.journal, search=search, **more,
        )  # fmt: skip

    def through(
        self,
        sources: Sequence[Source],
        done: Callable[[WorkingImage, Image, MicrographResult], None],
        progress: Callable[[int, int], None],
        again: Container[str],
    ) -> PickingResult:
        """Pick on all; what was under way when the process before crashed comes first, alone."""
        if crash_count():
            self.journal.record_crash(sources)
        crashed = {
            s.name: CRASHED.format(path=s.path) for s in sources if self.journal.has_crashed(s)
        }
        refused = {**self.refused, **crashed}
        way = {*self.journal.list_interrupted()} - refused.keys()
        suspects = [s for s in sources if s.name in way and not self.journal.has(s)]
        if crash_count() and suspects:
            # What the process died of is among them. Alone, each has all the memory there is.
            with suppress(BadInput):
                self._on(suspects, self.search, max_parallel=1)
        fewer = max(1, MAX_PARALLEL >> crash_count())
        picked = self._on(
            sources, self.search,
            done=done, progress=progress, repeat=again, max_parallel=fewer, excluded=refused,
        )  # fmt: skip
        return picked if self.search is None else self._decoyed(picked, sources, self.search)

    def _decoyed(
        self, picked: PickingResult, sources: Sequence[Source], search: DecoySearch
    ) -> PickingResult:
        """Look for decoys on others where micrographs failed that were to have some.

        Or were refused. What is made of the others is then the same as without those.
        """
        refusing = self.settings.max_contamination is not None
        names = [n for n in picked.micrographs if not (refusing and self.journal.get(n).refused)]
        wanted = choose_decoy_micrographs(names)
        if wanted == search.micrographs:
            return picked
        more = [s for s in sources if s.name in wanted - search.micrographs]
        more = [s for s in more if self.journal.get(s.name).decoys is None]
        if more:
            with suppress(BadInput):  # should they have become unreadable: fewer will do
                self._on(more, replace(search, micrographs=wanted))
        return replace(picked, sheet=count_scores(self.journal, names, wanted))


def journal_key(model: Model, settings: PickSettings, images: WorkingImages) -> dict[str, Any]:
    """Return all that decides on what is found on a micrograph, ready for JSON."""
    said: dict[str, Any] = {"heliodor": __version__, "model": fingerprint_model(model)}
    said |= settings_that_change_picks(settings)
    said["floor"] = min(FLOOR, settings.threshold_for(model))
    return said | {"pixel_size_angstrom": images.pixel_size_angstrom}


def _report_quality(
    rows: Sequence[micrograph_quality.MicrographQuality], record: RunRecord
) -> None:
    """Say which micrographs stand out, and note them."""
    record.results["outliers"] = [
        {"micrograph": row.name, "flags": list(row.flags)}
        for row in micrograph_quality.find_outliers(rows)
    ]
    if (warning := micrograph_quality.describe_mismatch(rows)) is not None:
        record.notes.append(warning)
        log.warning(warning)
    if (sentence := micrograph_quality.describe_outliers(rows)) is not None:
        log.info(sentence)


#: Why a micrograph whose name leaves no room for more fails.
TOO_LONG = "its picks cannot be written: {path} is too long a name; give the micrograph a shorter"
