"""The commands `extract` (picks) and `segment` (score maps).

RELION starts one process per micrograph, so imports here delay every micrograph.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import micrograph_stem
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.integrations.topaz.compute_device import start_compute
from heliodor.integrations.topaz.coordinate_writer import PickWriter
from heliodor.integrations.topaz.image_lists import find_duplicate
from heliodor.integrations.topaz.output import report
from heliodor.integrations.topaz.scorers import (
    ScoredImage,
    Scorer,
    make_scorer,
)
from heliodor.picking.candidates import correct_centers
from heliodor.picking.nms import suppress
from heliodor.utils.files import create_output_folder

#: Score of dead borders in score maps for other programs, instead of minus infinity.
DEAD_BORDER_SCORE = -100.0


def extract(args: argparse.Namespace) -> int:
    """Pick images and write the picks.

    Parameters
    ----------
    args
        The options.

    Returns
    -------
    int
        Exit code: 0, or 3 if some images could not be used.

    Raises
    ------
    BadInput
        If an option is invalid, or no image can be used.
    """
    if args.filaments:
        return _extract_filaments(args)
    radii = _radii_to_try(args)
    paths = [Path(path) for path in args.paths or _standard_input()]
    if not paths:
        raise BadInput("no images were given, neither as arguments nor on standard input")
    names = [micrograph_stem(path) for path in paths]
    scale = args.up_scale / args.down_scale
    box_px = max(2, 2 * round(max(radii) * scale))
    targets: dict[str, FloatArray] = {}
    if args.targets:
        from heliodor.integrations.topaz.precision_recall import read_targets

        targets = read_targets(args.targets, names)
    files = None
    if args.per_micrograph:
        beside = [str(path.with_name(micrograph_stem(path))) for path in dict.fromkeys(paths)]
        _check_distinct(names if args.output is not None else beside)
    elif not args.per_micrograph and (twice := find_duplicate(names)) is not None:
        report(
            f"Several images are called {twice}: their picks cannot be distinguished in one table."
        )
    if not args.only_validate:
        files = PickWriter(args.output, args.format, args.per_micrograph, args.suffix, box_px)
    # The general model gets the particle's size from the radius, so the radius cannot be searched.
    general_radius = radii[0] if args.radius is not None else None
    score = make_scorer(args.model, start_compute(args.device, args.num_threads), general_radius)
    picked: list[tuple[Path, dict[int, Picks]]] = []
    failures: list[str] = []
    for path, scored in _score_images(paths, score, failures, args.verbose, "picked"):
        name = micrograph_stem(path)
        by_radius = {radius: _find_picks(name, scored, radius, args.threshold) for radius in radii}
        # Write the file of an image at once, unless the radius is not known yet.
        if files is not None and not targets:
            files.add(path, _scale_to_output(by_radius[radii[0]], scale))
        else:
            picked.append((path, by_radius))
    radius = _best_radius(picked, targets, radii, args.assignment_radius) if targets else radii[0]
    if files is not None:
        for path, by_radius in picked:
            files.add(path, _scale_to_output(by_radius[radius], scale))
        files.finish()
    return _exit_code(failures, len(paths))


def _extract_filaments(args: argparse.Namespace) -> int:
    """Trace the filaments of images, and write the starts and ends of their straight parts."""
    from heliodor.integrations.topaz.filaments import check_filament_options, make_filament_picker

    _check_numbers(args)
    check_filament_options(args)
    paths = [Path(path) for path in args.paths or _standard_input()]
    if not paths:
        raise BadInput("no images were given, neither as arguments nor on standard input")
    if args.per_micrograph:
        beside = [str(path.with_name(micrograph_stem(path))) for path in dict.fromkeys(paths)]
        _check_distinct([micrograph_stem(path) for path in paths] if args.output else beside)
    files = PickWriter(args.output, args.format, args.per_micrograph, args.suffix, 2)
    pick = make_filament_picker(args)
    scale, failures = args.up_scale / args.down_scale, list[str]()
    for path in paths:
        try:
            picks = pick(path)
        except BadInput as error:
            report(f"skipped {path}: {error}")
            failures.append(str(error))
            continue
        files.add(path, _scale_to_output(picks, scale))
        if args.verbose:
            report(f"traced {path}")
    if len(failures) == len(paths):
        raise BadInput(f"none of the images could be picked: {failures[0]}")
    files.finish()
    return _exit_code(failures, len(paths))


def _check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing, for particles and for filaments."""
    if args.dims != 2:
        raise BadInput("--dims must be 2: tomograms are not supported")
    if not (args.up_scale > 0 and args.down_scale > 0):
        raise BadInput("the scales -s and -x must be greater than 0")
    if math.isnan(args.threshold):
        raise BadInput("the threshold -t must be a number")


