"""`heliodor judge` from end to end, with programs that take RELION's place."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mrcfile
import numpy as np
import pytest
from PIL import Image
from scipy.spatial import KDTree

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.formats.relion_star import write_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.reconstruction.steps import RECORD
from heliodor.report.judge_plots import draw_judgement
from heliodor.workflows import cluster, site_settings
from helpers import fake_relion
from helpers.cli import Result, call, done
from helpers.fake_slurm import HOLD, write_slurm

DIAMETER, PIXEL, SHAPE = 120, 7, (448, 448)
THRESHOLDS = "3,2,1"
#: Random positions with the lowest score, on each micrograph.
FALSE = 20


class Data(NamedTuple):
    """Micrographs with picks, and RELION."""

    folder: Path
    picks: Path
    reference: Path
    relion: Path

    def judge(self, out: Path, *more: object, run: Callable[..., Result] = done) -> Result:
        micrographs = ("--micrographs", self.folder / "micrographs.star")
        common = ("--relion", self.relion, "--diameter", DIAMETER, "-o", out)
        return run("judge", self.picks, *micrographs, *common, "--threads", 2, *more)

    def maps(self, out: Path, *more: object, run: Callable[..., Result] = done) -> Result:
        given = ("--reference", self.reference, "--symmetry", "o", "--splits", 2, "--sets", 2)
        return self.judge(out, "--thresholds", THRESHOLDS, *given, *more, run=run)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("judge")
    shells = ("--particle", "shell", "--pixel-size", PIXEL, "--size-px", "448x448", "--snr", 1)
    done("simulate", folder, *shells, "--count", 4, "--particles", 70, "--contaminants", 0)
    truth, rng, tables = read_picks(folder / "truth.star"), np.random.default_rng(0), []
    for name, own in truth.split_by_micrograph():
        half = 3 * len(own) // 5
        tried = rng.uniform(20, SHAPE[0] - 20, size=(4000, 2))
        false = tried[KDTree(own.xy_px).query(tried)[0] > 1.2 * DIAMETER / PIXEL][:FALSE]
        xy = np.concatenate([own.xy_px, false])
        score = np.repeat([3.0, 2.0, 1.0], [half, len(own) - half, len(false)])
        tables.append(Picks.on(name, xy, score))
    write_picks(folder / "picks.star", Picks.concatenate(tables))
    with mrcfile.new(folder / "map.mrc") as mrc:
        steps = np.arange(32) - 16
        radius = np.sqrt(steps[:, None, None] ** 2 + steps[None, :, None] ** 2 + steps**2)
        mrc.set_data(np.exp(-((radius - 7) ** 2) / 4).astype(np.float32))
        mrc.voxel_size = PIXEL
    relion = fake_relion.install(folder / "bin")
    return Data(folder, folder / "picks.star", folder / "map.mrc", relion)


def table(out: Path, name: str) -> list[dict[str, str]]:
    lines = [line.split("\t") for line in (out / name).read_text().splitlines()]
    return [dict(zip(lines[0], row, strict=True)) for row in lines[1:]]


@pytest.mark.slow
def test_false_picks_are_found_by_their_classes(data: Data, tmp_path: Path) -> None:
    said = data.judge(tmp_path, "--quick", "--thresholds", THRESHOLDS)
    bins = table(tmp_path, "bins.tsv")
    assert [row["low"] for row in bins] == ["3.000", "2.000", "1.000"]
    shares = [float(row["false_share"]) for row in bins]
    assert max(shares[:2]) < 0.2
    assert shares[2] > 0.8
    assert "recommended: --threshold 2.000" in said.out
    assert "below 2.000, most of the added picks are false" in said.out
    assert "CPU time" in said.err
    assert "GB of disk" in said.err
    record = json.loads((tmp_path / "judge.json").read_text())
    assert record["judgement"]["by_classes"]["threshold"] == 2
    assert record["judgement"]["by_maps"] is None
    page = (tmp_path / "judge.html").read_text()
    assert "Recommended threshold" in page
    assert "lower limit" in page
    with Image.open(tmp_path / "judge.png") as image:
        assert min(image.size) > 400


@pytest.fixture
def without_relion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.mark.usefixtures("without_relion")
def test_without_relion_false_picks_are_found_by_groups_of_crops(
    data: Data, tmp_path: Path
) -> None:
    given = ("judge", data.picks, "--diameter", DIAMETER, "--thresholds", THRESHOLDS, "--quick")
    stars = ("--micrographs", data.folder / "micrographs.star")
    said = done(*given, *stars, "-o", tmp_path / "one")
    shares = [float(row["false_share"]) for row in table(tmp_path / "one", "bins.tsv")]
    assert max(shares[:2]) < 0.2
    assert shares[2] > 0.8
    assert "heliodor's own, as there is no RELION" in said.out
    assert "by the false shares, these" in said.out
    assert "phases are not flipped" not in said.err
    record = json.loads((tmp_path / "one/judge.json").read_text())
    assert record["judgement"]["classes_by"] == "heliodor"
    page = (tmp_path / "one/judge.html").read_text()
    assert "heliodor&#39;s own averages" in page
    assert "class averages of RELION" not in page
    done(*given, *stars, "-o", tmp_path / "two")
    for name in ("judge.tsv", "bins.tsv", "judge.html", "judge.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    # Without the defocus nothing is corrected, and it is said so.
    files = ("--micrographs", data.folder / "micrographs/*.mrc")
    plain = done(*given, *files, "-o", tmp_path / "three")
    assert "the defocus of 4 of 4 micrographs is not known" in plain.err
    refused = call(*given, *stars, "--image-px", 40, "-o", tmp_path / "no")
    assert "leave out --image-px" in refused.sentence
    maps = call(*given[:-1], *stars, "-o", tmp_path / "no")
    assert "--quick alone needs no RELION" in maps.sentence
    assert not (tmp_path / "no").exists()


@pytest.mark.usefixtures("without_relion")
def test_without_relion_groups_of_candidates_with_reversed_contrast_are_junk(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        "heliodor.report.judge_page.draw_judgement",
        lambda _, averages: seen.append(averages) or draw_judgement(_, averages),
    )
    picks = read_picks(data.picks)
    many = tmp_path / "reversed.star"
    write_picks(many, picks.select(picks.score == 1))
    done("judge", data.picks, "--micrographs", data.folder / "micrographs.star", "--quick",
         "--diameter", DIAMETER, "--thresholds", THRESHOLDS, "--reversed-picks", many,
         "-o", tmp_path / "o")  # fmt: skip
    bins = table(tmp_path / "o", "bins.tsv")
    assert [float(row["reversed_picks"]) for row in bins[:2]] == [0, 0]
    assert float(bins[2]["false_share"]) > 0.8
    (averages,) = seen
    is_junk = averages.junk > 0.5
    particles = sum(int(row["picks"]) for row in bins[:2])
    assert averages.picks[~is_junk].sum() == pytest.approx(particles, rel=0.15)


@pytest.mark.usefixtures("without_relion")
def test_without_relion_one_bad_micrograph_is_left_out(data: Data, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data.folder, copy)
    path = copy / "micrographs/shell_0002.mrc"
    with mrcfile.open(path, "r+") as mrc:
        mrc.data[:] = 1.0  # its header is as it should be
    given = ("judge", data.picks, "--micrographs", copy / "micrographs.star", "--quick")
    result = call(*given, "--diameter", DIAMETER, "--thresholds", THRESHOLDS, "-o", tmp_path / "o")
    assert result.code == 3
    (failed,) = table(tmp_path / "o", "failed.tsv")
    assert failed["micrograph"] == "micrographs/shell_0002.mrc"
    high, middle, low = (float(row["false_share"]) for row in table(tmp_path / "o", "bins.tsv"))
    assert max(high, middle) < 0.3 < 0.6 < low


@pytest.mark.slow
@pytest.mark.usefixtures("without_relion")
def test_all_picks_count_if_only_some_of_them_are_grouped(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("judge", data.picks, "--micrographs", data.folder / "micrographs.star", "--quick")
    common = ("--diameter", DIAMETER, "--thresholds", THRESHOLDS)
    done(*given, *common, "-o", tmp_path / "all")
    monkeypatch.setattr("heliodor.reconstruction.crop_classes.MOST_IMAGES", 300)
    said = done(*given, *common, "-o", tmp_path / "some")
    assert "300 of 524 images, drawn at random" in said.err
    every, some = (table(tmp_path / name, "bins.tsv") for name in ("all", "some"))
    assert [row["picks"] for row in some] == [row["picks"] for row in every]
    assert float(some[2]["false_share"]) > 0.6


def test_picks_cut_off_by_an_edge_are_left_out_of_what_relion_sees(
    data: Data, tmp_path: Path
) -> None:
    picks = read_picks(data.picks)
    judgement = data.judge(tmp_path, "--quick", "--box-px", 40)
    left_out = json.loads((tmp_path / "judge.json").read_text())["judgement"]["left_out"]
    first = np.floor(picks.xy_px + 0.5) - 20
    cut = ((first < 0) | (first + 40 > SHAPE[0])).any(axis=1)
    assert left_out == cut.sum() > 0
    assert f"{left_out} picks cut off" in judgement.err


@pytest.mark.slow
def test_maps_are_made_of_nested_sets_and_a_second_run_does_nothing_again(
    data: Data, tmp_path: Path
) -> None:
    said = data.maps(tmp_path)
    rows = table(tmp_path, "judge.tsv")
    assert [bool(row["resolution_angstrom"]) for row in rows] == [True, False, True]
    assert float(rows[0]["fsc_area"]) < float(rows[2]["fsc_area"])
    assert [row["offset_angstrom"] for row in rows] == ["5.0", "", "5.0"]
    assert "±" in said.out
    shares = [float(row["map_junk_share"]) for row in table(tmp_path, "bins.tsv")]
    assert max(shares[:2]) < 0.3 < 0.6 < shares[2]
    assert "As random positions in the map" in (tmp_path / "judge.html").read_text()
    compared = table(tmp_path, "map_scores.tsv")
    kinds = [row["kind"] for row in compared]
    assert kinds.count("pick") == int(rows[2]["picks"])
    assert kinds.count("random") == 200
    values = {
        kind: [float(row["correlation"]) for row in compared if row["kind"] == kind]
        for kind in ("pick", "random")
    }
    assert np.median(values["pick"]) > np.median(values["random"]) + 0.2
    names = ("judge.tsv", "bins.tsv", "map_scores.tsv", "judge.html", "judge.png")
    before = {name: (tmp_path / name).read_bytes() for name in names}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(RECORD)}
    assert len(times) == 1 + 1 + 1 + 2 * 2 * 2 + 2
    assert not list(tmp_path.rglob("*global*"))
    # What an interrupted step leaves does not count.
    half = tmp_path / "work/maps/1/split1_half1"
    (half / RECORD).unlink()
    (half / "map.mrc").write_bytes(b"half")
    again = data.maps(tmp_path)
    assert "3D refinement: 7 of 8 steps done" in again.err
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(RECORD)}
    assert sum(after[path] != times[path] for path in times) == 1
    # Without maps, nothing is left of them.
    data.judge(tmp_path, "--quick", "--thresholds", THRESHOLDS)
    assert not (tmp_path / "map_scores.tsv").exists()
    assert {row["map_junk_share"] for row in table(tmp_path, "bins.tsv")} == {""}


@pytest.mark.slow
def test_picks_below_the_set_are_compared_with_its_maps_as_well(
    data: Data, tmp_path: Path
) -> None:
    data.judge(tmp_path, "--thresholds", THRESHOLDS, "--reference", data.reference,
               "--symmetry", "o", "--splits", 2, "--sets", 1)  # fmt: skip
    assert [bool(row["fsc_area"]) for row in table(tmp_path, "judge.tsv")] == [True, False, False]
    shares = [float(row["map_junk_share"]) for row in table(tmp_path, "bins.tsv")]
    assert max(shares[:2]) < 0.3 < 0.6 < shares[2]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.1.3", pytest.param("4.0.1", marks=pytest.mark.slow)])
def test_without_a_reference_an_initial_model_is_made_of_the_surest_picks(
    data: Data, tmp_path: Path, version: str
) -> None:
    relion = fake_relion.install(tmp_path / "bin", version)
    out = tmp_path / "out"
    few = ("--thresholds", THRESHOLDS, "--symmetry", "o", "--splits", 2, "--sets", 1)
    said = data._replace(relion=relion).judge(out, *few)
    rows = fake_relion.read_star(str(out / "work/initial/particles.star"))["particles"][1]
    assert f"initial model of {len(rows)} picks" in said.err
    picks = sum(int(row["picks"]) for row in table(out, "bins.tsv")[:2])
    assert 0.8 * picks < len(rows) < 1.1 * picks
    (model,) = (out / "work/initial").glob("*.mrc")
    assert mrcfile.read(model).shape == mrcfile.read(out / "work/reference/map.mrc").shape
    log = (out / "work/initial/relion.log").read_text()
    assert ("--sgd " in log) == (version < "4")
    assert ("--grad " in log) == (version > "4")
    assert "--sym O" in log
    assert any(row["resolution_angstrom"] for row in table(out, "judge.tsv"))


def test_picks_without_scores_are_one_set(data: Data, tmp_path: Path) -> None:
    plain = tmp_path / "plain.star"
    picks = read_picks(data.picks)
    write_picks(plain, Picks(picks.micrographs, picks.micrograph_index, picks.xy_px,
                             np.full(len(picks), np.nan)))  # fmt: skip
    said = data._replace(picks=plain).judge(tmp_path / "out", "--quick")
    (row,) = table(tmp_path / "out", "judge.tsv")
    assert row["threshold"] == ""
    assert 0.2 < float(row["false_share"]) < 0.5
    assert "recommended" not in said.out
    refused = data._replace(picks=plain).judge(tmp_path / "no", "--quick", "--thresholds", "1",
                                               run=call)  # fmt: skip
    assert "picks without scores; omit --thresholds" in refused.sentence


@pytest.mark.slow
def test_the_picks_of_heliodor_bring_their_series_and_their_reversed_candidates(
    data: Data, tmp_path: Path
) -> None:
    picks, stars = tmp_path / "picks", data.folder / "micrographs.star"
    done("pick", stars, "--diameter", DIAMETER, "--threshold-series", 3, "-o", picks)
    series = [row["threshold"] for row in table(picks, "series.tsv")]
    given = ("judge", picks, "--micrographs", stars, "--relion", data.relion, "--quick")
    done(*given, "-o", tmp_path / "series")
    assert [row["threshold"] for row in table(tmp_path / "series", "judge.tsv")] == series
    done(*given, "--thresholds", "1,-4", "-o", tmp_path / "low")
    few, many = (float(row["reversed_picks"]) for row in table(tmp_path / "low", "bins.tsv"))
    assert few < 10 < many
    assert "follows from the number of candidates" in (tmp_path / "low/judge.html").read_text()


@pytest.mark.slow
def test_reversed_picks_of_another_picker_are_compared(data: Data, tmp_path: Path) -> None:
    picks = read_picks(data.picks)
    many = tmp_path / "reversed.star"
    write_picks(many, picks.select(picks.score == 3))
    data.judge(tmp_path / "out", "--quick", "--thresholds", THRESHOLDS, "--reversed-picks", many)
    first = table(tmp_path / "out", "bins.tsv")[0]
    assert float(first["false_share"]) > 0.5 > float(first["junk_share"])


def test_one_bad_micrograph_is_reported_and_does_not_stop_the_others(
    data: Data, tmp_path: Path
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data.folder, copy)
    (copy / "micrographs/shell_0002.mrc").write_bytes(b"no micrograph")
    moved = data._replace(folder=copy)
    result = moved.judge(tmp_path / "out", "--quick", run=call)
    assert result.code == 3
    assert "skipped micrographs/shell_0002.mrc" in result.err
    assert table(tmp_path / "out", "judge.tsv")
    (failed,) = table(tmp_path / "out", "failed.tsv")
    assert failed["micrograph"] == "micrographs/shell_0002.mrc"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--quick", "--symmetry", "D7"), "leave out --symmetry or --quick"),
        (("--quick", "--splits", 3), "leave out --splits or --quick"),
        (("--reference", "map.mrc", "--symmetry", "Z9"), "not a point group"),
        (("--reference", "none.mrc"), "cannot be read as a map"),
        (("--reference", "map.mrc", "--splits", 1), "one split has no scatter"),
        (("--quick", "--thresholds", "a"), "numbers with commas"),
        (("--quick", "--image-px", 33), "even number"),
        (("--quick", "--box-px", 24), "too small for a particle of 200"),
        (("--quick", "--thresholds", "9"), "has 0 picks at or above"),
    ],
)
def test_what_cannot_be_done_is_refused(
    data: Data, tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    common = ("--micrographs", data.folder / "micrographs.star", "--relion", data.relion)
    result = call("judge", data.picks, *common, "--diameter", 200, "-o", tmp_path / "o", *options)
    assert result.code == 2
    assert sentence in result.sentence


def test_what_is_missing_is_named(data: Data, tmp_path: Path) -> None:
    stars = data.folder / "micrographs.star"
    nothing = tmp_path / "bin"
    nothing.mkdir()
    given = ("judge", data.picks, "--micrographs")
    quick = ("--quick", "-o", tmp_path / "out")
    result = call(*given, stars, "--relion", nothing, *quick)
    assert "relion_preprocess is not in" in result.sentence
    relion = ("--relion", data.relion)
    result = call(*given, stars, *relion, *quick)
    assert "the diameter of the particle is not known" in result.sentence
    files = data.folder / "micrographs/*.mrc"
    maps = ("--reference", data.reference, "--diameter", DIAMETER, "-o", tmp_path / "out")
    result = call(*given, files, *relion, *maps)
    assert "maps need the defocus" in result.sentence
    other = tmp_path / "other.mrc"
    shutil.copy(next((data.folder / "micrographs").glob("*.mrc")), other)
    result = call(*given, other, *relion, "--diameter", DIAMETER, *quick)
    assert "no picks on the micrographs given" in result.sentence
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_noticed_before_anything_starts(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    result = data.judge(tmp_path / "out", "--quick", run=call)
    assert "0.0 GB of free disk" in result.sentence
    assert not list((tmp_path / "out").rglob("particles.star"))


def test_a_program_that_fails_is_reported_with_its_log(data: Data, tmp_path: Path) -> None:
    relion = tmp_path / "bin"
    shutil.copytree(data.relion, relion)
    refine = relion / "relion_refine"
    good = refine.read_text()
    full = "echo No space left on device; exit 1"
    version = "echo RELION version: 3.1.3"
    refine.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {version} || {{ {full}; }}\n')
    broken = data._replace(relion=relion)
    result = broken.judge(tmp_path / "out", "--quick", run=call)
    assert result.code == 2
    assert "No space left on device" in result.sentence
    assert "relion.log" in result.sentence
    assert not (tmp_path / "out/judge.tsv").exists()
    refine.write_text(good)
    broken.judge(tmp_path / "out", "--quick")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of programs that stand for SLURM's, which are on the PATH."""
    programs = tmp_path / "slurm"
    write_slurm(programs)
    monkeypatch.setenv("HELIODOR_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(site_settings, "SITE_FILE", tmp_path / "etc/heliodor.toml")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    return programs


def test_a_judgement_is_one_job_with_several_cpus(data: Data, tmp_path: Path, slurm: Path) -> None:
    user = tmp_path / "config/heliodor/heliodor.toml"
    user.parent.mkdir(parents=True)
    user.write_text('[cluster]\npartition = "short"\ngpus = 2\narray_parallelism = 3\njobs = 5\n')
    options = ("--cluster", "slurm", "--time", 90, "--setup", "module load relion", "--dry-run")
    script = data.maps(tmp_path / "o", *options).out
    lines = script.strip().splitlines()
    for option in ("time=90", "cpus-per-task=2", "partition=short", "requeue"):
        assert f"#SBATCH --{option}" in lines, script
    assert "gpus" not in script
    assert "--array" not in script
    assert "module load relion" in lines
    start = f"# {shlex.join([sys.executable, '-P', '-m', 'heliodor'])} judge {data.picks} "
    assert lines[-1].startswith(start)
    assert "--cluster" not in lines[-1]
    assert "--splits 2" in lines[-1]
    assert "no processes were started" in call("cancel", tmp_path / "o").sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--time", 60), "time is an option for a cluster"),
        (("--cluster", "slurm", "--thresholds", 9), "has 0 picks at or above"),
        (("--cluster", "local", "--reference", "none.mrc"), "cannot be read as a map"),
    ],
)
def test_what_cannot_be_submitted_is_refused(
    data: Data, tmp_path: Path, slurm: Path, options: tuple[object, ...], sentence: str
) -> None:
    result = data.judge(tmp_path / "o", *options, run=call)
    assert result.code == 2
    assert sentence in result.sentence
    assert not (tmp_path / "o").exists()
    assert "No such option" in data.judge(tmp_path / "o", "--jobs", 2, run=call).err


