"""The main job: micrographs and labels in; a model, ranked picks and a report out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    find_sources,
)
from heliodor.data.micrographs.working_images import WorkingImage, WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.matching import MATCH_FRACTION, check_distance
from heliodor.evaluation.metrics import Evaluation
from heliodor.models.model_file import Model
from heliodor.picking.batch import PickingResult
from heliodor.picking.settings import PickSettings
from heliodor.report.report import write_report
from heliodor.training.dataset import FEWEST_PX
from heliodor.training.initialization import load_start_model
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.files import create_output_folder, remove_partial_files
from heliodor.utils.locking import lock_folder
from heliodor.workflows.evaluate import (
    evaluation_as_dict,
    remove_evaluation_files,
    render_summary_line,
    write_evaluation,
)
from heliodor.workflows.ground_truth import (
    GroundTruth,
    RegionEvaluator,
    check_same_binning,
    compare_with_truth,
)
from heliodor.workflows.pick import pick_step
from heliodor.workflows.report_content import build_report_content
from heliodor.workflows.run_record import RunRecord, flatten_settings
from heliodor.workflows.train import (
    TrainingResult,
    choose_working_pixel_size,
    train_step,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What `run` found."""

    training: TrainingResult
    picked: PickingResult
    evaluation: Evaluation | None
    region_ap: float | None
    record: RunRecord


def run(
    micrographs: MicrographInputs,
    labels: str | Path,
    out: str | Path,
    data: DataSettings,
    recipe: TrainingSettings,
    pick_micrographs: MicrographInputs | None = None,
    truth: str | Path | None = None,
    match_distance_angstrom: float | None = None,
    settings: PickSettings = PickSettings(),
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
    negatives: str | Path | None = None,
    resume: bool = True,
) -> RunResult:
    """Train, pick, judge where there is truth, and report, all into one folder.

    Parameters
    ----------
    pick_micrographs
        What to pick on; None picks on the training micrographs.
    truth
        Coordinates of all particles of micrographs picked on, for judging only.
    match_distance_angstrom
        None takes 0.4 of the diameter.
    negatives
        Coordinates of what is no particle, to train with.
    resume
        Whether to go on with the same training where one in the folder was cut short, to leave
        its model as it is where it had ended, and to take over what was picked with it.
    """
    distance = match_distance_angstrom
    if distance is not None and truth is None:
        raise BadInput("a match distance needs the truth to match with; give --truth too")
    if distance is None:
        distance = MATCH_FRACTION * data.diameter_angstrom
    check_distance(distance)
    to_pick = micrographs if pick_micrographs is None else pick_micrographs
    arguments = {
        "micrographs": micrographs,
        "labels": labels,
        "negatives": negatives,
        "pick": to_pick,
        "truth": truth,
        "match_distance_angstrom": distance,
        **flatten_settings(data, recipe, settings, compute),
    }
    record = RunRecord("run", arguments, command_line)
    # Whatever can be refused is refused before the long work.
    start = load_start_model(recipe)
    # Labels of particles teach no contaminants; a start that knows them keeps them.
    settings.check_for(contaminant=start is not None and start.card.contaminant)
    device = compute.start()
    sources = find_sources(to_pick)
    known = None if truth is None else GroundTruth.read(truth, sources)
    if pick_micrographs is not None:
        first = _find_usable_micrograph(sources, data, recipe, start)
        if known is not None:
            said = known.pixel_sizes.get(first.source.name)
            check_same_binning(first.source.name, first.pixel_size_angstrom, said)
    folder = create_output_folder(out)
    with lock_folder(folder):
        remove_partial_files(folder)
        trained = train_step(
            micrographs,
            labels,
            folder,
            data,
            recipe,
            device,
            record,
            settings,
            negatives,
            resume,
            compute.shelf(folder),
        )
        judge = None if known is None else RegionEvaluator(known, data.radius_angstrom)
        picked, sizes = pick_step(
            trained.model, sources, trained.images, settings, folder, device, record, judge, resume
        )
        evaluation, region_ap = None, None
        read = {} if known is None else {n: xy for n, xy in known.xy_px.items() if n in sizes}
        if known is not None and not read:
            record.notes.append("no micrograph with truth could be read, so nothing is judged")
            log.warning(record.notes[-1])
        if known is not None and judge is not None and read:
            with record.stage("judging"):
                own = Picks.concatenate(picked.table(n) for n in picked.micrographs if n in read)
                truth_read = replace(known, xy_px=read)
                evaluation = compare_with_truth(own, truth_read, distance, sizes, picked.threshold)
                region_ap = judge.average_precision()
            write_evaluation(folder, evaluation, region_ap)
            record.results["evaluation"] = evaluation_as_dict(evaluation, region_ap)
            log.info(render_summary_line(evaluation, region_ap))
        else:
            remove_evaluation_files(folder)
        record.write(folder)  # a report that fails must not cost the record
        with record.stage("report"):
            content = build_report_content(
                trained.model,
                trained,
                trained.images,
                picked,
                sources,
                known,
                evaluation,
                region_ap,
                record,
                sizes,
            )
            write_report(folder / "report.html", content)
        record.write(folder)
        log.info(f"the report is {folder / 'report.html'}")
    return RunResult(trained, picked, evaluation, region_ap, record)


def _find_usable_micrograph(
    sources: Sequence[Source],
    data: DataSettings,
    recipe: TrainingSettings,
    start: Model | None,
) -> WorkingImage:
    """Return the first micrograph that can be picked on, or refuse before the training.

    One that can be used is proof enough; the others are read in their turn.
    """
    images = WorkingImages(
        choose_working_pixel_size(data, recipe, start),
        data.pixel_size_angstrom,
        data.diameter_angstrom,
        coarsest_angstrom=data.diameter_angstrom / FEWEST_PX,
        finer=start is not None and start.card.finer,
    )
    reasons = []
    for source in sources:
        try:
            return images.get(source)
        except BadInput as error:
            reasons.append(str(error))
    raise BadInput(f"no micrograph could be picked on: {reasons[0]}")
