"""Accuracy against the number of labels, on all real data with known particles, as a figure.

    python -m benchmarks.accuracy.labels FIGURE [options of real_data]

Carries out the cases of `real_data` for 0, 10, 30, 100, 200 and 500 labels (`--labels`), those
that a set has enough particles for, prints their table, and draws FIGURE (.svg or .png): for each
set AP and the best F1 of all thresholds against the number of labels, the median of the draws with
the lowest and the highest, a line for each of `--efforts`. With `--topaz ENVIRONMENT`, Topaz
beside it, with the same labels.
Cases that `real_data` has carried out in the same folder are not repeated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.accuracy import real_data
from benchmarks.accuracy.real_data_cases import Case, wanted_cases
from benchmarks.common.real_sets import REAL_SETS
from matplotlib.figure import Figure

#: Numbers of labels, unless others are given.
LABELS = (0, 10, 30, 100, 200, 500)
#: What is drawn: the key of the results, and its name.
MEASURES = {"ap": "average precision", "best_f1": "best F1"}
#: The color of the line of each effort.
EFFORT_COLORS = {"quick": "#8fb7d6", "normal": "#1c5d8f", "thorough": "#0b2a44"}
#: What the sets are called in the figure.
TITLES = {
    "apoferritin": "apoferritin", "betagal": "beta-galactosidase", "ribosome80s": "80S ribosome",
    "trpv1": "TRPV1",
}  # fmt: skip
#: Where no labels are drawn on an axis of logarithms.
NONE_AT = 4.0


def collect(
    cases: Sequence[Case], out: Path, updates: int
) -> tuple[dict[Case, dict[str, Any]], dict[Case, dict[str, Any]]]:
    """Return what was measured of the cases: heliodor's figures, and Topaz's."""
    own = {c: c.file(out) for c in cases}
    its = {c: c.topaz_file(out, updates) for c in cases if not c.draw}
    return (
        {c: read(path)["masks"]["leave-out"] for c, path in own.items() if path.exists()},
        {c: read(path) for c, path in its.items() if path.exists()},
    )


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def gather(
    results: Mapping[Case, Mapping[str, Any]], name: str, measure: str
) -> list[tuple[int, float, float, float]]:
    """Return for each number of labels: it, and the median, lowest and highest of the draws."""
    values: dict[int, list[float]] = {}
    for case, found in results.items():
        if case.name == name:
            values.setdefault(case.labels, []).append(float(found[measure]))
    return [(n, median(v), min(v), max(v)) for n, v in sorted(values.items())]


def draw(
    own: Mapping[Case, Mapping[str, Any]],
    its: Mapping[Case, Mapping[str, Any]],
    path: Path,
) -> None:
    """Draw the figure."""
    names = [name for name in REAL_SETS if any(case.name == name for case in own)]
    figure = Figure(figsize=(2.6 * len(names) + 0.6, 4.8), layout="constrained")
    lines = [
        (
            {c: found for c, found in own.items() if c.effort == effort or not c.labels},
            f"heliodor, {effort}",
            color,
        )
        for effort, color in EFFORT_COLORS.items()
        if any(case.effort == effort and case.labels for case in own)
    ]
    lines.append((dict(its), "Topaz", "#b8501a"))
    axes = figure.subplots(len(MEASURES), len(names), sharex=True, squeeze=False)
    for row, (measure, title) in enumerate(MEASURES.items()):
        for column, name in enumerate(names):
            panel = axes[row][column]
            for results, label, color in lines:
                rows = gather(results, name, measure)
                if not rows:
                    continue
                at = [max(n, NONE_AT) for n, *_ in rows]
                middle, low, high = (list(column) for column in list(zip(*rows, strict=True))[1:])
                panel.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
                panel.plot(at, middle, "o-", color=color, label=label, markersize=3.5)
            panel.set_xscale("log")
            ticks = sorted({case.labels for case in own})
            panel.set_xticks(
                [max(n, NONE_AT) for n in ticks], [str(n or "none") for n in ticks], minor=False
            )
            panel.tick_params(which="minor", bottom=False)
            panel.grid(color="#e3e7eb")
            panel.set_axisbelow(True)
            if not row:
                panel.set_title(TITLES.get(name, name), fontsize=10)
            if not column:
                panel.set_ylabel(title)
    figure.supxlabel("labels", fontsize=10)
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(
        *handles, loc="outside upper center", ncols=len(lines), frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0].startswith("-"):
        print(__doc__)
        return 2
    target, rest = Path(words[0]), words[1:]
    if "--labels" not in rest:
        rest += ["--labels", *map(str, LABELS)]
    code = real_data.main(rest)
    options = real_data.parse(rest)
    most = real_data.QUICK_MICROGRAPHS if options.quick else None
    cases = wanted_cases(
        options.sets, options.split, options.labels, options.draws, most,
        efforts=options.efforts,
    )  # fmt: skip
    own, its = collect(cases, options.out.absolute(), options.updates)
    if own:
        draw(own, its, target)
        print(f"wrote {target}")
    return code


if __name__ == "__main__":
    sys.exit(main())
