"""The command `run`: train a model, pick with it and write a report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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
from heliodor.training.dataset import FEWEST_PX
from heliodor.training.initialization import load_start_model
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.files import create_output_folder
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
from heliodor.workflows.pick import (
    lock_for_picking,
    pick_step,
    refuse_filaments,
    write_report_and_record,
)
from heliodor.workflows.report_content import build_report_content
from heliodor.workflows.run_record import RunRecord, flatten_settings, write_failures
from heliodor.workflows.train import (
    TrainingResult,
    choose_working_pixel_size,
    train_step,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What `run` produced."""

    training: TrainingResult
    picked: PickingResult
    evaluation: Evaluation | None
    region_ap: float | None
    record: RunRecord


@dataclass(frozen=True)
class RunInputs:
    """What is picked, and what the picks are compared with."""

    sources: Sequence[Source]
    ground_truth: GroundTruth | None
    #: The match distance.
    distance_angstrom: float

    @classmethod
    def read(
        cls,
        micrographs: MicrographInputs,
        data: DataSettings,
        recipe: TrainingSettings,
        pick_micrographs: MicrographInputs | None,
        truth: str | Path | None,
        match_distance_angstrom: float | None,
        settings: PickSettings,
    ) -> RunInputs:
        """Find the inputs of a run, and refuse whatever can be refused before the long work.

        Raises
        ------
        BadInput
            If an input cannot be used.
        """
        distance = _choose_match_distance(match_distance_angstrom, truth, data)
        start = load_start_model(recipe)
        # Labels of particles teach no contamination; a start that detects it keeps doing so.
        settings.check_for(contaminant=start is not None and start.card.contaminant)
        sources = find_sources(micrographs if pick_micrographs is None else pick_micrographs)
        ground_truth = None
        if truth is not None:
            ground_truth = GroundTruth.read(truth, sources, data.pixel_size_angstrom)
        if pick_micrographs is not None:
            _check_usable(sources, data, recipe, start, ground_truth)
        return cls(sources, ground_truth, distance)


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
    """Train, pick, evaluate if there is a ground truth, and write a report, all into one folder.

    Parameters
    ----------
    pick_micrographs
        Micrographs to pick; None picks the training micrographs.
    truth
        Coordinates of all particles on some of the micrographs picked, for evaluation only.
    match_distance_angstrom
        None takes 0.4 of the diameter.
    negatives
        Coordinates of negatives, for training.
    resume
        Whether to resume the same training and picking if they were interrupted in this folder.

    Raises
    ------
    BadInput
        If an input cannot be used.
    """
    to_pick = micrographs if pick_micrographs is None else pick_micrographs
    device = compute.start()
    inputs = RunInputs.read(
        micrographs, data, recipe, pick_micrographs, truth, match_distance_angstrom, settings
    )
    sources, ground_truth, distance = inputs.sources, inputs.ground_truth, inputs.distance_angstrom
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
    folder = create_output_folder(out)
    with lock_for_picking(folder):
        refuse_filaments(folder)
        trained = train_step(
            micrographs, labels, folder, data, recipe, device, record, settings, negatives, resume,
            compute.array_store(folder),
        )  # fmt: skip
        regions = None
        if ground_truth is not None:
            regions = RegionEvaluator(ground_truth, data.radius_angstrom)
        picked, pixel_sizes = pick_step(
            trained.model, sources, trained.images, settings, folder, device, record, regions,
            resume,
        )  # fmt: skip
        evaluation, region_ap = _evaluate(
            folder, record, picked, pixel_sizes, ground_truth, regions, distance
        )
        write_report_and_record(
            folder,
            record,
            lambda: build_report_content(
                trained.model,
                trained,
                trained.images,
                picked,
                sources,
                ground_truth,
                evaluation,
                region_ap,
                record,
                pixel_sizes,
            ),
        )
    return RunResult(trained, picked, evaluation, region_ap, record)


def train_for_run(
    micrographs: MicrographInputs,
    labels: str | Path,
    out: str | Path,
    data: DataSettings,
    recipe: TrainingSettings,
    settings: PickSettings = PickSettings(),
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
    negatives: str | Path | None = None,
    resume: bool = True,
    pick_micrographs: MicrographInputs | None = None,
    truth: str | Path | None = None,
    match_distance_angstrom: float | None = None,
) -> TrainingResult:
    """Do the training of `run` alone; `run` with the same arguments then continues with picking.

    Raises
    ------
    BadInput
        If an input cannot be used, also by what follows.
    """
    record = RunRecord("run", {}, command_line)  # written when all is done, by `run`
    device = compute.start()
    RunInputs.read(
        micrographs, data, recipe, pick_micrographs, truth, match_distance_angstrom, settings
    )
    folder = create_output_folder(out)
    with lock_for_picking(folder):
        refuse_filaments(folder)
        trained = train_step(
            micrographs, labels, folder, data, recipe, device, record, settings, negatives, resume,
            compute.array_store(folder),
        )  # fmt: skip
        write_failures(folder / "failed.tsv", trained.failures)
    return trained


def _choose_match_distance(
    chosen: float | None, truth: str | Path | None, data: DataSettings
) -> float:
    """Return the match distance in angstrom."""
    if chosen is not None and truth is None:
        raise BadInput("a match distance needs a ground truth; give --truth too")
    distance = MATCH_FRACTION * data.diameter_angstrom if chosen is None else chosen
    check_distance(distance)
    return distance


def _evaluate(
    folder: Path,
    record: RunRecord,
    picked: PickingResult,
    pixel_sizes: Mapping[str, float],
    ground_truth: GroundTruth | None,
    regions: RegionEvaluator | None,
    match_distance_angstrom: float,
) -> tuple[Evaluation | None, float | None]:
    """Compare the picks with the ground truth, if there is one, and write the results.

    Returns
    -------
    Evaluation or None, float or None
        The particle metrics and the region average precision.
    """
    if ground_truth is None or regions is None:
        remove_evaluation_files(folder)
        return None, None
    xy_px = {name: xy for name, xy in ground_truth.xy_px.items() if name in pixel_sizes}
    if not xy_px:
        record.warn("no micrograph with ground truth could be read, so there is no evaluation")
        remove_evaluation_files(folder)
        return None, None
    with record.stage("judging"):
        evaluation = compare_with_truth(
            Picks.concatenate(picked.table(name) for name in picked.micrographs if name in xy_px),
            replace(ground_truth, xy_px=xy_px),
            match_distance_angstrom,
            dict(pixel_sizes),
            picked.threshold,
        )
        region_ap = regions.average_precision()
    write_evaluation(folder, evaluation, region_ap)
    record.results["evaluation"] = evaluation_as_dict(evaluation, region_ap)
    log.info(render_summary_line(evaluation, region_ap))
    return evaluation, region_ap


def _check_usable(
    sources: Sequence[Source],
    data: DataSettings,
    recipe: TrainingSettings,
    start: Model | None,
    ground_truth: GroundTruth | None,
) -> None:
    """Refuse micrographs that cannot be picked, or have another binning than the ground truth."""
    first = _find_usable_micrograph(sources, data, recipe, start)
    if ground_truth is not None:
        name = first.source.name
        check_same_binning(name, first.pixel_size_angstrom, ground_truth.pixel_sizes.get(name))


def _find_usable_micrograph(
    sources: Sequence[Source],
    data: DataSettings,
    recipe: TrainingSettings,
    start: Model | None,
) -> WorkingImage:
    """Return the first micrograph that can be picked; the others are read in their turn.

    Raises
    ------
    BadInput
        If there is none.
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
    raise BadInput(f"no micrograph could be picked: {reasons[0]}")
