"""Our picks in a real RELION: its pipeline runs our jobs, and its boxes are where we say. Slow."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from numpy.typing import NDArray

from heliodor.data.coordinates.formats import read_picks, relion_autopick
from heliodor.data.coordinates.picks import Picks
from helpers.cli import done
from helpers.doc_blocks import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("relion_preprocess") is None, reason="RELION is not installed"
    ),
]

BOX = 80
HALF = BOX // 2
#: Distances from the center of a box, in pixels of 3.54 A; the particle's radius is 25.
Y, X = np.mgrid[:BOX, :BOX] - HALF
RADIUS = np.hypot(X, Y)
JOB = "AutoPick/job001"


@pytest.fixture
def project(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that RELION takes for a project, with real micrographs of 8 bits in it."""
    monkeypatch.chdir(tmp_path)
    Path("micrographs").symlink_to(real_data / "betagal" / "micrographs")
    rows = "".join(f"{path} 1\n" for path in sorted(Path("micrographs").glob("*.mrc")))
    Path("micrographs.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n"
        "_rlnMicrographPixelSize #3\n_rlnVoltage #4\n_rlnSphericalAberration #5\n"
        "_rlnAmplitudeContrast #6\nopticsGroup1 1 3.54 300 2.0 0.1\n\n"
        f"data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n{rows}"
    )
    return tmp_path


def picks_of(file: Path) -> Picks:
    picks = read_picks(file)
    return replace(picks, score=np.ones(len(picks)), extra={})


def write(picks: Picks) -> None:
    """Write picks as the program does."""
    files = {
        name: Path(f"{JOB}/{name.removesuffix('.mrc')}_autopick.star")
        for name in picks.micrographs
    }
    for name, own in picks.split_by_micrograph():
        relion_autopick.write_one_autopick(files[name], own)
    relion_autopick.write_autopick_list(Path(JOB), files)


