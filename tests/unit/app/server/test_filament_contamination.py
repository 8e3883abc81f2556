"""Contamination in a project of filaments: detected, painted, ignored."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from heliodor.app.server.filament_contamination import DETECTED, FilamentContamination
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.user_masks import UserMasks, read_mask
from helpers.app import HEIGHT, PIXEL_SIZE, WIDTH, AppVisit, open_app

STEP = 20.0
GRID = (int(HEIGHT / STEP), int(WIDTH / STEP))


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[AppVisit]:
    with open_app(tmp_path, diameter=None, filament_width=80.0) as opened:
        yield opened


def left(columns: int) -> NDArray[np.bool_]:
    mask = np.zeros(GRID, bool)
    mask[:, :columns] = True
    return mask


def contamination(visit: AppVisit) -> FilamentContamination:
    assert visit.state.filaments is not None
    return visit.state.filaments.contamination


def stem(visit: AppVisit, number: int) -> str:
    return visit.state.sources[number].output_stem


def shown(visit: AppVisit, number: int) -> NDArray[np.bool_] | None:
    found: dict[str, Any] | None
    found = visit.get(f"/api/micrographs/{number}/filaments")["contamination"]
    if found is None:
        return None
    assert found["step"] == STEP
    bits = np.frombuffer(base64.b64decode(found["bits"]), np.uint8)
    count = found["rows"] * found["columns"]
    return np.unpackbits(bits, count=count).astype(bool).reshape(found["rows"], found["columns"])


def paint(visit: AppVisit, number: int, mask: NDArray[np.bool_] | None, ignore: bool) -> None:
    sent = None
    if mask is not None:
        bits = base64.b64encode(np.packbits(mask).tobytes()).decode()
        sent = {"rows": mask.shape[0], "columns": mask.shape[1], "step": STEP, "bits": bits}
    visit.post(f"/api/micrographs/{number}/contamination", ignore=ignore, mask=sent)


def place(visit: AppVisit, folder: Path, columns: dict[int, int]) -> Path:
    for number, count in columns.items():
        path = folder / "bad_areas" / f"{stem(visit, number)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = left(count)
        ContaminationMask(mask, STEP * PIXEL_SIZE, float(mask.mean())).write(path)
    return folder


def test_what_was_detected_is_shown_until_the_user_paints(visit: AppVisit, tmp_path: Path) -> None:
    own = contamination(visit)
    assert shown(visit, 0) is None
    assert visit.get("/api/micrographs")["quality"] == [None] * 3
    assert own.collect(place(visit, tmp_path / "one", {0: 10, 1: 0})) == [0, 1]
    np.testing.assert_array_equal(shown(visit, 0), left(10))
    assert shown(visit, 1) is None
    assert visit.get("/api/micrographs")["quality"] == [0.75, 1.0, None]
    paint(visit, 0, left(20), ignore=False)
    np.testing.assert_array_equal(shown(visit, 0), left(20))
    assert visit.get("/api/micrographs")["quality"] == [0.5, 1.0, None]
    # Tracing with that mask detects nothing there, and what was detected before is kept.
    place(visit, tmp_path / "two", {0: 20, 1: 4})
    assert own.write_masks(tmp_path / "two/masks")
    assert own.collect(tmp_path / "two") == [1]
    paint(visit, 0, None, ignore=False)
    np.testing.assert_array_equal(shown(visit, 0), left(10))
    np.testing.assert_array_equal(shown(visit, 1), left(4))
    assert visit.get("/api/micrographs")["quality"] == [0.75, 0.9, None]


def test_tracing_gets_what_was_painted_and_empty_masks_where_it_is_ignored(
    visit: AppVisit, tmp_path: Path
) -> None:
    own, folder = contamination(visit), tmp_path / "masks"
    assert not own.write_masks(folder)
    paint(visit, 0, left(20), ignore=False)
    paint(visit, 1, left(20), ignore=False)
    paint(visit, 2, None, ignore=True)
    visit.post("/api/micrographs/1/excluded", excluded=True)
    assert own.write_masks(folder)
    found = UserMasks.find(folder, visit.state.sources)
    assert {*found.files} == {visit.state.name(0), visit.state.name(2)}
    painted, size = read_mask(found.files[visit.state.name(0)])
    np.testing.assert_array_equal(painted, left(20))
    assert size == STEP * PIXEL_SIZE
    assert not read_mask(found.files[visit.state.name(2)])[0].any()
    paint(visit, 2, None, ignore=False)
    paint(visit, 0, None, ignore=False)
    assert not own.write_masks(folder)


def test_it_is_kept_when_the_project_is_opened_again(tmp_path: Path) -> None:
    with open_app(tmp_path, diameter=None, filament_width=80.0) as visit:
        contamination(visit).collect(place(visit, tmp_path / "one", {0: 10}))
    with open_app(tmp_path, diameter=None) as visit:
        assert visit.get("/api/micrographs")["quality"] == [0.75, None, None]
        np.testing.assert_array_equal(shown(visit, 0), left(10))
    (tmp_path / "project" / DETECTED / "shares.json").write_text("[1]")
    with open_app(tmp_path, diameter=None) as visit:
        assert visit.get("/api/micrographs")["quality"] == [None] * 3
