"""The general model of heliodor compared with the pretrained networks of Topaz.

    python -m benchmarks.accuracy.general_model.run FOLDER --topaz ENVIRONMENT [--model FILE]
        [--parts PART ...] [--only NAME ...] [--seeds 3] [--updates 250] [--epochs 4]
        [--snr 0.12] [--table]

Five simulated particles that are not in the training of the general model: 8 micrographs to train
on and 6 to evaluate on each, with the contaminants that `simulate` makes; and beta-galactosidase
(skipped where the data are missing). For both programs, average precision ranks every candidate,
matched within 0.4 of the diameter.

topaz-zero     Topaz 0.3.20, its pretrained network at 8 Å/pixel, as its authors advise
topaz-trained  its default network, trained from its pretrained weights at 8 Å/pixel with 200
               labels, in --epochs of --updates (its default is 10 of 1,000), evaluated after each
topaz-finer    its pretrained network at 4 Å/pixel
zero           heliodor without labels
few            heliodor fine-tuned from the general model with 10 and with 30 labels
thousand       1,000 labels of beta-galactosidase: from the general model, and from scratch
empty          picks at the automatic threshold on micrographs without particles: clean ice,
               carbon, ice crystals; with `--bad-areas` keep and leave-out
pictures       the picks of both on T20S micrographs, as PNG

Both programs run as whole processes with one thread. Results in FOLDER are not computed again:
delete those of a program that has changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.general_model import heliodor_runs as ours
from benchmarks.accuracy.general_model import topaz_runs as peer
from benchmarks.accuracy.general_model.data import (
    LABELS,
    Task,
    betagal,
    simulated,
)
from benchmarks.accuracy.general_model.pictures import t20s
from benchmarks.accuracy.general_model.tables import FEW, show
from benchmarks.accuracy.time_to_accuracy import kept
from benchmarks.common.topaz_peer import install

from heliodor.simulation.builtin_particles import PARTICLES

PARTS = (
    "topaz-zero", "topaz-trained", "topaz-finer", "zero", "few", "thousand", "empty", "pictures",
)  # fmt: skip
#: Topaz's downsampling: 8 A a pixel on the simulated micrographs, and half of it.
SCALES = {"topaz-zero": 2, "topaz-finer": 1}
THOUSAND = 1000


def tasks(out: Path, only: Sequence[str], snr: float | None) -> list[Task]:
    made = [simulated(out, name, snr) for name in PARTICLES if name in only]
    real = betagal(out, THOUSAND) if "betagal" in only and snr is None else None
    return made if real is None else [*made, real]


def measure_topaz(
    out: Path, chosen: list[Task], topaz: Path, part: str, updates: int, epochs: int
) -> None:
    results = out / "results"
    for task in chosen:
        folder = out / task.name / "topaz"
        if part in SCALES:
            scale = SCALES[part]
            where = results / f"topaz_zero_{task.name}_{scale}.json"
            kept(where, peer.as_shipped, task, scale, folder, topaz)
        elif task.name in PARTICLES:
            # The largest number of updates comes last among the sorted names.
            name = f"topaz_trained_{task.name}_{max(LABELS)}_{updates * epochs:06d}.json"
            kept(results / name, peer.trained, task, max(LABELS), updates, epochs, folder, topaz)


def measure_ours(
    out: Path, chosen: list[Task], general: ours.General, parts: Sequence[str], seeds: int
) -> None:
    results, name = out / "results", general.name
    for task in chosen:
        folder = out / task.name / name
        if "zero" in parts:
            where = results / f"{name}_zero_{task.name}.json"
            kept(where, ours.as_shipped, task, general, folder / "zero")
        if "few" in parts and task.name in PARTICLES:
            for labels in FEW:
                for seed in range(seeds):
                    where = results / f"{name}_trained_{task.name}_{labels}_{seed}.json"
                    into = folder / f"from_{labels}_{seed}"
                    args = (task, task.labels(labels), general.start, seed, into)
                    kept(where, ours.trained, *args)
        if "thousand" in parts and task.name == "betagal":
            labels_file = out / task.name / f"labels_{THOUSAND}.tsv"
            for how, start in (("general", general.start), ("scratch", "scratch")):
                for seed in range(seeds):
                    where = results / f"{name}_thousand_{how}_{seed}.json"
                    into = folder / f"thousand_{how}_{seed}"
                    kept(where, ours.trained, task, labels_file, start, seed, into)
    if "empty" in parts:
        for kind in ours.KINDS:
            for how in ("keep", "leave-out"):
                where = results / f"{name}_empty_{kind}_{how}.json"
                folder = out / "without_particles" / name
                kept(where, ours.false_picks, kind, general, how, folder, out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="keeps data and results")
    parser.add_argument("--topaz", type=Path, help="environment of Topaz, installed if missing")
    parser.add_argument("--model", type=Path, help="a general model that is not the shipped one")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="[all]")
    names = [*PARTICLES, "betagal"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="data sets [all]")
    parser.add_argument(
        "--snr", type=float, help="signal-to-noise ratio of the simulated particles [0.12]"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of heliodor: 0, 1, ... [3]")
    parser.add_argument(
        "--updates", type=int, default=250, help="updates per epoch of Topaz [250]"
    )
    parser.add_argument("--epochs", type=int, default=4, help="epochs of Topaz [4]")
    parser.add_argument(
        "--table", action="store_true", help="only print the tables of the results in FOLDER"
    )
    options = parser.parse_args()
    out = options.folder.absolute()
    if options.snr is not None:
        out /= f"snr_{options.snr:g}"
    if options.model is not None and not options.model.is_file():
        parser.error(f"there is no file {options.model}")
    general = ours.General(None if options.model is None else options.model.absolute())
    if not options.table:
        its = [part for part in options.parts if part.startswith("topaz") or part == "pictures"]
        if its and options.topaz is None:
            parser.error(f"--topaz is needed for {' and '.join(its)}")
        chosen = tasks(out, options.only, options.snr)
        for part in PARTS[:3]:
            if part in options.parts:
                topaz = install(options.topaz.absolute())
                measure_topaz(out, chosen, topaz, part, options.updates, options.epochs)
        measure_ours(out, chosen, general, options.parts, options.seeds)
        if "pictures" in options.parts:
            print(t20s(out, general, install(options.topaz.absolute())))
    show(out / "results", general.name)


if __name__ == "__main__":
    main()
