"""Topaz's deprecated commands, each for one pair of formats; `convert` replaces them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.picks import Picks
from heliodor.integrations.topaz.coordinate_reader import (
    keep_above,
    read_coordinates,
    read_star,
    round_to_pixels,
    scale_picks,
)
from heliodor.integrations.topaz.coordinate_writer import (
    OLD_SCORE,
    format_numbers,
    render_coordinates,
    render_star_block,
    write_boxes,
    write_eman2,
)
from heliodor.integrations.topaz.flip_y import flip_y
from heliodor.integrations.topaz.output import write_output

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
    picks = read_coordinates(args.file)
    extra = dict(picks.extra)
    if "diameter" in extra:
        diameters = np.ceil(np.array(extra["diameter"], dtype=np.float64) * args.scale)
        extra["diameter"] = diameters.astype(int)
    picks = scale_picks(replace(picks, extra=extra), args.scale)
    write_output(render_coordinates(round_to_pixels(picks), extra=True), args.output)
    return 0


def boxes_to_coordinates(args: argparse.Namespace) -> int:
    """Convert box files, including empty ones, to one table."""
    picks = round_to_pixels(
        Picks.concatenate([read_coordinates(path, "box") for path in args.files])
    )
    if args.invert_y:
        picks = flip_y(picks, args.imagedir, args.image_ext)
    write_output(render_coordinates(picks), args.output)
    return 0


def star_to_coordinates(args: argparse.Namespace) -> int:
    """Convert a STAR file to a table."""
    write_output(
        render_coordinates(round_to_pixels(read_coordinates(args.file, "star"))), args.output
    )
    return 0


def coordinates_to_star(args: argparse.Namespace) -> int:
    """Convert a table to a STAR file with older column names."""
    picks = read_coordinates(args.file)
    names = [f"{name}{args.image_ext}" for name in picks.names()]
    columns = {
        "ImageName": [f"1@{name}" for name in names],
        "MicrographName": names,
        "CoordinateX": format_numbers(picks.xy_px[:, 0]),
        "CoordinateY": format_numbers(picks.xy_px[:, 1]),
    }
    if not np.isnan(picks.score).all():
        columns[OLD_SCORE] = [repr(float(score)) for score in picks.score]
    for dest, name in _METADATA.items():
        if getattr(args, dest) >= 0:
            columns[name] = [repr(float(getattr(args, dest)))] * len(picks)
    text = render_star_block("images", {f"rln{name}": column for name, column in columns.items()})
    write_output(text, args.output)
    return 0


def coordinates_to_boxes(args: argparse.Namespace) -> int:
    """Convert tables to one box file per micrograph."""
    write_boxes(args.destdir, _read_tables(args), args.boxsize)
    return 0


def coordinates_to_eman2_json(args: argparse.Namespace) -> int:
    """Convert tables to one EMAN2 file per micrograph."""
    picks = _read_tables(args)
    print(len(picks))  # as Topaz does
    write_eman2(args.destdir, picks)
    return 0


def _read_tables(args: argparse.Namespace) -> Picks:
    """Return the picks of all tables without duplicates."""
    picks = _drop_duplicates(
        Picks.concatenate([read_coordinates(path) for path in _unique_paths(args.paths)])
    )
    return flip_y(picks, args.imagedir, args.image_ext) if args.invert_y else picks


def _unique_paths(paths: Sequence[str]) -> Sequence[str]:
    return list(dict.fromkeys(paths))


def _drop_duplicates(picks: Picks) -> Picks:
    scores = np.nan_to_num(picks.score, nan=-np.inf)
    rows = np.column_stack([picks.micrograph_index, picks.xy_px, scores])
    _, first = np.unique(rows, axis=0, return_index=True)
    return picks.select(np.sort(first))


def star_particles_threshold(args: argparse.Namespace) -> int:
    """Keep the particles of a STAR file at or above the threshold."""
    picks = read_star(args.file, "")
    kept = keep_above(picks, args.threshold)
    log.info(f"# kept {len(kept)} of {len(picks)} particles")
    write_output(relion_star.render_picks(kept, args.output), args.output)
    return 0
