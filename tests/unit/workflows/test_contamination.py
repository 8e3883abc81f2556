"""Picking of micrographs with contamination: no picks lie there, and none counts."""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from heliodor.conventions import FloatArray, Image
from heliodor.data.coordinates.formats.tables import read_picks
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration, CalibrationCurve
from heliodor.integrations.topaz.main import main as topaz
from heliodor.models.model_file import GENERAL_KEY, save_model
from heliodor.picking.batch import DecoySearch, pick_micrographs
from heliodor.picking.candidates import find_candidates
from heliodor.picking.contamination import DISTANCE
from heliodor.picking.score_maps import compute_score_maps, score_normalized
from heliodor.picking.settings import PickSettings
from heliodor.training.score_calibration import CalibrationSet
from helpers.cli import call, done
from helpers.contamination import (
    CARBON,
    CARD,
    COLUMNS,
    HAND_MADE,
    MODEL,
    SHAPE,
    carbon_picture,
    plain,
    write_ground,
)
from helpers.networks import discs, model, scattered, working


def calibration() -> dict[str, Any]:
    curve = CalibrationCurve(np.array([-6.0, 0.0, 12.0]), np.array([-6.0, 0.0, 12.0]), 100.0)
    return Calibration(curve, (), 4, np.linspace(8, 11, 40), 4.0).as_dict()


@pytest.fixture
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a calibration be of fewer resampled micrographs, which takes less time."""
    monkeypatch.setattr("heliodor.evaluation.calibration.BOOTSTRAP_REPEATS", 2)


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that tells carbon, one that does not, and four micrographs."""
    monkeypatch.chdir(tmp_path)
    write_ground(tmp_path, 4)
    return tmp_path


def picked(out: str, *options: object, name: str = "model.safetensors") -> list[dict[str, str]]:
    """Pick by the command line, and return the rows of picks.tsv."""
    done("pick", "--model", name, "--micrographs", "m", "-o", out, "--device", "cpu", *options)
    return rows_in(Path(out, "picks.tsv"))


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def by_name(rows: Sequence[dict[str, str]]) -> dict[str, list[tuple[float, float, str]]]:
    found: dict[str, list[tuple[float, float, str]]] = {f"m/{n}.mrc": [] for n in range(4)}
    for row in rows:
        found[row["micrograph"]].append((float(row["x_px"]), float(row["y_px"]), row["log_odds"]))
    return found


@pytest.mark.parametrize("scores", ["smooth", "dense"])
def test_bad_areas_are_where_the_carbon_is(scores: Any) -> None:
    for number in range(4):
        image, _ = carbon_picture(number)
        seen = compute_score_maps(MODEL, working(image), image, scores=scores)
        assert seen.contamination is not None
        assert seen.contamination.pixel_size_angstrom == 16.0
        assert seen.contamination.mask.shape == (40, 50)
        expected = COLUMNS[number] / SHAPE[1]
        assert abs(seen.contamination.fraction - expected) <= 0.02
        # One score or the other, they are those of the same model without the second output.
        bare = model(plain(HAND_MADE), **CARD | {"contaminant": False})
        assert compute_score_maps(bare, working(image), image, scores=scores).contamination is None
        expected_score = score_normalized(bare, working(image), image, scores=scores)
        assert seen.score.tobytes() == expected_score.tobytes()


def test_what_is_far_too_dark_is_contamination_unless_particles_were_labeled() -> None:
    xy = scattered(SHAPE, 30, 16, 3)
    depth = np.full(30, 8.0)
    depth[4] = 80.0
    image = discs(SHAPE, xy, depth=depth)
    general = model(HAND_MADE, **CARD, extra={GENERAL_KEY: {}})
    labelled = model(HAND_MADE, **CARD, extra={GENERAL_KEY: {}}, calibration=calibration())
    assert general.without_labels
    assert not labelled.without_labels
    assert not MODEL.without_labels
    for own, dark in ((general, True), (labelled, False), (MODEL, False)):
        seen = compute_score_maps(own, working(image), image)
        assert seen.contamination is not None
        picks = find_candidates(
            own, working(image), seen.score, PickSettings(), seen.contamination
        )
        assert seen.contamination.contains(xy * 4.0).tolist() == [
            dark and number == 4 for number in range(30)
        ]
        near = np.linalg.norm(picks.xy_px - xy[4], axis=1) <= 2
        every = find_candidates(own, working(image), seen.score, PickSettings())
        lost = every.score.max() - (picks.score[near].max() if near.any() else -math.inf)
        assert lost > 6 if dark else lost == 0
        # All others score as they did.
        np.testing.assert_array_equal(
            np.sort(every.score)[:-1][-28:], np.sort(picks.score[~near])[-28:]
        )


