"""The older commands, each for one pair of formats; `convert` does all that they do."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.picks import Picks
from heliodor.integrations.topaz.coordinate_reader import (
    above,
    read,
    read_star,
    scaled,
    whole,
)
from heliodor.integrations.topaz.coordinate_writer import (
    OLD_SCORE,
    coordinate_text,
    numbers,
    star_block,
    write_boxes,
    write_eman2,
)
from heliodor.integrations.topaz.flip_y import mirrored
from heliodor.integrations.topaz.reports import emit

log = logging.getLogger(__name__)

#: Options of `coordinates_to_star` in the order of their columns.
_METADATA = {
    "voltage": "Voltage",
    "defocus_u": "DefocusU",
    "defocus_v": "DefocusV",
    "defocus_angle": "DefocusAngle",
    "spherical_aberation": "SphericalAberration",
    "amplitude_contrast": "AmplitudeContrast",
    "detector_pixel_size": "DetectorPixelSize",
    "magnification": "Magnification",
}


def scale_coordinates(args: argparse.Namespace) -> int:
    """Multiply coordinates, and a column of diameters, by a factor."""
    picks = read(args.file)
    extra = dict(picks.extra)
    if "diameter" in extra:
        diameters = np.ceil(np.array(extra["diameter"], dtype=np.float64) * args.scale)
        extra["diameter"] = diameters.astype(int)
    picks = scaled(replace(picks, extra=extra), args.scale)
    emit(coordinate_text(whole(picks), extra=True), args.output)
    return 0


def boxes_to_coordinates(args: argparse.Namespace) -> int:
    """Turn box files, empty ones too, into one table."""
    picks = whole(Picks.concatenate([read(path, "box") for path in args.files]))
    if args.invert_y:
        picks = mirrored(picks, args.imagedir, args.image_ext)
    emit(coordinate_text(picks), args.output)
    return 0


def star_to_coordinates(args: argparse.Namespace) -> int:
    """Turn a STAR file into a table."""
    emit(coordinate_text(whole(read(args.file, "star"))), args.output)
    return 0


def coordinates_to_star(args: argparse.Namespace) -> int:
    """Turn a table into a STAR file with the older names of columns."""
    picks = read(args.file)
    names = [f"{name}{args.image_ext}" for name in picks.names()]
    columns = {
        "ImageName": [f"1@{name}" for name in names],
        "MicrographName": names,
        "CoordinateX": numbers(picks.xy_px[:, 0]),
        "CoordinateY": numbers(picks.xy_px[:, 1]),
    }
    if not np.isnan(picks.score).all():
        columns[OLD_SCORE] = [repr(float(score)) for score in picks.score]
    for dest, name in _METADATA.items():
        if getattr(args, dest) >= 0:
            columns[name] = [repr(float(getattr(args, dest)))] * len(picks)
    text = star_block("images", {f"rln{name}": column for name, column in columns.items()})
    emit(text, args.output)
    return 0


def coordinates_to_boxes(args: argparse.Namespace) -> int:
    """Turn tables into one box file for each micrograph."""
    write_boxes(args.destdir, _joined(args), args.boxsize)
    return 0


def coordinates_to_eman2_json(args: argparse.Namespace) -> int:
    """Turn tables into one of EMAN2's files for each micrograph."""
    picks = _joined(args)
    print(len(picks))  # Topaz says it on standard output too
    write_eman2(args.destdir, picks)
    return 0


def _joined(args: argparse.Namespace) -> Picks:
    """Return the picks of all tables, none twice."""
    picks = _distinct(Picks.concatenate([read(path) for path in _paths(args.paths)]))
    return mirrored(picks, args.imagedir, args.image_ext) if args.invert_y else picks


def _paths(paths: Sequence[str]) -> Sequence[str]:
    return list(dict.fromkeys(paths))


def _distinct(picks: Picks) -> Picks:
    scores = np.nan_to_num(picks.score, nan=-np.inf)
    rows = np.column_stack([picks.micrograph_index, picks.xy_px, scores])
    _, first = np.unique(rows, axis=0, return_index=True)
    return picks.select(np.sort(first))


def star_particles_threshold(args: argparse.Namespace) -> int:
    """Keep the particles of a STAR file that score the threshold or more."""
    picks = read_star(args.file, "")
    kept = above(picks, args.threshold)
    log.info(f"# kept {len(kept)} of {len(picks)} particles")
    emit(relion_star.render_picks(kept, args.output), args.output)
    return 0
