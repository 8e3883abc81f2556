"""The commands `convert`, `split` and `train_test_split`."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput
from heliodor.integrations.topaz.coordinate_reader import (
    SUFFIXES,
    Format,
    detect_format,
    keep_above,
    read_coordinates,
    read_star,
    round_to_pixels,
    scale_picks,
)
from heliodor.integrations.topaz.coordinate_writer import (
    assign_files,
    render_boxes,
    render_coordinates,
    render_star,
    render_via,
    write_boxes,
    write_eman2,
)
from heliodor.integrations.topaz.flip_y import find_image, flip_y
from heliodor.integrations.topaz.output import write_output
from heliodor.utils.files import write_text

log = logging.getLogger(__name__)

#: Options that become columns of a STAR file.
_METADATA = {
    "voltage": "Voltage",
    "detector_pixel_size": "DetectorPixelSize",
    "magnification": "Magnification",
    "amplitude_contrast": "AmplitudeContrast",
}


def convert(args: argparse.Namespace) -> int:
    """Convert coordinate files to one file of another format or scale."""
    forms = [
        detect_format(f) if args.from_format == "auto" else args.from_format for f in args.files
    ]
    to = _choose_format(args, forms)
    if args.verbose > 0:
        log.info(f"# {', '.join(sorted(set(forms)))} to {to}")
    if args.down_scale == 0:
        raise BadInput("--down-scale must not be 0")
    factor = args.up_scale / args.down_scale
    more = {column: v for name, column in _METADATA.items() if (v := getattr(args, name)) > 0}
    _report_options_without_effect(args, to)
    # From STAR to STAR keep everything: columns, optics groups, fractions of a pixel.
    stays = to == "star" and set(forms) == {"star"}
    if stays:
        tables = [read_star(path, args.image_ext) for path in args.files]
    else:
        tables = [
            read_coordinates(path, form) for path, form in zip(args.files, forms, strict=True)
        ]
    if to != "star":
        # Topaz rounds coordinates from STAR files to integers.
        tables = [
            round_to_pixels(t) if f == "star" else t for t, f in zip(tables, forms, strict=True)
        ]
    picks = scale_picks(keep_above(Picks.concatenate(tables), args.threshold), factor)
    if factor != 1 and not stays:
        picks = round_to_pixels(picks)
    if args.invert_y:
        picks = flip_y(picks, args.imagedir, args.image_ext)
    if stays:
        extra = {f"rln{name}": np.full(len(picks), value) for name, value in more.items()}
        picks = replace(picks, extra={**picks.extra, **extra})
        write_output(relion_star.render_picks(picks, args.output), args.output)
    else:
        _write(picks, to, args, more)
    return 0


def _report_options_without_effect(args: argparse.Namespace, to: Format) -> None:
    """Report options that have no effect in the output format."""
    names = [name for name in _METADATA if getattr(args, name) > 0 and to != "star"]
    names += ["boxsize"] * (args.boxsize > 0 and to != "box")
    names += ["suffix"] * (args.suffix != "" and to not in ("box", "json"))
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        log.info(f"# note: no effect in {to} files: {options}")


def _choose_format(args: argparse.Namespace, forms: Sequence[Format]) -> Format:
    """Return the output format."""
    to: Format
    if args.to_format != "auto":
        to = args.to_format
    elif args.output is None:
        if len(set(forms)) > 1:
            raise BadInput("the files have several formats; choose the output format with --to")
        to = forms[0]
    elif args.output.endswith("/") or Path(args.output).is_dir():
        to = "box" if args.boxsize > 0 else "json"
    else:
        suffix = Path(args.output).suffix.lower()
        if suffix not in SUFFIXES:
            raise BadInput(
                f"unknown format of {args.output}; use a name that ends in .txt, .star or .csv, or"
                " choose the format with --to"
            )
        to = SUFFIXES[suffix]
    if to in ("box", "json") and args.output is None:
        raise BadInput(f"there is one {to} file per micrograph; give their folder with -o")
    return to


def _write(picks: Picks, to: Format, args: argparse.Namespace, more: dict[str, float]) -> None:
    if to == "star":
        write_output(render_star(picks, args.image_ext, more), args.output)
    elif to == "csv":
        write_output(render_via(picks), args.output)
    elif to == "coord":
        write_output(render_coordinates(picks), args.output)
    elif to == "json":
        write_eman2(args.output, picks, args.suffix)
    elif args.output.lower().endswith(".box") and not Path(args.output).is_dir():
        if len(picks.micrographs) > 1:
            raise BadInput(f"{args.output} is one box file; give a folder for several micrographs")
        if args.boxsize <= 0:
            raise BadInput("box files need a box size; give --boxsize")
        write_output(render_boxes(picks, args.boxsize), args.output)
    else:
        write_boxes(args.output, picks, args.boxsize, args.suffix)


def split(args: argparse.Namespace) -> int:
    """Split a coordinate file into one file per micrograph, in the same format."""
    if args.output is None:
        raise BadInput("the output folder is missing; give it with -o")
    form = detect_format(args.file) if args.format == "auto" else args.format
    ending = f"{args.suffix}{Path(args.file).suffix}"
    if form not in ("coord", "star"):
        raise BadInput(f"{args.file} is a {form} file; split accepts only tables and STAR files")
    picks = read_star(args.file, "") if form == "star" else read_coordinates(args.file, form)
    for file, own in assign_files(args.output, keep_above(picks, args.threshold), ending).items():
        text = (
            relion_star.render_picks(own)
            if form == "star"
            else render_coordinates(own, extra=True)
        )
        write_output(text, file)
    return 0


def train_test_split(args: argparse.Namespace) -> int:
    """Split the micrographs of a coordinate file into training and test sets.

    The same seed chooses the same micrographs as in Topaz. Writes two tables of picks next to the
    file and, if the folder of the images is given, two lists of images.
    """
    form = detect_format(args.file) if args.format == "auto" else args.format
    picks = read_coordinates(args.file, form)
    if form == "star":
        picks = round_to_pixels(picks)
    tables = {name: own for name, own in picks.split_by_micrograph() if len(own)}
    names = sorted(tables)
    if args.number is None or not 0 < args.number < len(names):
        raise BadInput(
            f"{args.file} has {len(names)} micrographs with particles; give the number of test"
            " micrographs with -n, at least 1 and not all"
        )
    # Topaz uses the legacy generator; the order for a seed must be the same.
    order = np.random.RandomState(args.seed).permutation(len(names))
    parts = {
        "train": [names[i] for i in order[args.number :]],
        "test": [names[i] for i in order[: args.number]],
    }
    log.info(
        f"# {len(names)} micrographs with {len(picks)} particles:"
        f" {len(parts['train'])} for training, {len(parts['test'])} for testing"
    )
    base = os.path.splitext(args.file)[0]
    for part, chosen in parts.items():
        # Micrographs in random order, with the rows of each in the order of the file.
        texts = [render_coordinates(tables[name], extra=True) for name in chosen]
        header = texts[0].splitlines(keepends=True)[0]
        rows = "".join(text.removeprefix(header) for text in texts)
        _write_part(Path(f"{base}_{part}.txt"), header + rows)
        if args.image_dir is not None:
            _write_part(
                Path(args.file).parent / f"image_list_{part}.txt", _image_list(chosen, args)
            )
    if args.image_dir is None:
        log.info("# no lists of images without --image-dir")
    return 0


def _image_list(names: list[str], args: argparse.Namespace) -> str:
    lines = ["image_name\tpath"]
    for name in names:
        path = find_image(name, args.image_dir, args.image_ext)
        if path is None:
            log.info(f"# skipped {name}: no image in {args.image_dir}")
        else:
            lines.append(f"{name}\t{path.absolute()}")
    if len(lines) == 1:
        raise BadInput(
            f"{args.image_dir} contains none of the images; check --image-dir and --image-ext"
        )
    return "\n".join(lines) + "\n"


def _write_part(path: Path, text: str) -> None:
    log.info(f"# writing {path}")
    write_text(path, text)
