"""The script of one micrograph, with CryoFLARE's functions and heliodor itself or a stand-in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent / "picking_heliodor.sh"
MOVIE = "Movies/FoilHole_1.tif"
JOB = Path("AutoPick/job005/Movies")

#: Does as heliodor does, and keeps its arguments.
RECORDER = """#!/bin/bash
echo "$@" >> {folder}/calls
if [ -e {folder}/broken ]; then echo "heliodor: damaged" >&2; exit 2; fi
out=$(echo "$@" | sed 's/.* -o \\([^ ]*\\).*/\\1/')
mkdir -p $out
if [ "$1" = pick ]; then
  printf '# threshold 0.544 (log-odds)\\n' > $out/FoilHole_1_autopick.star
  printf 'micrograph\\tpicks\\tbad_area\\na.mrc\\t2\\t0.25\\n' > $out/micrographs.tsv
else
  printf '10\\t20\\t64\\t64\\n30\\t40\\t64\\t64\\n' > $out/FoilHole_1.box
fi
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "heliodor"
    program.write_text(RECORDER.format(folder=tmp_path))
    program.chmod(0o755)
    return tmp_path


def run(folder, program_folder=None, **values):
    """Run the script as CryoFLARE does."""
    values = {"raw_movie": MOVIE, "aligned_micrograph": "aligned.mrc", "apix_x": "4", **values}
    given = "".join(f"{name}={value}\n" for name, value in values.items())
    search = [str(HERE / "recorded_interface"), str(program_folder or folder / "bin")]
    path = os.pathsep.join([*search, os.environ["PATH"]])
    return subprocess.run(
        [SCRIPT], input=given, capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PATH": path, "TMPDIR": str(folder)},
    )  # fmt: skip


def exported(result, kind="RESULT_EXPORT"):
    rows = [line.partition(":")[2] for line in result.stdout.splitlines() if line.startswith(kind)]
    return dict(row.split("=", 1) for row in rows)


def test_cryoflare_reads_the_results(folder):
    result = run(folder, picking_input_diameter=180, gpu_id=1)
    assert result.returncode == 0, result.stderr
    found = exported(result)
    assert found["picking_num_particles"] == "2"
    assert found["picking_threshold"] == "0.544"
    assert found["picking_contaminated_share"] == "0.25"
    files = exported(result, "FILE_EXPORT")
    assert files["picking_boxes"] == str(JOB / "FoilHole_1_autopick.box")
    assert all((folder / file).exists() for file in files.values())
    shared = exported(result, "SHARED_FILE_EXPORT")["picking_star"]
    assert (folder / shared).read_text() == "MotionCorr/job003/corrected_micrographs.star\n"
    pick, convert = (folder / "calls").read_text().splitlines()
    assert "--diameter 180 --device cuda:1" in pick
    assert "--pixel-size 4" in pick
    assert "--box-px 68" in convert
    assert not list(folder.glob("tmp.*")), "the scratch folder stays"


def test_a_micrograph_that_is_done_is_not_picked_again(folder):
    first = run(folder, picking_input_diameter=180)
    again = run(folder, picking_input_diameter=180)
    assert exported(again) == exported(first)
    assert len((folder / "calls").read_text().splitlines()) == 2


def test_every_parameter_reaches_the_program(folder):
    run(
        folder, picking_input_model="m.safetensors", picking_input_box=100,
        picking_input_threshold=-0.5, picking_input_exclusion_radius=90,
        picking_input_bad_areas="keep", picking_input_threads=3,
    )  # fmt: skip
    pick, convert = (folder / "calls").read_text().splitlines()
    for words in (
        *("--model m.safetensors", "--threshold -0.5", "--exclusion-radius 90"),
        *("--bad-areas keep", "--threads 3", "--device cpu"),
    ):
        assert words in pick
    assert "--diameter" not in pick
    assert "--box-px 100" in convert


def test_a_bad_micrograph_leaves_no_files_and_says_why(folder):
    (folder / "broken").touch()
    result = run(folder, picking_input_diameter=180)
    assert result.returncode == 2
    assert "heliodor: damaged" in result.stderr
    assert not list((folder / JOB).glob("FoilHole*"))


def test_missing_parameters_are_named(folder):
    result = run(folder)
    assert result.returncode == 2
    assert "picking_input_diameter" in result.stderr
    result = run(folder, picking_input_model="m.safetensors")
    assert "picking_input_box" in result.stderr


@pytest.mark.slow
def test_picking_with_heliodor_itself(tmp_path):
    """The boxes that CryoFLARE draws are around simulated particles."""
    where = Path(sys.executable).parent
    program = shutil.which("heliodor", path=f"{where}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("heliodor is not installed")
    simulate = [program, "simulate", "sim", "--count", "1", "--size-px", "768x768", "--seed", "3"]
    subprocess.run([*simulate, "--pixel-size", "4"], check=True, cwd=tmp_path)
    micrograph = next((tmp_path / "sim" / "micrographs").glob("*.mrc"))
    result = run(
        tmp_path, Path(program).parent, picking_input_diameter=180,
        aligned_micrograph=micrograph.relative_to(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    boxes = [
        [float(word) for word in line.split()[:4]]
        for line in (tmp_path / JOB / "FoilHole_1_autopick.box").read_text().splitlines()
    ]
    assert len(boxes) == int(exported(result)["picking_num_particles"])
    centers = [(x + width / 2, y + height / 2) for x, y, width, height in boxes]
    truth = [
        (float(line.split()[1]), float(line.split()[2]))
        for line in (tmp_path / "sim" / "truth.star").read_text().splitlines()
        if ".mrc" in line
    ]
    near = sum(any((x - a) ** 2 + (y - b) ** 2 < 10**2 for a, b in truth) for x, y in centers)
    print(f"{len(boxes)} boxes, {near} of them within 10 pixels of {len(truth)} particles")
    assert near > 0.8 * len(boxes)
    assert near > 0.6 * len(truth)
