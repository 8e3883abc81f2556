"""Traced filaments that were drawn or rejected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from heliodor.app.server import traced_filaments
from heliodor.app.server.filament_labels import FilamentLabels
from heliodor.app.server.traced_filaments import TracedFilaments, leave_rejected_out
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.writers import render_filaments
from heliodor.picking.filaments import settings
from helpers.app import PIXEL_SIZE, AppVisit, open_app

WIDTH, RADIUS = 80.0, 10.0


def along(first: float, last: float, y: float = 100.0, number: int = 1) -> Filament:
    """Return a filament along x with a point every ten pixels."""
    x = np.arange(first, last + 1.0, 10.0)
    return Filament("m.mrc", np.column_stack([x, np.full(len(x), y)]), number, WIDTH, x)


def ends(pieces: list[Filament]) -> list[tuple[float, float]]:
    return [(one.axis_px[0, 0], one.axis_px[-1, 0]) for one in pieces]


@pytest.mark.parametrize(
    ("rejected", "left"),
    [
        ([], [(100, 700)]),
        # The same one, a part of it, one that covers half of it, and two that do so together.
        ([along(100, 700)], []),
        ([along(100, 700, 109.0)], []),
        ([along(50, 410)], []),
        ([along(100, 250), along(500, 700)], []),
        # It was joined to others on one side, and on both.
        ([along(100, 300)], [(320, 700)]),
        ([along(300, 500)], [(100, 280), (520, 700)]),
        # A piece that is shorter than three widths is no filament.
        ([along(140, 300)], [(320, 700)]),
        # Those beside it, and those that cross it, are others.
        ([along(100, 700, 115.0)], [(100, 700)]),
        ([Filament("m.mrc", np.linspace((400.0, 0.0), (420.0, 300.0), 31), 2)], [(100, 700)]),
        # Most of the rejected one is elsewhere.
        ([along(600, 900)], [(100, 700)]),
    ],
)
def test_what_was_rejected_is_cut_out_and_the_rest_is_left(
    rejected: list[Filament], left: list[tuple[float, float]]
) -> None:
    pieces = leave_rejected_out(along(100, 700), rejected, RADIUS)
    assert ends(pieces) == left
    for piece in pieces:
        np.testing.assert_array_equal(piece.scores, piece.axis_px[:, 0])


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[AppVisit]:
    with open_app(tmp_path, diameter=None, filament_width=WIDTH) as opened:
        yield opened


def write(path: Path, visit: AppVisit, *axes: Filament) -> None:
    name = visit.state.name(0)
    found = tuple(
        Filament(name, one.axis_px, number, WIDTH, one.point_scores)
        for number, one in enumerate(axes, 1)
    )
    table = Filaments((name,), found, {name: PIXEL_SIZE})
    path.write_text(render_filaments(table))


def test_numbers_and_lengths_follow_what_is_rejected_and_drawn(
    visit: AppVisit, tmp_path: Path
) -> None:
    state, labels = visit.state, FilamentLabels(tmp_path, WIDTH)
    files = [tmp_path / "one.star", tmp_path / "other.star"]
    traced = TracedFilaments(state.project, state.tiles, labels, WIDTH, files)
    name = state.name(0)
    assert (traced.version, traced.of(0)) == (None, None)
    write(files[0], visit, along(100, 700), along(100, 400, 200.0), along(100, 300, 300.0))
    version = traced.version
    assert traced.measure(0) == (3, (600 + 300 + 200) * PIXEL_SIZE)
    assert traced.measure(1) == (0, 0.0)
    labels.change(name, {7: ("rejected", along(100, 300).axis_px)}, [])
    assert traced.measure(0) == (3, (380 + 300 + 200) * PIXEL_SIZE)
    labels.change(name, {8: ("label", along(100, 400, 200.0).axis_px)}, [])
    found = traced.of(0)
    assert found is not None
    assert [one.state for one in found] == ["kept", "drawn", "kept"]
    assert len(traced.gather([0])) == 3
    labels.change(name, {}, [7, 8])
    assert traced.measure(0)[0] == 3
    # The file that was written last counts, and is read when it changes.
    write(files[1], visit, along(100, 700))
    later = files[0].stat().st_mtime + 10
    os.utime(files[1], (later, later))
    assert traced.measure(0)[0] == 1
    assert traced.version != version
    files[1].unlink()
    assert traced.measure(0)[0] == 3


def test_the_shortest_filament_is_that_of_tracing() -> None:
    assert traced_filaments.LEAST_WIDTHS == settings.LEAST_WIDTHS
