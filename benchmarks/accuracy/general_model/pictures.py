"""Pictures of the picks of both programs without labels, on data without a known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmarks.accuracy.general_model.data import DATA, Task
from benchmarks.accuracy.general_model.heliodor_runs import General, pick
from benchmarks.accuracy.general_model.topaz_runs import extract, shrink
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.sources import find_sources
from heliodor.report.figure_style import BLUE, RUST

#: How many of the micrographs are shown, evenly among them.
SHOWN = 3
DIAMETER, PIXEL = 150.0, 7.84
INCHES = 4.2
#: What Topaz calls a probability of one half.
HALF = 0.0


def t20s(out: Path, general: General, topaz: Path) -> Path | None:
    """Draw a row a micrograph: ours at the automatic threshold, Topaz's at its default and at 0.

    Needs nothing of the other parts. The micrographs have 7.84 A a pixel, as Topaz wants them.
    """
    folder = DATA / "t20s" / "micrographs"
    if not folder.is_dir():
        print(f"no {folder}: no pictures (set HELIODOR_DATA)")
        return None
    sources = find_sources(str(folder))
    chosen = sources[:: max(1, len(sources) // SHOWN)][:SHOWN]
    listed = out / "t20s" / "micrographs.txt"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("".join(f"{source.path}\n" for source in chosen))
    task = Task("t20s", listed, Path(f"@{listed}"), listed, DIAMETER, PIXEL, 0.0)
    peer, own = out / "t20s" / "topaz.txt", out / "t20s" / general.name
    if not peer.exists():
        images, _ = shrink(task, "unseen", 1, out / "t20s" / "topaz", topaz)
        extract(task, images, 1, peer, topaz)
    size = ["--diameter", f"{DIAMETER:g}", "--pixel-size", f"{PIXEL:g}"]
    pick(task.unseen, own, *general.picking, *size)
    columns = {
        "heliodor, automatic threshold": (own / "picks.tsv", -np.inf, BLUE),
        "Topaz, its default threshold": (peer, -np.inf, RUST),
        "Topaz, probability 1/2": (peer, HALF, RUST),
    }
    figure = Figure(figsize=(INCHES * len(columns), INCHES * len(chosen)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(chosen), len(columns), squeeze=False)
    for row, source in zip(grid, chosen, strict=True):
        image = read_micrograph(source.path).image
        dark, bright = np.percentile(image, (0.5, 99.5))
        for axes, (title, (picks, least, colour)) in zip(row, columns.items(), strict=True):
            table = read_picks(picks)
            stems = np.array([Path(name).stem for name in table.names()])
            mine = (stems == source.path.stem) & (table.score >= least)
            axes.imshow(image, cmap="gray", vmin=dark, vmax=bright, origin="upper")
            points = (DIAMETER / PIXEL * 0.8 * INCHES * 72 / image.shape[1]) ** 2
            axes.scatter(*table.xy_px[mine].T, s=points, facecolors="none", edgecolors=colour)
            axes.set_title(f"{title}: {mine.sum()}", fontsize=9)
            axes.set_axis_off()
    picture = out / f"t20s_{general.name}.png"
    figure.savefig(picture, dpi=110)
    return picture
