"""``pick --adapt``: the general model learns from its surest picks on the user's micrographs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import heliodor
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from heliodor.models.model_file import ADAPTED_KEY, load_model
from heliodor.models.pretrained import load_model_for_picking
from heliodor.simulation import SimulationSettings, simulate
from heliodor.workflows import adapt
from heliodor.workflows.adapt import NAME, adapt_model
from helpers.cli import call, done

DIAMETER = 120.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small simulated micrographs with many particles."""
    folder = tmp_path_factory.mktemp("adapt") / "data"
    settings = SimulationSettings(
        particle="shell",
        count=3,
        shape=(320, 320),
        pixel_size_angstrom=5.0,
        seed=4,
        particles_per_micrograph=25,
    )
    simulate(folder, settings)
    return folder


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for one epoch of few updates, and be content with few picks."""
    monkeypatch.setattr(adapt, "EPOCHS", 1)
    monkeypatch.setattr(adapt, "FEWEST_PICKS", 10)
    monkeypatch.setattr(
        adapt, "FINE_TUNING", {**adapt.FINE_TUNING, "epoch_updates": 3, "batch": 8, "positives": 3}
    )


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_the_adapted_model_is_kept_and_picks(data: Path, tmp_path: Path) -> None:
    command = ("pick", data / "micrographs", "--diameter", DIAMETER, "--adapt")
    said = done(*command, "-o", tmp_path / "a").err
    assert "adapting the general model to 3 micrographs" in said
    model = load_model(tmp_path / "a" / NAME)
    how = model.card.extra[ADAPTED_KEY]
    assert len(how["micrographs"]) == 3
    assert f"adapted to {how['picks']} of its picks on 3 micrographs" in said
    assert not model.card.any_diameter
    assert model.card.center_correction_px == [0.0, 0.0]
    general = load_model_for_picking(None, DIAMETER)
    changed = [
        not torch.equal(own, old)
        for own, old in zip(
            model.network.state_dict().values(), general.network.state_dict().values(), strict=True
        )
    ]
    assert any(changed)
    # The same command again: the kept model, and the same picks.
    picks = (tmp_path / "a" / "picks.tsv").read_bytes()
    again = done(*command, "-o", tmp_path / "a").err
    assert "is up to date (same micrographs and settings)" in again
    assert "already picked: 3 of 3 micrographs" in again
    assert (tmp_path / "a" / "picks.tsv").read_bytes() == picks
    # From nothing, on another number of threads: the same bytes.
    done(*command, "--threads", 2, "-o", tmp_path / "b")
    for name in (NAME, "picks.tsv"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    # Repeated from its record.
    done("rerun", tmp_path / "a" / "run.json", "-o", tmp_path / "d")
    assert (tmp_path / "d" / "picks.tsv").read_bytes() == picks
    # With other settings it is adapted again.
    assert "up to date" not in done(*command, "--edge-margin", 30, "-o", tmp_path / "a").err


@pytest.mark.usefixtures("brief")
def test_micrographs_that_fail_change_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "MICROGRAPHS", 2)
    mics = tmp_path / "mics"
    shutil.copytree(data / "micrographs", mics)
    general = load_model_for_picking(None, DIAMETER)
    clean = adapt_model(general, find_sources(str(mics)))
    for number in range(6):
        (mics / f"broken_{number}.mrc").write_bytes(b"nothing")
    beside = adapt_model(general, find_sources(str(mics)))
    assert clean.card == beside.card
    assert len(clean.card.extra[ADAPTED_KEY]["micrographs"]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_arrays_adapt_as_files_do(data: Path) -> None:
    picker = heliodor.Picker.from_pretrained(diameter=DIAMETER, device="cpu")
    paths = sorted((data / "micrographs").iterdir())
    images = [heliodor.read_micrograph(path).image for path in paths]
    adapted = picker.adapt(images, pixel_size=5.0)
    assert adapted.card.extra[ADAPTED_KEY]["picks"] >= 10
    assert len(adapted.pick(images, pixel_size=5.0)) >= 10
    with pytest.raises(BadInput, match="pixel size"):
        picker.adapt(images)


def test_too_few_picks_leave_the_model_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SimulationSettings(
        count=1, shape=(256, 256), pixel_size_angstrom=5.0, seed=4, particles_per_micrograph=0
    )
    simulate(tmp_path / "empty", settings)
    general = load_model_for_picking(None, DIAMETER)
    sources = find_sources(str(tmp_path / "empty" / "micrographs"))
    assert adapt_model(general, sources, keep=tmp_path / NAME) is general
    assert "the general model is used as it is" in caplog.text
    assert not (tmp_path / NAME).exists()


def test_only_the_general_model_adapts(data: Path, tmp_path: Path) -> None:
    general = load_model_for_picking(None, DIAMETER)
    trained = replace(general, card=replace(general.card, extra={}))
    sources: list[Any] = find_sources(str(data / "micrographs"))
    with pytest.raises(BadInput, match="only the general model adapts"):
        adapt_model(trained, sources)
    (tmp_path / "mics").mkdir()
    (tmp_path / "mics" / "a.mrc").write_bytes(b"nothing")
    outcome = call("pick", tmp_path / "mics", "--diameter", 120, "--adapt", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "no micrograph could be picked" in outcome.sentence
