"""Whether the picks of a micrograph depend on the others: part of `real_data`."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.real_sets import RealSet, Split
from benchmarks.common.tables import markdown

import heliodor

#: Micrographs that are picked together, in small and in large sets.
FEW, MANY = 3, 10
#: Empty files among them, and where: before, between and after the others.
UNREADABLE = 3

HEAD = [
    *("set", "micrographs", "picks on the first one: alone", "among 3", "among all"),
    *("with 3 unreadable files", "difference, alone: median", "most", "among 3: median", "most"),
    "pick files with unreadable files",
]


def measure(real: RealSet, split: Split, most: int = MANY) -> dict[str, Any]:
    """Pick the same micrographs with the general model, alone and among others.

    Parameters
    ----------
    most
        How many micrographs are picked alone, and in threes. Ten are picked together in any case,
        or all if there are fewer.

    Returns
    -------
    dict
        Ready for JSON. `alone`, `few`, `many` and `unreadable` have the number of picks of each
        micrograph by its stem; `differing` names the pick files that are not the same bytes with
        and without unreadable files, or missing in one.
    """
    learn, unseen = real.parts(split)
    sources = ([*unseen, *learn])[:MANY]
    picker = heliodor.Picker.from_pretrained(diameter=real.diameter, device="cpu")
    with tempfile.TemporaryDirectory(prefix="real_data_") as temporary:
        work = Path(temporary)
        inputs = work / "micrographs"
        inputs.mkdir()
        links = []
        for source in sources:
            links.append(inputs / source.path.name)
            links[-1].symlink_to(source.path.absolute())
        empty = [inputs / f"empty_{number}.mrc" for number in range(UNREADABLE)]
        for path in empty:
            path.touch()

        def pick(files: Sequence[Path], out: Path) -> dict[str, int]:
            names = [str(path) for path in files]
            found = picker.pick(names, pixel_size=real.pixel, out=out, threads=1)
            if failed := {f.name for f in found.failures} - {str(path) for path in empty}:
                raise SystemExit(f"{min(failed)} could not be picked")
            counts = zip(found.micrographs, found.counts(), strict=True)
            return {Path(name).stem: int(count) for name, count in counts}

        # Into a folder of the same name, as autopick.star has its name.
        many = pick(links, work / "together")
        without = pick_files(work / "together")
        shutil.rmtree(work / "together")
        half = len(links) // 2
        mixed = [empty[0], *links[:half], empty[1], *links[half:], empty[2]]
        unreadable = pick(mixed, work / "together")
        differing = differing_files(without, pick_files(work / "together"))
        alone: dict[str, int] = {}
        few: dict[str, int] = {}
        for number, link in enumerate(links[:most]):
            alone |= pick([link], work / f"alone_{number}")
        for first in range(0, min(most, len(links)) - FEW + 1, FEW):
            few |= pick(links[first : first + FEW], work / f"few_{first}")
    return {
        "name": real.name, "split": split, "alone": alone, "few": few, "many": many,
        "unreadable": unreadable, "differing": differing,
    }  # fmt: skip


def pick_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files with picks in an output folder, by their path in it."""
    paths = [*folder.rglob("*autopick.star"), *folder.glob("picks.tsv")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


def differing_files(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """Return the names of files that are not the same bytes, or missing in one."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def differences(some: Mapping[str, int], many: Mapping[str, int]) -> list[float]:
    """Return by how much each number of picks differs, relative to that among many."""
    return [abs(count - many[name]) / max(many[name], 1) for name, count in some.items()]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for each set."""
    rows = []
    for result in results:
        first = next(iter(result["alone"]))
        counts = [result[name].get(first) for name in ("alone", "few", "many", "unreadable")]
        cells = [result["name"], str(len(result["many"]))]
        cells += ["–" if count is None else str(count) for count in counts]
        for name in ("alone", "few"):
            off = differences(result[name], result["many"])
            cells += [f"{statistics.median(off):.3f}", f"{max(off):.3f}"] if off else ["–"] * 2
        wrong = result["differing"]
        cells.append(f"**{len(wrong)} differ**, such as {wrong[0]}" if wrong else "identical")
        rows.append(cells)
    return markdown(HEAD, rows)
