"""The command `train_test_split`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from heliodor import console
from heliodor.errors import BadInput
from heliodor.files import write_text
from heliodor.hosts.topaz.heights import find_image
from heliodor.hosts.topaz.reading import format_of, read, whole
from heliodor.hosts.topaz.writing import coordinate_text


def train_test_split(args: argparse.Namespace) -> int:
    """Share the micrographs of a coordinate file out to training and test.

    The same seed chooses the same micrographs as in Topaz. Beside the file go its picks in two
    tables and, where the images' folder is given, two lists of images.
    """
    form = format_of(args.file) if args.format == "auto" else args.format
    picks = read(args.file, form)
    if form == "star":
        picks = whole(picks)
    tables = {name: own for name, own in picks.by_micrograph() if len(own)}
    names = sorted(tables)
    if args.number is None or not 0 < args.number < len(names):
        raise BadInput(
            f"{args.file} has {len(names)} micrographs with particles; give with -n how many of"
            " them go to the test, at least 1 and not all"
        )
    # The legacy generator, as its order for a seed is the one that is wanted.
    order = np.random.RandomState(args.seed).permutation(len(names))
    parts = {
        "train": [names[i] for i in order[args.number :]],
        "test": [names[i] for i in order[: args.number]],
    }
    console.say(
        f"# {len(names)} micrographs with {len(picks)} particles:"
        f" {len(parts['train'])} for training, {len(parts['test'])} for the test"
    )
    base = os.path.splitext(args.file)[0]
    for part, chosen in parts.items():
        # Rows as in the file, the micrographs in the order they were drawn.
        texts = [coordinate_text(tables[name], extra=True) for name in chosen]
        header = texts[0].splitlines(keepends=True)[0]
        rows = "".join(text.removeprefix(header) for text in texts)
        _write(Path(f"{base}_{part}.txt"), header + rows)
        if args.image_dir is not None:
            _write(Path(args.file).parent / f"image_list_{part}.txt", _image_list(chosen, args))
    if args.image_dir is None:
        console.say("# no list of images is written without --image-dir")
    return 0


def _image_list(names: list[str], args: argparse.Namespace) -> str:
    lines = ["image_name\tpath"]
    for name in names:
        path = find_image(name, args.image_dir, args.image_ext)
        if path is None:
            console.say(f"# note: {name} is left out: {args.image_dir} holds no image of it")
        else:
            lines.append(f"{name}\t{path.absolute()}")
    if len(lines) == 1:
        raise BadInput(
            f"{args.image_dir} holds none of the images; check --image-dir and --image-ext"
        )
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    console.say(f"# writing {path}")
    write_text(path, text)