def test_candidates_in_bad_areas_are_left_out_after_the_suppression() -> None:
    image, xy = carbon_picture(0)
    seen = compute_score_maps(MODEL, working(image), image)
    assert seen.contamination is not None
    everything = find_candidates(MODEL, working(image), seen.score, PickSettings())
    assert DISTANCE not in everything.extra
    kept = find_candidates(
        MODEL, working(image), seen.score, PickSettings(bad_areas="keep"), seen.contamination
    )
    np.testing.assert_array_equal(kept.xy_px, everything.xy_px)
    np.testing.assert_array_equal(kept.score, everything.score)
    distance = seen.contamination.distance_angstrom(kept.xy_px * 4.0)
    np.testing.assert_array_equal(kept.extra[DISTANCE], distance)
    # The carbon ends in the middle between two columns.
    expected = (kept.xy_px[:, 0] - 39.5) * 4.0
    assert np.abs(distance - expected).max() <= 24.0
    left = find_candidates(MODEL, working(image), seen.score, PickSettings(), seen.contamination)
    out = seen.contamination.contains(kept.xy_px * 4.0)
    assert 0 < out.sum() < len(kept)
    np.testing.assert_array_equal(left.xy_px, kept.xy_px[~out])
    np.testing.assert_array_equal(left.extra[DISTANCE], distance[~out])
    assert (left.extra[DISTANCE] >= 0).all()
    # Particles on ice are all there.
    far = xy[xy[:, 0] > 46]
    picks = left.xy_px[left.score > 4]
    nearest = np.linalg.norm(far[:, None] - picks[None], axis=2).min(axis=1)
    assert (nearest <= 2).all()


def test_pick_leaves_out_what_lies_on_carbon(ground: Path) -> None:
    left, kept = picked("left"), picked("kept", "--bad-areas", "keep")
    assert list(left[0])[-2:] == ["pixel_size_angstrom", "bad_area_distance_angstrom"]
    for row in kept:
        number = int(row["micrograph"][2])
        distance = float(row[DISTANCE])
        expected = (float(row["x_px"]) - COLUMNS[number] + 0.5) * 4.0
        # Dark particles on the edge of the carbon, which is bright, move it a little.
        assert distance == math.inf if number == 1 else abs(distance - expected) <= 40.0
    inside = [row for row in kept if float(row[DISTANCE]) < 0]
    chosen = [row for row in inside if row["selected"] == "1"]
    assert len(chosen) >= 5  # of particles on carbon, which are picks like others
    assert {name: sorted(own) for name, own in by_name(left).items()} == {
        name: sorted(own)
        for name, own in by_name([row for row in kept if row not in inside]).items()
    }
    # The column comes back, as text, as all do that this program does not interpret.
    table = read_picks("left/picks.tsv")
    assert [*map(float, table.extra[DISTANCE])] == [float(row[DISTANCE]) for row in left]
    # Micrographs are told apart in the table and in the record.
    for out in ("left", "kept"):
        shares = [float(row["bad_area"]) for row in rows_in(Path(out, "micrographs.tsv"))]
        record = json.loads(Path(out, "run.json").read_text())
        assert record["bad_areas"]["no_picks_on"] == []
        told = [*record["bad_areas"]["fraction"].values()]
        for number, (share, own) in enumerate(zip(shares, told, strict=True)):
            assert share == round(own, 3)
            assert abs(share - COLUMNS[number] / SHAPE[1]) <= 0.02
    assert not Path("left/bad_areas").exists()
    counts = [int(row["picks"]) for row in rows_in(Path("left/micrographs.tsv"))]
    of_files = json.loads(Path("left/run.json").read_text())["picks_per_micrograph"]
    assert [*of_files.values()] == counts


