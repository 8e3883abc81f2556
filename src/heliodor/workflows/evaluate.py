"""The command `evaluate`: files of picks and truth in, figures out."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data.coordinates.formats import mask_selected, read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.refined_shifts import apply_shifts_on
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    find_sources,
)
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.evaluation.matching import check_distance
from heliodor.evaluation.metrics import Evaluation
from heliodor.evaluation.ranking import PrecisionRecall
from heliodor.models.model_file import load_model
from heliodor.picking.score_maps import open_working_images
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.console import count_of
from heliodor.utils.files import (
    create_output_folder,
    write_json,
    write_text,
)
from heliodor.utils.locking import lock_folder
from heliodor.workflows.ground_truth import (
    GroundTruth,
    choose_pixel_sizes,
    compare_with_truth,
    evaluate_regions,
    sources_from_names,
)
from heliodor.workflows.run_record import RunRecord, flatten_settings

log = logging.getLogger(__name__)


def evaluate_files(
    picks: str | Path,
    truth: str | Path,
    match_distance_angstrom: float,
    threshold: float | None = None,
    model: str | Path | None = None,
    micrographs: MicrographInputs | None = None,
    pixel_size_angstrom: float | None = None,
    out: str | Path | None = None,
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
) -> tuple[Evaluation, float | None, list[Failure]]:
    """Compare a file of picks, from any program, with a file of true particle centers.

    Parameters
    ----------
    picks, truth
        Coordinate files in pixels of the same micrographs.
    match_distance_angstrom
        Largest distance between a pick and the particle that it matches.
    threshold
        Threshold of the picks, log-odds; None takes the selection in a ``picks.tsv``.
    model, micrographs
        With both, the region average precision of the model is computed too. With
        micrographs, those that have ground truth but no picks count as missed.
    pixel_size_angstrom
        Of all micrographs; None takes that in the picks or the ground truth, otherwise that in
        the STAR file of the micrographs or in their headers.
    out
        Folder for ``evaluation.json``, ``curve.tsv`` and the record, ``evaluate.json``.

    Returns
    -------
    Evaluation, float or None, list of Failure
        The metrics, the region average precision if a model was given, and the micrographs
        that it could not score.

    Raises
    ------
    BadInput
        If a file cannot be read, or picks and ground truth are of different micrographs or of
        different binning.
    """
    if model is not None and micrographs is None:
        raise BadInput("the region AP of a model needs --micrographs to score")
    if threshold is not None and not math.isfinite(threshold):
        raise BadInput(f"the threshold must be a number (log-odds), not {threshold:g}")
    check_distance(match_distance_angstrom)
    arguments = {
        "picks": picks,
        "truth": truth,
        "match_distance_angstrom": match_distance_angstrom,
        "threshold": threshold,
        "model": model,
        "micrographs": micrographs,
        "pixel_size_angstrom": pixel_size_angstrom,
        **flatten_settings(compute),
    }
    record = RunRecord("evaluate", arguments, command_line)
    device = compute.start()
    loaded = None if model is None else load_model(model)
    table = _read_ranked_picks(picks)
    if micrographs is None:
        sources = sources_from_names(table.micrographs)
    else:
        sources = find_sources(micrographs)
        record.add_inputs("judging", sources)
    ground_truth = GroundTruth.read(truth, sources, pixel_size_angstrom)
    named = _use_source_names(table, sources, picks, pixel_size_angstrom, record)
    if ground_truth.left_out and micrographs is None:
        record.warn(
            "not evaluated, as there are no picks on them:"
            f" {count_of(ground_truth.left_out, 'micrograph')} of the ground truth; give"
            " --micrographs to count their particles as missed"
        )
    if repeated := ground_truth.count_repeated():
        record.warn(
            f"{count_of(repeated, 'particle')} of the ground truth are in the same pixel as"
            " another one; at most one of each can be found"
        )
    pixel_sizes = choose_pixel_sizes(named, ground_truth, sources, pixel_size_angstrom)
    if threshold is None:
        threshold = threshold_of_selection(table)
    folder = None if out is None else create_output_folder(out)
    region_ap, failures = None, list[Failure]()
    with lock_folder(folder):
        with record.stage("judging"):
            evaluation = compare_with_truth(
                named, ground_truth, match_distance_angstrom, pixel_sizes, threshold
            )
        if loaded is not None:
            loaded.network.to(device)
            images = open_working_images(loaded, pixel_size_angstrom)
            with record.stage("scoring"), console.progress("scoring regions") as progress:
                region_ap, failures = evaluate_regions(
                    loaded, sources, ground_truth, images, device, progress
                )
            record.skip(failures)
        if folder is not None:
            write_evaluation(folder, evaluation, region_ap)
            record.results["evaluation"] = evaluation_as_dict(evaluation, region_ap)
            # Not run.json: the folder may be that of the run that is evaluated.
            write_json(folder / "evaluate.json", record.as_dict())
    return evaluation, region_ap, failures


def _read_ranked_picks(path: str | Path) -> Picks:
    """Read candidates that all have a score, or picks that all have none."""
    table = read_picks(path, candidates=True)
    if not table.micrographs:
        raise BadInput(f"{path} contains no picks; there is nothing to evaluate")
    unscored = np.count_nonzero(np.isnan(table.score))
    if 0 < unscored < len(table):
        raise BadInput(
            f"{path} has {unscored} of {len(table)} picks without a score, so they cannot be"
            " ranked; give all of them a score, or none"
        )
    # Without scores no threshold separates the picks from the other candidates.
    return table.select(mask_selected(table)) if unscored else table


def _use_source_names(
    picks: Picks,
    sources: list[Source],
    path: str | Path,
    pixel_size_angstrom: float | None,
    record: RunRecord,
) -> Picks:
    """Return picks under the names of the micrographs that are evaluated."""
    matches = match_names(picks.micrographs, sources, picks.file_stems)
    picks, notes = apply_shifts_on(picks, matches, pixel_size_angstrom)
    for note in notes:
        record.warn(note)
    tables = []
    for name, table in picks.split_by_micrograph():
        new = matches[name].name if name in matches else name
        tables.append(Picks((new,), table.micrograph_index, table.xy_px, table.score, table.extra))
    named = Picks.concatenate(tables)
    if not any(source.name in named.micrographs for source in sources):
        raise BadInput(
            f"{path} has no picks on the micrographs to evaluate: it has micrographs like"
            f" {picks.micrographs[0]}, they are like {sources[0].name}; give the picks of these"
        )
    return named


def threshold_of_selection(picks: Picks) -> float | None:
    """Return the lowest score of the candidates marked as selected in a ``picks.tsv``."""
    if "selected" not in picks.extra or not len(picks) or np.isnan(picks.score).any():
        return None
    scores = picks.score[mask_selected(picks)]
    return float(scores.min()) if len(scores) else math.inf


def evaluation_as_dict(evaluation: Evaluation, region_ap: float | None) -> dict[str, Any]:
    """Return an evaluation for JSON, without its curve, which may have a million points.

    `write_evaluation` writes the curve to ``curve.tsv``.
    """
    values = evaluation.as_dict(curve=False)
    finite = region_ap is not None and math.isfinite(region_ap)
    return values | {"region_average_precision": region_ap if finite else None}


def write_evaluation(folder: Path, evaluation: Evaluation, region_ap: float | None) -> None:
    """Write ``evaluation.json`` and the precision-recall curve as ``curve.tsv``."""
    write_json(folder / "evaluation.json", evaluation_as_dict(evaluation, region_ap))
    write_text(folder / "curve.tsv", render_curve(evaluation.curve))


def remove_evaluation_files(folder: Path) -> None:
    """Remove the evaluation of an earlier run, whose picks have been replaced."""
    for name in ("evaluation.json", "curve.tsv"):
        (folder / name).unlink(missing_ok=True)


def render_curve(curve: PrecisionRecall) -> str:
    """Return a precision-recall curve as TSV text, one threshold per line."""
    rows = zip(curve.threshold, curve.precision, curve.recall, curve.f1, strict=True)
    lines = ["\t".join(f"{value:.6g}" for value in row) for row in rows]
    return "\n".join(["log_odds\tprecision\trecall\tf1", *lines]) + "\n"


def render_summary_line(evaluation: Evaluation, region_ap: float | None) -> str:
    """Return the main metrics in one line."""
    e = evaluation
    region = "" if region_ap is None else f", region AP {region_ap:.3f}"
    return (
        f"particle AP {e.micro.average_precision:.3f}, best F1 {e.best_f1:.3f} (at log-odds"
        f" {e.best_f1_threshold:.2f}); at the threshold: precision {e.micro.precision:.3f},"
        f" recall {e.micro.recall:.3f}, F1 {e.micro.f1:.3f}{region}"
    )


def render_table(evaluation: Evaluation, region_ap: float | None) -> str:
    """Return an evaluation as a table for the terminal."""
    head = f"{'micrograph':40} {'picks':>7} {'truth':>7} {'found':>7} {'P':>6} {'R':>6} {'F1':>6} {'AP':>6}"  # noqa: E501
    lines = [head]
    for row in evaluation.micrographs:
        s = row.scores
        lines.append(
            f"{row.name[-40:]:40} {row.n_picks:7d} {row.n_truth:7d} {row.n_true_positives:7d}"
            f" {s.precision:6.3f} {s.recall:6.3f} {s.f1:6.3f} {s.average_precision:6.3f}"
        )
    e = evaluation
    for name, s in (("all (micro)", e.micro), ("mean of micrographs (macro)", e.macro)):
        counts = (
            f"{e.n_picks:7d} {e.n_truth:7d} {e.n_true_positives:7d}" if s is e.micro else " " * 23
        )
        lines.append(
            f"{name:40} {counts} {s.precision:6.3f} {s.recall:6.3f} {s.f1:6.3f}"
            f" {s.average_precision:6.3f}"
        )
    at = "all picks" if e.threshold is None else f"log-odds from {e.threshold:.3f}"
    lines.append(f"P, R and F1 at {at}; AP over all {len(e.curve.threshold)} distinct scores")
    if math.isfinite(e.best_f1):
        lines.append(f"best F1 {e.best_f1:.3f} at log-odds {e.best_f1_threshold:.3f}")
    if math.isfinite(e.median_distance):
        lines += [
            f"match distance {e.distance:g} Å; distance of matched pairs: median"
            f" {e.median_distance:.1f} Å, 90% within {e.distance_90:.1f} Å",
            f"median shift of the picks from their particles: {e.median_shift[0]:+.1f} Å in x,"
            f" {e.median_shift[1]:+.1f} Å in y",
        ]
    else:
        lines.append(f"match distance {e.distance:g} Å: no pick matches a particle")
    lines.append("ground truth in cryoEM is seldom complete; precision is then a lower bound")
    if region_ap is not None:
        lines.append(f"region AP {region_ap:.3f}")
    if e.ignored_micrographs:
        lines.append(
            f"ignored {count_of(e.ignored_micrographs, 'micrograph')} without ground truth"
        )
    return "\n".join(lines)