def extract(*options: str) -> list[NDArray[np.float32]]:
    """Let RELION extract particles, and return the stack of each micrograph."""
    shutil.rmtree("Extract", ignore_errors=True)
    command = ["relion_preprocess", "--i", "micrographs.star", "--extract"]
    command += ["--coord_dir", f"{JOB}/", "--coord_suffix", "_autopick.star"]
    command += ["--part_star", "Extract/particles.star", "--part_dir", "Extract/"]
    command += ["--extract_size", str(BOX), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "WARNING" not in result.stdout + result.stderr
    return [np.array(mrcfile.read(path)) for path in sorted(Path("Extract").rglob("*.mrcs"))]


def test_boxes_are_the_pixels_around_the_picks(project: Path, real_data: Path) -> None:
    """To the last bit: cut-off fractions, repeated edge pixels, and nothing flipped."""
    dense = picks_of(real_data / "betagal" / "dense.star")
    edges = np.array([[0.0, 0.0], [2047, 5.5], [10.999, 2047], [1000.25, 39.75], [2008, 700]])
    more = Picks.from_columns([dense.micrographs[0]] * len(edges), edges, np.ones(len(edges)))
    picks = Picks.concatenate([dense, more])
    write(picks)
    stacks = extract()
    assert sum(map(len, stacks)) == len(picks) == len(dense) + len(edges)
    by_name = sorted(picks.split_by_micrograph())
    for (name, own), stack in zip(by_name, stacks, strict=True):
        padded = np.pad(mrcfile.read(name).astype(np.float32), HALF, mode="edge")
        corners = own.xy_px.astype(int)
        boxes = np.array([padded[y : y + BOX, x : x + BOX] for x, y in corners])
        np.testing.assert_array_equal(stack, boxes)
    particles = starfile.read("Extract/particles.star")["particles"]
    assert np.allclose(
        particles["rlnCoordinateX"], np.concatenate([o.xy_px for _, o in by_name])[:, 0]
    )


@pytest.mark.parametrize("labels", ["dense.star", "manual_positive.star"])
def test_the_average_shows_a_particle_in_the_centre(
    labels: str, project: Path, real_data: Path
) -> None:
    def average(picks: Picks) -> NDArray[np.float64]:
        """Mean of the boxes, particles bright, in standard deviations of their background."""
        write(picks)
        stack = np.concatenate(extract("--norm", "--bg_radius", "30", "--invert_contrast"))
        assert len(stack) == len(picks)
        return np.asarray(stack.mean(axis=0, dtype=np.float64))

    def contrast(image: NDArray[np.float64]) -> float:
        around = image[RADIUS > 30]
        return float((image[RADIUS < 8].mean() - around.mean()) / around.std())

    picks = picks_of(real_data / "betagal" / labels)
    image = average(picks)
    assert image[RADIUS < 8].mean() > 1.5
    assert contrast(image) > 15
    weight = np.clip(image - np.median(image), 0, None) * (RADIUS < 20)
    # These labels are themselves 2.6 pixels, 9 A of 180, from where the density is.
    assert np.hypot((weight * X).sum(), (weight * Y).sum()) / weight.sum() < 3
    flipped = picks.xy_px * [1, -1] + [0, 2047]
    upside_down = average(replace(picks, xy_px=flipped))
    assert abs(upside_down[RADIUS < 8].mean()) < 0.15
    assert contrast(upside_down) < 6


def test_relion_reads_our_stars(project: Path, real_data: Path) -> None:
    picks = picks_of(real_data / "betagal" / "manual_positive.star")
    write(picks)

    def printed(*arguments: str) -> list[list[str]]:
        command = ["relion_star_printtable", *arguments]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [line.split() for line in said.splitlines()]

    table = ("data_coordinate_files", "_rlnMicrographName", "_rlnMicrographCoordinates")
    listed = printed(f"{JOB}/autopick.star", *table)
    assert [name for name, _ in listed] == list(picks.micrographs)
    for (name, file), (_, own) in zip(listed, picks.split_by_micrograph(), strict=True):
        xy = printed(file, "data_", "_rlnCoordinateX", "_rlnCoordinateY")
        assert np.allclose(np.array(xy, dtype=float), own.xy_px, 0, 1e-3), name


# ---- RELION 3.1's own pipeline runs the jobs ----

SUCCEEDED, FAILED = 2, 3


@pytest.mark.skipif(shutil.which("relion_pipeliner") is None, reason="RELION has no pipeliner")
def test_relion_runs_our_jobs_and_extracts_what_they_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    shells = ("--particle", "shell", "--pixel-size", 7, "--size-px", "320x288", "--snr", 0.5)
    more = ("--count", 5, "--particles", 15, "--labels", 60, "--contaminants", 0)
    done("simulate", folder / "MotionCorr/job002", *shells, *more)
    monkeypatch.chdir(folder)
    for name in ("micrographs.star", "labels.star"):
        text = Path(f"MotionCorr/job002/{name}").read_text()
        Path(name).write_text(text.replace("micrographs/", "MotionCorr/job002/micrographs/"))
    Path("default_pipeline.star").write_text(
        "\n# version 30001\n\ndata_pipeline_general\n\n_rlnPipeLineJobCounter   1\n\n"
    )
    number = 0

    def run(kind: str, **options: object) -> tuple[Path, int]:
        """Run a job as RELION's window would, and return its folder and RELION's verdict."""
        nonlocal number
        number += 1
        job = f"{kind}/job{number:03d}/"
        told = ";".join(f"{key} == {value}" for key, value in options.items())
        for command in (
            ["--addJob", kind, "--addJobOptions", told],
            ["--RunJobs", job, "--schedule", f"s{number}", "--sec_wait_after", "1"],
        ):
            subprocess.run(
                ["relion_pipeliner", *command],
                env=environment(tmp_path / "bin"),
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=300,
                check=True,
            )
        pipeline = starfile.read("default_pipeline.star", always_dict=True)
        table = pipeline["pipeline_processes"].set_index("rlnPipeLineProcessName")
        return Path(job), int(table.loc[job, "rlnPipeLineProcessStatus"])

    def parameters(**values: object) -> dict[str, object]:
        named = enumerate(values.items(), 1)
        return {
            f"param{n}_{part}": said
            for n, (label, value) in named
            for part, said in (("label", label), ("value", value))
        }

    given = {"in_mic": "micrographs.star", "nr_threads": 1}
    learn = parameters(diameter=120, expected_particles=15, epochs=2, epoch_updates=20)
    learnt, verdict = run(
        "External", fn_exe="heliodor relion train", in_part="labels.star", **given, **learn
    )
    assert verdict == SUCCEEDED, (learnt / "run.err").read_text()

    model = parameters(model=learnt / "model.safetensors")
    picked, verdict = run("External", fn_exe="heliodor relion pick", **given, **model)
    assert verdict == SUCCEEDED, (picked / "run.err").read_text()
    assert (picked / "run.err").read_text() == ""
    node = f"{picked}/coords_suffix_autopick.star"
    pipeline = starfile.read("default_pipeline.star", always_dict=True)
    types = pipeline["pipeline_nodes"].set_index("rlnPipeLineNodeName")["rlnPipeLineNodeType"]
    assert types[node] == 2
    assert (f"{picked}/", node) in list(
        pipeline["pipeline_output_edges"].itertuples(index=False, name=None)
    )

    found = len(read_picks(picked / "autopick.star"))
    assert found > 40
    boxes = {"star_mics": "micrographs.star", "coords_suffix": node, "extract_size": 40}
    extracted, verdict = run("Extract", nr_mpi=1, **boxes)
    assert verdict == SUCCEEDED
    assert len(starfile.read(extracted / "particles.star")["particles"]) == found

    wrong = parameters(model=learnt / "model.safetensors", treshold=1)
    failed, verdict = run("External", fn_exe="heliodor relion pick", **given, **wrong)
    assert verdict == FAILED
    assert "--treshold" in (failed / "run.err").read_text()
