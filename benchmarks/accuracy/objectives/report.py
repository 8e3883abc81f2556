"""Tables, paired t-tests and figures of the runs of `run.py`.

    python -m benchmarks.accuracy.objectives.report FOLDER [--out FOLDER]

Reads FOLDER/runs/*.json, complete or not, and writes tables.md, objectives.png, autoencoder.png
and prior.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.objectives.cells import (
    CHOSEN,
    GAMMAS,
    METRICS,
    OBJECTIVES,
    Draws,
    Paired,
    Row,
    by_factor,
    by_gamma,
    by_objective,
    collect,
    places_of,
    summary,
)
from benchmarks.accuracy.objectives.figures import draw_all

from heliodor.utils.files import write_text


def markdown(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [[corner, *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *cells] for name, cells in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def series_of(lines: Mapping[str, Any], order: Iterable[str]) -> list[str]:
    return [name for name in order if name in lines] + sorted(lines.keys() - set(order))


def means_table(lines: dict[str, dict[float, Draws]], order: Sequence[str]) -> str:
    """Return means, a row a number of labels and a column a series."""
    names = series_of(lines, order)
    rows = {
        f"{place:g}": [summary(lines[name].get(place, {})) for name in names]
        for place in places_of(lines)
    }
    return markdown("N", names, rows)


def paired_table(lines: dict[str, dict[float, Draws]], pairs: Sequence[tuple[str, str]]) -> str:
    """Return paired t-tests, a row a number of labels and a column a pair of series."""
    pairs = [pair for pair in pairs if pair[0] in lines and pair[1] in lines]
    if not pairs:
        return ""
    rows = {}
    for place in places_of(lines):
        tests = [Paired.of(lines[a].get(place, {}), lines[b].get(place, {})) for a, b in pairs]
        rows[f"{place:g}"] = ["–" if test is None else str(test) for test in tests]
    return markdown("N", [f"{a} less {b}" for a, b in pairs], rows)


def prior_table(lines: dict[str, dict[float, Draws]]) -> str:
    """Return means, a row a number of labels and a column a factor of the prior."""
    factors = places_of(lines)
    names = sorted(lines, key=lambda name: int(name.split()[-1]))
    rows = {name: [summary(lines[name].get(f, {})) for f in factors] for name in names}
    return markdown("", [f"{factor:g} π" for factor in factors], rows)


SORTS = (by_objective, by_gamma, by_factor)
SECONDS = ("training_cpu_seconds", "judging_cpu_seconds")
TESTED = [(CHOSEN, name) for name in OBJECTIVES if name != CHOSEN]
GAMMA_TESTED = [(name, "γ = 0") for name in GAMMAS if name != "γ = 0"]
LEGEND = (
    "Mean ± standard deviation (number of draws of labels). Tests are Student's paired t-tests"
    " over the draws that both have, two-sided and not corrected for their number: mean"
    " difference (draws) p, and * where the first named is better, † where the other is, at"
    " p < 0.05. A dash: fewer than two draws, or nothing to compare.\n\n"
)


def tables(rows: Sequence[Row]) -> str:
    """Return all tables of runs that were trained in one way."""
    text = ""
    for metric, title in METRICS.items():
        objectives, gammas, factors = (collect(rows, metric, sort) for sort in SORTS)
        for dataset in sorted({row["dataset"] for row in rows}):
            lines = objectives.get(dataset, {})
            if lines:
                text += f"### {title}, {dataset}, by objective\n\n"
                text += means_table(lines, OBJECTIVES) + paired_table(lines, TESTED)
            lines = gammas.get(dataset, {})
            if lines:
                text += f"### {title}, {dataset}, by weight of the autoencoder\n\n"
                text += means_table(lines, GAMMAS) + paired_table(lines, GAMMA_TESTED)
            lines = factors.get(dataset, {})
            if lines:
                text += f"### {title}, {dataset}, by class prior\n\n" + prior_table(lines)
    return text


def protocol(row: Row) -> str:
    """Return in a few words how a run was trained; only runs of one way are compared."""
    updates = "" if row["updates"] is None else f", {row['updates']} updates"
    width = "" if row["width"] is None else f", width {row['width']}"
    return f"{row['recipe']} recipe{updates}{width}"


def report(folder: Path, out: Path) -> str:
    """Write everything of a folder of runs; return the tables."""
    files = sorted((folder / "runs").glob("*.json"))
    rows: list[Row] = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    if not rows:
        raise SystemExit(f"there are no runs in {folder / 'runs'}")
    text = "# Objectives compared\n\n" + LEGEND
    protocols = sorted({protocol(row) for row in rows})
    for i, name in enumerate(protocols):
        own = [row for row in rows if protocol(row) == name]
        training, judging = (statistics.median(row[key] for row in own) for key in SECONDS)
        text += f"## {name[0].upper()}{name[1:]}\n\n{len(own)} runs; medians of"
        text += f" {training:.0f} CPU seconds of training and {judging:.0f} of judging.\n\n"
        text += tables(own)
        draw_all(own, out, f"_{i + 1}" if len(protocols) > 1 else "")
    write_text(out / "tables.md", text.rstrip() + "\n")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the --out of run.py")
    parser.add_argument("--out", type=Path, help="folder for tables.md and the figures [FOLDER]")
    options = parser.parse_args()
    print(report(options.folder, options.out or options.folder))


if __name__ == "__main__":
    main()
