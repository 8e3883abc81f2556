"""Masks of contamination that a user gives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

import heliodor
from heliodor.conventions import Image
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.micrograph import write_mrc as write_image
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.user_masks import NO_MASKS, UserMasks, read_mask
from helpers.cli import call, done
from helpers.contamination import SHAPE, Mask, carbon_picture, masks, write_ground
from helpers.networks import working

#: As many columns of the left as are masked.
MASKED = 80


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that detects carbon, one that does not, and micrographs."""
    monkeypatch.chdir(tmp_path)
    write_ground(tmp_path, 3)
    return tmp_path


def left_part(shape: tuple[int, int] = SHAPE) -> Image:
    mask = np.zeros(shape, np.float32)
    mask[:, : MASKED * shape[1] // SHAPE[1]] = 1.0
    return mask


def write_png(path: Path, mask: Image, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray((mask * 255).astype(np.uint8)).convert(mode).save(path)


def picks_of(out: str, name: str = "old.safetensors", *options: object) -> dict[str, Any]:
    done("pick", "m", "--model", name, "-o", out, "--device", "cpu", *options)
    table = read_picks(Path(out, "picks.tsv"), candidates=True)
    return {name: own.xy_px for name, own in table.split_by_micrograph()}


@given(mask=masks, pixel=st.floats(0.5, 400))
def test_what_was_written_is_read_again(
    mask: Mask, pixel: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("mask") / "a.png"
    ContaminationMask(mask, pixel, 0.5).write(path)
    again, size = read_mask(path)
    np.testing.assert_array_equal(again, mask)
    assert size == pixel


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2])
@pytest.mark.parametrize("kind", ["L", "1", "RGB", "RGBA", "P", "mrc"])
def test_masks_of_any_size_and_kind_are_taken(ground: Path, kind: str, scale: float) -> None:
    mask = left_part((int(SHAPE[0] * scale), int(SHAPE[1] * scale)))
    if kind == "mrc":
        Path("masks").mkdir()
        write_image(Path("masks/1.mrc"), mask, 4.0)
    else:
        write_png(Path("masks/1.png"), mask, kind)
    found = UserMasks.find("masks", find_sources("m"))
    image = working(carbon_picture(1)[0])
    image = replace(image, source=find_sources("m")[1])
    areas = found.replace(None, image, np.zeros(SHAPE, np.float32))
    assert areas is not None
    assert areas.fraction == pytest.approx(MASKED / SHAPE[1], abs=0.02)
    xy = np.stack(np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0])), axis=-1).reshape(-1, 2)
    inside = areas.contains(xy * 4.0)
    sure = np.abs(xy[:, 0] + 0.5 - MASKED) > 1 / scale + 1
    np.testing.assert_array_equal(inside[sure], xy[sure, 0] < MASKED)


@pytest.mark.parametrize("name", ["old.safetensors", "model.safetensors"])
def test_nothing_is_picked_in_a_mask(ground: Path, name: str) -> None:
    for number in (0, 1):
        write_png(Path("masks", f"{number}.png"), left_part())
    plain = picks_of("plain", name)
    kept = picks_of("kept", name, "--mask", "masks", "--bad-areas", "keep")
    found = picks_of("out", name, "--mask", "masks/0.png", "masks/1.png", "--bad-area-masks")
    for number in (0, 1):
        own, everything = found[f"m/{number}.mrc"], kept[f"m/{number}.mrc"]
        assert (own[:, 0] >= MASKED - 0.5).all()
        right = everything[everything[:, 0] >= MASKED]
        assert {tuple(xy) for xy in right.tolist()} <= {tuple(xy) for xy in own.tolist()}
        assert len(right) < len(everything)
    # Micrographs without a mask are picked as ever.
    np.testing.assert_array_equal(found["m/2.mrc"], plain["m/2.mrc"])
    assert json.loads(Path("out/run.json").read_text())["bad_areas"]["fraction"][
        "m/1.mrc"
    ] == pytest.approx(MASKED / SHAPE[1])
    api = heliodor.Picker.load(name)
    library = api.pick("m", mask=["masks/0.png", "masks/1.png"])
    assert len(library.candidates) == sum(map(len, found.values()))


