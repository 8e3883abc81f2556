"""``heliodor pick`` from end to end."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from heliodor.cli.main import _gather_values
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.evaluation.matching import match_picks
from heliodor.models.model_file import Model, load_model, save_model
from heliodor.picking.candidates import find_candidates
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.picking.score_maps import score_micrograph
from heliodor.picking.settings import PickSettings
from helpers.cli import call, done
from helpers.shell_jobs import (
    DIAMETER,
    HEIGHT,
    MODEL,
    PIXEL,
    WIDTH,
    WORKING,
    chosen,
    files_in,
    first,
    image_of,
    numbers,
    rows,
    true_xy,
    xy_of,
)


@pytest.mark.slow
def test_those_that_fail_change_nothing_for_the_others(
    unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where decoys were to be looked for on them."""
    monkeypatch.setattr("heliodor.picking.decoy_sample.DECOY_MICROGRAPHS", 2)
    mics = tmp_path / "mics"
    mics.mkdir()
    for number in (1, 2, 3):
        shutil.copy(first(unseen, number), mics)
    pick = ("pick", "--diameter", DIAMETER, "--micrographs", mics, "-o")
    done(*pick, tmp_path / "clean")
    good = {p.name for p in mics.iterdir()}
    known = [source.name for source in find_sources(str(mics))]
    names = (f"broken_{n}.mrc" for n in range(1000))
    beside = known[0].removesuffix(Path(known[0]).name)
    broken = next(n for n in names if beside + n in choose_decoy_micrographs([beside + n, *known]))
    (mics / broken).write_bytes(b"nothing")
    assert call(*pick, tmp_path / "all").code == 3
    for name in ("picks.tsv", "micrographs.tsv"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()
    for name in good:
        star = f"{Path(name).stem}_autopick.star"
        assert (tmp_path / "all" / star).read_bytes() == (tmp_path / "clean" / star).read_bytes()
    assert len((tmp_path / "all" / "failed.tsv").read_text().splitlines()) == 2


def test_a_micrograph_has_the_same_picks_alone_and_among_others(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    own = first(unseen, 1)
    done("pick", "--model", outcome / MODEL, own, "-o", tmp_path / "alone")
    done("pick", "--model", outcome / MODEL, f"{unseen}/**/*.mrc", "-o", tmp_path / "all")
    star = f"{own.stem}_autopick.star"
    alone, among = (read_picks([next((tmp_path / name).rglob(star))]) for name in ("alone", "all"))
    np.testing.assert_array_equal(alone.xy_px, among.xy_px)
    np.testing.assert_array_equal(alone.score, among.score)
    assert len(alone)


def test_no_output_has_picks_whose_boxes_an_edge_cuts_off(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    own, box = first(unseen, 1), 2 * (WIDTH // 4)
    shape = (HEIGHT, WIDTH)
    corner = tmp_path / "labels.csv"
    middle = f"{own.stem},{WIDTH // 2},{HEIGHT // 2}"
    corner.write_text(f"micrograph,x,y\n{own.stem},3,3\n{middle}\n")
    pick = ("pick", "--model", outcome / MODEL, own, "--threshold", -3, "--threshold-series", 2,
            "--labels", corner, "-o")  # fmt: skip
    done(*pick, tmp_path / "all")
    said = done(*pick, tmp_path / "whole", "--box-px", box).err
    assert f"a box of {box} pixels are left out" in said
    assert "1 labeled particle left out" in said
    files = [Path("picks.tsv"), Path("autopick.star"), Path("series/2/autopick.star")]
    for name in files:
        every, whole = (read_picks(tmp_path / run / name) for run in ("all", "whole"))
        kept = mask_whole_boxes(every.xy_px, shape, box)
        assert 0 < kept.sum() < len(kept)
        assert {*map(tuple, whole.xy_px)} == {*map(tuple, every.xy_px[kept])}
    record = json.loads((tmp_path / "whole/run.json").read_text())
    assert record["arguments"]["box_px"] == box
    # What was found with another box is not used.
    again = done(*pick, tmp_path / "whole").err
    assert "already picked" not in again
    tables = [(tmp_path / run / "picks.tsv").read_bytes() for run in ("all", "whole")]
    assert tables[0] == tables[1]
    assert "not plausible" in call(*pick, tmp_path / "no", "--box-px", 0).sentence


def test_a_line_a_micrograph(outcome: Path, unseen: Path) -> None:
    table = rows(outcome / "micrographs.tsv")
    assert [Path(row["micrograph"]).name for row in table] == [
        first(unseen, number).name for number in (1, 2, 3)
    ]
    picked = json.loads((outcome / "run.json").read_text())["picks_per_micrograph"]
    for row in table:
        own = [r for r in rows(outcome / "picks.tsv") if r["micrograph"] == row["micrograph"]]
        scores = [float(r["log_odds"]) for r in own if r["selected"] == "1"]
        assert int(row["picks"]) == len(scores) == picked[row["micrograph"]]
        assert int(row["candidates"]) == len(own)
        there = sum(float(r["probability"]) for r in own)
        assert float(row["expected_particles"]) == pytest.approx(there, abs=0.06 + len(own) * 1e-4)
        assert float(row["score_median"]) == pytest.approx(np.median(scores), abs=0.002)
        assert float(row["unlike_training"]) < 0.1
        assert abs(float(row["levelled_by"])) < 1
        assert row["outlier"] == ""


def test_misfits_are_named_whatever_the_number_of_threads(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    """Among ordinary micrographs: one of half a detector, and one that moved."""
    mics = tmp_path / "mics"
    mics.mkdir()
    image = image_of(first(unseen))
    for number in range(9):
        # Mirrored they are other micrographs of the same kind.
        own = np.flip(image_of(first(unseen, 1 + number % 3)), [(), (0,), (1,)][number // 3])
        write_mrc(mics / f"m{number}.mrc", own.copy(), PIXEL)
    random = np.random.default_rng(0)
    half = image.copy()
    half[:, : WIDTH // 2] = image.mean() + 0.05 * image.std() * random.normal(
        size=(HEIGHT, WIDTH // 2)
    )
    write_mrc(mics / "m_half.mrc", half.astype(np.float32), PIXEL)
    write_mrc(mics / "m_moved.mrc", gaussian_filter1d(image, 4, axis=0), PIXEL)
    made = []
    for threads in (1, 3):
        out = tmp_path / f"out{threads}"
        job = ("pick", "--model", outcome / MODEL, "--micrographs", mics, "-o", out)
        said = done(*job, "--threads", threads).err
        assert "2 of 11 micrographs are outliers; see micrographs.tsv" in said
        made.append((out / "micrographs.tsv").read_bytes())
    assert made[0] == made[1]
    listed = json.loads((out / "run.json").read_text())["outliers"]
    flags = {Path(one["micrograph"]).stem: "; ".join(one["flags"]) for one in listed}
    assert flags.keys() == {"m_half", "m_moved"}
    assert all("of it looks unlike the training micrographs" in why for why in flags.values())
    outlier = {Path(r["micrograph"]).stem: r["outlier"] for r in rows(out / "micrographs.tsv")}
    assert {name: why for name, why in outlier.items() if why} == flags


def test_a_model_that_does_not_say_what_it_learnt_from(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    loaded = load_model(outcome / MODEL)
    bare = Model(loaded.network, replace(loaded.card, extra={}, background=None))
    save_model(tmp_path / MODEL, bare)
    job = ("pick", "--model", tmp_path / MODEL, "--micrographs", first(unseen))
    done(*job, "-o", tmp_path / "out")
    (row,) = rows(tmp_path / "out" / "micrographs.tsv")
    assert (row["unlike_training"], row["levelled_by"]) == ("", "")
    assert int(row["picks"]) > 0


def test_picks_lie_in_the_pixels_of_the_original_file(outcome: Path, unseen: Path) -> None:
    offsets = []
    for number in (1, 2, 3):
        path = first(unseen, number)
        assert image_of(path).shape == (HEIGHT, WIDTH)
        xy, truth = xy_of(chosen(rows(outcome / "picks.tsv"), path.name)), true_xy(unseen, number)
        found = match_picks(xy, truth, 40 / PIXEL)
        assert found.is_true_positive.sum() >= 9
        hits = found.is_true_positive
        offsets.append(xy[hits] - truth[found.truth_index[hits]])
    apart = np.concatenate(offsets)
    # Within a working pixel, and without a shift by half of one to either side.
    assert np.median(np.hypot(*apart.T)) < WORKING / PIXEL
    assert np.abs(apart.mean(axis=0)).max() < 0.45


def threshold_of(folder: Path) -> float:
    """Return the threshold that a run chose."""
    return float(json.loads((folder / "run.json").read_text())["threshold"])


def test_picks_tsv_agrees_with_the_star_files(outcome: Path) -> None:
    table = rows(outcome / "picks.tsv")
    assert [*table[0]] == [
        "micrograph",
        "x_px",
        "y_px",
        "log_odds",
        "probability",
        "selected",
        "pixel_size_angstrom",
    ]
    threshold = json.loads((outcome / "run.json").read_text())["threshold"]
    score = np.array([float(r["log_odds"]) for r in table])
    assert [r["selected"] == "1" for r in table] == (score >= threshold - 1e-6).tolist()
    chance = np.array([float(r["probability"]) for r in table])
    assert ((chance > 0) & (chance < 1)).all()
    assert (np.diff(chance[np.argsort(score)]) >= -1e-6).all()
    assert {r["pixel_size_angstrom"] for r in table} == {"6"}
    listed = starfile.read(outcome / "autopick.star", parse_as_string=[])
    assert len(listed) == 3
    for name, file in listed.itertuples(index=False):
        star = starfile.read(file)
        own = chosen(table, Path(name).name)
        assert np.allclose(star[["rlnCoordinateX", "rlnCoordinateY"]], xy_of(own), 0, 1e-3)
        figure_of_merit = [float(r["log_odds"]) for r in own]
        assert np.allclose(star["rlnAutopickFigureOfMerit"], figure_of_merit, 0, 1e-6)
        assert star["rlnAutopickFigureOfMerit"].is_monotonic_decreasing
        own_chance = [float(r["probability"]) for r in own]
        assert np.allclose(star["rlnParticleFigureOfMerit"], own_chance, 0, 1e-6)
    ours = read_picks(outcome / "autopick.star")
    selected = read_picks(outcome / "picks.tsv")
    assert ours.micrographs == selected.micrographs
    assert np.allclose(ours.xy_px, selected.xy_px, 0, 1e-3)


def test_autopick_star_names_files_as_seen_from_the_current_folder(
    model: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Movies").mkdir()
    shutil.copy(first(unseen), "Movies/my mic.mrc")
    done("pick", "--model", model, "--micrographs", "Movies", "-o", "AutoPick/job005")
    listed = starfile.read("AutoPick/job005/autopick.star")
    assert listed.iloc[0].tolist() == [
        "Movies/my mic.mrc",
        "AutoPick/job005/my mic_autopick.star",
    ]
    read = read_picks("AutoPick/job005/autopick.star")
    assert read.micrographs == ("Movies/my mic.mrc",)
    assert len(read) == len(starfile.read(listed.iloc[0, 1]))


def test_autopick_star_of_another_project_is_valid_there(
    model: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of the micrographs begin in that project, so its coordinate files cannot."""
    project, elsewhere = tmp_path / "project", tmp_path / "else"
    for folder in (project / "Movies", project / "CtfFind/job003", elsewhere):
        folder.mkdir(parents=True)
    shutil.copy(first(unseen), project / "Movies/mic.mrc")
    (project / "CtfFind/job003/m.star").write_text(
        "data_\n\nloop_\n_rlnMicrographName #1\nMovies/mic.mrc\n"
    )
    monkeypatch.chdir(elsewhere)
    star = "../project/CtfFind/job003/m.star"
    done("pick", "--model", model, "--micrographs", star, "-o", "p", "--threshold-series", 2)
    done("convert", "p/picks.tsv", "-o", "q", "--to", "autopick", "--micrographs", star)
    monkeypatch.chdir(project)
    for where in ("p", "q", "p/series/1"):
        listed = starfile.read(elsewhere / where / "autopick.star")
        name, file = listed.iloc[0].tolist()
        assert name == "Movies/mic.mrc"
        assert Path(file) == elsewhere / where / "Movies/mic_autopick.star"
        assert len(starfile.read(file))
    suffix = elsewhere / "p/series/1/coords_suffix_autopick.star"
    assert Path(suffix.read_text().strip()).resolve() == project / "CtfFind/job003/m.star"
    listed = read_picks(elsewhere / "p/series/1")
    assert read_picks(suffix).xy_px.tolist() == listed.xy_px.tolist()


def test_threshold_is_inclusive(model: Path, unseen: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    card = loaded.card
    images = WorkingImages(card.working_pixel_size_angstrom, None, card.diameter_angstrom)
    image = images.get(find_sources(first(unseen))[0])
    own = find_candidates(loaded, image, score_micrograph(loaded, image), PickSettings())
    score = float(own.score[6])

    def picked(threshold: float) -> list[str]:
        options = ("--micrographs", first(unseen), "--threshold", repr(threshold))
        done("pick", "--model", model, *options, "-o", tmp_path)
        table = rows(tmp_path / "picks.tsv")
        star = starfile.read(tmp_path / "shell_0001_autopick.star")
        assert len(star) == sum(row["selected"] == "1" for row in table)
        record = json.loads((tmp_path / "run.json").read_text())
        assert (record["threshold"], record["picks"]) == (threshold, len(star))
        return [row["selected"] for row in table]

    assert picked(score)[:8] == ["1"] * 7 + ["0"]
    assert picked(float(np.nextafter(score, np.inf)))[:8] == ["1"] * 6 + ["0"] * 2
    # Candidates are listed down to -6, and further where the threshold is lower.
    assert -6.0 <= min(float(r["log_odds"]) for r in rows(tmp_path / "picks.tsv"))
    assert set(picked(-9.0)) == {"1"}
    assert min(float(r["log_odds"]) for r in rows(tmp_path / "picks.tsv")) < -6.0


def test_a_threshold_that_nothing_reaches_leaves_empty_files_that_can_be_read(
    model: Path, unseen: Path, tmp_path: Path
) -> None:
    where = ("--micrographs", first(unseen), first(unseen, 2), "-o", tmp_path)
    result = done("pick", "--model", model, *where, "--threshold", 40)
    assert "0 picks on 2 micrographs" in result.err
    assert len(read_picks(tmp_path / "autopick.star")) == 0
    assert len(read_picks(tmp_path / "shell_0001_autopick.star")) == 0
    assert len(read_picks(tmp_path / "picks.tsv")) == 0
    assert len(read_picks(tmp_path / "picks.tsv", candidates=True)) > 0
    judged = ("--picks", tmp_path / "picks.tsv", "--truth", unseen / "truth.star")
    figures = json.loads(done("evaluate", *judged, "--match-distance", 48, "--json").out)
    assert figures["n_picks"] == 0
    assert figures["micro"]["recall"] == 0
    assert figures["micro"]["average_precision"] > 0.5


def test_exclusion_radius_and_edge_margin(model: Path, unseen: Path, tmp_path: Path) -> None:
    def positions(*options: object) -> NDArray[np.float64]:
        done("pick", "--model", model, "--micrographs", first(unseen), *options, "-o", tmp_path)
        return xy_of(rows(tmp_path / "picks.tsv")) * PIXEL

    def nearest(xy: NDArray[np.float64]) -> float:
        apart = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
        return float(apart[apart > 0].min())

    usual, wide = positions(), positions("--exclusion-radius", 200)
    assert DIAMETER / 2 < nearest(usual) < DIAMETER / 2 + 2 * WORKING
    assert 200 < nearest(wide) < 200 + 2 * WORKING
    assert len(wide) < len(usual)
    size = np.array([WIDTH, HEIGHT]) * PIXEL
    assert np.minimum(usual, size - usual).min() < 20
    inner = positions("--edge-margin", 100)
    assert 100 <= np.minimum(inner, size - inner).min() < 100 + 3 * WORKING


def test_compressed_and_tiff_micrographs_give_the_same_picks(
    model: Path, outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    packed, tiff = tmp_path / "shell_0001.mrc.gz", tmp_path / "shell_0001.tif"
    packed.write_bytes(gzip.compress(first(unseen).read_bytes(), 1))
    tifffile.imwrite(tiff, image_of(first(unseen)))
    both = ("--micrographs", packed, tiff, "--pixel-size", PIXEL)
    # Two micrographs are too few for a threshold and probabilities of their own, three are not:
    # the threshold is given, and the probabilities are those of one alone.
    threshold = threshold_of(outcome)
    done("pick", "--model", model, *both, "--threshold", threshold, "-o", tmp_path / "out")
    alone = ("--micrographs", first(unseen), "--threshold", threshold)
    done("pick", "--model", model, *alone, "-o", tmp_path / "alone")
    expected = numbers(tmp_path / "alone/picks.tsv")
    assert numbers(tmp_path / "out/picks.tsv") == expected * 2
    of_all = [
        list(r.values())[1:]
        for r in rows(outcome / "picks.tsv")
        if r["micrograph"].endswith("shell_0001.mrc")
    ]
    but_probability = [[*row[:3], *row[4:]] for row in expected]
    assert but_probability == [[*row[:3], *row[4:]] for row in of_all]
    stars = {f for f in files_in(tmp_path / "out") if f.endswith("_autopick.star")}
    assert len(stars) == 2


def test_every_way_to_name_micrographs(
    model: Path, outcome: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(unseen)
    names = [f"micrographs/shell_000{n}.mrc" for n in (1, 2, 3)]
    (tmp_path / "list.txt").write_text("# mine\n" + "\n".join(names) + "\n\n")
    ways: list[list[object]] = [
        ["micrographs.star"],
        ["micrographs"],
        ["micrographs/shell_*.mrc"],
        names,
        [f"@{tmp_path / 'list.txt'}"],
        [names[0], "--micrographs", "micrographs/shell_000[23].mrc"],
    ]
    # In one folder, where what was picked on a micrograph of this name and content is taken over;
    # the STAR file tells the pixel size too, so that the second way is another job.
    out = tmp_path / "out"
    for number, way in enumerate(ways):
        said = done("pick", "--micrographs", *way, "--model", model, "-o", out).err
        assert ("already picked: 3 of" in said) == (number > 1)
        assert [r["micrograph"] for r in rows(out / "picks.tsv")] == [
            r["micrograph"] for r in rows(outcome / "picks.tsv")
        ]
        assert numbers(out / "picks.tsv") == numbers(outcome / "picks.tsv")
        inputs = json.loads((out / "run.json").read_text())["inputs"]
        assert [Path(p).resolve() for p in inputs["picking"]] == [
            first(unseen, n).resolve() for n in (1, 2, 3)
        ]


def test_options_with_many_values() -> None:
    typed = "run --micrographs a.mrc b.mrc -o out --pick c.mrc d.mrc --seed 3 --threshold -2"
    assert " ".join(_gather_values(typed.split())) == (
        "run --micrographs a.mrc --micrographs b.mrc -o out --pick c.mrc --pick d.mrc --seed 3"
        " --threshold -2"
    )


def test_micrographs_of_one_name_in_two_folders_are_never_mixed(
    model: Path, outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    for folder, number in (("A", 1), ("B", 2)):
        (tmp_path / folder).mkdir()
        shutil.copy(first(unseen, number), tmp_path / folder / "x.mrc")
    out = tmp_path / "out"
    both = ("--micrographs", tmp_path / "A", tmp_path / "B", "--threshold", threshold_of(outcome))
    done("pick", "--model", model, *both, "-o", out)
    listed = starfile.read(out / "autopick.star")
    assert listed["rlnMicrographName"].tolist() == [str(tmp_path / f / "x.mrc") for f in "AB"]
    assert listed["rlnMicrographCoordinates"].nunique() == 2
    table = rows(out / "picks.tsv")
    for (name, file), number in zip(listed.itertuples(index=False), (1, 2), strict=True):
        expected = chosen(rows(outcome / "picks.tsv"), f"shell_000{number}.mrc")
        star = starfile.read(file)
        assert np.allclose(star[["rlnCoordinateX", "rlnCoordinateY"]], xy_of(expected), 0, 1e-3)
        own = [r for r in table if r["micrograph"] == name and r["selected"] == "1"]
        assert np.array_equal(xy_of(own), xy_of(expected))


def test_a_bad_micrograph_spoils_no_other(
    model: Path, outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    movie, empty = tmp_path / "movie.mrc", tmp_path / "empty.mrc"
    with mrcfile.new(movie) as mrc:
        mrc.set_data(np.zeros((5, 64, 64), np.float32))
    empty.touch()
    good = [first(unseen, n) for n in (1, 2, 3)]
    out = tmp_path / "out"
    mixed = (good[0], movie, good[1], empty, good[2])
    result = call("pick", "--model", model, "--micrographs", *mixed, "-o", out)
    assert result.code == 3
    assert "2 micrographs failed; see failed.tsv" in result.err
    failed = {row["micrograph"]: row["reason"] for row in rows(out / "failed.tsv")}
    assert set(failed) == {str(movie), str(empty)}
    assert "5 slices" in failed[str(movie)]
    assert numbers(out / "picks.tsv") == numbers(outcome / "picks.tsv")
    assert len(starfile.read(out / "autopick.star")) == 3
    assert not {"movie_autopick.star", "empty_autopick.star"} & files_in(out)
    for number in (1, 2, 3):
        name = f"shell_000{number}_autopick.star"
        assert (out / name).read_bytes() == (outcome / "micrographs" / name).read_bytes()
    done("pick", "--model", model, "--micrographs", good[0], "-o", out)
    assert "failed.tsv" not in files_in(out)
    result = call("pick", "--model", model, "--micrographs", movie, empty, "-o", out)
    assert result.code == 2
    assert "no micrograph could be picked" in result.sentence
    failed = {row["micrograph"]: row["reason"] for row in rows(out / "failed.tsv")}
    assert set(failed) == {str(movie), str(empty)}


def test_a_limit_of_false_picks_that_cannot_be_applied_is_said(tmp_path: Path) -> None:
    """On noise there is nothing to calibrate by."""
    noise = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    write_mrc(tmp_path / "noise.mrc", noise, PIXEL)
    out = ("--max-fdr", 0.1, "-o", tmp_path / "out")
    said = done("pick", tmp_path / "noise.mrc", "--diameter", DIAMETER, *out)
    assert "--max-fdr cannot be applied" in said.out + said.err