def test_a_micrograph_of_mostly_bad_area_has_no_picks(ground: Path) -> None:
    usual = by_name(picked("usual"))
    strict = by_name(picked("strict", "--max-contamination", "0.5"))
    assert usual["m/2.mrc"]
    assert strict == usual | {"m/2.mrc": []}
    rows = rows_in(Path("strict/micrographs.tsv"))
    assert [row["outlier"] for row in rows] == [
        "", "", f"no picks: {float(rows[2]['bad_area']):.0%} of it is contamination", ""
    ]  # fmt: skip
    assert rows[2]["picks"] == rows[2]["candidates"] == "0"
    record = json.loads(Path("strict/run.json").read_text())
    assert record["bad_areas"]["no_picks_on"] == ["m/2.mrc"]
    assert record["outliers"] == [{"micrograph": "m/2.mrc", "flags": [rows[2]["outlier"]]}]
    assert "m/2.mrc" not in Path("strict/autopick.star").read_text()
    assert "m/1.mrc" in Path("strict/autopick.star").read_text()
    clean = by_name(picked("clean", "--max-contamination", "0", "--bad-areas", "keep"))
    assert [name for name, own in clean.items() if own] == ["m/1.mrc"]
    # And where nothing is left of any, that is no error.
    Path("m/1.mrc").unlink()
    assert picked("none", "--max-contamination", "0") == []
    assert json.loads(Path("none/run.json").read_text())["picks"] == 0


def test_masks_are_written_and_go_again(ground: Path) -> None:
    (ground / "m" / "deep").mkdir()
    (ground / "m" / "3.mrc").rename(ground / "m" / "deep" / "3.mrc")
    names = ["m/0.mrc", "m/1.mrc", "m/2.mrc", "m/deep/3.mrc"]
    lines = ["data_micrographs", "", "loop_", "_rlnMicrographName #1", *names]
    Path("mics.star").write_text("\n".join(lines) + "\n")
    arguments = ["pick", "--model", "model.safetensors", "--micrographs", "mics.star"]
    arguments += ["-o", "out", "--device", "cpu"]
    done(*arguments)
    before = Path("out/picks.tsv").read_bytes()
    again = done(*arguments, "--bad-area-masks")  # nothing is picked on again for them
    assert "already picked: 4 of" in again.err
    assert Path("out/picks.tsv").read_bytes() == before
    files = sorted(path.relative_to("out") for path in Path("out/bad_areas").rglob("*.png"))
    stars = sorted(path.relative_to("out") for path in Path("out").rglob("*_autopick.star"))
    assert [str(file.relative_to("bad_areas")) for file in files] == [
        str(file).replace("_autopick.star", ".png") for file in stars
    ]
    assert len({file.parent for file in files}) == 2
    for file in files:
        picture = Pillow.open(Path("out", file))
        assert picture.mode == "L"
        number = int(file.stem)
        image, _ = carbon_picture(number)
        areas = compute_score_maps(MODEL, working(image), image).contamination
        assert areas is not None
        np.testing.assert_array_equal(np.asarray(picture), np.where(areas.mask, 255, 0))
    done(*arguments)
    assert not list(Path("out/bad_areas").rglob("*.png"))


