"""The table of `real_data`, and its summary with the bars."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks.accuracy.real_data_cases import FLOOR, STATED, Case
from benchmarks.common.real_sets import REAL_SETS
from benchmarks.common.tables import at_least, markdown

#: How thoroughly a model is trained, in the order of the rows.
EFFORTS = ("quick", "normal", "thorough")
#: Bars of F1 at the automatic threshold over the best F1: of every case, and of the median.
WORST_RATIO, MEDIAN_RATIO = 0.93, 0.97
LOWER_BOUND = " (lower bound)"
UNKNOWN = "unknown"

HEAD = [
    *("set", "labels", "draws", "AP", "best F1", "at log-odds", "F1", "F1 / best", "worst"),
    *("stated precision", "true precision", "stated recall", "true recall", "picks / truth"),
    *("AP, keep", "F1, keep", "shift x, y", "error: median, 90%", "training CPU s"),
]
TOPAZ_HEAD = ["Topaz: AP", "best F1", "F1", "CPU s"]

#: A case with its result.
Result = tuple[Case, dict[str, Any]]


def ratio(masked: Mapping[str, Any]) -> float:
    """Return F1 at the automatic threshold over the best F1."""
    best = float(masked["best_f1"])
    return float(masked["f1"]) / best if best else 0.0


def default(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures with the default settings of picking."""
    figures: Mapping[str, Any] = result["masks"]["leave-out"]
    return figures


def keep(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures without contamination masks; the same where the model has none."""
    figures: Mapping[str, Any] = result["masks"].get("keep", default(result))
    return figures


def table(results: Iterable[Result], topaz: Mapping[Case, Mapping[str, Any]]) -> str:
    """Return a row for each set and number of labels: medians of the draws, and worst ratios.

    Parameters
    ----------
    results
        The cases that are done.
    topaz
        Topaz's results for the first draws; empty: its columns are left out.
    """

    def key(result: Result) -> tuple[int, int, bool, int]:
        case = result[0]
        number = list(REAL_SETS).index(case.name)
        return number, case.labels, case.adapt, EFFORTS.index(case.effort)

    ordered = sorted(results, key=key)
    rows = []
    for _, group in groupby(ordered, key=key):
        own = list(group)
        cells = row(own)
        if topaz:
            peers = [topaz[case] for case, _ in own if case in topaz]
            cells += topaz_cells(peers[0]) if peers else [""] * len(TOPAZ_HEAD)
        rows.append(cells)
    return markdown([*HEAD, *(TOPAZ_HEAD if topaz else [])], rows)


def row(results: Sequence[Result]) -> list[str]:
    """Return the cells of one set and number of labels."""
    case = results[0][0]
    own = [default(result) for _, result in results]
    kept = [keep(result) for _, result in results]
    ratios = [ratio(figures) for figures in own]
    seconds = [result["training_cpu_seconds"] for _, result in results]
    return [
        case.name,
        f"{case.labels}, adapted" if case.adapt else f"{case.labels}{case.words_of_effort}",
        str(len(results)),
        middle([figures["ap"] for figures in own]),
        middle([figures["best_f1"] for figures in own]),
        best_threshold([figures["best_threshold"] for figures in own]),
        middle([figures["f1"] for figures in own]),
        middle(ratios),
        f"{min(ratios):.3f}",
        stated_cell([figures["stated"]["precision"] for figures in own]),
        middle([f["precision"] for f in own]) + ("" if case.real.complete else LOWER_BOUND),
        stated_cell([figures["stated"]["recall"] for figures in own]),
        middle([figures["recall"] for figures in own]),
        middle([figures["picks"] / figures["truth"] for figures in own], 2),
        middle([figures["ap"] for figures in kept]),
        middle([figures["f1"] for figures in kept]),
        *center_cells([figures["centers"] for figures in own]),
        middle(seconds, 0),
    ]


def center_cells(errors: Sequence[Sequence[float | None]]) -> list[str]:
    """Return the median shift of centers, and their median and 90% error, in diameters."""
    x, y, median, tail = (middle(values) for values in zip(*errors, strict=True))
    return [f"{x}, {y}", f"{median}, {tail}"]


def topaz_cells(result: Mapping[str, Any]) -> list[str]:
    """Return Topaz's cells of a row."""
    figures = [f"{result[name]:.3f}" for name in ("ap", "best_f1", "f1")]
    return [*figures, f"{result['cpu_seconds']:.0f}"]


def middle(values: Sequence[float | None], digits: int = 3) -> str:
    """Return the median of those that are known; none: a dash."""
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.{digits}f}" if known else "–"


