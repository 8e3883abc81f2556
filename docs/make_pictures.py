"""Make the pictures of the documentation from results of the program.

.venv/bin/python docs/make_pictures.py simulation          # of simulation.md
.venv/bin/python docs/make_pictures.py demo FOLDER         # of the README, from `heliodor demo`
.venv/bin/python docs/make_pictures.py tutorial FOLDER     # of tutorial.md

The last FOLDER is the one in which the commands of the tutorial's first part were run. Pictures of
its reports need playwright and a Chromium (HELIODOR_CHROMIUM).
"""

from __future__ import annotations

import dataclasses
import io
import os
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

IMAGES = Path(__file__).parent / "images"
#: The longest diameter of `barrel`, and the pixel size of the drawings, in angstrom.
DIAMETER_ANGSTROM, PIXEL_SIZE_ANGSTROM = 150.0, 6.0
WIDTH_PX = 1000
#: Sections of the report that the tutorial shows.
REPORT_SECTIONS = {
    "Scores and threshold": "report_picks",
    "Expected precision and recall": "report_expected",
}

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
    """Draw a tile for each of several choices, each with its own gray scale."""
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
        gray = np.uint8(255 * np.clip((image - low) / (high - low), 0.0, 1.0))
        left, top = place % 4 * (TILE_PX + 4), place // 4 * (TILE_PX + 20)
        picture.paste(Image.fromarray(gray), (left, top + 14))
        pen.text((left + 2, top + 1), title, fill=0)
    picture.quantize(32, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)
    print(f"wrote {out} ({out.stat().st_size} bytes)")


def draw_demo(folder: Path) -> None:
    """Draw a micrograph of the demonstration with its picks."""
    unseen = folder / "unseen"
    _draw_picks(unseen, folder / "results" / "picks.tsv", 0, IMAGES / "picks.jpg")


def draw_tutorial(folder: Path) -> None:
    """Draw the results of the tutorial's first part."""
    for picks in ("first", "second"):
        out = IMAGES / f"tutorial_{picks}.jpg"
        _draw_picks(folder / "unseen", folder / picks / "picks.tsv", 4, out)
    average = Image.open(folder / "diameter" / "average.png")
    _save(average, IMAGES / "tutorial_average.png")
    draw_report(folder / "second" / "report.html")


def draw_report(report: Path) -> None:
    """Take pictures of sections of a report in a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = os.environ.get("HELIODOR_CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": 900})
        page.goto(report.absolute().as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((own) => (own.open = true))")
        for heading, name in REPORT_SECTIONS.items():
            section = page.locator("section", has=page.locator("h2", has_text=heading))
            image = Image.open(io.BytesIO(section.first.screenshot()))
            _save(image, IMAGES / f"tutorial_{name}.png")
        browser.close()


def _draw_picks(dataset: Path, picks_file: Path, index: int, out: Path) -> None:
    """Draw a simulated micrograph with its picks, and which of them are right."""
    source = find_sources(dataset / "micrographs.star")[index]
    picks = dict(read_picks(picks_file).split_by_micrograph())[source.name]
    picks = picks.select(picks.extra["selected"].astype(float) > 0)
    truth = dict(read_picks(dataset / "truth.star").split_by_micrograph())[source.name]
    matching = match_picks(picks.xy_px, truth.xy_px, 0.4 * DIAMETER_ANGSTROM / 4.0)
    image = prepare_working_image(source, PIXEL_SIZE_ANGSTROM)

    def working(xy: np.ndarray) -> np.ndarray:
        return to_working(xy, image.original_shape, image.shape)

    item = GalleryItem(
        name=source.name,
        image=image.image,
        pixel_size_angstrom=image.working_pixel_size_angstrom,
        picks_xy_px=working(picks.xy_px),
        picks_score=picks.score,
        labels_xy_px=None,
        truth_xy_px=working(truth.xy_px),
        picks_matched=matching.is_true_positive,
        truth_matched=np.isin(np.arange(len(truth)), matching.truth_index),
    )
    drawn = Image.open(io.BytesIO(draw_micrograph(item, DIAMETER_ANGSTROM)))
    _save(drawn, out)


def _save(image: Image.Image, out: Path) -> None:
    """Save a picture no wider than the pages show it."""
    image = image.convert("RGB")
    image.thumbnail((WIDTH_PX, 4 * WIDTH_PX), Image.Resampling.LANCZOS)
    if out.suffix == ".jpg":
        image.save(out, quality=72, optimize=True)
    else:
        image.quantize(64).save(out, optimize=True)
    print(f"wrote {out} ({out.stat().st_size} bytes, {image.width} x {image.height})")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    match sys.argv[1:]:
        case ["simulation"]:
            draw_simulation(IMAGES / "simulation.png")
        case ["demo", folder]:
            draw_demo(Path(folder))
        case ["tutorial", folder]:
            draw_tutorial(Path(folder))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
