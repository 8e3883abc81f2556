"""``heliodor train`` from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import find_sources
from heliodor.models.model_file import load_model
from helpers.cli import done
from helpers.shell_jobs import (
    DIAMETER,
    MODEL,
    PIXEL,
    RECIPE,
    TINY,
    WORKING,
    first,
    training_data,
    two_of,
)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_labelled_negatives_are_used_and_counted(learn: Path, tmp_path: Path) -> None:
    name = read_picks(learn / "labels.star").micrographs[0]
    negatives = tmp_path / "negatives.tsv"
    negatives.write_text(f"image_name\tx_coord\ty_coord\n{name}\t9\t9\n{name}\t380\t5\n")
    data = ("train", *training_data(learn), *RECIPE, *TINY)
    without = done(*data, "-o", tmp_path / "without")
    result = done(*data, "--negatives", negatives, "-o", tmp_path / "with")
    assert "40 labeled particles and 2 negatives" in " ".join(result.err.split())
    assert "labeled negatives" not in without.err
    files = [(tmp_path / name / MODEL).read_bytes() for name in ("with", "without")]
    assert files[0] != files[1]
    record = json.loads((tmp_path / "with" / "run.json").read_text())
    assert record["arguments"]["negatives"] == str(negatives)


def _write_labels(form: str, picks: Picks) -> str:
    """Write labels into the current folder as another program leaves them; return the file."""
    xy, names = picks.xy_px, picks.names()
    head = "data_particles\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnMicrographName\n"
    rows = [f"{x} {y} {name}" for (x, y), name in zip(xy, names, strict=True)]
    tables = dict(picks.split_by_micrograph())
    text = ""
    if form == "plain":
        text = head + "".join(f"{row}\n" for row in rows)
    elif form == "one behind another":
        text = "".join(f"{head}{row}\n\n" for row in rows)
    elif form == "recalibrated":
        text = head + "_rlnMicrographPixelSize\n" + "".join(f"{r} {PIXEL * 1.06}\n" for r in rows)
    elif form == "class":  # boxes of particles that a 2D classification shifted, of binned movies
        text = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnMicrographOriginalPixelSize\n"
        text += f"1 {PIXEL / 2}\n\n{head}_rlnOriginXAngst\n_rlnOriginYAngst\n_rlnOpticsGroup\n"
        boxes = [f"{x + 2} {y - 3} {name}" for (x, y), name in zip(xy, names, strict=True)]
        text += "".join(f"{row} {2 * PIXEL} {-3 * PIXEL} 1.0\n" for row in boxes)
    elif form == "list":  # of one file of 0 bytes and one that is not there
        text = "data_\n\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\n"
        for name, table in tables.items():
            text += f"{name} {Path(name).stem}_pick.star\n"
            own = "".join(f"{x} {y}\n" for x, y in table.xy_px)
            only = head.replace("_rlnMicrographName\n", "")
            Path(f"{Path(name).stem}_pick.star").write_text(only + own)
        text += "other.mrc empty.star\nthird.mrc gone.star\n"
        Path("empty.star").touch()
    elif form == "info":  # of a project in which one micrograph is not picked yet
        Path("info").mkdir()
        Path("info/other_info.json").write_text('{"quality": 5}')
        for name, table in tables.items():
            boxes = [[x, y, "manual"] for x, y in table.xy_px.tolist()]
            Path(f"info/{Path(name).stem}_info.json").write_text(json.dumps({"boxes": boxes}))
        return "info"
    Path("labels.star").write_text(text)
    return "labels.star"


@pytest.mark.slow
def test_labels_as_other_programs_leave_them(
    learn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the same labels, and give the same model; what was assumed is said."""
    picks = read_picks(learn / "labels.star")
    used = [f"M/{Path(name).name}" for name in picks.micrographs[:2]]
    own = picks.select(picks.micrograph_index < 2)
    names = [f"M/{Path(name).name}" for name in own.names()]
    picks = Picks.from_columns(names, np.rint(own.xy_px))
    models = {}
    for form, said in {
        "plain": "",
        "one behind another": "",
        "recalibrated": "are at 6.36 Å/pixel, but the micrograph is at 6 Å/pixel",
        "class": "the refined shifts of",
        "list": "1 coordinate files that do not exist (such as gone.star)",
        "info": "",
    }.items():
        (tmp_path / form).mkdir()
        monkeypatch.chdir(tmp_path / form)
        micrographs = (learn / "micrographs" / Path(name).name for name in used)
        data = ("--micrographs", *micrographs, "--labels", _write_labels(form, picks))
        result = done("train", *data, *RECIPE, *TINY, "--trust-labels", "-o", "model")
        models[form] = Path("model", MODEL).read_bytes()
        assert said in result.err
        notes = [line for line in result.err.splitlines() if line.startswith("note: ")]
        if form == "plain":
            usual = notes
        assert len(set(notes) - set(usual)) == bool(said), notes
    assert {form for form, model in models.items() if model != models["plain"]} == set()


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
