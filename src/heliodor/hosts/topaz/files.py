"""The commands `convert` and `split`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor import console
from heliodor.errors import BadInput
from heliodor.formats import star
from heliodor.header import without_suffix
from heliodor.hosts.topaz.heights import mirrored
from heliodor.hosts.topaz.reading import (
    SUFFIXES,
    Format,
    above,
    format_of,
    read,
    read_star,
    scaled,
    whole,
)
from heliodor.hosts.topaz.writing import (
    below,
    box_text,
    coordinate_text,
    emit,
    star_text,
    via_text,
    write_boxes,
    write_eman2,
)
from heliodor.picks import Picks

#: Options that become columns of a STAR file.
_METADATA = {
    "voltage": "Voltage",
    "detector_pixel_size": "DetectorPixelSize",
    "magnification": "Magnification",
    "amplitude_contrast": "AmplitudeContrast",
}


def convert(args: argparse.Namespace) -> int:
    """Turn coordinate files into one of another format or scale."""
    forms = [format_of(f) if args.from_format == "auto" else args.from_format for f in args.files]
    to = _target(args, forms)
    if args.verbose > 0:
        console.say(f"# {', '.join(sorted(set(forms)))} to {to}")
    if args.down_scale == 0:
        raise BadInput("coordinates cannot be divided by 0; give another --down-scale")
    factor = args.up_scale / args.down_scale
    more = {column: v for name, column in _METADATA.items() if (v := getattr(args, name)) > 0}
    _say_idle(args, to)
    # From STAR to STAR nothing is lost: columns, optics groups, fractions of a pixel.
    stays = to == "star" and set(forms) == {"star"}
    if stays:
        tables = [read_star(path, args.image_ext) for path in args.files]
    else:
        tables = [read(path, form) for path, form in zip(args.files, forms, strict=True)]
    if to != "star":
        # Tables of text hold whole pixels wherever Topaz made them so.
        tables = [whole(t) if f == "star" else t for t, f in zip(tables, forms, strict=True)]
    picks = scaled(above(Picks.concatenate(tables), args.threshold), factor)
    if factor != 1 and not stays:
        picks = whole(picks)
    if args.invert_y:
        picks = mirrored(picks, args.imagedir, args.image_ext)
    if stays:
        extra = {f"rln{name}": np.full(len(picks), value) for name, value in more.items()}
        picks = replace(picks, extra={**picks.extra, **extra})
        emit(star.picks_text(picks, args.output), args.output)
    else:
        _write(picks, to, args, more)
    return 0


def _say_idle(args: argparse.Namespace, to: Format) -> None:
    """Name the options that mean nothing in the format that is written."""
    names = [name for name in _METADATA if getattr(args, name) > 0 and to != "star"]
    names += ["boxsize"] * (args.boxsize > 0 and to != "box")
    names += ["suffix"] * (args.suffix != "" and to not in ("box", "json"))
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        console.say(f"# note: no effect in {to} files: {options}")


def _target(args: argparse.Namespace, forms: Sequence[Format]) -> Format:
    """Decide on the format to write."""
    to: Format
    if args.to_format != "auto":
        to = args.to_format
    elif args.output is None:
        if len(set(forms)) > 1:
            raise BadInput("the files are of several formats; say with --to which to write")
        to = forms[0]
    elif args.output.endswith("/") or Path(args.output).is_dir():
        to = "box" if args.boxsize > 0 else "json"
    else:
        suffix = Path(args.output).suffix.lower()
        if suffix not in SUFFIXES:
            raise BadInput(
                f"the name {args.output} tells no format; end it with .txt, .star or .csv, or"
                " say the format with --to"
            )
        to = SUFFIXES[suffix]
    if to in ("box", "json") and args.output is None:
        raise BadInput(f"{to} files are one a micrograph; give their folder with -o")
    return to


def _write(picks: Picks, to: Format, args: argparse.Namespace, more: dict[str, float]) -> None:
    if to == "star":
        emit(star_text(picks, args.image_ext, more), args.output)
    elif to == "csv":
        emit(via_text(picks), args.output)
    elif to == "coord":
        emit(coordinate_text(picks), args.output)
    elif to == "json":
        write_eman2(args.output, picks, args.suffix)
    elif args.output.lower().endswith(".box") and not Path(args.output).is_dir():
        if len(picks.micrographs) > 1:
            raise BadInput(f"{args.output} is one box file; for several micrographs give a folder")
        if args.boxsize <= 0:
            raise BadInput("boxes need a size; give --boxsize")
        emit(box_text(picks, args.boxsize), args.output)
    else:
        write_boxes(args.output, picks, args.boxsize, args.suffix)


def split(args: argparse.Namespace) -> int:
    """Write one coordinate file for each micrograph, in the format of the one given."""
    if args.output is None:
        raise BadInput("the files need a folder; give it with -o")
    form = format_of(args.file) if args.format == "auto" else args.format
    ending = f"{args.suffix}{Path(args.file).suffix}"
    if form not in ("coord", "star"):
        raise BadInput(f"{args.file} is a {form} file; split takes tables and STAR files")
    picks = read_star(args.file, "") if form == "star" else read(args.file, form)
    for name, own in above(picks, args.threshold).by_micrograph():
        if len(own):
            text = star.picks_text(own) if form == "star" else coordinate_text(own, extra=True)
            emit(text, below(args.output, without_suffix(name), ending))
    return 0
