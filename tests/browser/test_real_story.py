"""A user's corrections on real micrographs: in every export, in the run on all, and in RELION."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser.page import PATIENCE, PageInUse
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.writers import FORMATS

pytestmark = pytest.mark.slow

DIAMETER = 125
COUNT, EXCLUDED, PAINTED = 5, 4, 1
#: Of the particle, in pixels of 3 A; and the shape of the micrographs.
DIAMETER_PX = DIAMETER / 3.0
WIDTH, HEIGHT = 620, 600


@pytest.fixture
def relion(real_data: Path, tmp_path: Path) -> Path:
    """Return a RELION project with a few micrographs of apoferritin."""
    folder = tmp_path / "relion"
    folder.mkdir()
    (folder / "default_pipeline.star").write_text("data_pipeline_general\n")
    (folder / "micrographs").symlink_to(real_data / "apoferritin" / "micrographs")
    names = sorted(path.name for path in (folder / "micrographs").glob("*.mrc"))[:COUNT]
    _write_list(folder / "micrographs.star", names)
    _write_list(folder / "included.star", [n for i, n in enumerate(names) if i != EXCLUDED])
    return folder


def _write_list(path: Path, names: list[str]) -> None:
    rows = "".join(f"micrographs/{name} 1\n" for name in names)
    path.write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n"
        "_rlnMicrographPixelSize #3\n_rlnVoltage #4\n_rlnSphericalAberration #5\n"
        "_rlnAmplitudeContrast #6\nopticsGroup1 1 3.0 300 2.7 0.1\n\n"
        f"data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n{rows}"
    )


def _on_screen(page: PageInUse, x: float, y: float) -> tuple[float, float]:
    """Return where a position is while the whole micrograph is shown."""
    box = page.page.locator("#stage").bounding_box()
    assert box is not None
    zoom = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    return (
        box["x"] + box["width"] / 2 + (x - WIDTH / 2 + 0.5) * zoom,
        box["y"] + box["height"] / 2 + (y - HEIGHT / 2 + 0.5) * zoom,
    )


def _wait_for_model(page: PageInUse, name: str) -> None:
    """Wait until all micrographs have been scored with a model."""
    page.page.wait_for_function(
        "name => document.getElementById('engine').textContent === name",
        arg=name,
        timeout=PATIENCE,
    )


def _picks_on_page(page: PageInUse, number: int) -> FloatArray:
    """Return the picks of a micrograph, best first."""
    found = page.get(f"/api/micrographs/{number}/picks")
    threshold = float(page.page.locator("#threshold").input_value())
    xy = np.column_stack([found["x"], found["y"]])
    return np.asarray(xy[np.array(found["score"]) >= threshold])


def _away(xy: FloatArray, others: FloatArray) -> FloatArray:
    """Return the distance of each position to the nearest of the others."""
    distance: FloatArray = np.hypot(*(xy[:, None] - others[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf) if others is xy else None
    return np.asarray(distance.min(axis=1))


def reject_four(page: PageInUse) -> FloatArray:
    """Reject picks that are well apart from the others, by right clicks."""
    xy = _picks_on_page(page, 0)
    inside = ((xy > 40) & (xy < [WIDTH - 40, HEIGHT - 40])).all(axis=1)
    chosen = xy[inside & (_away(xy, xy) > 0.9 * DIAMETER_PX)][:4]
    assert len(chosen) == 4
    for x, y in chosen:
        page.page.mouse.click(*_on_screen(page, x, y), button="right")
    assert page.number("#negative-count") == 4
    return chosen


def add_three(page: PageInUse, rejected: FloatArray) -> FloatArray:
    """Label positions where nothing is picked."""
    taken = np.concatenate([_picks_on_page(page, 0), rejected])
    grid = np.mgrid[60 : WIDTH - 60 : 4, 60 : HEIGHT - 60 : 4].reshape(2, -1).T.astype(float)
    chosen: list[FloatArray] = []
    for _ in range(3):
        around = np.concatenate([taken, *[own[None] for own in chosen]])
        best = grid[int(np.argmax(_away(grid, around)))]
        page.page.mouse.click(*_on_screen(page, *best))
        chosen.append(best)
    assert page.number("#label-count") == 3
    return np.array(chosen)


def paint(page: PageInUse) -> tuple[FloatArray, float]:
    """Paint a bar of contamination; return points along its middle, and half its width (px)."""
    line = np.linspace((200.0, 200.0), (400.0, 330.0), 9)
    page.press("g")
    page.page.mouse.move(*_on_screen(page, *line[0]))
    page.page.mouse.down()
    for x, y in line[1:]:
        page.page.mouse.move(*_on_screen(page, x, y))
    before = page.number("#pick-count")
    page.page.mouse.up()
    page.page.wait_for_function(
        "before => Number(document.getElementById('pick-count').textContent) < before",
        arg=before,
        timeout=10_000,
    )
    page.press("Escape")
    return np.linspace(line[0], line[-1], 60), DIAMETER_PX / 2


def check(
    picks: Picks,
    names: list[str],
    rejected: FloatArray,
    added: FloatArray,
    painted: tuple[FloatArray, float],
    exact_px: float,
) -> None:
    """Check that picks honor every correction."""
    by_number: dict[int, FloatArray] = {}
    for name, own in picks.split_by_micrograph():
        (number,) = (i for i, stem in enumerate(names) if stem in name)
        xy = own.xy_px
        by_number[number] = xy if xy.max() > 2 else xy * [WIDTH, HEIGHT]
    assert sorted(by_number) == [number for number in range(COUNT) if number != EXCLUDED]
    assert _away(rejected, by_number[0]).min() > 0.4 * DIAMETER_PX - exact_px
    assert _away(added, by_number[0]).max() < 1.5 + exact_px
    line, half = painted
    assert _away(line, by_number[PAINTED]).min() > half - 4 - exact_px


def use_model(page: PageInUse, place: int, name: str) -> None:
    """Use one of the models in the list, and wait until it has scored everything."""
    page.press("2")
    page.page.locator("#models li").nth(place).locator("button").click()
    _wait_for_model(page, name)


def test_corrections_are_in_every_file(
    serve: Any, open_page: Any, relion: Path, tmp_path: Path
) -> None:
    project = relion / "heliodor"
    server = serve(relion / "micrographs.star", "--diameter", DIAMETER, project=project)
    page: PageInUse = open_page(server.url)
    page.wait_until_scored()
    page.wait_for_picks()
    rejected = reject_four(page)
    added = add_three(page, rejected)
    page.saved()
    page.choose(PAINTED)
    page.wait_for_picks()
    painted = paint(page)
    page.choose(EXCLUDED)
    page.press("e")
    page.press("t")
    page.wait_for("#train-message", "Model 1 trained in")
    _wait_for_model(page, "Model 1")
    use_model(page, 0, "General model")
    use_model(page, 1, "Model 1")
    page.picture("r1-models")

    names = [path.stem for path in sorted((relion / "micrographs").glob("*.mrc"))[:COUNT]]
    page.press("5")
    exported = {}
    for name in FORMATS:
        page.page.locator("#export-format").select_option(name)
        with page.page.expect_response("**/api/export") as answered:
            page.page.locator("#export").click()
        said = answered.value.json()
        path = Path(said["path"])
        files = [path] if path.is_file() and path.name != "autopick.star" else []
        folder = project / "export" / f"picks_{name}"
        files = files or sorted(
            p for p in folder.rglob("*") if p.is_file() and p.name != "autopick.star"
        )
        picks = read_picks(files)
        exact_px = 1.0 if name in ("box", "cbox") else 0.01
        check(picks, names, rejected, added, painted, exact_px)
        exported[name] = len(picks)
    assert len(exported) == 9
    assert len(set(exported.values())) == 1

    page.page.locator("#run").click()
    page.wait_for("#run-message", f"Picked {COUNT - 1} micrographs: ")
    picked = read_picks(project / "picks" / "picks.tsv")
    check(picked, names, rejected, added, painted, 0.01)
    assert len(picked) == exported["autopick"]
    assert page.page.locator("#run-changes").is_hidden()
    page.picture("r2-picked")

    if shutil.which("relion_preprocess") is None:
        pytest.skip("RELION is not installed; all but the extraction was checked")
    command = ["relion_preprocess", "--i", "included.star", "--extract", "--extract_size", "80"]
    command += ["--coord_dir", "heliodor/export/picks_autopick/", "--coord_suffix"]
    command += ["_autopick.star", "--part_star", "Extract/particles.star", "--part_dir"]
    result = subprocess.run(
        [*command, "Extract/"], cwd=relion, capture_output=True, text=True, check=True
    )
    assert "WARNING" not in result.stdout + result.stderr
    extracted = read_picks(relion / "Extract" / "particles.star")
    assert len(extracted) == exported["autopick"]
