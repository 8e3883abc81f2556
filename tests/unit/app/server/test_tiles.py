"""The list, the images and the settings of the app."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heliodor.app.server.cache import Cache
from heliodor.app.server.tiles import (
    MAX_PREVIEW_PX,
    count_levels,
    level_shape,
    low_pass,
    to_gray,
)
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.micrograph import read_micrograph, write_mrc
from heliodor.errors import BadInput
from helpers.app import (
    HEIGHT,
    PIXEL_SIZE,
    WIDTH,
    open_app,
)

#: What the page is told of a project in which nothing has been set.
NO_SETTINGS = dict.fromkeys(
    ["diameter", "threshold", "max_fdr", "exclusion_radius", "edge_margin", "relion_project"]
)


def _picture(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "JPEG"
        assert picture.mode == "L"
        return np.asarray(picture).astype(float)


def test_the_list_has_every_micrograph(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        project = visit.get("/api/project")
        assert project["count"] == 3
        assert project["settings"] == NO_SETTINGS | {"diameter": 120.0}
        assert {"star", "box", "cs"} < {one["name"] for one in project["formats"]}
        rows = visit.get("/api/micrographs")
        assert [Path(name).name for name in rows["name"]] == [f"mic {i}.mrc" for i in range(3)]
        assert rows["labels"] == rows["negatives"] == [0, 0, 0]
        assert rows["picks"] == rows["scored"] == rows["failed"] == [None] * 3
        one = visit.get("/api/micrographs/1")
        assert (one["width"], one["height"], one["pixel_size"]) == (WIDTH, HEIGHT, 4.0)
        assert (one["levels"], one["tile"], one["failed"]) == (2, 512, None)


def test_tiles_make_up_the_picture_at_every_level(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        image = read_micrograph(visit.state.sources[0].path).image
        for level in range(count_levels((HEIGHT, WIDTH))):
            height, width = level_shape((HEIGHT, WIDTH), level)
            whole = np.full((height, width), np.nan)
            for row in range(-(-height // 512)):
                for column in range(-(-width // 512)):
                    address = f"/api/micrographs/0/tiles/{level}/{column}/{row}.jpg"
                    answer = visit.client.get(address)
                    assert answer.headers["content-type"] == "image/jpeg"
                    part = _picture(answer.content)
                    place = np.s_[row * 512 : row * 512 + 512, column * 512 : column * 512 + 512]
                    assert part.shape == whole[place].shape
                    whole[place] = part
            expected = to_gray(fourier_crop(image, (height, width))).astype(float)
            # What JPEG loses of noise; were it moved by one pixel, it would be 36.
            assert np.abs(whole - expected).mean() < 6
            assert abs(np.median(whole) - 128) < 2


def test_there_is_no_tile_beyond_the_picture(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        for place in ("0/2/0", "0/0/2", "2/0/0", "1/1/0"):
            answer = visit.client.get(f"/api/micrographs/0/tiles/{place}.jpg")
            assert answer.status_code == 404, place
            assert answer.json()["error"]


def test_a_low_pass_halves_waves_of_its_length() -> None:
    x = np.arange(256)
    for length in (8, 16, 32):  # pixels
        wave = np.sin(2 * np.pi * x / length)[None].repeat(64, axis=0).astype(np.float32)
        damped = low_pass(wave, 3.0, 16 * 3.0)
        expected = 2.0 ** -((16 / length) ** 2)
        assert damped.std() / wave.std() == pytest.approx(expected, rel=1e-4)


def test_a_low_pass_changes_the_tile(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        address = "/api/micrographs/0/tiles/1/0/0.jpg"
        plain, again, damped = (
            visit.client.get(address, params=query).content
            for query in ({}, {"low_pass": 0}, {"low_pass": 100})
        )
        assert plain == again
        fine = [np.abs(np.diff(_picture(one), axis=1)).mean() for one in (plain, damped)]
        assert fine[1] < 0.3 * fine[0]


def test_pictures_may_be_kept_for_one_start_of_the_server_only(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        address = "/api/micrographs/0/tiles/1/0/0.jpg"
        keep = [
            visit.client.get(address, params={"v": v}).headers["cache-control"]
            for v in ("", "other", visit.state.boot, f"{visit.state.boot}-0")
        ]
        assert keep[:3] == ["no-store"] * 3
        assert "immutable" in keep[3]


@pytest.mark.parametrize("noticed_by", ["tile", "thumbnail", "focus", "picks", "labels"])
def test_pictures_of_a_replaced_micrograph_have_another_version(
    tmp_path: Path, noticed_by: str
) -> None:
    with open_app(tmp_path) as visit:
        boot = visit.state.boot
        address = "/api/micrographs/0/thumbnail.jpg"
        assert visit.get("/api/micrographs")["version"] == [0, 0, 0]
        first = visit.client.get(address, params={"v": f"{boot}-0"}).content
        revision = visit.get("/api/changes", since=0)["revision"]

        write_mrc(tmp_path / "new.mrc", np.eye(600, 800, dtype=np.float32), PIXEL_SIZE)
        (tmp_path / "new.mrc").replace(visit.state.sources[0].path)
        if noticed_by == "focus":
            visit.post("/api/focus", id=0)
        elif noticed_by == "labels":
            visit.post("/api/micrographs/0/labels")
        else:
            suffix = {"tile": "tiles/0/0/0.jpg", "thumbnail": "thumbnail.jpg", "picks": "picks"}
            visit.client.get(f"/api/micrographs/0/{suffix[noticed_by]}")
        (row,) = visit.get("/api/changes", since=revision)["rows"]
        assert (row["id"], row["version"]) == (0, 1)
        assert visit.get("/api/micrographs/0")["version"] == 1
        answers = [visit.client.get(address, params={"v": f"{boot}-{n}"}) for n in (0, 1)]
        assert answers[0].headers["cache-control"] == "no-store"
        assert "immutable" in answers[1].headers["cache-control"]
        assert answers[1].content != first


def test_a_thumbnail_is_kept_on_disk(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        first = visit.client.get("/api/micrographs/2/thumbnail.jpg").content
        assert _picture(first).shape == (96, 128)
        assert (tmp_path / "project/thumbnails/2.jpg").read_bytes() == first
        visit.state.sources[2].path.unlink()
        assert visit.client.get("/api/micrographs/2/thumbnail.jpg").content == first


def test_a_micrograph_that_cannot_be_read_says_so_and_breaks_nothing(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        path = visit.state.sources[1].path
        whole = path.read_bytes()
        path.write_bytes(b"no image at all")
        answer = visit.client.get("/api/micrographs/1/tiles/0/0/0.jpg")
        assert answer.status_code == 422
        sentence = visit.get("/api/micrographs")["failed"][1]
        assert sentence == answer.json()["error"]
        one = visit.get("/api/micrographs/1")
        assert one["width"] is None
        assert one["failed"] == sentence
        assert visit.client.get("/api/micrographs/0/tiles/0/0/0.jpg").status_code == 200
        path.write_bytes(whole)
        assert visit.client.get("/api/micrographs/1/tiles/0/0/0.jpg").status_code == 200
        assert visit.get("/api/micrographs")["failed"] == [None] * 3


def test_changes_tell_what_changed_since(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        before = visit.get("/api/changes", since=0)
        assert before["all"]
        revision = before["revision"]
        assert visit.get("/api/changes", since=revision)["rows"] == []
        visit.post("/api/micrographs/1/done", done=True)
        news = visit.get("/api/changes", since=revision)
        assert [(row["id"], row["done"]) for row in news["rows"]] == [(1, True)]
        assert (news["labels"], news["all"]) == ([], False)
        mark = {"id": "a", "x": 3, "y": 4, "kind": "negative"}
        visit.post("/api/micrographs/2/labels", add=[mark])
        news = visit.get("/api/changes", since=news["revision"])
        assert [(row["id"], row["negatives"]) for row in news["rows"]] == [(2, 1)]
        assert news["labels"] == [2]
    with open_app(tmp_path) as visit:
        assert visit.get("/api/changes", since=0)["boot"] != before["boot"]
        assert visit.get("/api/micrographs")["done"] == [False, True, False]


def test_settings_are_kept(tmp_path: Path) -> None:
    with open_app(tmp_path, diameter=None) as visit:
        assert visit.get("/api/project")["engine"]["state"] == "idle"
        said = visit.post("/api/settings", threshold=1.5)
        assert said == NO_SETTINGS | {"threshold": 1.5}
    with open_app(tmp_path, diameter=None) as visit:
        assert visit.get("/api/project")["settings"]["threshold"] == 1.5
        visit.post("/api/settings", threshold=None)
        assert visit.get("/api/project")["settings"]["threshold"] is None


def test_images_and_labels_are_kept_for_the_micrographs_that_remain(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        for number in (0, 2):
            visit.client.get(f"/api/micrographs/{number}/thumbnail.jpg")
        marked = {"id": "a", "x": 3, "y": 4, "kind": "particle"}
        visit.post("/api/micrographs/2/labels", add=[marked])
        visit.post("/api/micrographs/2/excluded", excluded=True)
        first = visit.state.sources[0].path
    content = (tmp_path / "project/thumbnails/2.jpg").read_bytes()
    first.unlink()
    with pytest.raises(BadInput, match=r"1 of its 3 micrographs .* --replace"):
        open_app(tmp_path).__enter__()
    with open_app(tmp_path, replace_settings=True) as visit:
        kept = [*(tmp_path / "project/thumbnails").iterdir()]
        assert [(file.name, file.read_bytes()) for file in kept] == [("1.jpg", content)]
        rows = visit.get("/api/micrographs")
        assert (rows["labels"], rows["excluded"]) == ([0, 1], [False, True])


def test_another_diameter_of_a_project_has_to_be_confirmed(tmp_path: Path) -> None:
    with open_app(tmp_path, diameter=None):
        pass
    with open_app(tmp_path, diameter=120) as visit:  # it had none
        assert visit.state.project.settings.diameter_angstrom == 120
    with pytest.raises(BadInput, match=r"diameter is 120 Å, not 150 Å.*--replace"):
        open_app(tmp_path, diameter=150).__enter__()
    with open_app(tmp_path, diameter=150, replace_settings=True) as visit:
        assert visit.state.project.settings.diameter_angstrom == 150


def test_a_cache_forgets_what_was_used_longest_ago() -> None:
    made: list[str] = []

    def get(cache: Cache, key: str, size: int = 4) -> str:
        return cache.get(key, lambda: made.append(key) or key, lambda _: size)  # type: ignore[func-returns-value]

    cache = Cache(10)
    for key in ("a", "b", "a", "c", "a", "b"):
        assert get(cache, key) == key
        assert cache.bytes <= 10
    assert made == ["a", "b", "c", "b"]
    assert get(cache, "large", 6) == "large"
    assert cache.peek("large") is None
    assert cache.peek("b") == "b"


def test_the_server_does_not_import_torch() -> None:
    code = (
        "import sys; import heliodor.app.server.server, heliodor.cli.app;"
        "import scipy.fft, scipy.spatial;"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_preview_that_unpacks_to_gigabytes_is_not_used(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        preview = visit.state.preview(0)
        Image.new("L", (MAX_PREVIEW_PX + 1, 8)).save(preview, "JPEG")
        content = bytearray(preview.read_bytes())
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", 60_000, 60_000)
        for damaged in (bytes(content), b"no image"):
            preview.write_bytes(damaged)
            visit.state.project.path("thumbnails", 0).unlink(missing_ok=True)
            answer = visit.client.get("/api/micrographs/0/thumbnail.jpg")
            assert answer.status_code == 200
            with Image.open(io.BytesIO(answer.content)) as picture:
                assert max(picture.size) == 128
