"""The command line from end to end: every command on small simulated micrographs."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import starfile
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import average_precision_score

from heliodor import __version__
from heliodor.cli.main import _gather_values
from heliodor.conventions import WORKING_DIAMETER_PX
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.models.model_file import (
    Model,
    load_model,
    save_model,
)
from heliodor.picking.candidates import find_candidates
from heliodor.picking.recalibration import choose_decoy_micrographs
from heliodor.picking.score_maps import score_micrograph
from heliodor.picking.settings import PickSettings
from heliodor.report import report
from heliodor.simulation import SimulationSettings
from heliodor.training.settings import TrainingSettings
from heliodor.workflows import (
    demo,
    preprocess,
)
from helpers.cli import call, done

PIXEL, DIAMETER, WORKING = 6.0, 120.0, 7.5
SHELLS = ("--particle", "shell", "--pixel-size", PIXEL, "--contaminants", 0, "--snr", 0.5)
#: Neither side becomes a whole number of working pixels, and the two differ.
WIDTH, HEIGHT = 401, 389
RECIPE = (
    *("--diameter", DIAMETER, "--expected-particles", 12, "--working-pixel-size", WORKING),
    *("--network", "conv31"),
)
SMALL = ("--width", 8, "--epochs", 2, "--epoch-updates", 40)
#: Learns nothing; for what must hold of any training.
TINY = ("--width", 2, "--epochs", 1, "--epoch-updates", 3)

MODEL = "model.safetensors"

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six micrographs to learn from, with 40 labels."""
    out = tmp_path_factory.mktemp("learn")
    options = ("--count", 6, "--size-px", 384, "--particles", 12, "--labels", 40, "--seed", 1)
    done("simulate", out, *SHELLS, *options)
    return out


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rectangular micrographs of another seed."""
    out = tmp_path_factory.mktemp("unseen")
    size = ("--size-px", f"{WIDTH}x{HEIGHT}")
    done("simulate", out, *SHELLS, *size, "--count", 3, "--particles", 12, "--seed", 2)
    return out


@pytest.fixture(scope="module")
def outcome(learn: Path, unseen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole job: learnt from `learn`, picked on `unseen`."""
    out = tmp_path_factory.mktemp("outcome")
    job = ("run", *training_data(learn), *RECIPE, *SMALL, "--seed", 3, "-o", out)
    done(*job, "--pick", unseen / "micrographs.star", "--truth", unseen / "truth.star")
    return out


@pytest.fixture(scope="module")
def brief(learn: Path, unseen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a training that learns nothing, without its pictures."""
    out = tmp_path_factory.mktemp("brief")
    job = ("run", *training_data(learn), *RECIPE, *TINY, "--seed", 3, "-o", out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heliodor.report.report.write_report", lambda path, content: None)
        done(*job, "--pick", unseen / "micrographs.star", "--truth", unseen / "truth.star")
    return out


@pytest.fixture(scope="module")
def model(outcome: Path) -> Path:
    return outcome / "model.safetensors"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out, which take longer than all the rest."""
    monkeypatch.setattr("heliodor.report.report.write_report", lambda path, content: None)


def training_data(folder: Path) -> tuple[object, ...]:
    return "--micrographs", folder / "micrographs.star", "--labels", folder / "labels.star"


def two_of(folder: Path) -> tuple[object, ...]:
    """What to learn from where two micrographs are as good as six."""
    mics = (first(folder, number) for number in (1, 2))
    return "--micrographs", *mics, "--labels", folder / "labels.star"


def first(folder: Path, number: int = 1) -> Path:
    return folder / "micrographs" / f"shell_{number:04d}.mrc"


def rows(path: Path) -> Rows:
    head, *lines = path.read_text().splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]


def numbers(path: Path) -> list[list[str]]:
    """All of a ``picks.tsv`` but the names, in the order of the file."""
    return [list(row.values())[1:] for row in rows(path)]


def xy_of(table: Rows) -> NDArray[np.float64]:
    return np.array([[float(r["x_px"]), float(r["y_px"])] for r in table]).reshape(-1, 2)


def chosen(table: Rows, name: str) -> Rows:
    return [r for r in table if r["selected"] == "1" and Path(r["micrograph"]).name == name]


def image_of(path: Path) -> NDArray[Any]:
    with mrcfile.open(path) as mrc:
        return np.array(mrc.data)