def best_threshold(values: Sequence[float | None]) -> str:
    """Return the median log-odds, marked where it is as low as candidates are searched for."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    found = statistics.median(known)
    return f"{'at most ' if found < FLOOR + 0.1 else ''}{found:.1f}"


def stated_cell(estimates: Sequence[Sequence[float | None] | None]) -> str:
    """Return the medians of what was stated and of its interval, and how often nothing was."""
    known = [estimate for estimate in estimates if estimate is not None]
    if not known:
        return UNKNOWN
    value, low, high = zip(*known, strict=True)
    text = f"{middle(value, 2)} ({middle(low, 2)} to {middle(high, 2)})"
    silent = len(estimates) - len(known)
    return f"{text}, {UNKNOWN} in {silent} of {len(estimates)}" if silent else text


def inside(estimate: Sequence[float | None] | None, true: float | None) -> bool | None:
    """Return whether a true value lies in a stated interval; None if either is unknown.

    To two digits, as users see them: 1 lies in an interval from 0.97 to 0.998.
    """
    if estimate is None or true is None:
        return None
    _, low, high = estimate
    if low is None or high is None:
        return None
    return round(low, 2) <= round(true, 2) <= round(high, 2)


def summary(results: Sequence[Result]) -> list[str]:
    """Return the bars, and how what is stated compares with what is true, one line for each."""
    ratios = {case: ratio(default(result)) for case, result in results}
    worst = min(ratios, key=lambda case: ratios[case])
    lines = [
        f"{at_least(ratios[worst], WORST_RATIO, 'F1 / best F1, worst case')} ({worst.words})",
        f"cases below {WORST_RATIO:g}: {sum(r < WORST_RATIO for r in ratios.values())}"
        f" of {len(ratios)}",
        str(at_least(statistics.median(ratios.values()), MEDIAN_RATIO, "F1 / best F1, median")),
    ]
    whole = [(case, result) for case, result in results if case.real.complete]
    for name in STATED:
        note = ""
        if name == "precision" and len(whole) < len(results):
            note = " (where the truth is incomplete, against a lower bound)"
        lines.append(f"true {name} in the stated interval: {count_inside(results, name)}{note}")
    for set_name in dict.fromkeys(case.name for case, _ in whole):
        own = [(case, result) for case, result in whole if case.name == set_name]
        for name in STATED:
            lines.append(
                f"{set_name}, {name}: |stated - true| {describe_errors(own, name)};"
                f" in the stated interval: {count_inside(own, name)}"
            )
    return lines


def count_inside(results: Sequence[Result], name: str) -> str:
    """Return in how many cases the truth lies in the interval, and in how many none was stated."""
    pairs = [(default(result)["stated"][name], default(result)[name]) for _, result in results]
    known = [answer for pair in pairs if (answer := inside(*pair)) is not None]
    silent = len(pairs) - len(known)
    return f"{sum(known)} of {len(known)}" + (f", {silent} {UNKNOWN}" if silent else "")


def describe_errors(results: Sequence[Result], name: str) -> str:
    """Return the median and the largest difference of what is stated and what is true."""
    differences = [
        abs(figures["stated"][name][0] - figures[name])
        for figures in (default(result) for _, result in results)
        if figures["stated"][name] is not None and figures[name] is not None
    ]
    if not differences:
        return UNKNOWN
    return f"median {statistics.median(differences):.3f}, at most {max(differences):.3f}"