def test_a_judgement_that_waits_is_shown_and_can_be_cancelled(
    data: Data, tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (slurm / HOLD).touch()
    said = data.judge(Path("o"), "--quick", "--cluster", "slurm").err
    assert "submitted job 17 with 1 process." in said
    lines = done("status", "o").out.splitlines()
    assert lines[0] == "o: submitted"
    assert lines[1].startswith("`heliodor judge` was submitted to SLURM")
    assert lines[-1].split() == ["judging", "17", "1", "1", "(Resources)", "0", "0"]
    done("cancel", "o")
    assert Path("scancelled").read_text() == "17"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "slurm"])
def test_another_process_judges_as_this_one_does(
    data: Data, tmp_path: Path, slurm: Path, where: str
) -> None:
    data.judge(tmp_path / "one", "--quick")
    data.judge(tmp_path / "out", "--quick", "--cluster", where)
    if where == "slurm":
        limit = time.monotonic() + 300
        while not (slurm / "17.ended").exists():
            assert time.monotonic() < limit
            time.sleep(0.1)
        assert done("status", tmp_path / "out").out.startswith(f"{tmp_path / 'out'}: finished")
    for name in ("judge.tsv", "bins.tsv", "judge.html", "judge.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    # The same command again finds what is done.
    broken = fake_relion.install(tmp_path / "bin", leave_out=("relion_refine",))
    failed = data._replace(relion=broken).judge(
        tmp_path / "out", "--quick", "--cluster", "local", run=call
    )
    assert "the process of the step 'judging' failed" in failed.sentence


@pytest.mark.slow
def test_micrographs_that_failed_in_another_process_are_reported(
    data: Data, tmp_path: Path, slurm: Path
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data.folder, copy)
    (copy / "micrographs/shell_0002.mrc").write_bytes(b"no micrograph")
    moved = data._replace(folder=copy)
    assert moved.judge(tmp_path / "o", "--quick", "--cluster", "local", run=call).code == 3
