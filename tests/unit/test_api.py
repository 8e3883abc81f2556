"""The Python API: files and arrays alike, nothing written, nothing changed in the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heliodor
from heliodor.data.coordinates.picks import Picks
from heliodor.simulation import SimulationSettings, simulate

DIAMETER = 125.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small simulated micrographs with their truth."""
    folder = tmp_path_factory.mktemp("api")
    settings = SimulationSettings(
        particle="shell", count=2, shape=(320, 320), pixel_size_angstrom=5.0, seed=3
    )
    simulate(folder, settings)
    return folder


@pytest.fixture(scope="module")
def picks(data: Path) -> Picks:
    """The picks of the general model on them."""
    return heliodor.pick(data / "micrographs", diameter=DIAMETER)


@pytest.fixture(scope="module")
def images(data: Path) -> list[Any]:
    return [
        heliodor.read_micrograph(path).image for path in sorted((data / "micrographs").iterdir())
    ]


def snapshot(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_import_is_light_and_every_name_is_there() -> None:
    code = (
        "import sys, heliodor; heavy = {'torch', 'numpy', 'scipy', 'pydantic', 'typer'};"
        "print(sorted(heavy & set(sys.modules))); print(sorted(dir(heliodor)))"
    )
    lines = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert lines[0] == "[]"
    assert lines[1] == str(sorted(heliodor.__all__))
    assert all(getattr(heliodor, name) is not None for name in heliodor.__all__)
    with pytest.raises(AttributeError, match="no attribute 'picks'"):
        _ = heliodor.picks


def test_files_and_arrays_give_the_same_picks_and_nothing_is_written(
    data: Path, images: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(data)
    threads = torch.get_num_threads()
    files = heliodor.pick(data / "micrographs", diameter=DIAMETER)
    arrays = heliodor.pick(images, diameter=DIAMETER, pixel_size=5.0)
    stack = heliodor.pick(np.stack(images), diameter=DIAMETER, pixel_size=5.0)
    assert len(files) > 5
    for other in (arrays, stack):
        np.testing.assert_array_equal(files.xy_px, other.xy_px)
        np.testing.assert_array_equal(files.score, other.score)
        assert other.threshold == files.threshold
    assert snapshot(data) == before
    assert [*tmp_path.iterdir()] == []
    assert torch.get_num_threads() == threads


def test_it_picks_what_the_command_picks(data: Path, picks: Picks, tmp_path: Path) -> None:
    heliodor.pick(data / "micrographs", diameter=DIAMETER, out=tmp_path / "out")
    table = heliodor.read_picks(tmp_path / "out" / "picks.tsv")
    assert len(table) == len(picks)
    np.testing.assert_allclose(np.sort(table.score), np.sort(picks.score), atol=1e-4)
    assert (tmp_path / "out" / "autopick.star").exists()


def test_picks_are_columns_tables_files_and_pictures(picks: Picks, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    frame = picks.to_dataframe()
    assert [*frame.columns[:5]] == ["micrograph", "x", "y", "score", "probability"]
    assert len(frame) == len(picks)
    np.testing.assert_array_equal(frame.x, picks.x)
    assert len(repr(picks)) < 80
    assert f"{len(picks):,} picks on 2 micrographs" in repr(picks)
    assert picks._repr_html_().count("<tr>") == 11
    (path,) = picks.write(tmp_path / "picks.star")
    again = heliodor.read_picks(path)
    assert len(again) == len(picks)
    np.testing.assert_allclose(again.xy_px, picks.xy_px, atol=1e-3)
    figure = picks.plot(0)
    assert len(figure.axes[0].collections[0].get_offsets()) == picks.counts()[0]
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_three_lines_train_and_pick(data: Path, images: list[Any]) -> None:
    tiny = {"effort": "quick", "epochs": 1, "epoch_updates": 2, "expected_particles": 30.0}
    truth = heliodor.read_picks(data / "truth.star")
    labels = [table.xy_px for name, table in sorted(truth.split_by_micrograph())]
    from_files = heliodor.train(
        data / "micrographs", data / "truth.star", diameter=DIAMETER, trust_labels=True, **tiny
    )
    from_arrays = heliodor.train(
        images, labels, diameter=DIAMETER, pixel_size=5.0, trust_labels=True, **tiny
    )
    for picker in (from_files, from_arrays):
        assert picker.diameter == DIAMETER
        assert len(picker.pick(images[0], pixel_size=5.0).candidates) > 0
    one, other = (p.pick(images[0], pixel_size=5.0) for p in (from_files, from_arrays))
    np.testing.assert_array_equal(one.candidates.score, other.candidates.score)


def test_a_picker_is_saved_and_loaded(images: list[Any], tmp_path: Path) -> None:
    picker = heliodor.Picker.from_pretrained(diameter=DIAMETER)
    again = heliodor.Picker.load(picker.save(tmp_path / "m.safetensors"))
    one, other = (p.pick(images[0], pixel_size=5.0) for p in (picker, again))
    np.testing.assert_array_equal(one.score, other.score)
    scores = picker.score(images[0], pixel_size=5.0)
    assert scores.ndim == 2
    assert scores.dtype == np.float32
    assert np.isfinite(scores).any()
    assert repr(again) == "<Picker: resnet8 for particles of 125 Å>"


def test_evaluate_takes_picks_and_files(data: Path, picks: Picks) -> None:
    found = heliodor.evaluate(picks, data / "truth.star", match_distance=50.0)
    truth = heliodor.read_picks(data / "truth.star")
    same = heliodor.evaluate(picks, truth, match_distance=50.0, pixel_size=5.0)
    assert 0.5 < found.micro.f1 <= 1.0
    assert found.micro == same.micro
    perfect = heliodor.evaluate(truth, truth, match_distance=50.0, pixel_size=5.0)
    assert perfect.micro.f1 == 1.0


def test_convert_writes_what_it_says(data: Path, tmp_path: Path) -> None:
    (path,) = heliodor.convert(data / "truth.star", tmp_path / "t.csv")
    assert len(heliodor.read_picks(path)) == len(heliodor.read_picks(data / "truth.star"))


def test_convert_takes_the_options_of_the_command(data: Path, tmp_path: Path) -> None:
    (path,) = heliodor.convert(data / "truth.star", tmp_path / "t.csv", scale=0.5, pixel_size=3.0)
    before, after = heliodor.read_picks(data / "truth.star"), heliodor.read_picks(path)
    np.testing.assert_allclose(after.xy_px, 0.5 * before.xy_px)
    with pytest.raises(heliodor.HeliodorError, match=r"no option 'sclae'.*scale"):
        heliodor.convert(data / "truth.star", tmp_path / "u.csv", sclae=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i: heliodor.pick(i, diameter=100), "need their pixel size"),
        (lambda i: heliodor.pick(i, diameter=100, pixel_size=5.0, treshold=1), "no option"),
        (lambda i: heliodor.pick(i, pixel_size=5.0), "diameter"),
        (lambda i: heliodor.pick(i[0][0], diameter=100, pixel_size=5.0), "must be an array"),
        (lambda i: heliodor.pick(i, diameter=100, pixel_size=5.0, out="x"), "out needs files"),
        (lambda i: heliodor.pick([*i, "a.mrc"], diameter=100, pixel_size=5.0), "not both"),
        (lambda i: heliodor.train(i, [], diameter=100, pixel_size=5.0), "one array per image"),
        (lambda i: heliodor.Picker.from_pretrained("best", diameter=9), "must be 'general'"),
        (lambda i: heliodor.pick("no/where.mrc", diameter=100), "does not exist"),
    ],
)
def test_errors_are_of_one_class_and_name_parameters(
    call: Any, message: str, images: list[Any]
) -> None:
    with pytest.raises(heliodor.HeliodorError, match=message) as error:
        call(images)
    assert "--" not in str(error.value)


@pytest.mark.slow
def test_the_library_is_silent_unless_asked() -> None:
    code = (
        "import heliodor, numpy as np, sys;"
        "image = np.random.default_rng(0).normal(size=(200, 200)).astype('f4');"
        "heliodor.pick(image, diameter=150, pixel_size=5.0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_table_without_picks_has_columns_too() -> None:
    empty = Picks.empty(["a.mrc"])
    assert (len(empty.x), len(empty.micrograph)) == (0, 0)
    assert repr(empty) == "<0 picks on 1 micrograph>"
    assert "<table>" in empty._repr_html_()
