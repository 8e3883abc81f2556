"""Simulated filaments: where they lie, and that their images lie on their axes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile

from heliodor.data.coordinates.formats.filament_columns import PSI_PRIOR
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.geometry import measure_length, project_on_axis
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.filaments.segments import cut_segments
from heliodor.errors import BadInput
from heliodor.simulation import SimulationSettings, simulate_layers, simulate_micrograph
from heliodor.simulation.filament_kinds import FILAMENTS
from heliodor.simulation.filament_placement import FilamentLayout, add_filament, place_filaments
from heliodor.simulation.scene import Field, measure_clearance
from helpers.cli import call, done

SMALL = SimulationSettings(
    filament="actin", shape=(160, 200), pixel_size_angstrom=8.0, contaminants=0.0
)


@pytest.mark.parametrize("name", FILAMENTS)
def test_the_projection_lies_on_the_axis(name):
    kind, pixel = FILAMENTS[name], 6.0
    angles = np.linspace(0.3, 1.1, 12)
    axis = 20 + 140 * np.column_stack([np.cos(angles), np.sin(angles)])
    image = np.zeros((200, 200), np.float32)
    add_filament(np.random.default_rng(2), image, axis, kind, pixel, 1.0)
    rows, columns = np.mgrid[:200, :200]
    points = np.column_stack([columns.ravel(), rows.ravel()]).astype(float)
    radius = np.hypot(*(points - 20).T) - 140
    weight = image.ravel()
    # The middle of the density is on the arc, and its extent is the width.
    assert abs((weight * radius).sum() / weight.sum()) < 0.03 * kind.width_angstrom / pixel
    far = weight[np.abs(radius) > 0.6 * kind.width_angstrom / pixel].sum()
    assert far < 0.02 * weight.sum()
    along = project_on_axis(points, axis).along_px
    inside = (along > 5) & (along < measure_length(axis) - 5)
    density = np.histogram(along[inside], 4, weights=weight[inside])[0]
    np.testing.assert_allclose(density / density.mean(), 1, atol=0.15)


def place(layout: FilamentLayout, seed: int) -> list[np.ndarray]:
    field = Field.around((300, 300), 100.0, 8.0)
    clearance = measure_clearance(field, np.zeros(field.shape, np.bool_))
    return place_filaments(np.random.default_rng(seed), field, layout, clearance)


@pytest.mark.parametrize("seed", range(5))
def test_filaments_keep_apart_unless_they_may_cross(seed):
    layout = FilamentLayout(FILAMENTS["actin"], 6, 0.0, 0.0, overlap=False)
    axes = place(layout, seed)
    gaps = [
        project_on_axis(one, other).distance_px.min()
        for n, one in enumerate(axes)
        for other in axes[n + 1 :]
    ]
    assert len(axes) > 1
    assert min(gaps) >= 80.0 / 8.0
    crossing = [place(replace(layout, overlap=True, count=9), seed + s) for s in range(3)]
    assert (
        min(
            project_on_axis(one, other).distance_px.min()
            for axes in crossing
            for n, one in enumerate(axes)
            for other in axes[n + 1 :]
        )
        < 80.0 / 8.0
    )


def test_bundles_are_side_by_side_and_broken_filaments_have_gaps():
    kind = FILAMENTS["microtubule"]
    axes = place(FilamentLayout(kind, 1, 1.0, 0.0, overlap=True), 1)
    assert len(axes) > 1
    width = kind.width_angstrom / 8.0
    for one in axes[1:]:
        distance = project_on_axis(one, axes[0]).distance_px
        assert np.ptp(distance) < 0.1 * width
        assert distance.mean() > 0.99 * width
    whole = place(FilamentLayout(FILAMENTS["actin"], 1, 0.0, 0.0, overlap=True), 4)
    parts = place(FilamentLayout(FILAMENTS["actin"], 1, 0.0, 1.0, overlap=True), 4)
    assert len(parts) == 2
    missing = measure_length(whole[0]) - sum(map(measure_length, parts))
    assert 0.3 * 10 <= missing <= 2.0 * 10 + 1
    assert max(project_on_axis(part, whole[0]).distance_px.max() for part in parts) < 0.5


def test_persistence_sets_how_curved_filaments_are():
    def bend(persistence: float) -> float:
        kind = replace(FILAMENTS["actin"], persistence_angstrom=persistence)
        axes = [
            axis
            for seed in range(12)
            for axis in place(FilamentLayout(kind, 2, 0.0, 0.0, overlap=True), seed)
        ]
        ends = [float(np.hypot(*(axis[-1] - axis[0]))) / measure_length(axis) for axis in axes]
        return 1 - float(np.mean(ends))

    assert bend(1e8) < 1e-3 < 0.02 < bend(3e3)


def test_filaments_end_before_contaminants():
    settings = replace(SMALL, contaminants=8.0, filaments_per_micrograph=6, overlap=True)
    for index in range(3):
        micrograph = simulate_micrograph(settings, index)
        for axis in micrograph.axes_px:
            columns, rows = np.round(axis).astype(int).T
            assert not micrograph.blocked[rows, columns].any()


def test_filaments_are_dark_where_the_truth_says():
    layers = simulate_layers(replace(SMALL, filaments_per_micrograph=3), 0)
    axes = layers.micrograph.axes_px
    rows, columns = np.mgrid[:160, :200]
    points = np.column_stack([columns.ravel(), rows.ravel()]).astype(float)
    distance = np.min([project_on_axis(points, axis).distance_px for axis in axes], axis=0)
    signal = layers.signal.ravel()
    assert signal[distance < 3].mean() < -5 * abs(signal[distance > 20].mean())
    assert len(layers.micrograph.xy_px) == 0


def test_the_command_writes_axes(tmp_path: Path):
    out = tmp_path / "set"
    words = "--filament actin --count 2 --size-px 200x160 --pixel-size 8 --labels 1 --filaments 3"
    said = done("simulate", out, *words.split()).err
    truth, labels = read_filaments(out / "filaments.star"), read_filaments(out / "labels.star")
    assert f"2 micrographs with {len(truth)} filaments" in said
    assert not (out / "truth.star").exists()
    assert len(labels) == 1
    (label,) = labels
    assert any(
        np.array_equal(label.axis_px, one.axis_px) and label.micrograph == one.micrograph
        for one in truth
    )
    assert {one.width_angstrom for one in truth} == {80.0}
    assert {*truth.pixel_sizes.values()} == {8.0}
    for one in truth:
        assert (one.axis_px >= 0).all()
        assert (one.axis_px <= [199, 159]).all()
    assert len(starfile.read(out / "micrographs.star")["micrographs"]) == 2
    done("simulate", tmp_path / "again", *words.split())
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        other = tmp_path / "again" / path.relative_to(out)
        assert path.read_bytes() == other.read_bytes()


def test_psi_of_segments_is_that_of_the_drawn_helix():
    """The projection at tilt 90 and the psi prior lies along the axis."""
    from heliodor.simulation.projection import euler_matrix

    axis = np.array([[10.0, 10.0], [90.0, 50.0]])
    picks = cut_segments(Filaments(("a",), (Filament("a", axis, 1),), {"a": 1.0}), 20.0)
    matrix = euler_matrix(0.0, 90.0, float(picks.extra[PSI_PRIOR][0]))
    along = matrix[:2, 2]  # where the z axis of the helix lands
    assert abs(np.linalg.det([along, axis[1] - axis[0]])) < 1e-9


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--filament rope", "must be one of amyloid, microtubule, actin, tube"),
        ("--rise 5", "--rise is for --filament"),
        ("--breaks 0.5", "--breaks is for --filament"),
        ("--filament actin --particles 5", "--particles is not for filaments"),
        ("--filament actin --structure x.pdb", "--structure is not for filaments"),
        ("--filament actin --orientations preferred", "--orientations is not for filaments"),
        ("--filament actin --rise 0", "rise"),
        ("--filament actin --bundles 2", "share of bundles"),
        ("--filament actin --filaments 0 --labels 3", "labels"),
    ],
)
def test_refusals(tmp_path: Path, words, sentence):
    result = call("simulate", tmp_path / "x", *words.split())
    assert result.code == 2
    assert sentence in result.sentence
    assert not (tmp_path / "x").exists()


def test_rise_and_twist_are_used():
    given = replace(SMALL, rise_angstrom=40.0, twist_deg=60.0, persistence_angstrom=5000.0)
    kind = given.resolved_filament
    assert kind is not None
    assert (kind.rise_angstrom, kind.twist_deg, kind.persistence_angstrom) == (40, 60, 5000)
    one, other = (simulate_layers(s, 0).signal for s in (SMALL, replace(SMALL, twist_deg=60.0)))
    assert not np.array_equal(one, other)
    with pytest.raises(BadInput, match="twist"):
        replace(SMALL, twist_deg=200.0)