def results(out: str) -> dict[str, bytes]:
    """All that a picking leaves but its journal, and of its record what is no time."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(Path(out).rglob("*"))
        if path.is_file() and path.name != ".picking.jsonl"
    }
    record = json.loads(found.pop("run.json"))
    for key in ("seconds", "started", "command_line", "threads", "arguments"):
        del record[key]
    return found | {"record": json.dumps(record).replace(out, "OUT").encode()} | {
        name: content.replace(out.encode(), b"OUT")
        for name, content in found.items()
        if name.endswith(".star")
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "options", [[], ["--bad-areas", "keep"], ["--max-contamination", "0.5", "--bad-area-masks"]]
)
def test_resumed_or_on_more_threads_all_is_the_same(
    options: list[str], known: bool, ground: Path, few_repeats: None
) -> None:
    if known:
        own = model(HAND_MADE, **CARD, calibration=calibration())
        save_model(Path("model.safetensors"), own)
    options = [*options, "--threshold-series", "3"]
    picked("whole", *options, "--threads", "1")
    picked("wide", *options, "--threads", "3")
    assert results("wide") == results("whole")
    # Cut short after two micrographs, and in the middle of the line of the third.
    picked("short", *options, "--threads", "1")
    lines = Path("short/.picking.jsonl").read_bytes().splitlines(keepends=True)
    places = [n for n, line in enumerate(lines) if line.startswith(b'{"micrograph"')]
    cut = b"".join(lines[: places[2]]) + lines[places[2]][:200]
    for path in Path("short").rglob("*"):
        if path.is_file() and path.name != ".picking.jsonl":
            path.unlink()
    Path("short/.picking.jsonl").write_bytes(cut)
    said = done("pick", "--model", "model.safetensors", "--micrographs", "m", "-o", "short",
                "--device", "cpu", *options)  # fmt: skip
    assert "already picked: 2 of" in said.err
    assert results("short") == results("whole")


def test_other_settings_are_another_picking(ground: Path) -> None:
    picked("out")
    for options in (["--bad-areas", "keep"], ["--max-contamination", "0.5"], []):
        said = done("pick", "--model", "model.safetensors", "--micrographs", "m", "-o", "out",
                    "--device", "cpu", *options)  # fmt: skip
        assert "done already" not in said.err
        fresh = f"fresh{len(options)}{''.join(options)}"
        picked(fresh, *options)
        assert Path("out/picks.tsv").read_bytes() == Path(fresh, "picks.tsv").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--bad-areas", "keep"],
        ["--max-contamination", "0.5"],
        ["--bad-area-masks"],
    ],
)
def test_options_that_mean_nothing_are_refused(options: list[str], ground: Path) -> None:
    common = ["--micrographs", "m", "-o", "out", "--device", "cpu", *options]
    sentence = call("pick", "--model", "old.safetensors", *common).sentence
    assert sentence.startswith(options[0].removeprefix("--").replace("-", "_"))
    assert options[0] in sentence
    assert "with a contaminant output" in sentence
    assert not Path("out/picks.tsv").exists()
    Path("labels.tsv").write_text("image_name\tx_coord\ty_coord\n0\t50\t50\n")
    scratch = ("--diameter", "40", "--from", "scratch")
    refused = call("run", "--labels", "labels.tsv", *scratch, *common)
    assert refused.code == 2
    assert "with a contaminant output" in refused.sentence
    assert not Path("out/model.safetensors").exists()
    if options != ["--bad-area-masks"]:  # a flag, which RELION cannot give
        refused = call("relion", "pick", "--o", "job", "--in_mics", "m",
                       "--model", "old.safetensors", *options, "--j", "1")  # fmt: skip
        assert refused.code == 2
        assert "with a contaminant output" in refused.err


def test_a_default_may_be_given_for_any_model(ground: Path) -> None:
    common = ("--bad-areas", "leave-out")
    given = picked("given", *common, name="old.safetensors")
    assert given == picked("plain", name="old.safetensors")
    done("relion", "pick", "--o", "job", "--in_mics", "m", "--model", "old.safetensors",
         "--bad_areas", "leave-out", "--j", "1", "--device", "cpu")  # fmt: skip
    assert rows_in(Path("job/picks.tsv")) == given


def test_values_that_cannot_be_are_refused(ground: Path) -> None:
    for options, message in (
        (["--bad-areas", "maybe"], "bad_areas must be one of leave-out, keep, not 'maybe'"),
        (["--max-contamination", "1.5"], "must be from 0 to 1, not 1.5"),
        (["--max-contamination", "-0.1"], "must be from 0 to 1, not -0.1"),
    ):
        said = call("pick", "--model", "model.safetensors", "--micrographs", "m", "-o", "out",
                    *options)  # fmt: skip
        assert (said.code, message in said.sentence) == (2, True)
    with pytest.raises(BadInput, match="from 0 to 1, not nan"):
        PickSettings(max_contamination=math.nan)


def test_relion_picks_likewise(ground: Path) -> None:
    expected = picked("out", "--max-contamination", "0.5")
    done("relion", "pick", "--o", "job", "--in_mics", "m", "--model", "model.safetensors",
         "--max_contamination", "0.5", "--j", "1", "--device", "cpu")  # fmt: skip
    assert rows_in(Path("job/picks.tsv")) == expected


def test_the_drop_in_leaves_them_out(ground: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picked("out", "--exclusion-radius", "20")
    topaz(["extract", "-m", "model.safetensors", "-r", "5", "-t", "0", "-o", "found.txt",
           "-d", "-1", "m/0.mrc", "m/1.mrc"])  # fmt: skip
    found = read_picks("found.txt")
    for name, own in found.split_by_micrograph():
        rows = by_name(rows_in(Path("out/picks.tsv")))[f"m/{name}.mrc"]
        expected = sorted((round(x), round(y)) for x, y, score in rows if float(score) > 0)
        assert sorted(map(tuple, own.xy_px.tolist())) == expected
        assert min(x for x, _ in expected) > 36 or name == "1"


def test_what_is_left_out_is_not_counted(ground: Path) -> None:
    own = replace(MODEL, card=replace(MODEL.card, calibration=calibration()))
    save_model(Path("model.safetensors"), own)
    search_all = {}
    sources = find_sources("m")
    search = DecoySearch(frozenset(s.name for s in sources))
    for wanted in (
        PickSettings(), PickSettings(bad_areas="keep"), PickSettings(max_contamination=0.5)
    ):  # fmt: skip
        images = WorkingImages(4.0, None, 40.0)
        search_all[wanted] = pick_micrographs(own, sources, images, wanted, search=search)
    left, kept, strict = search_all.values()
    for result in (left, kept, strict):
        assert result.sheet.candidates.total == len(result.candidates)
    areas = [sum(g.area for g in result.sheet.groups) for result in (left, kept, strict)]
    whole = SHAPE[0] * SHAPE[1] * 16.0
    fractions = [kept.store.get(s.name).contamination.fraction for s in sources]  # type: ignore[union-attr]
    np.testing.assert_allclose(areas[0], whole * sum(1 - f for f in fractions))
    assert areas[1] == 4 * whole
    np.testing.assert_allclose(areas[2], whole * sum(1 - f for f in fractions if f <= 0.5))
    assert (left.sheet.micrographs, strict.sheet.micrographs) == (4, 3)
    # Decoys likewise: on bright carbon with its contrast reversed there are many.
    decoys = [sum(g.decoys.total for g in result.sheet.groups) for result in (left, kept, strict)]
    assert decoys[1] > decoys[0] >= decoys[2]
    for wanted, result in search_all.items():
        for source in sources:
            found = result.store.get(source.name)
            assert found.refused == (
                wanted.max_contamination is not None and source.name == "m/2.mrc"
            )
            assert found.contamination is not None
            assert found.measured.contaminated_fraction == found.contamination.fraction
            if wanted.bad_areas == "leave-out":
                assert not found.contamination.contains(found.candidates.xy_px * 4.0).any()


def test_what_is_expected_is_of_what_is_picked(ground: Path, few_repeats: None) -> None:
    own = model(HAND_MADE, **CARD, calibration=calibration())
    save_model(Path("model.safetensors"), own)
    for out, options in (
        ("a", []),
        ("b", ["--bad-areas", "keep"]),
        ("c", ["--max-contamination", "0.5"]),
    ):
        rows = picked(out, *options)
        record = json.loads(Path(out, "run.json").read_text())
        chosen = [row for row in rows if row["selected"] == "1"]
        assert record["expected"]["picks"] == record["picks"] == len(chosen)
        mean = np.mean([float(row["probability"]) for row in chosen])
        assert abs(record["expected"]["precision"]["value"] - mean) <= 2e-3


def outside_carbon(image: Image, xy: FloatArray) -> FloatArray:
    areas = compute_score_maps(MODEL, working(image), image).contamination
    assert areas is not None
    return xy[~areas.contains(xy * areas.pixel_size_angstrom / HAND_MADE.stride)]


def test_labels_on_carbon_end_that_it_is_told(few_repeats: None) -> None:
    pictures = [carbon_picture(number) for number in range(3)]
    distances = PickSettings().distances_px(40.0, 4.0)
    told = []
    for keep in (True, False):
        labelled = [
            LabeledImage(image, xy if keep else outside_carbon(image, xy))
            for image, xy in pictures
        ]
        probe = CalibrationSet(labelled, [], distances, 10.0, 2.0, torch.device("cpu"))
        told.append(probe.measure_scale(HAND_MADE, 0))
    assert told[0].labels_in_contamination > 0.01
    assert told[1].labels_in_contamination == 0
    # Nothing is left out where it is not believed.
    assert told[0].scores.total > told[1].scores.total
    assert told[1].correct_contaminants(HAND_MADE) is None
    network = copy.deepcopy(HAND_MADE)
    sentence = told[0].correct_contaminants(network)
    assert sentence is not None
    assert "does not detect contamination" in sentence
    assert network.contaminant is None


def test_labels_in_contamination_raise_the_evidence_that_it_needs(few_repeats: None) -> None:
    # Labels on weak contamination, and stronger contamination elsewhere that stays.
    network = copy.deepcopy(HAND_MADE)
    assert network.contaminant is not None
    assert network.contaminant.bias is not None
    with torch.no_grad():
        network.contaminant.weight /= 10.0
        network.contaminant.bias /= 10.0
    image, xy = carbon_picture(0)
    weak, labels = image.copy(), xy
    weak[:, :40] -= CARBON * 0.2
    strong = image.copy()
    strong[:, :40] += CARBON
    distances = PickSettings().distances_px(40.0, 4.0)
    probe = CalibrationSet(
        [LabeledImage(weak, labels), LabeledImage(strong, xy[xy[:, 0] > 50])], [], distances,
        10.0, 2.0, torch.device("cpu"),
    )  # fmt: skip
    told = probe.measure_scale(network, 0)
    assert told.labels_in_contamination > 0.01
    assert 0 < told.contaminant_excess < math.inf
    sentence = told.correct_contaminants(network)
    assert sentence is not None
    assert "needs stronger evidence" in sentence
    again = probe.measure_scale(network, 0)
    assert again.labels_in_contamination <= 0.01
    assert again.contaminant_excess == 0.0
    assert again.scores.total == told.scores.total  # the calibration was that of the new network
    own = model(network, **CARD)
    areas = compute_score_maps(own, working(strong), strong).contamination
    assert areas is not None
    assert areas.fraction > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("most", [None, 0.5, 0.0])
def test_the_probe_counts_what_is_picked(most: float | None, few_repeats: None) -> None:
    pictures = [carbon_picture(number) for number in range(4)]
    # Nobody labels what lies on carbon; where labels do, it would not be believed to be carbon.
    labelled = [LabeledImage(image, outside_carbon(image, xy)) for image, xy in pictures]
    wanted = PickSettings(max_contamination=most)
    found = {}
    for how in (wanted, replace(wanted, bad_areas="keep")):
        distances = how.distances_px(40.0, 4.0)
        probe = CalibrationSet(labelled[:3], [labelled[3].image], distances, 10.0, 2.0,
                      torch.device("cpu"), how)  # fmt: skip
        found[how.bad_areas] = (
            probe.measure_scale(HAND_MADE, 0),
            probe.find_threshold(HAND_MADE, 30.0),
        )
        # What a model of this level finds there.
        level = found[how.bad_areas][0]
        own = replace(MODEL, card=replace(MODEL.card, background=level.background))
        totals = 0
        for image, _ in pictures:
            seen = compute_score_maps(own, working(image), image)
            totals += len(
                find_candidates(own, working(image), seen.score, how, seen.contamination)
            )
        assert level.scores.total == totals
    left, kept = found["leave-out"], found["keep"]
    if most == 0.0:
        assert left[0].scores.total == kept[0].scores.total
    else:
        assert left[0].scores.total < kept[0].scores.total
    # To find as many without the carbon, the threshold must be lower.
    assert left[1] < kept[1]


def test_a_network_that_tells_none_is_calibrated_as_ever(few_repeats: None) -> None:
    pictures = [carbon_picture(number) for number in range(4)]
    labelled = [LabeledImage(image, xy) for image, xy in pictures]
    distances = PickSettings().distances_px(40.0, 4.0)
    probe = CalibrationSet(labelled, [], distances, 10.0, 2.0, torch.device("cpu"))
    keeping = replace(probe, picking=PickSettings(bad_areas="keep"))
    bare, kept = probe.measure_scale(plain(HAND_MADE), 0), keeping.measure_scale(HAND_MADE, 0)
    assert bare.calibration is not None
    assert kept.calibration is not None
    assert bare.calibration.as_dict() == kept.calibration.as_dict()
    assert probe.find_threshold(plain(HAND_MADE), 30.0) == keeping.find_threshold(HAND_MADE, 30.0)
