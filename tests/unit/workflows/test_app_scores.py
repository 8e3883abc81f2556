"""Picking with the scores, the labels and the exclusions of a project of the app."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliodor.app.engine.request_queue import RequestQueue
from heliodor.app.engine.session import Session
from heliodor.app.micrograph_list import write_list
from heliodor.app.protocol import EventWriter, OpenRequest, ProjectMicrograph
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.errors import BadInput
from heliodor.picking import batch
from heliodor.picking.journal import Journal
from heliodor.picking.settings import PickSettings
from heliodor.workflows.parts import Part, pick_part
from heliodor.workflows.pick import pick
from heliodor.workflows.picking_setup import PickRequest
from helpers.networks import discs, scattered, write_mrc

DIAMETER, PIXEL = 60.0, 4.0
SHAPE = (150, 170)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Source], list[Any]]:
    """A project whose micrographs the engine has scored, and what the engine said."""
    folder = tmp_path_factory.mktemp("project")
    for i in range(3):
        image = discs(SHAPE, scattered(SHAPE, 24, 18, i), depth=4, seed=i)
        (folder / "mics").mkdir(exist_ok=True)
        write_mrc(folder / "mics" / f"m{i}.mrc", image, PIXEL)
    sources = find_sources(str(folder / "mics"))
    for name in ("scores", "previews"):
        (folder / name).mkdir()
    write_list(folder, sources)
    said = io.StringIO()
    micrographs = tuple(ProjectMicrograph(name=s.name, path=s.path) for s in sources)
    request = OpenRequest(project=folder, micrographs=micrographs, diameter=DIAMETER, threads=1)
    session = Session.open(request, RequestQueue(), EventWriter(said))
    for number in range(len(sources)):
        session._score(number)
    return folder, sources, [json.loads(line) for line in said.getvalue().splitlines()]


def test_what_was_scored_is_not_scored_again(
    project: tuple[Path, list[Source], list[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _, said = project
    micrographs = str(folder / "mics")
    fresh = pick(None, micrographs, tmp_path / "fresh", diameter_angstrom=DIAMETER)
    # The app has settled on the same threshold.
    (settled,) = [own for own in said if own["event"] == "level" and own["settled"]]
    assert settled["threshold"] == fresh.threshold
    assert settled["micrographs"] == 3
    scored = list[str]()
    read = batch._MicrographPicker.read

    def record(self: Any, source: Source) -> Any:
        if isinstance(self.store, Journal):  # not the test of the scale
            scored.append(source.name)
        return read(self, source)

    monkeypatch.setattr(batch._MicrographPicker, "read", record)
    kept = pick(
        None, micrographs, tmp_path / "kept", diameter_angstrom=DIAMETER, app_scores=folder
    )
    request = PickRequest(
        None, micrographs, PickSettings(), diameter_angstrom=DIAMETER, app_scores=folder
    )
    assert pick_part(Part(2, 2), request, tmp_path / "parts").merged is not None
    assert not scored
    for name in ("picks.tsv", "micrographs.tsv", "m0_autopick.star"):
        own = (tmp_path / "parts" / name).read_bytes()
        assert own == (tmp_path / "fresh" / name).read_bytes()
    assert kept.threshold == fresh.threshold
    for name in ("picks.tsv", "micrographs.tsv", "m0_autopick.star"):
        own = (tmp_path / "kept" / name).read_bytes()
        assert own == (tmp_path / "fresh" / name).read_bytes()
    assert len(fresh.picks)


@pytest.mark.parametrize("change", ["settings", "file", "diameter"])
def test_what_has_changed_is_scored_again(
    project: tuple[Path, list[Source], list[Any]],
    tmp_path: Path,
    change: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, sources, _ = project
    micrographs, settings, diameter = str(folder / "mics"), PickSettings(), DIAMETER
    if change == "settings":
        settings = PickSettings(exclusion_radius_angstrom=40.0)
    elif change == "diameter":
        diameter = 64.0
    before = sources[0].path.read_bytes()
    if change == "file":
        write_mrc(sources[0].path, discs(SHAPE, scattered(SHAPE, 20, 18, 9), seed=9), PIXEL)
    try:
        with caplog.at_level("INFO"):
            pick(
                None, micrographs, tmp_path / "out", settings,
                diameter_angstrom=diameter, app_scores=folder,
            )  # fmt: skip
    finally:
        sources[0].path.write_bytes(before)
    used = 2 if change == "file" else 0
    assert f"scores of the app are used for {used} micrographs" in caplog.text


def test_labels_negatives_and_exclusions_are_in_all_results(
    project: tuple[Path, list[Source], list[Any]], tmp_path: Path
) -> None:
    folder, sources, _ = project
    whole = pick(None, str(folder / "mics"), tmp_path / "whole", diameter_angstrom=DIAMETER)
    first, second, third = (source.name for source in sources)
    rejected = whole.table(first).xy_px[:1]
    added = np.array([[1.0, 2.0]])
    for name, at, xy in (("labels", second, added), ("negatives", first, rejected)):
        rows = [f"{at}\t{x}\t{y}" for x, y in xy]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["micrograph\tx_px\ty_px", *rows]) + "\n")
    (tmp_path / "excluded.txt").write_text(f"{third}\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m2_autopick.star").write_text("of an earlier run")
    picked = pick(
        None, str(folder / "mics"), tmp_path / "out", PickSettings(threshold=whole.threshold),
        diameter_angstrom=DIAMETER, app_scores=folder,
        labels=tmp_path / "labels.tsv", negatives=tmp_path / "negatives.tsv",
        exclude=tmp_path / "excluded.txt", relion_project=tmp_path,
    )  # fmt: skip
    assert picked.micrographs == (first, second)
    assert not (tmp_path / "out" / "m2_autopick.star").exists()
    table = read_picks(tmp_path / "out" / "picks.tsv")
    own = dict(table.split_by_micrograph())
    assert np.hypot(*(own[first].xy_px - rejected).T).min() > 0.4 * DIAMETER / PIXEL
    assert np.hypot(*(own[second].xy_px - added).T).min() < 0.01
    star = read_picks(tmp_path / "out" / "m1_autopick.star")
    before = dict(whole.picks.split_by_micrograph())
    assert len(star) == len(own[second]) == len(before[second]) + 1
    listed = (tmp_path / "out" / "autopick.star").read_text()
    assert " out/m0_autopick.star" in listed.replace("\t", " ")
    assert third not in listed
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["picks"] == len(own[first]) + len(own[second])
    assert record["arguments"]["labels"] == str(tmp_path / "labels.tsv")
    (tmp_path / "excluded.txt").write_text("\n".join([first, second, third]))
    with pytest.raises(BadInput, match="all micrographs are excluded"):
        pick(
            None, str(folder / "mics"), tmp_path / "none", diameter_angstrom=DIAMETER,
            exclude=tmp_path / "excluded.txt",
        )  # fmt: skip


def test_a_folder_that_is_no_project_is_refused(
    project: tuple[Path, list[Source], list[Any]], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"micrographs\.json is not the list of a project"):
        pick(
            None, str(project[0] / "mics"), tmp_path / "out", diameter_angstrom=DIAMETER,
            app_scores=tmp_path,
        )  # fmt: skip


@pytest.mark.slow
def test_scores_for_other_distances_are_those_of_picking_with_them(
    project: tuple[Path, list[Source], list[Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, sources, _ = project
    own = tmp_path / "project"
    for name in ("scores", "previews"):
        (own / name).mkdir(parents=True)
    write_list(own, sources)
    settings = PickSettings(exclusion_radius_angstrom=50.0, edge_margin_angstrom=40.0)
    request = OpenRequest(
        project=own,
        micrographs=tuple(ProjectMicrograph(name=s.name, path=s.path) for s in sources),
        diameter=DIAMETER,
        threads=1,
        exclusion_radius_angstrom=50.0,
        edge_margin_angstrom=40.0,
    )
    session = Session.open(request, RequestQueue(), EventWriter(io.StringIO()))
    for number in range(len(sources)):
        session._score(number)
    micrographs = str(folder / "mics")
    fresh = pick(None, micrographs, tmp_path / "fresh", settings, diameter_angstrom=DIAMETER)
    with caplog.at_level("INFO"):
        pick(
            None, micrographs, tmp_path / "kept", settings,
            diameter_angstrom=DIAMETER, app_scores=own,
        )  # fmt: skip
    assert "scores of the app are used for 3 micrographs" in caplog.text
    kept, usual = (tmp_path / name / "picks.tsv" for name in ("kept", "fresh"))
    assert kept.read_bytes() == usual.read_bytes()
    inside = np.array([40.0 / PIXEL, *(np.array(SHAPE[::-1]) - 1 - 40.0 / PIXEL)])
    assert (fresh.picks.xy_px >= inside[0] - 0.5).all()
    assert (fresh.picks.xy_px <= inside[1:] + 0.5).all()


def test_an_offset_moves_the_threshold_of_its_micrograph_alone(
    project: tuple[Path, list[Source], list[Any]], tmp_path: Path
) -> None:
    folder, sources, _ = project
    first, second, third = (source.name for source in sources)
    (tmp_path / "offsets.txt").write_text(f"1.5\t{first}\n-1.5 {second}\n")
    common = {"settings": PickSettings(threshold=1.0), "diameter_angstrom": DIAMETER}
    whole = pick(None, str(folder / "mics"), tmp_path / "whole", **common)  # type: ignore[arg-type]
    moved = pick(
        None, str(folder / "mics"), tmp_path / "moved", app_scores=folder,
        threshold_offsets=tmp_path / "offsets.txt", **common,  # type: ignore[arg-type]
    )  # fmt: skip
    table = read_picks(tmp_path / "moved" / "picks.tsv")
    counts = {name: len(own) for name, own in table.split_by_micrograph()}
    for name, threshold in ((first, 2.5), (second, -0.5), (third, 1.0)):
        assert counts[name] == (whole.table(name).score >= threshold).sum()
        np.testing.assert_allclose(
            moved.table(name).score, whole.table(name).score + (1.0 - threshold)
        )


def test_a_file_of_offsets_must_have_a_number_and_a_name_per_line(
    project: tuple[Path, list[Source], list[Any]], tmp_path: Path
) -> None:
    folder, _, _ = project
    (tmp_path / "offsets.txt").write_text("a lot m0.mrc\n")
    with pytest.raises(BadInput, match=r"line 1 of .*offsets"):
        pick(
            None, str(folder / "mics"), tmp_path / "out", diameter_angstrom=DIAMETER,
            threshold_offsets=tmp_path / "offsets.txt",
        )  # fmt: skip
