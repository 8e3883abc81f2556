"""Make the picture of the README from the demonstration's results, and that of simulation.md.

make demo && .venv/bin/python docs/make_pictures.py demo
.venv/bin/python docs/make_pictures.py          # that of simulation.md alone
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from heliodor.conventions import to_working
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import prepare_working_image
from heliodor.evaluation.matching import match_picks
from heliodor.report.content import GalleryItem
from heliodor.report.gallery import draw_micrograph
from heliodor.simulation import (
    ContaminantLevels,
    SimulationSettings,
    simulate_micrograph,
)

DIAMETER, PIXEL_SIZE = 150.0, 6.0

#: A tile is this long, in pixels of the micrograph and of the picture.
TILE_PX = 256
NONE = ContaminantLevels(0.0)
KINDS = {
    "ice, level 0": {"contaminants": NONE},
    "ice 120 nm, gradient 0.9": {"contaminants": NONE, "ice_nm": 120.0, "ice_gradient": 0.9},
    "integrating, inverted": {
        "contaminants": NONE,
        "detector": "integrating",
        "inverted": True,
    },
    "negative stain": {"contaminants": NONE, "negative_stain": True, "snr": 1.0},
    "carbon=4, no particles": {
        "contaminants": ContaminantLevels(0.0, carbon=4.0),
        "particles_per_micrograph": 0,
    },
    "crystals=10": {"contaminants": ContaminantLevels(0.0, crystals=10.0)},
    "clumps=10": {"contaminants": ContaminantLevels(0.0, clumps=10.0)},
    "carbon only": {"contaminants": NONE, "carbon_only": True},
}


def draw_simulation(out: Path) -> None:
    """Draw a tile for each of several choices, each on its own scale of greys."""
    picture = Image.new("L", (4 * TILE_PX + 12, 2 * (TILE_PX + 16) + 4), 255)
    pen = ImageDraw.Draw(picture)
    base = SimulationSettings(
        particle="barrel", shape=(TILE_PX, TILE_PX), pixel_size_angstrom=6.0, snr=0.3, seed=11
    )
    for place, (title, changes) in enumerate(KINDS.items()):
        settings, index = dataclasses.replace(base, **changes), 0
        # The first micrograph on which some of it is, where it is not on every one.
        while title.endswith("=10") and simulate_micrograph(settings, index).blocked.mean() < 0.08:
            index += 1
        image = gaussian_filter(simulate_micrograph(settings, index).image, 0.8)
        low, high = np.percentile(image, (0.5, 99.5))
        grey = np.uint8(255 * np.clip((image - low) / (high - low), 0.0, 1.0))
        left, top = place % 4 * (TILE_PX + 4), place // 4 * (TILE_PX + 20)
        picture.paste(Image.fromarray(grey), (left, top + 14))
        pen.text((left + 2, top + 1), title, fill=0)
    picture.quantize(40, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)
    print(f"wrote {out} ({out.stat().st_size} bytes)")


def main() -> None:
    images = Path(__file__).parent / "images"
    images.mkdir(exist_ok=True)
    draw_simulation(images / "simulation.png")
    if sys.argv[1:]:
        draw_picks(Path(sys.argv[1]), images / "picks.png")


def draw_picks(demo: Path, out: Path) -> None:
    """Draw a micrograph of the demonstration with its picks."""
    picks = dict(read_picks(demo / "results" / "picks.tsv").split_by_micrograph())
    truth = dict(read_picks(demo / "unseen" / "truth.star").split_by_micrograph())
    source = find_sources(demo / "unseen" / "micrographs.star")[0]
    own, true = picks[source.name], truth[source.name]
    matching = match_picks(own.xy_px, true.xy_px, 0.4 * DIAMETER / 4.0)
    found = np.isin(np.arange(len(true)), matching.truth_index)
    image = prepare_working_image(source, PIXEL_SIZE)

    def working(xy: np.ndarray) -> np.ndarray:
        return to_working(xy, image.original_shape, image.shape)

    item = GalleryItem(
        name=source.name,
        image=image.image,
        pixel_size_angstrom=image.working_pixel_size_angstrom,
        picks_xy_px=working(own.xy_px),
        picks_score=own.score,
        labels_xy_px=None,
        truth_xy_px=working(true.xy_px),
        picks_matched=matching.is_true_positive,
        truth_matched=found,
    )
    out.write_bytes(draw_micrograph(item, DIAMETER))
    print(f"wrote {out} ({out.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