def test_masks_go_in_as_they_come_out(ground: Path) -> None:
    first = picks_of("first", "model.safetensors", "--bad-area-masks")
    written = {path.name: path.read_bytes() for path in Path("first/bad_areas").rglob("*.png")}
    assert len(written) == 3
    again = picks_of("again", "model.safetensors", "--bad-area-masks", "--mask", "first/bad_areas")
    assert {p.name: p.read_bytes() for p in Path("again/bad_areas").rglob("*.png")} == written
    for name, xy in first.items():
        np.testing.assert_array_equal(again[name], xy)
    # Programs for images may drop the text that names the pixel size.
    for path in Path("first/bad_areas").rglob("*.png"):
        bare = Pillow.fromarray(np.asarray(Pillow.open(path)))
        assert not bare.info
        Path("bare").mkdir(exist_ok=True)
        bare.save(Path("bare", path.name))
    bare_picks = picks_of("bare_out", "model.safetensors", "--mask", "bare")
    for name, xy in first.items():
        np.testing.assert_array_equal(bare_picks[name], xy)


def test_a_changed_mask_is_another_picking(ground: Path) -> None:
    write_png(Path("masks/0.png"), left_part())
    first = picks_of("out", "old.safetensors", "--mask", "masks")
    same = done("pick", "m", "--model", "old.safetensors", "-o", "out", "--device", "cpu",
                "--mask", "masks/0.png")  # fmt: skip
    assert "already picked: 3 of 3" in same.err
    write_png(Path("masks/0.png"), left_part() * 0)
    second = picks_of("out", "old.safetensors", "--mask", "masks")
    assert len(second["m/0.mrc"]) > len(first["m/0.mrc"])
    fresh = picks_of("fresh", "old.safetensors")
    np.testing.assert_array_equal(second["m/0.mrc"], fresh["m/0.mrc"])


def test_masks_that_cannot_be_used_are_refused(ground: Path) -> None:
    def refused(*given: str) -> str:
        said = call("pick", "m", "--model", "old.safetensors", "-o", "out", "--mask", *given)
        assert said.code == 2
        assert not Path("out/picks.tsv").exists()
        return said.sentence

    Path("masks").mkdir()
    assert "there is no mask (PNG or MRC) in masks" in refused("masks")
    assert "missing.png does not exist" in refused("missing.png")
    assert "model.safetensors is not a PNG or MRC file" in refused("model.safetensors")
    write_png(Path("masks/other.png"), left_part())
    assert "masks/other.png matches no micrograph" in refused("masks")
    write_png(Path("masks/0.png"), left_part())
    assert "masks/other.png matches no micrograph" in refused("masks/0.png", "masks/other.png")
    assert NO_MASKS.files == {}
    assert list(UserMasks.find("masks", find_sources("m")).files) == ["m/0.mrc"]
    write_png(Path("masks/0.png"), left_part((SHAPE[1], SHAPE[0])))
    assert "has 160 x 200 pixels, which is not the shape of m/0.mrc (200 x 160)" in refused(
        "masks/0.png"
    )
    Path("masks/0.png").write_bytes(b"no image")
    assert "the mask masks/0.png cannot be read as a PNG image" in refused("masks/0.png")
    write_png(Path("masks/0.png"), left_part())
    write_image(Path("masks/0.mrc"), left_part(), 4.0)
    with pytest.raises(BadInput, match=r"are both masks of m/0.mrc"):
        UserMasks.find("masks", find_sources("m"))


def test_a_mask_of_this_program_for_another_micrograph_is_refused(ground: Path) -> None:
    ContaminationMask(np.ones((10, 12), np.bool_), 16.0, 1.0).write(Path("0.png"))
    said = call("pick", "m/0.mrc", "--model", "old.safetensors", "-o", "out", "--mask", "0.png",
                "--device", "cpu")  # fmt: skip
    assert said.code == 2
    assert "was written for a micrograph of another size" in said.sentence
