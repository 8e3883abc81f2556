"""``heliodor-topaz extract --filaments``, as RELION calls it, with a stand-in for the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data.filaments.geometry import project_on_axis
from heliodor.integrations.topaz.filaments import to_starts_and_ends
from heliodor.integrations.topaz.main import run_command
from heliodor.integrations.topaz.parser import parse
from heliodor.models.filament_model_file import FilamentModel
from heliodor.models.pretrained import load_filament_model_or_general
from heliodor.picking.filaments.batch import TracedMicrograph
from heliodor.picking.filaments.refinement import ScoredAxis
from helpers.filament_network import PIXEL, WIDTH_ANGSTROM, KnownAxes, axes_of, write_micrographs

RADIUS = round(WIDTH_ANGSTROM / PIXEL / 2)


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "heliodor.integrations.topaz.filaments"

    def load(model: str | None) -> FilamentModel:
        assert model is None
        return load_filament_model_or_general(model)

    def know(model: FilamentModel, device: object) -> KnownAxes:
        known = KnownAxes()
        assert model.card.width_angstrom is not None
        known.width_angstrom = model.card.width_angstrom
        return known

    monkeypatch.setattr(f"{place}.load_filament_model_or_general", load)
    monkeypatch.setattr(f"{place}.NetworkPredictor.of", know)


def extract(line: str, *images: Path) -> int:
    return run_command(parse([*line.split(), *map(str, images)]))


def read(path: Path) -> tuple[list[str], np.ndarray]:
    head, *rows = path.read_text().splitlines()
    return head.split("\t"), np.array([row.split("\t")[1:] for row in rows], dtype=float)


def test_starts_and_ends_are_pairs_of_rows(tmp_path: Path) -> None:
    folder = write_micrographs(tmp_path, 1)
    out = tmp_path / "rank000000.txt"
    line = f"extract --filaments -t -5 -r {RADIUS} -d -1 -x 4 -o {out}"
    assert extract(line, folder / "mic_1.mrc") == 0
    head, rows = read(out)
    assert head == ["image_name", "x_coord", "y_coord", "score"]
    assert len(rows) == 4
    for start, end, score in zip(rows[::2, :2], rows[1::2, :2], rows[::2, 2], strict=True):
        ends = np.array([start, end]) / 4
        assert min(project_on_axis(ends, one).distance_px.max() for one in axes_of(2)) < 3
        assert np.hypot(*(ends[1] - ends[0])) > 230
        assert score > 0
    assert np.all(rows[:, :2] == np.rint(rows[:, :2]))
    # No filament is as long as this, and none as sure.
    for more in ("--filaments_length 400", "-t 50"):
        assert extract(f"{line} {more}", folder / "mic_1.mrc") == 0
        assert (
            out.read_text().splitlines() == ["image_name\tx_coord\ty_coord\tscore"]
            or len(read(out)[1]) == 0
        )


def test_images_that_cannot_be_used_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_micrographs(tmp_path, 1)
    (folder / "bad.mrc").write_bytes(b"truncated")
    line = f"extract -f -r {RADIUS} --per-micrograph -o {tmp_path / 'out'}"
    assert extract(line, folder / "bad.mrc", folder / "mic_1.mrc") == 3
    assert "1 of 2 images" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mic_1.coord"]


def test_a_bent_filament_has_several_straight_parts() -> None:
    turn = np.linspace(0.0, 1.0, 30)
    axis = 300.0 * np.column_stack([np.sin(turn), 1 - np.cos(turn)])
    traced = TracedMicrograph(
        "m", 1.0, (400, 400), (ScoredAxis(axis, np.ones(30)),), np.zeros(1), 0.0
    )
    picks = to_starts_and_ends(traced, 0.0, 20.0)
    starts, ends = picks.xy_px[::2], picks.xy_px[1::2]
    assert 3 <= len(starts) <= 8
    np.testing.assert_array_equal(starts[1:], ends[:-1])
    chain = np.concatenate([starts[:1], ends])
    assert project_on_axis(axis, chain).distance_px.max() <= 2.0 + 1e-9
    assert len(to_starts_and_ends(traced, 1.5, 20.0)) == 0
