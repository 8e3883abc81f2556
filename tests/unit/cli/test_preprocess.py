"""``heliodor preprocess`` from end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from heliodor.data.micrographs.normalization import Normalizer
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.models.model_file import load_model
from heliodor.workflows import preprocess
from helpers.cli import call, done
from helpers.shell_jobs import (
    DIAMETER,
    HEIGHT,
    MODEL,
    PIXEL,
    TINY,
    WIDTH,
    WORKING,
    files_in,
    first,
    image_of,
    rows,
    true_xy,
)


def test_preprocess_writes_standardised_mrc_files(unseen: Path, tmp_path: Path) -> None:
    stars = ("--micrographs", unseen / "micrographs.star", "--working-pixel-size", WORKING)
    done("preprocess", *stars, "-o", tmp_path)
    names = {f"micrographs/shell_000{n}.mrc" for n in (1, 2, 3)}
    assert files_in(tmp_path) == names | {"run.json"}
    for name in names:
        assert mrcfile.validate(tmp_path / name)
        with mrcfile.open(tmp_path / name) as mrc:
            data, header, size = np.array(mrc.data), mrc.header, mrc.voxel_size
            assert (int(header.mode), int(header.nz)) == (2, 1)
            assert data.dtype == np.float32
            assert data.shape == (round(HEIGHT * 0.8), round(WIDTH * 0.8))
            expected = PIXEL * WIDTH / data.shape[1]
            assert float(size.x) == pytest.approx(expected, rel=1e-6)
            assert float(size.y) == pytest.approx(expected, rel=1e-6)
            for field, value in (("dmin", data.min()), ("dmax", data.max())):
                assert header[field] == value
            assert header.dmean == pytest.approx(data.mean(), abs=1e-4)
            assert header.rms == pytest.approx(data.std(), abs=1e-4)
        low, middle, high = np.percentile(data, [15.9, 50, 84.1])
        assert abs(middle) < 0.6
        assert 0.7 < (high - low) / 2 < 1.5
        # What training and picking see, to the last bit.
        image = WorkingImages(WORKING).get(find_sources(unseen / name)[0])
        assert np.array_equal(data, Normalizer.fit([], "micrograph").apply(image.image))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["arguments"]["working_pixel_size_angstrom"] == WORKING
    assert len(record["inputs"]["preprocessing"]) == 3
    assert set(record["seconds"]) == {"fitting", "writing"}


@pytest.mark.parametrize("mode", ["joint", "standard"])
def test_preprocess_in_other_modes(unseen: Path, tmp_path: Path, mode: str) -> None:
    folder = ("--micrographs", unseen / "micrographs", "--working-pixel-size", WORKING)
    done("preprocess", *folder, "--normalization", mode, "-o", tmp_path)
    images = [image_of(tmp_path / f"shell_000{n}.mrc") for n in (1, 2, 3)]
    for image in images:
        if mode == "standard":
            assert (image.mean(), image.std()) == pytest.approx((0, 1), abs=1e-4)
        else:
            assert abs(np.median(image)) < 0.3
            assert 0.8 < image.std() < 1.3
    fitted = json.loads((tmp_path / "run.json").read_text())["normalization"]
    assert fitted["mode"] == mode
    assert ("mu" in fitted) == (mode == "joint")


def test_preprocess_takes_other_kinds_of_numbers(unseen: Path, tmp_path: Path) -> None:
    image = image_of(first(unseen))
    scaled = (image - image.mean()) / image.std()
    kinds = {"half": scaled.astype(np.float16), "bytes": np.clip(scaled * 20, -127, 127)}
    kinds["bytes"] = np.rint(kinds["bytes"]).astype(np.int8)
    kinds["floats"] = image.astype(np.float32)
    for name, data in kinds.items():
        with mrcfile.new(tmp_path / f"{name}.mrc") as mrc:
            mrc.set_data(data)
    out = tmp_path / "out"
    given = ("--micrographs", tmp_path, "--pixel-size", PIXEL, "--working-pixel-size", WORKING)
    done("preprocess", *given, "-o", out)
    results = {name: image_of(out / f"{name}.mrc") for name in kinds}
    for name in ("half", "bytes"):
        assert np.corrcoef(results[name].ravel(), results["floats"].ravel())[0, 1] > 0.999
        assert np.abs(results[name] - results["floats"]).mean() < 0.1


def test_preprocess_goes_on_without_a_bad_micrograph(unseen: Path, tmp_path: Path) -> None:
    shutil.copy(first(unseen), tmp_path)
    (tmp_path / "bad.mrc").write_text("not a micrograph")
    given = ("--micrographs", tmp_path, "--working-pixel-size", WORKING)
    for mode in ("micrograph", "joint"):
        out = tmp_path / mode
        result = call("preprocess", *given, "--normalization", mode, "-o", out)
        assert result.code == 3
        assert files_in(out) == {"shell_0001.mrc", "failed.tsv", "run.json"}
        (failed,) = rows(out / "failed.tsv")
        assert failed["micrograph"] == str(tmp_path / "bad.mrc")


def test_preprocess_stops_where_it_cannot_write(
    unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fill(path: Path, *_: object) -> None:
        tried.append(path)
        raise BadInput(f"{path} cannot be written (No space left on device)")

    monkeypatch.setattr(preprocess, "write_mrc", fill)
    given = ("--micrographs", unseen / "micrographs", "--working-pixel-size", WORKING)
    result = call("preprocess", *given, "-o", tmp_path)
    assert result.code == 2
    assert "No space left" in result.sentence
    assert len(tried) == 1
    assert files_in(tmp_path) == set()


def test_preprocess_never_replaces_what_it_was_given(unseen: Path, tmp_path: Path) -> None:
    shutil.copy(first(unseen), tmp_path)
    before = (tmp_path / "shell_0001.mrc").read_bytes()
    given = ("--micrographs", tmp_path, "--working-pixel-size", WORKING)
    result = call("preprocess", *given, "-o", tmp_path)
    assert result.code == 2
    assert "would replace an input file" in result.sentence
    assert files_in(tmp_path) == {"shell_0001.mrc"}
    assert (tmp_path / "shell_0001.mrc").read_bytes() == before


def test_preprocessed_micrographs_can_be_learnt_from(learn: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    two = ("--micrographs", first(learn), first(learn, 2), "-o", half)
    done("preprocess", *two, "--working-pixel-size", 2 * PIXEL)
    labels = tmp_path / "labels.csv"
    lines = [
        f"shell_000{n},{x / 2},{y / 2}\n" for n in (1, 2) for x, y in true_xy(learn, n).tolist()
    ]
    labels.write_text("image_name,x_coord,y_coord\n" + "".join(lines))
    job = ("train", "--micrographs", half, "--labels", labels, "--diameter", DIAMETER)
    job = (*job, "--expected-particles", 12, "--working-pixel-size", 2 * PIXEL, *TINY)
    done(*job, "-o", tmp_path / "header")
    done(*job, "--pixel-size", 2 * PIXEL, "-o", tmp_path / "given")
    cards = [load_model(tmp_path / name / MODEL).card for name in ("header", "given")]
    assert [card.working_pixel_size_angstrom for card in cards] == [2 * PIXEL] * 2
    assert [card.labelled_particles for card in cards] == [24, 24]
    assert cards[0].threshold == cards[1].threshold