def _radii_to_try(args: argparse.Namespace) -> list[int]:
    """Check the options, and return the radius or all radii to try."""
    _check_numbers(args)
    if args.only_validate and not args.targets:
        raise BadInput("--only-validate needs --targets")
    if args.radius is not None:
        if args.radius < 0:
            raise BadInput(f"the radius -r must be 0 pixels or more, not {args.radius}")
        return [args.radius]
    if not args.targets:
        raise BadInput("no radius: give -r, or --targets to find the best radius")
    if not (0 <= args.min_radius <= args.max_radius and args.step_radius > 0):
        raise BadInput(
            f"no radius to try from {args.min_radius} to {args.max_radius} in steps of"
            f" {args.step_radius}"
        )
    return list(range(args.min_radius, args.max_radius + 1, args.step_radius))


def _standard_input() -> list[str]:
    return [line.strip() for line in sys.stdin if line.strip()]


def _check_distinct(names: Sequence[str]) -> None:
    """Check that the results of the images do not overwrite each other in one folder."""
    twice = find_duplicate(names)
    if twice is not None:
        raise BadInput(f"two images are called {twice}; give each folder of images its own -o")


def _score_images(
    paths: Sequence[Path], score: Scorer, failures: list[str], verbose: bool, wanted: str
) -> Iterator[tuple[Path, ScoredImage]]:
    """Yield each image with its score map; add the reason to `failures` if it cannot be scored.

    Raises
    ------
    BadInput
        At the end, if no image could be scored.
    """
    for path in paths:
        try:
            scored = score(path)
        except BadInput as error:
            report(f"skipped {path}: {error}")
            failures.append(str(error))
            continue
        yield path, scored
        if verbose:
            report(f"scored {path}")
    if len(failures) == len(paths):
        raise BadInput(f"none of the images could be {wanted}: {failures[0]}")


def _find_picks(name: str, scored: ScoredImage, radius: int, threshold: float) -> Picks:
    """Return the picks of an image, lowered in contamination (which Topaz does not detect)."""
    rows_columns, scores = suppress(
        scored.score, radius * scored.map_pixels_per_image_pixel, threshold
    )
    height, width = scored.score.shape
    xy = correct_centers(rows_columns, (height, width), scored.center_correction_px)
    picks = Picks.on(name, scored.to_image_pixels(xy), scores.astype(np.float64))
    if scored.bad_areas is None:
        return picks
    order, weighed = scored.bad_areas.weigh(
        xy * scored.pixel_size_angstrom, picks.score, threshold
    )
    return replace(picks.select(order), score=weighed)


def _scale_to_output(picks: Picks, scale: float) -> Picks:
    """Scale picks to the pixels of the output, and round them."""
    return Picks.on(picks.micrographs[0], np.rint(picks.xy_px * scale), picks.score)


def _best_radius(
    picked: Sequence[tuple[Path, dict[int, Picks]]],
    targets: dict[str, FloatArray],
    radii: Sequence[int],
    assignment_radius: int | None,
) -> int:
    """Print the metrics of each radius, and return the best radius."""
    from heliodor.integrations.topaz.precision_recall import evaluate_radius

    metrics = []
    for radius in radii:
        picks = {by_radius[radius].micrographs[0]: by_radius[radius] for _, by_radius in picked}
        metrics.append(evaluate_radius(radius, picks, targets, assignment_radius))
        print(metrics[-1].line, flush=True)
    best = max(metrics, key=lambda one: one.average_precision)
    if len(radii) > 1:
        report(f"Optimal radius found: {best.radius} with AUPRC: {best.average_precision:.4f}")
    return best.radius


def _exit_code(failures: Sequence[str], number: int) -> int:
    if not failures:
        return 0
    report(f"{len(failures)} of {number} images could not be used (see above)")
    return SOME_FAILED


def segment(args: argparse.Namespace) -> int:
    """Write the score map of each image, as Topaz does: 32-bit TIFF files.

    Parameters
    ----------
    args
        The options.

    Returns
    -------
    int
        Exit code: 0, or 3 if some images could not be used.

    Raises
    ------
    BadInput
        If an option is invalid, or no image can be used.
    """
    import tifffile

    from heliodor.utils.files import atomic_write

    if not args.destdir:
        raise BadInput("-o is missing; give the folder for the score maps")
    paths = [Path(path) for path in args.paths]
    _check_distinct([micrograph_stem(path) for path in paths])
    folder = create_output_folder(args.destdir)
    score = make_scorer(args.model, start_compute(args.device, args.num_threads))
    failures: list[str] = []
    for path, scored in _score_images(paths, score, failures, args.verbose, "scored"):
        with atomic_write(folder / f"{micrograph_stem(path)}.tiff") as aside:
            alive = np.isfinite(scored.score)
            tifffile.imwrite(aside, np.where(alive, scored.score, np.float32(DEAD_BORDER_SCORE)))
    return _exit_code(failures, len(paths))
