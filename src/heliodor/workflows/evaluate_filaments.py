"""The command `evaluate` on filaments: files of axes in, figures out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.formats.filament_columns import HoldsFilaments
from heliodor.data.filaments.filament import Filaments
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import MicrographInputs, Source, find_sources
from heliodor.data.micrographs.working_images import (
    check_pixel_size,
    find_pixel_size,
    same_binning,
)
from heliodor.errors import BadInput
from heliodor.evaluation.filaments import FilamentEvaluation, evaluate_filaments
from heliodor.utils.console import count_of
from heliodor.utils.files import create_output_folder, write_json
from heliodor.utils.locking import lock_folder
from heliodor.workflows.ground_truth import sources_from_names
from heliodor.workflows.run_record import RunRecord


def holds_filaments(where: str | Path) -> bool:
    """Return whether files hold filaments, which no reader of particles reads.

    Raises
    ------
    BadInput
        If a file cannot be read.
    """
    try:
        read_picks(where)
    except HoldsFilaments:
        return True
    return False


def evaluate_filament_files(
    found: str | Path,
    truth: str | Path,
    match_distance_angstrom: float | None = None,
    threshold: float | None = None,
    micrographs: MicrographInputs | None = None,
    pixel_size_angstrom: float | None = None,
    out: str | Path | None = None,
    command_line: str = "",
) -> FilamentEvaluation:
    """Compare a file of found filaments, from any program, with a file of true ones.

    Parameters
    ----------
    found, truth
        Files of filaments in pixels of the same micrographs.
    match_distance_angstrom
        Largest distance between matching axes; None takes a quarter of the width of the true
        filament.
    threshold
        Found filaments with a lower mean score are left out.
    micrographs
        The micrographs to evaluate; None takes those with true filaments.
    pixel_size_angstrom
        Of all micrographs; None takes that in the files, otherwise that of the micrographs.
    out
        Folder for ``evaluation.json`` and the record, ``evaluate.json``.

    Raises
    ------
    BadInput
        If a file cannot be read or is not of filaments, or the two share no micrograph.
    """
    arguments = {
        "picks": found,
        "truth": truth,
        "match_distance_angstrom": match_distance_angstrom,
        "threshold": threshold,
        "micrographs": micrographs,
        "pixel_size_angstrom": pixel_size_angstrom,
    }
    record = RunRecord("evaluate", arguments, command_line)
    true, seen = read_filaments(truth), read_filaments(found)
    if not len(true):
        raise BadInput(f"{truth} contains no filaments; there is nothing to compare with")
    seen = seen.keep_scored(threshold)
    if micrographs is None:
        sources = sources_from_names(true.micrographs)
    else:
        sources = find_sources(micrographs)
        record.add_inputs("judging", sources)
        true = _use_source_names(true, sources, truth)
    seen = _use_source_names(seen, sources, found)
    sizes = {
        source.name: size
        for source in sources
        if (size := _find_pixel_size(source, [seen, true], pixel_size_angstrom)) is not None
    }
    names = None if micrographs is None else [source.name for source in sources]
    folder = None if out is None else create_output_folder(out)
    with lock_folder(folder), record.stage("judging"):
        evaluation = evaluate_filaments(seen, true, sizes, match_distance_angstrom, names)
    if folder is not None:
        write_json(folder / "evaluation.json", evaluation.as_dict())
        record.results["evaluation"] = evaluation.as_dict()
        write_json(folder / "evaluate.json", record.as_dict())
    return evaluation


def _use_source_names(table: Filaments, sources: Sequence[Source], where: str | Path) -> Filaments:
    """Return filaments under the names of the micrographs that are evaluated."""
    matches = match_names(table.micrographs, sources, table.file_stems)
    if table.micrographs and not matches:
        raise BadInput(
            f"{where} has no filaments on the micrographs to evaluate: it has micrographs like"
            f" {table.micrographs[0]}, they are like {sources[0].name}; give those of these"
        )
    return table.rename_micrographs({name: source.name for name, source in matches.items()})


def _find_pixel_size(
    source: Source, tables: Sequence[Filaments], given: float | None
) -> float | None:
    """Return the pixel size given, otherwise that of the files, otherwise that of the image."""
    if given is not None:
        return check_pixel_size(given)
    in_files = [
        table.pixel_sizes[source.name] for table in tables if source.name in table.pixel_sizes
    ]
    for size in in_files[1:]:
        if not same_binning(in_files[0], size):
            raise BadInput(
                f"the files have different pixel sizes of {source.name},"
                f" {in_files[0]:.4g} and {size:.4g} Å; convert one of them with --scale"
            )
    return in_files[0] if in_files else find_pixel_size(source)


def render_table(evaluation: FilamentEvaluation) -> str:
    """Return an evaluation as a table for the terminal; lengths are in micrometers."""
    lines = [
        f"{'micrograph':40} {'found':>7} {'truth':>7} {'found µm':>9} {'correct':>8}"
        f" {'truth µm':>9} {'detected':>8}"
    ]
    lines += [
        f"{row.name[-40:]:40} {row.n_found:7d} {row.n_truth:7d} {row.found / 1e4:9.3f}"
        f" {row.correct / 1e4:8.3f} {row.truth / 1e4:9.3f} {row.detected / 1e4:8.3f}"
        for row in evaluation.micrographs
    ]
    e = evaluation
    lines += [
        f"of the axis length: precision {e.precision:.3f}, recall {e.recall:.3f}, F1 {e.f1:.3f}",
        f"found pieces of each true filament that is found: {e.pieces:.2f}",
        f"median error of the direction {e.median_angle_error_deg:.2f} degrees, median distance"
        f" {e.median_distance_angstrom:.1f} Å",
    ]
    if e.ignored_micrographs:
        lines.append(
            f"ignored {count_of(e.ignored_micrographs, 'micrograph')} without true filaments"
        )
    return "\n".join(lines)
