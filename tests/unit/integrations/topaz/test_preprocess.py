from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

from heliodor.conventions import FloatArray
from helpers.topaz_cli import (
    good,
    refused,
    run,
    write_images,
)


def _read(path: Path) -> tuple[FloatArray, float]:
    with mrcfile.open(path) as mrc:
        assert mrc.header.mx == mrc.header.nx
        assert float(mrc.header.dmean) == pytest.approx(float(mrc.data.mean()), abs=1e-4)
        return np.array(mrc.data, dtype=np.float64), float(mrc.voxel_size.x)


# As hosts write them; what stands behind is the shape and pixel size of the result.
LINES = {
    "Scipion": ("topaz preprocess D/*.mrc -o P/ --scale 2 --num-workers 2 --device 0", 2),
    "Scipion, older": ("topaz preprocess -s2 D/*.mrc -o P/", 2),
    "relion_run_topaz": (
        "topaz preprocess D/a.mrc D/b.mrc --scale 2 --sample 1 --num-workers -1 --format mrc"
        " --device 0 --niters 100 --alpha 900 --beta 1 --verbose --destdir P",
        2,
    ),
    "REPIC": ("topaz preprocess -s 3 --sample 1 -o P/ D/*.mrc", 3),
    "cryoSPARC": ("topaz preprocess D/a.mrc D/b.mrc --scale 1 --destdir P --affine", 1),
    "normalize": ("topaz normalize D/*.mrc -o P -t 1 -j 1", 1),
}


