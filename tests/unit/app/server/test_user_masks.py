"""Contamination that the user paints and erases: where nothing is picked, whatever is written."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from heliodor.app.server.user_masks import describe_mask, parse_mask
from heliodor.data.coordinates.formats import read_picks
from heliodor.errors import BadInput
from heliodor.picking.user_masks import UserMasks, read_mask
from helpers.app import HEIGHT, PIXEL_SIZE, WIDTH, AppVisit, open_app
from helpers.fake_engine import places

AT = places((HEIGHT, WIDTH))
STEP = 20.0


def _grid() -> NDArray[np.bool_]:
    return np.zeros((int(HEIGHT / STEP), int(WIDTH / STEP)), bool)


def _painted(*numbers: int) -> NDArray[np.bool_]:
    """Return a mask around some of the candidates."""
    mask = _grid()
    for x, y in AT[list(numbers)]:
        row, column = round(y / STEP), round(x / STEP)
        mask[row - 1 : row + 2, column - 1 : column + 2] = True
    return mask


def _as_sent(mask: NDArray[np.bool_], step: float = STEP) -> dict[str, Any]:
    bits = base64.b64encode(np.packbits(mask).tobytes()).decode()
    return {"rows": mask.shape[0], "columns": mask.shape[1], "step": step, "bits": bits}


def _edit(visit: AppVisit, number: int, mask: NDArray[np.bool_] | None, **more: Any) -> None:
    sent = None if mask is None else _as_sent(mask)
    visit.post(f"/api/micrographs/{number}/contamination", ignore=False, mask=sent, **more)


def _picks(visit: AppVisit, number: int, threshold: float = 2.5) -> list[tuple[float, float]]:
    found = visit.get(f"/api/micrographs/{number}/picks")
    kept = np.array(found["score"]) >= threshold
    return sorted(zip(np.array(found["x"])[kept], np.array(found["y"])[kept], strict=True))


def _rounded(*numbers: int) -> list[tuple[float, float]]:
    return sorted((round(x, 2), round(y, 2)) for x, y in AT[list(numbers)].tolist())


def test_nothing_is_picked_where_the_user_painted_and_as_elsewhere_where_erased(
    tmp_path: Path,
) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        # The second candidate lies in contamination that the engine detects.
        assert _picks(visit, 0) == _rounded(0, 2, 3)
        _edit(visit, 0, _painted(2))
        assert _picks(visit, 0) == _rounded(0, 1, 3)
        rows = visit.get("/api/micrographs")
        assert rows["mask"][0]
        assert rows["mask"][1:] == [None, None]
        assert rows["picks"] == [3, 3, 3]
        _edit(visit, 0, _grid())
        assert _picks(visit, 0) == _rounded(0, 1, 2, 3)
        _edit(visit, 0, None)
        assert _picks(visit, 0) == _rounded(0, 2, 3)
        assert visit.get("/api/micrographs")["mask"] == [None] * 3


def test_masks_survive_a_restart_and_another_model(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _edit(visit, 1, _painted(0))
        mark = [{"id": "a", "x": 5, "y": 5, "kind": "particle"}]
        visit.post("/api/micrographs/2/labels", add=mark)
        visit.post("/api/train", 202)
        visit.scored(1)
        digest = visit.get("/api/micrographs")["mask"][1]
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored(1)
        assert visit.get("/api/micrographs")["mask"] == [None, digest, None]
        assert _rounded(0)[0] not in _picks(visit, 1)


def test_a_mask_is_a_file_that_pick_reads(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _edit(visit, 0, _painted(2))
        found = UserMasks.find(tmp_path / "project/masks", visit.state.sources)
        (name,) = found.files
        assert name == visit.state.name(0)
        mask, size = read_mask(found.files[name])
        np.testing.assert_array_equal(mask, _painted(2))
        assert size == STEP * PIXEL_SIZE


def test_exports_and_the_run_on_all_know_the_masks(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _edit(visit, 0, _painted(2))
        file = visit.post("/api/export", what="picks", format="star")
        assert list(file["made"]["contamination_edited_on"]) == [visit.state.name(0)]
        xy = dict(read_picks(file["path"]).split_by_micrograph())[visit.state.name(0)].xy_px
        assert np.hypot(*(xy - AT[2]).T).min() > 50
        code = "import json, sys; json.dump(sys.argv[1:], open(sys.argv[1], 'w'))"
        run = visit.use_picker([sys.executable, "-c", code, str(tmp_path / "words.json")])
        run.start()
        visit.until(lambda _: run.state()["state"] != "running")
        words = json.loads((tmp_path / "words.json").read_text())
        folder = Path(words[words.index("--mask") + 1])
        assert "--bad-area-masks" in words
        assert [path.name for path in folder.iterdir()] == ["mic 0.png"]


def test_what_was_painted_over_is_a_negative_of_the_training(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _edit(visit, 0, _painted(1, 2, 3, 8))  # 1 is detected already, 8 is below the threshold
        x, y = AT[3].tolist()
        labels = [{"id": "a", "x": x, "y": y, "kind": "particle"}]
        visit.post("/api/micrographs/0/labels", add=labels)
        visit.post("/api/train", 202)
        visit.scored(1)
        told = json.loads((tmp_path / "project/models/0001.safetensors").read_text())
        np.testing.assert_allclose(told["negatives"]["0"], AT[[2]])
        record = json.loads((tmp_path / "project/models/0001.json").read_text())
        assert record["negatives_painted"] == record["negatives"] == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rows": 3}, "cover"),
        ({"step": 3.0}, "cover"),
        ({"bits": "AAAA"}, "as many pixels"),
        ({"bits": "?"}, "base64"),
        ({"rows": 3_000_000, "columns": 3_000_000}, "too many"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    with pytest.raises(BadInput, match=word):
        parse_mask(_as_sent(_grid()) | change, (HEIGHT, WIDTH), PIXEL_SIZE)


def test_a_mask_goes_to_the_page_and_back_unchanged() -> None:
    mask = np.random.default_rng(1).random(_grid().shape) < 0.3
    sent = _as_sent(mask)
    found = parse_mask(sent, (HEIGHT, WIDTH), PIXEL_SIZE)
    np.testing.assert_array_equal(found.mask, mask)
    assert describe_mask(found, PIXEL_SIZE) == sent


def test_a_damaged_mask_is_left_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "project/masks").mkdir(parents=True)
    (tmp_path / "project/masks/mic 0.png").write_bytes(b"no image")
    with open_app(tmp_path) as visit:
        assert visit.get("/api/micrographs")["mask"] == [None] * 3
    assert "mic 0" in caplog.text


def test_no_mask_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        masks = tmp_path / "project/masks"
        masks.symlink_to(tmp_path / "outside")
        sent = {"ignore": False, "mask": _as_sent(_painted(2))}
        answer = visit.post("/api/micrographs/0/contamination", 422, **sent)
        assert f"{masks} is a symbolic link" in answer["error"]
        assert not [*(tmp_path / "outside").iterdir()]
        masks.unlink()
        _edit(visit, 0, _painted(2))
        assert _picks(visit, 0) == _rounded(0, 1, 3)
