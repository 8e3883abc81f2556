"""The page as a user sees it: clicks on the micrograph, keys, and the texts that are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: The barrel's diameter in angstrom, and in pixels of the micrographs of these tests.
DIAMETER = 150
PIXEL_SIZE = 4.0
DIAMETER_PX = DIAMETER / PIXEL_SIZE
SIZE_PX = 1024
#: Milliseconds to wait for something the engine does.
PATIENCE = 180_000


class Truth:
    """Simulated micrographs, and their particles by the position of the micrograph in the list."""

    def __init__(self, folder: Path) -> None:
        self.micrographs = folder / "micrographs.star"
        self.files = sorted((folder / "micrographs").glob("*.mrc"))
        self.xy = by_name(folder / "truth.star")

    def near(self, place: int, x: float, y: float) -> bool:
        """Return whether there is a particle at a position."""
        xy = self.xy[self.files[place].stem]
        return bool(np.hypot(*(xy - [x, y]).T).min() < 0.4 * DIAMETER_PX)

    def apart(self, place: int, count: int) -> FloatArray:
        """Return particles that touch no other one and are well inside the micrograph."""
        xy = self.xy[self.files[place].stem]
        alone = cKDTree(xy).query(xy, 2)[0][:, 1] > 1.2 * DIAMETER_PX
        inside = ((xy > 40) & (xy < SIZE_PX - 40)).all(axis=1)
        found: FloatArray = xy[alone & inside][:count]
        assert len(found) == count
        return found


def by_name(star: Path) -> dict[str, FloatArray]:
    """Read coordinates, by the name of the micrograph without its folder and suffix."""
    return {Path(name).stem: picks.xy_px for name, picks in read_picks(star).split_by_micrograph()}


class PageInUse:
    """One tab with the page.

    Parameters
    ----------
    page
        The tab.
    pictures
        Folder for screenshots.
    """

    def __init__(self, page: Page, pictures: Path) -> None:
        self.page, self.pictures = page, pictures
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        # The browser itself logs this for every refusal, which tests may provoke.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def open(self, url: str) -> None:
        """Open the page and wait until the first micrograph is drawn."""
        self.page.goto(url)
        self.wait_for_picture()

    def wait_for_picture(self) -> None:
        """Wait until something of the micrograph is drawn."""
        self.page.wait_for_function(
            """() => {
              const canvas = document.getElementById("micrograph-image");
              const { width, height } = canvas;
              if (!width) return false;
              const [x, y] = [Math.floor(width / 2), Math.floor(height / 2)];
              const seen = canvas.getContext("2d").getImageData(x, y, 16, 16).data;
              return new Set(seen.filter((_, i) => i % 4 === 0)).size > 8;
            }"""
        )

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return self.page.locator(selector).inner_text()

    def number(self, selector: str) -> int:
        """Return a number that an element shows."""
        return int(self.text(selector).replace(",", ""))

    def wait_for(self, selector: str, says: str, patience: int = PATIENCE) -> None:
        """Wait until an element contains a text."""
        self.page.locator(selector, has_text=says).wait_for(timeout=patience)

    def wait_until_scored(self) -> None:
        """Wait until all have picks of the general model, and its threshold is final."""
        for name, text in (("engine", "General model"), ("threshold-auto", "Automatic")):
            self.page.wait_for_function(
                "([name, text]) => document.getElementById(name).textContent === text",
                arg=[name, text],
                timeout=PATIENCE,
            )

    def wait_for_picks(self) -> None:
        """Wait until the picks of the micrograph on screen are loaded."""
        self.page.wait_for_function(
            "() => /^[0-9]+$/.test(document.getElementById('pick-count').textContent)",
            timeout=PATIENCE,
        )

    def wait_for_labels(self, particles: int, negatives: int) -> None:
        """Wait until this many labels and negatives are on screen."""
        self.page.wait_for_function(
            """([particles, negatives]) =>
              document.getElementById("label-count").textContent === String(particles)
              && document.getElementById("negative-count").textContent === String(negatives)""",
            arg=[particles, negatives],
            timeout=10_000,
        )

    def saved(self) -> None:
        """Wait until all changes are saved on the server."""
        self.page.wait_for_function(
            "() => document.getElementById('saving').textContent === 'Saved'"
        )

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def on_screen(self, x: float, y: float, size_px: float = SIZE_PX) -> tuple[float, float]:
        """Return where on screen a position is while the whole micrograph is shown."""
        box = self.page.locator("#stage").bounding_box()
        assert box is not None
        zoom = min(box["width"], box["height"]) / size_px
        middle = size_px / 2 - 0.5
        return (
            box["x"] + box["width"] / 2 + (x - middle) * zoom,
            box["y"] + box["height"] / 2 + (y - middle) * zoom,
        )

    def click(self, x: float, y: float, **how: Any) -> None:
        """Click at a position while the whole micrograph is shown."""
        self.page.mouse.click(*self.on_screen(x, y), **how)

    def choose(self, place: int) -> None:
        """Click a micrograph in the list, and wait for it."""
        row = self.page.locator(f"#row-{place}")
        row.click()
        name = row.locator(".name").text_content() or "no name"
        self.wait_for("#micrograph-name", name, 10_000)
        self.wait_for_picture()
        self.page.wait_for_timeout(150)

    def get(self, path: str) -> Any:
        """Return what the server answers to a request of the page."""
        return self.page.evaluate(
            """async (path) => {
              const { get } = await import(new URL("static/api.js", document.baseURI));
              return get(path);
            }""",
            path,
        )

    def picture(self, name: str) -> None:
        """Save a screenshot of the page in two window sizes."""
        for width, height in ((1440, 900), (1024, 768)):
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.wait_for_timeout(350)
            self.page.screenshot(path=self.pictures / f"{name}-{width}x{height}.png")
            self.nothing_is_cut_off()
        self.page.set_viewport_size({"width": 1440, "height": 900})
        self.page.wait_for_timeout(200)

    def nothing_is_cut_off(self) -> None:
        """Check that every visible button and field is inside its part of the page."""
        cut = self.page.evaluate(
            """() => [...document.querySelectorAll(
                "#top *, .list-head *, #toolbar *, #tabs *, .panel > *")]
              .filter((e) => e.checkVisibility())
              .map((e) => [e.id || e.className?.baseVal || e.textContent,
                           e.getBoundingClientRect(), e.closest("main > section, header")])
              .filter(([, r, home]) => r.right > home.getBoundingClientRect().right + 1
                || r.left < home.getBoundingClientRect().left - 1)
              .map(([name]) => name)"""
        )
        assert cut == []

    def timings(self) -> list[tuple[str, float]]:
        """Return the durations of the page's actions in milliseconds."""
        return [(one["name"], one["ms"]) for one in self.page.evaluate("heliodorTimings")]
