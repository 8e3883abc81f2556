"""Small simulated sets and two finished jobs, made once for all tests of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cli import done
from helpers.shared_folder import shared_folder
from helpers.shell_jobs import HEIGHT, MODEL, RECIPE, SHELLS, SMALL, TINY, WIDTH, training_data


@pytest.fixture(scope="session")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six micrographs to train on, with 40 labels."""
    options = ("--count", 6, "--size-px", 384, "--particles", 12, "--labels", 40, "--seed", 1)
    return shared_folder(
        tmp_path_factory, "learn", lambda out: done("simulate", out, *SHELLS, *options)
    )


@pytest.fixture(scope="session")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rectangular micrographs of another seed."""
    size = ("--size-px", f"{WIDTH}x{HEIGHT}")
    options = (*size, "--count", 3, "--particles", 12, "--seed", 2)
    return shared_folder(
        tmp_path_factory, "unseen", lambda out: done("simulate", out, *SHELLS, *options)
    )


@pytest.fixture(scope="session")
def outcome(learn: Path, unseen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole job: trained on `learn`, picked on `unseen`."""
    job = ("run", *training_data(learn), *RECIPE, *SMALL, "--seed", 3)
    picked = ("--pick", unseen / "micrographs.star", "--truth", unseen / "truth.star")
    return shared_folder(tmp_path_factory, "outcome", lambda out: done(*job, *picked, "-o", out))


@pytest.fixture(scope="session")
def brief(learn: Path, unseen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a training that learns nothing, without its pictures."""
    job = ("run", *training_data(learn), *RECIPE, *TINY, "--seed", 3)
    picked = ("--pick", unseen / "micrographs.star", "--truth", unseen / "truth.star")

    def make(out: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("heliodor.report.report.write_report", lambda path, content: None)
            done(*job, *picked, "-o", out)

    return shared_folder(tmp_path_factory, "brief", make)


@pytest.fixture(scope="session")
def model(outcome: Path) -> Path:
    return outcome / MODEL


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out, which take longer than all the rest."""
    monkeypatch.setattr("heliodor.report.report.write_report", lambda path, content: None)
