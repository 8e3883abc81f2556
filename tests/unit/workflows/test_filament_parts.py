"""Several processes that trace filaments into one folder leave what one process leaves."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from heliodor.models.filament_model_file import save_filament_model
from heliodor.picking.filaments.batch import TracedMicrograph
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.simulation.dataset import simulate
from heliodor.simulation.settings import SimulationSettings
from heliodor.utils.hashing import digest
from heliodor.workflows import parts, site_settings
from heliodor.workflows.picking_status import read_status
from helpers.cli import call, done
from helpers.fake_slurm import write_slurm
from helpers.filament_network import WIDTH_ANGSTROM, KnownAxes, write_micrographs
from helpers.filaments import random_filament_model

NUMBER = 5
PICK = ("pick", "mics", "--filaments", "--width", WIDTH_ANGSTROM, "--threads", 1, "-o")
FORMATS = ("--segments", "20x3", "--to", "box", "--to", "start-end")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with micrographs, one of which is damaged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "POLL_SECONDS", 0.01)
    write_micrographs(tmp_path / "mics", NUMBER)
    Path("mics/mic_4.mrc").write_bytes(b"damaged")
    return tmp_path


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> KnownAxes:
    known = KnownAxes()
    monkeypatch.setattr(
        "heliodor.workflows.tracing_setup.load_predictor", lambda model, width, device: known
    )
    return known


def results(folder: str) -> dict[str, str]:
    """Return digests of the results, without what differs between any two runs."""
    where = Path(folder)
    found = {
        path.relative_to(where).as_posix(): path.read_bytes()
        for path in where.rglob("*")
        if path.is_file() and not path.relative_to(where).as_posix().startswith(".")
    }
    record = json.loads(found["run.json"])
    for key in ("seconds", "started", "command_line", "parts"):
        record.pop(key, None)
    del record["versions"]["executable"]
    found["run.json"] = json.dumps(record).encode()
    return {
        name: digest([text.replace(f"{folder}/".encode(), b"")]) for name, text in found.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("order", [("1/1",), ("2/3", "3/3", "1/3"), ("claim",)])
def test_parts_in_any_order_leave_what_one_process_leaves(
    project: Path, network: KnownAxes, order: tuple[str, ...]
) -> None:
    assert call(*PICK, "one", *FORMATS).code == 3
    alone = results("one")
    assert {"filaments.star", "segments.star", "micrographs.tsv", "failed.tsv"} <= {*alone}
    calls = network.calls
    for number, part in enumerate(order, 1):
        ended = call(*PICK, "out", *FORMATS, "--part", part)
        assert ended.code in (0, 3), ended.err
        assert Path("out/run.json").exists() == (number == len(order))
    assert results("out") == alone
    assert network.calls == 2 * calls
    record = json.loads(Path("out/run.json").read_text())
    assert sorted(own["part"] for own in record["parts"]) == sorted(order)
    assert sum(own["micrographs"] for own in record["parts"]) == NUMBER - 1
    shown = json.loads(done("status", "out", "--json").out)
    assert (shown["state"], shown["done"], shown["failed"]) == ("finished", NUMBER - 1, 1)
    # Another threshold by one process: nothing is traced again.
    call(*PICK, "out", "--threshold", 1)
    assert network.calls == 2 * calls


def test_a_killed_process_is_continued_and_merge_says_what_is_missing(
    project: Path, network: KnownAxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    add = JoinedJournals.add

    def die(self: JoinedJournals[TracedMicrograph], *arguments: object) -> None:
        if network.calls > 2:
            raise Killed
        add(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(JoinedJournals, "add", die)
        with pytest.raises(Killed):
            call(*PICK, "out", "--part", "1/1")
    assert read_status("out").done == 2
    refused = call("merge", "out")
    assert refused.code == 2
    assert "3 of 5 micrographs in out are not done (part 1/1 lacks" in refused.sentence
    assert "--filaments" in refused.sentence
    calls = network.calls
    assert call(*PICK, "out", "--part", "1/1").code == 3
    assert network.calls == calls + 2
    call(*PICK, "one")
    assert results("out") == results("one")


def test_the_command_merge_writes_the_results(
    project: Path, network: KnownAxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(parts, "_merge_once", lambda *arguments: None)
        call(*PICK, "out", "--part", "1/2")
        call(*PICK, "out", "--part", "2/2")
    assert read_status("out").state == "unmerged"
    assert call("merge", "out", "--threads", 1).code == 3
    call(*PICK, "one")
    assert results("out") == results("one")


def test_other_settings_of_a_part_are_refused(project: Path, network: KnownAxes) -> None:
    call(*PICK, "out", "--part", "1/2")
    for options, sentence in (
        (("--min-length", 500), "with min length None instead of 500"),
        (("--resume", "never"), "keep what has been found"),
        (("--cluster", "local"), "leave out --part"),
    ):
        refused = call(*PICK, "out", "--part", "2/2", *options)
        assert refused.code == 2
        assert sentence in refused.sentence
    particles = ("pick", "mics", "--diameter", 100, "-o", "out", "--part", "2/2")
    assert "other parts in out were started with" in call(*particles).sentence


@pytest.fixture
def cluster(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Add a model that other processes can load, and programs that stand for SLURM."""
    programs = project / "bin"
    write_slurm(programs)
    monkeypatch.setenv("HELIODOR_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(project / "config"))
    monkeypatch.setattr(site_settings, "SITE_FILE", project / "etc/heliodor.toml")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    save_filament_model(
        project / "m.safetensors", random_filament_model(width_angstrom=WIDTH_ANGSTROM)
    )
    return project


MODEL = ("--model", "m.safetensors")


def test_the_script_of_a_job_array_is_shown(cluster: Path) -> None:
    script = done(*PICK, "out", *MODEL, "--cluster", "slurm", "--jobs", 4, "--dry-run").out
    assert "#SBATCH --array=0-3%4" in script
    assert script.strip().splitlines()[-1].endswith("-o out --model m.safetensors --part claim")
    wrong = call("pick", "mics", "--filaments", "--cluster", "slurm", "-o", "out")
    assert wrong.code == 2
    assert "width" in wrong.sentence
    assert not Path("out/.picking/submitted.json").exists()


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "slurm"])
def test_processes_that_are_started_leave_what_one_leaves(cluster: Path, where: str) -> None:
    # By the general filament model, as other processes know no stand-in.
    words = FORMATS
    assert call(*PICK, "one", *words).code == 3
    assert json.loads(Path("one/run.json").read_text())["filaments"] > 0
    started = call(*PICK, "out", *words, "--cluster", where, "--jobs", 2)
    assert started.code == (3 if where == "local" else 0), started.err
    wait_for(cluster / "out/failed.tsv")
    assert read_status("out").state == "finished"
    assert results("out") == results("one")


@pytest.mark.slow
def test_another_process_trains_as_this_one_does(cluster: Path) -> None:
    settings = SimulationSettings(
        filament="tube", shape=(256, 256), pixel_size_angstrom=12.0, count=2, labels=3, seed=4
    )
    simulate(cluster / "fibrils", settings)
    words = ("train", "fibrils/micrographs.star", "--labels", "fibrils/labels.star",
             "--filaments", "--threads", 1, "-o")  # fmt: skip
    done(*words, "one")
    done(*words, "out", "--cluster", "slurm", "--memory", 3)
    wait_for(cluster / "out/run.json")
    both = [Path(own, "model.safetensors").read_bytes() for own in ("one", "out")]
    assert both[0] == both[1]
    assert "--mem=3GB" in (cluster / "bin/17.script").read_text()
