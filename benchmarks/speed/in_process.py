"""Score or suppress with one program in its own interpreter, in turns; see `turns`.

    python -m benchmarks.speed.in_process scores MODE MODEL IMAGE.npy ...      writes
        IMAGE.MODE.npy
    python -m benchmarks.speed.in_process suppression MODE RADIUS_PX THRESHOLD MAP.npy ...

The images are normalized. Number 0 of a turn is the first image. MODE is `topaz`, in the
interpreter of Topaz, or one of the modes of heliodor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common.turns import serve

Work = Callable[[Any], Any]


def topaz_scores(model: str) -> Work:
    """Score as `topaz extract` does, which keeps what only training would need."""
    import torch
    from topaz.model.factory import load_model

    network = load_model(model)
    network.eval()
    network.fill()
    return lambda image: network(torch.from_numpy(image)[None, None]).data[0, 0].numpy()


def exact_scores(model: str) -> Work:
    """Score as `heliodor-topaz extract` does: with zeros around the image."""
    from heliodor.picking.scoring import score_inner

    network = _network(model)
    edge = network.receptive_field // 2
    return lambda image: score_inner(network, np.pad(image, edge))


def lattice_scores(model: str) -> Work:
    """Score every fourth pixel, with a surface through them, as of this program's own models."""
    from heliodor.picking.scoring import score_smoothly

    network = _network(model)
    edge = network.receptive_field // 2

    def work(image: Any) -> Any:
        return score_smoothly(network, np.pad(image, edge), 4)[edge:-edge, edge:-edge]

    return work


def _network(model: str) -> Any:
    from heliodor.models.importers.topaz import read_topaz_model
    from heliodor.utils.compute import ComputeSettings

    ComputeSettings("cpu").start()
    return read_topaz_model(model).network


def topaz_suppression(radius_px: int, threshold: float) -> Work:
    """Return Topaz's suppression: rows, columns and scores."""
    from topaz.algorithms import non_maximum_suppression

    def work(scores: Any) -> Any:
        values, xy = non_maximum_suppression(scores, radius_px, threshold)
        return np.column_stack([xy[:, ::-1], values])

    return work


def suppression(radius_px: int, threshold: float) -> Work:
    """Return this program's suppression: rows, columns and scores."""
    from heliodor.picking.nms import suppress

    def work(scores: Any) -> Any:
        picks, values = suppress(scores, radius_px, threshold)
        return np.column_stack([picks, values])

    return work


#: Ways to score; each takes a model and returns what scores an image.
SCORES: dict[str, Callable[[str], Work]] = {
    "topaz": topaz_scores,
    "exact": exact_scores,
    "lattice": lattice_scores,
}
SUPPRESSIONS: dict[str, Callable[[int, float], Work]] = {
    "topaz": topaz_suppression,
    "exact": suppression,
}


def result_of(path: str | Path, mode: str) -> Path:
    """Return where the result of a mode goes."""
    return Path(path).with_suffix(f".{mode}.npy")


def main(what: str, mode: str, *words: str) -> None:
    if what == "scores":
        model, *files = words
        do = SCORES[mode](model)
    else:
        radius, threshold, *files = words
        do = SUPPRESSIONS[mode](int(radius), float(threshold))
    images = [np.load(file) for file in files]

    def work(number: int) -> None:
        found[number] = do(images[number])
        if number not in kept:
            np.save(result_of(files[number], mode), found[number])
            kept.add(number)

    found: dict[int, Any] = {}
    kept: set[int] = set()
    serve(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