@pytest.mark.parametrize(("line", "scale"), LINES.values(), ids=LINES.keys())
def test_lines_of_hosts(
    line: str, scale: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "D", "a.mrc", "b.mrc")
    result = good(line)
    assert result.out == ""
    assert all(text.startswith("# ") for text in result.err.splitlines())
    assert sorted(p.name for p in Path("P").iterdir()) == ["a.mrc", "b.mrc"]
    image, pixel_size = _read(Path("P/a.mrc"))
    assert image.shape == (66 // scale, 82 // scale)
    assert pixel_size == pytest.approx(1.5 * 82 / (82 // scale), rel=1e-6)
    background = np.delete(image, np.s_[20 // scale - 2 : 30 // scale + 2], axis=0)
    assert abs(background.mean()) < 0.2
    if scale == 1:
        assert background.std() == pytest.approx(1, abs=0.4)


def test_affine_is_mean_and_standard_deviation(tmp_path: Path) -> None:
    write_images(tmp_path, "a.mrc")
    good(f"topaz preprocess {tmp_path}/a.mrc -o {tmp_path}/P --affine --metadata")
    image, _ = _read(tmp_path / "P/a.mrc")
    assert (image.mean(), image.std()) == pytest.approx((0, 1), abs=1e-5)
    given, _ = _read(tmp_path / "a.mrc")
    fitted = json.loads((tmp_path / "P/a.metadata.json").read_text())
    assert fitted == pytest.approx({"mu": given.mean(), "std": given.std(), "pi": 1}, rel=1e-5)


def test_metadata_tells_how_to_go_back(tmp_path: Path) -> None:
    write_images(tmp_path, "a.mrc")
    good(f"topaz preprocess {tmp_path}/a.mrc -o {tmp_path}/P --metadata")
    fitted = json.loads((tmp_path / "P/a.metadata.json").read_text())
    image, _ = _read(tmp_path / "P/a.mrc")
    given, _ = _read(tmp_path / "a.mrc")
    np.testing.assert_allclose(image * fitted["std"] + fitted["mu"], given, atol=1e-4)
    assert fitted["mu"] == pytest.approx(10, abs=0.3)
    assert len(fitted["mus"]) == len(fitted["stds"]) == len(fitted["pis"]) == 2


def test_every_format_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, "a.mrc")
    good(f"topaz preprocess {tmp_path}/a.mrc -o {tmp_path}/P -s 2 --format mrc,tiff,png")
    image, _ = _read(tmp_path / "P/a.mrc")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "P/a.tiff"), image.astype("f4"))
    with Image.open(tmp_path / "P/a.png") as picture:
        grey = np.asarray(picture, dtype=float)
    assert grey.shape == image.shape
    assert np.corrcoef(grey.ravel(), image.ravel())[0, 1] > 0.9
    good(f"topaz preprocess {tmp_path}/P/a.tiff -o {tmp_path}/Q")
    assert (tmp_path / "Q/a.mrc").is_file()


def test_one_bad_micrograph_among_many(tmp_path: Path) -> None:
    write_images(tmp_path, "a.mrc", "b.mrc", "c.mrc")
    (tmp_path / "b.mrc").write_bytes(b"")
    files = " ".join(f"{tmp_path}/{name}.mrc" for name in "abcd")
    result = run(f"topaz preprocess {files} -o {tmp_path}/P -v")
    assert result.code == 3
    assert "b.mrc is an empty file" in result.err
    assert "d.mrc does not exist" in result.err
    assert result.err.splitlines()[-1] == "# 2 failed, 2 written"
    assert sorted(p.name for p in (tmp_path / "P").iterdir()) == ["a.mrc", "c.mrc"]
    alone = refused(f"topaz preprocess {tmp_path}/b.mrc -o {tmp_path}/Q")
    assert "no micrograph could be used" in alone


def test_two_micrographs_of_one_name_are_both_written(tmp_path: Path) -> None:
    for folder in "AB":
        write_images(tmp_path / folder, "a.mrc")
    good(f"topaz preprocess {tmp_path}/A/a.mrc {tmp_path}/B/a.mrc -o {tmp_path}/P")
    assert len(list((tmp_path / "P").rglob("*.mrc"))) == 2


def test_workers_change_nothing(tmp_path: Path) -> None:
    write_images(tmp_path / "D", *(f"{i}.mrc" for i in range(4)))
    for workers in (0, 3):
        good(f"topaz preprocess {tmp_path}/D/*.mrc -o {tmp_path}/{workers} -t {workers}")
    for i in range(4):
        one, other = (tmp_path / str(w) / f"{i}.mrc" for w in (0, 3))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("ending", "scale"), [("mrc", 2), ("mrc", 4), ("tiff", 2), ("png", 2)])
def test_downsample(ending: str, scale: int, tmp_path: Path) -> None:
    write_images(tmp_path, "a.mrc")
    result = good(f"topaz downsample {tmp_path}/a.mrc -s {scale} -v -o {tmp_path}/s.{ending}")
    assert f"{82 // scale} x {66 // scale} pixels" in result.err
    if ending == "mrc":
        image, pixel_size = _read(tmp_path / "s.mrc")
        assert image.shape == (66 // scale, 82 // scale)
        assert pixel_size == pytest.approx(1.5 * 82 / (82 // scale), rel=1e-6)
        # Cropping leaves the mean as it is.
        assert image.mean() == pytest.approx(_read(tmp_path / "a.mrc")[0].mean(), rel=1e-6)
    assert (tmp_path / f"s.{ending}").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("", "give it with -o"),
        ("-o P --format gif", "not 'gif'"),
        ("-o P --format ,", "--format is empty"),
        ("-o P -s 0", "--scale must be 1 or more"),
        ("-o P -s 100", "give a smaller --scale"),
        ("-o .", "would replace an input file"),
    ],
)
def test_what_preprocess_refuses(
    options: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, "a.mrc")
    before = Path("a.mrc").read_bytes()
    assert word in refused(f"topaz preprocess a.mrc {options}")
    assert Path("a.mrc").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("", "give it with -o"),
        ("-o s.xyz", "the image format must be one of"),
        ("-o a.mrc", "would replace"),
    ],
)
def test_what_downsample_refuses(
    options: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, "a.mrc")
    assert word in refused(f"topaz downsample a.mrc {options}")
