"""The command `extract --filaments`, of the Topaz that RELION installs: starts and ends.

Each straight part of a filament has two rows, its start and its end, as RELION's extraction of
start-end coordinates reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import Picks
from heliodor.data.filaments.geometry import simplify_axis
from heliodor.data.micrographs.names import micrograph_stem
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.integrations.topaz.compute_device import start_compute
from heliodor.integrations.topaz.scorers import NOMINAL_ANGSTROM
from heliodor.models.filament_model_file import set_width
from heliodor.models.pretrained import load_filament_model_or_general
from heliodor.picking.filaments.batch import TracedMicrograph, trace_one
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.workflows.filament_model import NetworkPredictor
from heliodor.workflows.pick_filaments import PART_WIDTHS

#: Formats that can hold starts and ends.
FORMATS = ("coord", "star")


def check_filament_options(args: argparse.Namespace) -> None:
    """Refuse options that cannot be combined with filaments.

    Raises
    ------
    BadInput
        If there is one.
    """
    if args.targets or args.only_validate:
        raise BadInput("--targets looks for the radius of particles; leave it out for filaments")
    if args.radius is None or args.radius < 1:
        raise BadInput("filaments need their size: give -r, half of their width in pixels")
    if args.format not in FORMATS:
        raise BadInput(
            f"{args.format} files have no starts and ends of filaments; give --format coord or"
            " star, or use heliodor pick --filaments"
        )


def make_filament_picker(args: argparse.Namespace) -> Callable[[Path], Picks]:
    """Return the function that traces the filaments of an image.

    Its result are the starts and ends of straight parts, the surest filaments first.

    Raises
    ------
    BadInput
        If the model cannot be used for filaments.
    """
    device = start_compute(args.device, args.num_threads)
    # The default is a model of particles.
    model = args.model if "model" in args.given else None
    # The pixel size is not known; all lengths follow from the width, twice the radius.
    loaded = load_filament_model_or_general(model)
    if loaded.card.width_angstrom is None:
        loaded = set_width(loaded, NOMINAL_ANGSTROM, "the model")
    predictor = NetworkPredictor.of(loaded, device)
    pixel_size = predictor.width_angstrom / (2 * args.radius)
    length = args.filaments_length
    settings = FilamentSettings(
        filaments=True, min_length_angstrom=length * pixel_size if length > 0 else None
    )

    def pick(path: Path) -> Picks:
        name = micrograph_stem(path)
        traced = trace_one(predictor, Source(name, path, name), settings, pixel_size)
        return to_starts_and_ends(traced, args.threshold, 2.0 * args.radius)

    return pick


def to_starts_and_ends(traced: TracedMicrograph, threshold: float, width_px: float) -> Picks:
    """Return two rows for each straight part of the filaments, with the score of the filament.

    Parameters
    ----------
    threshold
        Mean log-odds of a filament.
    """
    pairs: list[FloatArray] = [np.zeros((0, 2))]
    scores: list[float] = []
    for one in traced.axes:
        if one.score >= threshold:
            axis = simplify_axis(one.axis, PART_WIDTHS * width_px)
            pairs.append(np.stack([axis[:-1], axis[1:]], axis=1).reshape(-1, 2))
            scores += [one.score] * len(pairs[-1])
    return Picks.on(traced.name, np.concatenate(pairs), np.array(scores, dtype=np.float64))
