"""F1 at the threshold that each program chooses: Topaz at its default beside heliodor.

    python -m benchmarks.accuracy.zero_guess_topaz FOLDER --topaz ENVIRONMENT [--only NAME ...]
        [--labels labels|easy ...] [--updates 400]

FOLDER holds the data and results of `zero_guess`. Topaz 0.3.20 gets the same micrographs at
8 Å/pixel, as its authors advise, the same labels, and the true number of particles. It trains its
default network from its pretrained weights with its defaults, except that --updates (10,000 by
default: an hour of two processors per data set) limits them to one epoch. Evaluated on all
micrographs, as heliodor is: at -6, its default, at 0 (a probability of one half), and at the best
threshold. Results in FOLDER are not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.accuracy.time_to_accuracy import (
    RADIUS,
    SCALE,
    kept,
    timed,
    write_table,
)
from benchmarks.accuracy.zero_guess import SIZES, hits_of
from benchmarks.common.topaz_peer import install

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import find_sources

DEFAULT = -6.0


def run_topaz(folder: Path, labels: str, topaz: Path, updates: int) -> dict[str, Any]:
    """Preprocess, train and pick; return F1 at its threshold, at 0, and the best."""
    out, small = folder / f"topaz_{labels}", folder / "small"
    out.mkdir(exist_ok=True)
    small.mkdir(exist_ok=True)
    common = ("-j", "1")
    sources = find_sources(str(folder / "micrographs.star"))
    shrunk = {source.path.stem: small / f"{source.path.stem}.mrc" for source in sources}
    if not all(path.exists() for path in shrunk.values()):
        files = [str(source.path) for source in sources]
        timed([str(topaz), "preprocess", "-s", str(SCALE), *common, "-o", str(small), *files])
    rows = "".join(f"{stem}\t{path}\n" for stem, path in shrunk.items())
    (out / "images.txt").write_text("image_name\tpath\n" + rows)
    table = read_picks(folder / f"{labels}.star")
    names, places = table.names(), (table.xy_px / SCALE).round()
    centres = zip(names, places, strict=True)
    write_table(out / "targets.txt", ((Path(n).stem, *map(int, xy)) for n, xy in centres))
    number = len(read_picks(folder / "truth.star")) / len(sources)
    train = [str(topaz), "train", "-d", "-1", *common, "-n", str(round(number))]
    train += ["--train-images", str(out / "images.txt"), "-r", str(RADIUS)]
    train += ["--train-targets", str(out / "targets.txt"), "--epoch-size", str(updates)]
    train += ["--num-epochs", "1", "--save-prefix", str(out / "model")]
    seconds = timed([*train, "-o", str(out / "curve.txt")])
    diameter = float((folder / "diameter").read_text())
    size = SIZES.get(folder.name, 4.0)
    extract = [str(topaz), "extract", "-m", str(out / "model_epoch1.sav"), "-d", "-1", *common]
    extract += ["-r", str(round(diameter / 2 / size / SCALE)), "-x", str(SCALE)]
    timed([*extract, "-o", str(out / "picks.txt"), *map(str, shrunk.values())])
    with (out / "picks.txt").open() as stream:
        picks = list(csv.DictReader(stream, delimiter="\t"))
    score = np.array([float(pick["score"]) for pick in picks])
    xy = np.array([(float(pick["x_coord"]), float(pick["y_coord"])) for pick in picks])
    hit, number = hits_of(folder, [pick["image_name"] for pick in picks], xy, score, size)
    order = np.argsort(-score, kind="stable")
    f1 = 2 * np.cumsum(hit[order]) / (np.arange(1, len(order) + 1) + number)

    def at(threshold: float) -> float:
        chosen = score >= threshold
        return float(2 * hit[chosen].sum() / (chosen.sum() + number))

    figures = {"default": at(DEFAULT), "zero": at(0.0), "best": float(f1.max())}
    many = float((score >= DEFAULT).sum() / number)
    return {**figures, "many": many, "seconds": seconds, "updates": updates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the --folder of zero_guess")
    parser.add_argument(
        "--topaz", type=Path, required=True, help="environment of Topaz, installed if missing"
    )
    parser.add_argument("--only", nargs="*", help="names of data sets")
    parser.add_argument(
        "--labels", nargs="*", default=["labels", "easy"], help="which labels [both]"
    )
    parser.add_argument("--updates", type=int, default=400, help="of the training of Topaz [400]")
    options = parser.parse_args()
    topaz = install(options.topaz)
    print(
        "data | labels | heliodor: F1, best | Topaz: F1 at -6, at 0, best | picks at -6 over truth"
    )
    rows = []
    for folder in sorted(path.parent for path in options.folder.glob("*/diameter")):
        if options.only and folder.name not in options.only:
            continue
        for labels in options.labels:
            where = folder / f"topaz_{labels}.json"
            peer = kept(where, run_topaz, folder, labels, topaz, options.updates)
            own = json.loads((folder / f"{labels}.json").read_text())
            rows.append((own["f1"], own["best"], peer["default"], peer["zero"], peer["best"]))
            print(
                f"{folder.name} | {labels} | {own['f1']:.3f}, {own['best']:.3f}"
                f" | {peer['default']:.3f}, {peer['zero']:.3f}, {peer['best']:.3f}"
                f" | {peer['many']:.1f}",
                flush=True,
            )
    middle = ", ".join(f"{value:.3f}" for value in np.median(np.array(rows), axis=0))
    print(f"medians of {len(rows)}: {middle}")


if __name__ == "__main__":
    main()
