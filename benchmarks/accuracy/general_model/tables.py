"""Tables of the results of `run.py`, each figure beside its target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.accuracy.general_model.heliodor_runs import (
    DIAMETERS,
    KINDS,
    median,
)

from heliodor.simulation.builtin_particles import PARTICLES

#: The promises: what the general model has to do.
LEAD, REAL, SHARE_OF_TIME, FALSE_PICKS, LEFT = 0.15, 0.70, 30, 1.0, 0.25
FEW, MANY = (10, 30), 200

Results = dict[str, Any]


def read(folder: Path, pattern: str) -> list[Results]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(pattern))]


def show(folder: Path, name: str) -> None:
    """Print what is there of the results, those of the general model by its name."""
    for part in (zero, few, thousand, empty):
        part(folder, name)


def zero(folder: Path, name: str) -> None:
    print("\n| no labels | diameter, A | ours | Topaz at 8 A | finer | ours, less its better |")
    print("|---|---|---|---|---|---|")
    leads = {}
    for data in (*PARTICLES, "betagal"):
        own = read(folder, f"{name}_zero_{data}.json")
        peers = [read(folder, f"topaz_zero_{data}_{scale}.json") for scale in (2, 1)]
        known = [peer[0]["ap"] for peer in peers if peer]
        if own and known:
            leads[data] = own[0]["ap"] - max(known)
        shape = PARTICLES.get(data)
        cells = ["180" if shape is None else f"{shape.diameter_angstrom:g}"]
        cells += [f"{one[0]['ap']:.3f}" if one else "" for one in (own, *peers)]
        print(f"| {data} | {' | '.join(cells)} | {_signed(leads.get(data))} |")
    shapes = [lead for data, lead in leads.items() if data in PARTICLES]
    if len(shapes) == len(PARTICLES):
        middle = float(np.median(shapes))
        _say("ours above Topaz's on each shape", min(shapes) > 0, f"least {min(shapes):+.3f}")
        _say(f"median at least {LEAD} above", middle >= LEAD, f"{middle:+.3f}")
    for found in read(folder, f"{name}_zero_betagal.json"):
        ap = found["ap"]
        _say(f"beta-galactosidase at least {REAL}", ap >= REAL, f"{ap:.3f}")


def few(folder: Path, name: str) -> None:
    print(f"\n| few labels | Topaz, {MANY} labels: AP after updates | its s, CPU s |", end="")
    print("".join(f" ours, {n}: AP (of each seed) | s, CPU s |" for n in FEW))
    print("|---" * (3 + 2 * len(FEW)) + "|")
    better, quick = [], []
    for data in PARTICLES:
        peers = read(folder, f"topaz_trained_{data}_{MANY}_*.json")[-1:]
        cells = ["", ""]
        for its in peers:
            cells = [", ".join(f"{p['ap']:.3f} ({p['updates']})" for p in its["points"])]
            cells.append(f"{its['seconds']:.0f}, {its['cpu']:.0f}")
        for labels in FEW:
            own = read(folder, f"{name}_trained_{data}_{labels}_*.json")
            if not own:
                cells += ["", ""]
                continue
            each = ", ".join(f"{one['ap']:.3f}" for one in own)
            cells += [f"{median(own, 'ap'):.3f} ({each})"]
            cells += [f"{median(own, 'seconds'):.1f}, {median(own, 'cpu'):.1f}"]
            for its in peers:
                better.append(median(own, "ap") - max(p["ap"] for p in its["points"]))
                quick.append(its["cpu"] / median(own, "cpu"))
        print(f"| {data} | {' | '.join(cells)} |")
    if better:
        off, least = min(better), min(quick)
        _say(f"no worse than Topaz's best with {MANY} labels", off >= 0, f"least {off:+.3f}")
        text = f"at least {least:.1f} times as fast, in CPU seconds"
        _say(f"in a {SHARE_OF_TIME}th of its time", least >= SHARE_OF_TIME, text)


def thousand(folder: Path, name: str) -> None:
    begun = {how: read(folder, f"{name}_thousand_{how}_*.json") for how in ("general", "scratch")}
    if not all(begun.values()):
        return
    print("\n| 1,000 labels of beta-galactosidase, begun from | AP (of each seed) | s |")
    print("|---|---|---|")
    for how, own in begun.items():
        each = ", ".join(f"{one['ap']:.3f}" for one in own)
        print(f"| {how} | {median(own, 'ap'):.3f} ({each}) | {median(own, 'seconds'):.0f} |")
    off = median(begun["general"], "ap") - median(begun["scratch"], "ap")
    _say("from the general model no worse than from scratch", off >= 0, f"{off:+.3f}")


def empty(folder: Path, name: str) -> None:
    print("\n| without particles | bad areas | " + " | ".join(f"{d} A" for d in DIAMETERS), end="")
    print(
        " | all, a square um | on carbon or crystals |\n|---|---|" + "---|" * (len(DIAMETERS) + 2)
    )
    density, bad = {}, {}
    for kind in KINDS:
        for how in ("keep", "leave-out"):
            for found in read(folder, f"{name}_empty_{kind}_{how}.json"):
                counts = [found["picks"][str(d)] / found["area_um2"] for d in DIAMETERS]
                density[kind, how] = float(np.mean(counts))
                bad[kind, how] = sum(found["on_bad"].values())
                cells = " | ".join(f"{value:.2f}" for value in (*counts, density[kind, how]))
                print(f"| {kind} | {how} | {cells} | {bad[kind, how]} |")
    if ("ice", "leave-out") in density:
        most = density["ice", "leave-out"]
        _say("fewer than one pick a square um of ice", most < FALSE_PICKS, f"{most:.2f}")
    for kind in ("carbon", "crystals"):
        left, all_of_them = (bad.get((kind, how)) for how in ("leave-out", "keep"))
        if left is None or all_of_them is None:
            continue
        text = f"{left} of {all_of_them}"
        _say(f"a quarter of the picks left on {kind}", left <= LEFT * all_of_them, text)


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _say(promise: str, kept: bool, figure: str) -> None:
    print(f"\n{'kept' if kept else 'NOT KEPT'}: {promise} ({figure})")