def true_xy(folder: Path, number: int = 1) -> NDArray[np.float64]:
    table = starfile.read(folder / "truth.star")["particles"]
    own = table[table["rlnMicrographName"] == f"micrographs/{first(folder, number).name}"]
    return own[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()


def files_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# ---- run and train ----


def test_run_leaves_everything(outcome: Path) -> None:
    stars = {f"micrographs/{first(outcome, n).stem}_autopick.star" for n in (1, 2, 3)}
    assert files_in(outcome) == stars | {
        ".trained.json",
        "model.safetensors",
        "training.tsv",
        "autopick.star",
        "picks.tsv",
        "micrographs.tsv",
        "evaluation.json",
        "curve.tsv",
        "report.html",
        "run.json",
        ".picking.jsonl",
    }
    page = (outcome / "report.html").read_text()
    assert "shell_0001" in page
    assert page.rstrip().endswith("</html>")
    epochs = rows(outcome / "training.tsv")
    assert [e["epoch"] for e in epochs] == ["1", "2"]
    assert float(epochs[1]["loss"]) < float(epochs[0]["loss"])
    head, *curve = (outcome / "curve.tsv").read_text().splitlines()
    assert head == "log_odds\tprecision\trecall\tf1"
    scores = {float(row["log_odds"]) for row in rows(outcome / "picks.tsv")}
    assert len(curve) == pytest.approx(len(scores), rel=0.01)  # which are rounded there
    assert "curve" not in json.loads((outcome / "evaluation.json").read_text())


def test_run_finds_the_particles_of_micrographs_it_has_not_seen(outcome: Path) -> None:
    figures = json.loads((outcome / "evaluation.json").read_text())
    assert figures["micro"]["average_precision"] > 0.8
    assert figures["micro"]["f1"] > 0.7
    assert figures["region_average_precision"] > 0.4
    assert figures["n_truth"] == 36
    assert figures["ignored_micrographs"] == 0
    assert figures["distance"] == 0.4 * DIAMETER


def test_run_json_says_what_was_done(outcome: Path, learn: Path, unseen: Path) -> None:
    record = json.loads((outcome / "run.json").read_text())
    assert record["outliers"] == []
    given = record["arguments"]
    assert record["command"] == "run"
    assert record["command_line"].startswith("heliodor run --micrographs ")
    assert given["labels"] == str(learn / "labels.star")
    assert (given["seed"], given["diameter_angstrom"], given["epochs"]) == (3, DIAMETER, 2)
    assert given["match_distance_angstrom"] == 0.4 * DIAMETER
    assert record["inputs"] == {
        "training": [str(first(learn, n)) for n in range(1, 7)],
        "picking": [str(first(unseen, n)) for n in range(1, 4)],
    }
    assert record["versions"]["heliodor"] == __version__
    assert record["versions"].keys() >= {"python", "torch", "numpy", "scipy"}
    assert set(record["seconds"]) == {
        "reading",
        "training",
        "calibrating",
        "picking",
        "writing",
        "judging",
        "report",
    }
    assert all(seconds >= 0 for seconds in record["seconds"].values())
    assert record["failed"] == []
    picked = record["picks_per_micrograph"]
    assert record["picks"] == sum(picked.values()) == len(read_picks(outcome / "picks.tsv"))
    assert record["model"] == vars(load_model(outcome / MODEL).card)


def test_a_network_and_its_dropout_are_what_was_asked_for(
    learn: Path, unseen: Path, tmp_path: Path
) -> None:
    asked = (*RECIPE, *TINY, "--network", "conv63")
    for dropout in (0, 0.3):
        more = (*asked, "--dropout", dropout, "-o", tmp_path / str(dropout))
        done("train", *two_of(learn), *more)
    given = json.loads((tmp_path / "0.3" / "run.json").read_text())["arguments"]
    assert (given["network"], given["dropout"]) == ("conv63", 0.3)
    plain, dropped = (load_model(tmp_path / name / MODEL) for name in ("0", "0.3"))
    assert plain.card.network == dropped.card.network == "conv63"
    weight = "layers.1.conv.weight"
    assert not plain.network.get_parameter(weight).equal(dropped.network.get_parameter(weight))
    micrograph = ("--micrographs", first(unseen))
    done("pick", "--model", tmp_path / "0.3" / MODEL, *micrograph, "-o", tmp_path / "picked")


def test_options_change_one_thing_of_a_recipe(learn: Path, tmp_path: Path) -> None:
    # With the number of particles given, no other training comes before to estimate it.
    data = ("train", *two_of(learn), "--diameter", DIAMETER, "--expected-particles", 12)
    tiny = ("--width", 2, "--epochs", 1, "--epoch-updates", 2, "--working-pixel-size", WORKING)
    given = {}
    for name, more in {
        "fast": (),
        "paper": (),
        "changed": ("--recipe", "paper", "--objective", "nnpu", "--autoencoder", 0.5),
        "auto": ("--autoencoder", "auto"),
    }.items():
        named = ("--recipe", name) if name == "paper" else ()
        done(*data, *tiny, *named, *more, "-o", tmp_path / name)
        given[name] = json.loads((tmp_path / name / "run.json").read_text())["arguments"]
    kept = ("network", "objective", "schedule", "autoencoder", "batch")
    told = {name: tuple(values[key] for key in kept) for name, values in given.items()}
    assert told["fast"] == ("resnet8", "pn-balanced", "one-cycle", 0.0, 64)
    assert told["paper"] == ("conv31", "ge-binomial", "constant", "auto", 256)
    assert told["changed"] == ("conv31", "nnpu", "constant", 0.5, 256)
    assert told["auto"] == ("resnet8", "pn-balanced", "one-cycle", "auto", 64)
    lines = (tmp_path / "auto" / "training.tsv").read_text().splitlines()
    values = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    assert float(values["reconstruction"]) > 0


def test_labelled_negatives_are_used_and_counted(learn: Path, tmp_path: Path) -> None:
    name = read_picks(learn / "labels.star").micrographs[0]
    negatives = tmp_path / "negatives.tsv"
    negatives.write_text(f"image_name\tx_coord\ty_coord\n{name}\t9\t9\n{name}\t380\t5\n")
    data = ("train", *training_data(learn), *RECIPE, *TINY)
    without = done(*data, "-o", tmp_path / "without")
    result = done(*data, "--negatives", negatives, "-o", tmp_path / "with")
    assert "40 labeled particles and 2 negatives" in " ".join(result.err.split())
    assert "labelled negatives" not in without.err
    files = [(tmp_path / name / MODEL).read_bytes() for name in ("with", "without")]
    assert files[0] != files[1]
    record = json.loads((tmp_path / "with" / "run.json").read_text())
    assert record["arguments"]["negatives"] == str(negatives)


def test_run_is_train_and_then_pick(
    brief: Path, learn: Path, unseen: Path, tmp_path: Path
) -> None:
    alone, picked = tmp_path / "train", tmp_path / "pick"
    done("train", *training_data(learn), *RECIPE, *TINY, "--seed", 3, "-o", alone)
    assert files_in(alone) == {MODEL, "training.tsv", "run.json", ".trained.json"}
    assert (alone / MODEL).read_bytes() == (brief / MODEL).read_bytes()
    stars = ("--micrographs", unseen / "micrographs.star")
    done("pick", "--model", alone / MODEL, *stars, "-o", picked)
    for name in ("picks.tsv", "micrographs.tsv"):
        assert (picked / name).read_bytes() == (brief / name).read_bytes()
    for number in (1, 2, 3):
        name = f"micrographs/{first(unseen, number).stem}_autopick.star"
        assert (picked / name).read_bytes() == (brief / name).read_bytes()


def test_the_order_of_the_micrographs_changes_nothing(
    brief: Path, learn: Path, unseen: Path, tmp_path: Path
) -> None:
    table = (learn / "micrographs.star").read_text().splitlines()
    rows = [line for line in table if ".mrc" in line]
    (learn / "reversed.star").write_text(
        "\n".join([*(line for line in table if ".mrc" not in line), *rows[::-1], ""])
    )
    assert [s.name for s in find_sources(str(learn / "reversed.star"))] == [
        s.name for s in find_sources(str(learn / "micrographs.star"))
    ][::-1]
    given = list(training_data(learn))
    given[given.index(learn / "micrographs.star")] = learn / "reversed.star"
    done("train", *given, *RECIPE, *TINY, "--seed", 3, "-o", tmp_path / "model")
    assert (tmp_path / "model" / MODEL).read_bytes() == (brief / MODEL).read_bytes()
    files = [first(unseen, number) for number in (3, 1, 2)]
    done("pick", "--model", brief / MODEL, "--micrographs", *files, "-o", tmp_path / "picks")
    tables = ((folder / "picks.tsv").read_text() for folder in (tmp_path / "picks", brief))
    own, then = (sorted(line.split("\t")[1:] for line in text.splitlines()) for text in tables)
    assert own == then


def test_those_that_fail_change_nothing_for_the_others(
    outcome: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where decoys were to be looked for on them."""
    monkeypatch.setattr("heliodor.picking.recalibration.DECOY_MICROGRAPHS", 2)
    mics = tmp_path / "mics"
    mics.mkdir()
    for number in (1, 2, 3):
        shutil.copy(first(unseen, number), mics)
    pick = ("pick", "--model", outcome / MODEL, "--micrographs", mics, "-o")
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


@pytest.mark.usefixtures("no_report")
def test_a_record_is_enough_to_run_it_again(
    brief: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = done("rerun", brief / "run.json", "-o", "again").err
    assert "model.safetensors is identical to that of the first run" in said
    assert "picks.tsv is identical to that of the first run" in said
    for name in (MODEL, "picks.tsv", "micrographs.tsv", "evaluation.json", "curve.tsv"):
        assert (tmp_path / "again" / name).read_bytes() == (brief / name).read_bytes()


def test_what_is_no_record_is_not_run_again(outcome: Path, tmp_path: Path) -> None:
    record = json.loads((outcome / "run.json").read_text())
    for change, words in (
        ({"command": "evaluate"}, "only those of train, pick, run can be repeated"),
        ({"directory": str(tmp_path / "gone")}, "which does not exist"),
        ({"arguments": {}}, "which this version needs"),
        ({"directory": ""}, "which does not exist"),
        ({"directory": 3}, "has an invalid value of directory: 3"),
        ({"digests": {"/etc/passwd": "ab"}}, "are not those of the results"),
        ({"threads": 10**9}, "4096 at most"),
        ({"arguments": record["arguments"] | {"width": 1.5}}, "invalid value of width: 1.5"),
        (
            {"arguments": record["arguments"] | {"micrographs": ["a", 3]}},
            "invalid value of micrographs: [",
        ),
        ({"arguments": record["arguments"] | {"labels": "a\0"}}, "invalid value of labels: "),
        ({"arguments": record["arguments"] | {"seed": True}}, "invalid value of seed: True"),
        ({"versions": 3}, "has an invalid value of versions: 3"),
    ):
        (tmp_path / "run.json").write_text(json.dumps(record | change))
        assert words in call("rerun", tmp_path / "run.json", "-o", tmp_path / "out").sentence
    (tmp_path / "run.json").write_text("[" * 100_000)
    assert (
        "not a run.json" in call("rerun", tmp_path / "run.json", "-o", tmp_path / "out").sentence
    )
    same = call("rerun", outcome / "run.json", "-o", outcome).sentence
    assert "give another folder with -o" in same


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


@pytest.mark.usefixtures("no_report")
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    learn: Path, tmp_path: Path
) -> None:
    files = ("picks.tsv", "micrographs.tsv", MODEL, "shell_0002_autopick.star")

    def bytes_of(name: str, seed: int) -> list[bytes]:
        out = tmp_path / name
        data = ("--micrographs", *(first(learn, n) for n in (1, 2, 3)))
        labels = ("--labels", learn / "labels.star")
        done("run", *data, *labels, *RECIPE, *TINY, "--seed", seed, "-o", out)
        return [(out / file).read_bytes() for file in files]

    one, again, other = bytes_of("one", 5), bytes_of("again", 5), bytes_of("other", 6)
    assert one == again
    assert all(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.usefixtures("no_report")
def test_a_run_without_truth_forgets_the_figures_of_the_one_before(
    learn: Path, tmp_path: Path
) -> None:
    job = ("run", *training_data(learn), *RECIPE, *TINY, "-o", tmp_path)
    picked_on = ("--pick", first(learn))
    done(*job, *picked_on, "--truth", learn / "truth.star")
    assert files_in(tmp_path) >= {"evaluation.json", "curve.tsv"}
    done(*job, *picked_on)
    assert not files_in(tmp_path) & {"evaluation.json", "curve.tsv"}


def test_run_goes_on_without_a_bad_micrograph(
    learn: Path, tmp_path: Path, no_report: None
) -> None:
    for n in (1, 2, 3):
        shutil.copy(first(learn, n), tmp_path)
    bad = tmp_path / "shell_0002.mrc"
    bad.write_bytes(first(learn, 2).read_bytes()[:5000])
    out = tmp_path / "out"
    labels = ("--labels", learn / "labels.star")
    result = call("run", "--micrographs", tmp_path, *labels, *RECIPE, *TINY, "-o", out)
    assert result.code == 3
    assert "1 micrographs failed; see failed.tsv" in result.err
    (failed,) = rows(out / "failed.tsv")
    assert failed["micrograph"] == str(bad)
    assert "truncated" in failed["reason"]
    assert len(json.loads((out / "run.json").read_text())["failed"]) == 1
    picked = {row["micrograph"] for row in rows(out / "picks.tsv")}
    assert picked == {str(tmp_path / f"shell_000{n}.mrc") for n in (1, 3)}


def test_labels_of_micrographs_of_the_same_name_elsewhere_are_not_shown(
    learn: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every data set has a 0001.mrc; two to pick on that fit the labels' name are no error."""
    shown: list[Any] = []
    monkeypatch.setattr(
        "heliodor.report.report.write_report", lambda path, content: shown.append(content)
    )
    for folder, source in (("A", learn), ("B", learn), ("C", unseen)):
        (tmp_path / folder).mkdir()
        shutil.copy(first(source), tmp_path / folder / "x.mrc")
    labels = tmp_path / "labels.csv"
    xy = true_xy(learn)
    labels.write_text("image_name,x_coord,y_coord\n" + "".join(f"x,{x},{y}\n" for x, y in xy))
    job = ("run", "--micrographs", tmp_path / "A", "--labels", labels, *RECIPE, *TINY)
    done(*job, "--pick", tmp_path / "B", tmp_path / "C", "-o", tmp_path / "out")
    assert [item.labels_xy_px for item in shown[0].gallery] == [None, None]
    done(*job, "-o", tmp_path / "out")
    (item,) = shown[1].gallery
    assert len(item.labels_xy_px) == len(xy)


# ---- pick ----


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


# ---- evaluate ----


def judge(picks: Path, truth: Path, *options: object) -> dict[str, Any]:
    """Return the figures that ``evaluate --json`` prints."""
    asked = ("--picks", picks, "--truth", truth, "--match-distance", 48, *options)
    figures: dict[str, Any] = json.loads(done("evaluate", *asked, "--json").out)
    return figures


def agree(figures: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in ("n_picks", "n_truth", "n_true_positives", "distance"):
        assert figures[name] == expected[name]
    for mean in ("micro", "macro"):
        assert figures[mean] == pytest.approx(expected[mean], abs=1e-4)
    assert figures["best_f1"] == pytest.approx(expected["best_f1"], abs=1e-4)
    assert len(figures["micrographs"]) == len(expected["micrographs"])


def test_evaluate_says_what_run_said(outcome: Path, unseen: Path, tmp_path: Path) -> None:
    expected = json.loads((outcome / "evaluation.json").read_text())
    out = tmp_path / "figures"
    asked = ("--model", outcome / MODEL, "--micrographs", unseen / "micrographs.star", "-o", out)
    figures = judge(outcome / "picks.tsv", unseen / "truth.star", *asked)
    agree(figures, expected)
    region_ap = expected["region_average_precision"]
    assert figures["region_average_precision"] == pytest.approx(region_ap, abs=1e-12)
    assert files_in(out) == {"evaluation.json", "curve.tsv", "evaluate.json"}
    assert json.loads((out / "evaluation.json").read_text()) == figures
    assert "curve" not in figures
    record = json.loads((out / "evaluate.json").read_text())
    assert record["command"] == "evaluate"
    assert record["evaluation"] == figures
    assert record["arguments"]["picks"] == str(outcome / "picks.tsv")
    assert record["arguments"]["match_distance_angstrom"] == 48
    assert record["inputs"] == {"judging": [str(first(unseen, n)) for n in (1, 2, 3)]}
    # The folder of a run stands for all its candidates too.
    assert judge(outcome, unseen / "truth.star", *asked[:-2]) == figures


def test_region_ap_ranks_every_pixel(outcome: Path, unseen: Path) -> None:
    """Positive are the pixels within an eighth of the diameter of a particle's centre."""
    loaded, labels, scores = load_model(outcome / MODEL), [], []
    images = WorkingImages(WORKING)
    for number in (1, 2, 3):
        image = images.get(find_sources(first(unseen, number))[0])
        height, width = image.shape
        y, x = np.mgrid[:height, :width].reshape(2, -1)
        pixels = np.column_stack([x * WIDTH / width, y * HEIGHT / height]) * PIXEL
        apart = np.hypot(*(pixels[:, None] - true_xy(unseen, number)[None] * PIXEL).T).min(axis=0)
        labels.append(apart <= DIAMETER / 8)
        scores.append(score_micrograph(loaded, image).ravel())
    expected = average_precision_score(np.concatenate(labels), np.concatenate(scores))
    figures = json.loads((outcome / "evaluation.json").read_text())
    assert figures["region_average_precision"] == pytest.approx(expected, abs=2e-3)


def test_evaluate_prints_a_table(outcome: Path, unseen: Path) -> None:
    asked = ("--picks", outcome / "picks.tsv", "--truth", unseen / "truth.star")
    lines = done("evaluate", *asked, "--match-distance", 48).out.splitlines()
    assert lines[0].split() == ["micrograph", "picks", "truth", "found", "P", "R", "F1", "AP"]
    assert [line.split()[0] for line in lines[1:4]] == [
        f"micrographs/shell_000{n}.mrc" for n in (1, 2, 3)
    ]
    expected = json.loads((outcome / "evaluation.json").read_text())
    everything = next(line for line in lines if line.startswith("all (micro)")).split()
    assert [int(v) for v in everything[2:5]] == [
        expected[k] for k in ("n_picks", "n_truth", "n_true_positives")
    ]
    assert [float(v) for v in everything[5:]] == pytest.approx(
        list(expected["micro"].values()), abs=6e-4
    )


def test_evaluate_at_a_threshold(outcome: Path, unseen: Path) -> None:
    figures = judge(outcome / "picks.tsv", unseen / "truth.star", "--threshold", -3)
    scores = [float(r["log_odds"]) for r in rows(outcome / "picks.tsv")]
    assert figures["n_picks"] == sum(score >= -3 for score in scores)
    assert figures["threshold"] == -3
    usual = json.loads((outcome / "evaluation.json").read_text())
    assert figures["micro"]["recall"] >= usual["micro"]["recall"]
    ap = usual["micro"]["average_precision"]
    assert figures["micro"]["average_precision"] == pytest.approx(ap, abs=1e-4)


def topaz_text(path: Path, table: Rows, score: bool = True) -> Path:
    """Write picks as Topaz does: stems, whole pixels."""
    lines = ["image_name\tx_coord\ty_coord" + "\tscore" * score]
    for row in table:
        x, y = (round(float(row[k])) for k in ("x_px", "y_px"))
        lines.append(f"{Path(row['micrograph']).stem}\t{x}\t{y}" + f"\t{row['log_odds']}" * score)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_evaluate_the_picks_of_another_program(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    expected = json.loads((outcome / "evaluation.json").read_text())
    table = rows(outcome / "picks.tsv")
    truth = unseen / "truth.star"
    text = topaz_text(tmp_path / "topaz.txt", table)
    everything = judge(text, truth)
    assert everything["n_picks"] == len(table)
    ap = expected["micro"]["average_precision"]
    assert everything["micro"]["average_precision"] == pytest.approx(ap, abs=0.03)
    # Without scores there is one operating point.
    star = tmp_path / "other.star"
    own = read_picks(outcome / "picks.tsv")
    body = "".join(
        f"{n} {x:.2f} {y:.2f}\n" for n, (x, y) in zip(own.names(), own.xy_px, strict=True)
    )
    columns = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY")
    head = "".join(f"_{c} #{i}\n" for i, c in enumerate(columns, 1))
    star.write_text(f"\ndata_\n\nloop_\n{head}{body}\n")
    plain = judge(star, truth)
    assert plain["n_picks"] == expected["n_picks"]
    micro = plain["micro"]
    assert micro["f1"] == pytest.approx(expected["micro"]["f1"], abs=1e-9)
    assert micro["average_precision"] == pytest.approx(micro["precision"] * micro["recall"])
    relion = judge(outcome / "autopick.star", truth)
    assert relion["micro"]["f1"] == pytest.approx(expected["micro"]["f1"], abs=1e-9)


def test_micrographs_without_picks_count_as_missed_where_they_were_asked_for(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    some = [r for r in rows(outcome / "picks.tsv") if not r["micrograph"].endswith("3.mrc")]
    text = topaz_text(tmp_path / "picks.txt", some)
    truth = ("--truth", unseen / "truth.star", "--match-distance", 48, "--json")
    result = done("evaluate", "--picks", text, *truth)
    assert "1 micrographs of the ground truth have no picks" in result.err
    assert json.loads(result.out)["n_truth"] == 24
    result = done("evaluate", "--picks", text, *truth, "--micrographs", unseen / "micrographs")
    assert json.loads(result.out)["n_truth"] == 36
    assert "note" not in result.err


def test_evaluate_measures_each_micrograph_by_its_own_pixels(tmp_path: Path) -> None:
    """The truth's optics groups hold though the picks call the micrographs otherwise."""
    truth, picks = tmp_path / "truth.star", tmp_path / "picks.csv"
    truth.write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 2.0\n2 8.0\n\n"
        "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n"
        "_rlnCoordinateY #3\n_rlnOpticsGroup #4\nM/a.mrc 50 50 1\nM/b.mrc 50 50 2\n\n"
    )
    picks.write_text("image_name,x_coord,y_coord,score\na,60,50,1\nb,60,50,2\n")
    figures = judge(picks, truth)  # 20 A and 80 A beside the particle
    found = {row["name"]: row["n_true_positives"] for row in figures["micrographs"]}
    assert found == {"a": 1, "b": 0}
    assert judge(picks, truth, "--pixel-size", 2)["n_true_positives"] == 2


def test_evaluate_takes_pixel_sizes_from_the_micrographs_star(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    picks = topaz_text(tmp_path / "picks.txt", rows(outcome / "picks.tsv"))
    known = read_picks(unseen / "truth.star")
    truth = tmp_path / "truth.csv"
    body = [f"{n},{x},{y}\n" for n, (x, y) in zip(known.names(), known.xy_px, strict=True)]
    truth.write_text("image_name,x_coord,y_coord\n" + "".join(body))
    stars = ("--micrographs", unseen / "micrographs.star")
    assert judge(picks, truth, *stars)["micro"]["average_precision"] > 0.7
    result = call("evaluate", "--picks", picks, "--truth", truth, "--match-distance", 48)
    assert result.code == 2
    assert "--pixel-size" in result.sentence


def test_evaluate_scores_the_micrographs_it_can(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    good, bad = shutil.copy(first(unseen), tmp_path), tmp_path / first(unseen, 2).name
    bad.touch()
    asked = ("--picks", outcome / "picks.tsv", "--truth", unseen / "truth.star")
    asked = (*asked, "--match-distance", 48, "--model", outcome / MODEL)
    result = call("evaluate", *asked, "--micrographs", good, bad, "--json")
    assert result.code == 3
    assert f"skipped {bad}:" in result.err
    assert json.loads(result.out)["region_average_precision"] > 0.3
    out = tmp_path / "figures"
    assert call("evaluate", *asked, "--micrographs", good, bad, "-o", out).code == 3
    assert files_in(out) == {"evaluation.json", "curve.tsv", "evaluate.json"}
    failed = json.loads((out / "evaluate.json").read_text())["failed"]
    assert [row["micrograph"] for row in failed] == [str(bad)]


# ---- preprocess ----


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


# ---- simulate and demo ----


def test_simulate_writes_what_was_asked_for(tmp_path: Path) -> None:
    options = ("--count", 2, "--size-px", "200x160", "--particles", 5, "--labels", 7, "--seed", 4)
    result = done("simulate", tmp_path, *SHELLS, *options)
    assert f"2 micrographs with 10 particles in {tmp_path}" in result.err
    images = {f"micrographs/shell_000{n}.mrc" for n in (1, 2)}
    assert files_in(tmp_path) == images | {"micrographs.star", "truth.star", "labels.star"}
    for name in images:
        with mrcfile.open(tmp_path / name) as mrc:
            assert mrc.data.shape == (160, 200)
            assert float(mrc.voxel_size.x) == pytest.approx(PIXEL)
    listed = starfile.read(tmp_path / "micrographs.star")
    assert set(listed["micrographs"]["rlnMicrographName"]) == images
    assert listed["optics"]["rlnMicrographPixelSize"].tolist() == [PIXEL]
    truth, labels = read_picks(tmp_path / "truth.star"), read_picks(tmp_path / "labels.star")
    assert truth.counts().tolist() == [5, 5]
    assert len(labels) == 7
    assert {tuple(xy) for xy in labels.xy_px.tolist()} <= {
        tuple(xy) for xy in truth.xy_px.tolist()
    }
    assert (truth.xy_px < [200, 160]).all()


def test_simulate_options_reach_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heliodor import simulation

    seen: list[SimulationSettings] = []

    def make(out: Path, settings: SimulationSettings, progress: object) -> simulation.SimulatedSet:
        seen.append(settings)
        return simulation.SimulatedSet(out, out, out, None, 1, 1, 0)

    monkeypatch.setattr(simulation, "simulate", make)
    typed = "--particle stick --count 3 --size-px 128 --pixel-size 5 --particles 0 --snr 0.3"
    typed += " --defocus-min 0.5 --defocus-max 3 --voltage 200 --b-factor 80 --contaminants 2"
    done("simulate", tmp_path, *typed.split(), "--orientations", "preferred", "--overlap")
    assert seen == [
        SimulationSettings(
            particle="stick",
            count=3,
            shape=(128, 128),
            pixel_size_angstrom=5.0,
            particles_per_micrograph=0,
            snr=0.3,
            defocus_um=(0.5, 3.0),
            voltage_kv=200.0,
            b_factor=80.0,
            contaminants=2.0,
            orientations="preferred",
            overlap=True,
        )
    ]


def test_demo_does_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SimulationSettings(
        particle="shell",
        count=3,
        shape=(256, 256),
        pixel_size_angstrom=PIXEL,
        particles_per_micrograph=6,
        snr=0.5,
        contaminants=0.0,
        labels=9,
    )
    monkeypatch.setattr(demo, "TRAINING_SET", small)
    monkeypatch.setattr(demo, "TEST_SET", replace(small, count=2, labels=0, seed=1))
    recipe = TrainingSettings(width=2, epochs=1, epoch_updates=10)
    monkeypatch.setattr(demo, "RECIPE", recipe)
    monkeypatch.setattr(demo, "START", "scratch")
    shown: list[Any] = []
    write = report.write_report

    def write_report(path: Path, content: Any) -> None:
        shown.append(content)
        write(path, content)

    monkeypatch.setattr("heliodor.report.report.write_report", write_report)
    out = tmp_path / "demo"
    result = done("demo", "-o", out)
    assert f"report: {out / 'results' / 'report.html'}" in result.err
    made = {"model.safetensors", "picks.tsv", "evaluation.json", "report.html", "run.json"}
    assert files_in(out / "results") >= made
    record = json.loads((out / "results" / "run.json").read_text())
    assert record["arguments"]["diameter_angstrom"] == 120.0
    assert record["evaluation"]["n_truth"] == 12
    # The two sets call their micrographs the same; labels of one are not those of the other.
    assert [item.labels_xy_px for item in shown[0].gallery] == [None, None]
    again = call("demo", "-o", out)
    assert again.code == 2
    assert "earlier demonstration" in again.sentence


# ---- the program itself ----

CALL = "from heliodor.cli.main import main; main()"


@pytest.mark.parametrize(("words", "most"), [(["--help"], 250), (["pick", "--help"], 350)])
def test_help_imports_little_and_nothing_slow(words: list[str], most: int) -> None:
    """How long it takes is measured by ``benchmarks.speed.run`` (start)."""
    report = f"import sys, atexit; atexit.register(lambda: print(*sys.modules)); {CALL}"
    said = subprocess.run(
        [sys.executable, "-c", report, *words], check=True, capture_output=True, text=True
    ).stdout
    assert "Usage: heliodor" in said
    assert ("--exclusion-radius" in said) == ("pick" in words)
    loaded = set(said.splitlines()[-1].split())
    assert "heliodor.cli.main" in loaded
    assert len(loaded) < most
    assert not loaded & {"torch", "numpy", "scipy", "pandas", "matplotlib", "mrcfile", "rich"}


def test_a_real_process_ends_with_a_sentence_and_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CALL, "simulate", str(tmp_path / "set"), "--particle", "cat"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "'cat'" in ended.stderr
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "command",
    ["run", "train", "pick", "evaluate", "preprocess", "simulate", "demo"],
)
def test_every_command_has_help(command: str) -> None:
    said = done(command, "--help").out
    assert said.startswith(f"Usage: heliodor {command} ")


@pytest.mark.parametrize("command", ["run", "train"])
def test_help_names_every_network(command: str) -> None:
    said = " ".join(done(command, "--help").out.split())
    names = said.partition("--network NAME ")[2].partition("[")[0]
    assert all(name in names for name in WORKING_DIAMETER_PX)
    sizes = said.partition("--working-pixel-size ANGSTROM ")[2].partition("]")[0]
    for name, pixels in WORKING_DIAMETER_PX.items():
        assert re.search(rf"/ {pixels:g} for (\w+ and )?{name}\b", sizes), name


def test_version() -> None:
    assert done("--version").out == f"heliodor {__version__}\n"


def test_a_bar_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from heliodor.utils import console

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with console.progress("picking") as progress:
        tick: Callable[[int, int], None] = progress
        tick(1, 2)
        tick(2, 2)
