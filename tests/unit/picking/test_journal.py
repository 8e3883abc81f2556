"""The journal keeps each result with the content of the file that it was made from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.models.model_file import save_model
from heliodor.picking import batch
from helpers.cli import done
from helpers.networks import discs, model, scattered, write_mrc

SHAPE = (72, 64)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a model, two micrographs and two newer versions of the first."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "m.safetensors", model(normalization={"mode": "standard"}))
    for seed, name in enumerate(("mics/a", "mics/b", "new1", "new2")):
        write_mrc(tmp_path / f"{name}.mrc", discs(SHAPE, scattered(SHAPE, 6, 12, seed), seed=seed))
    return tmp_path


def pick(out: str) -> str:
    """Pick on both micrographs and return what is in picks.tsv."""
    done("pick", "--model", "m.safetensors", "--micrographs", "mics", "-o", out, "--threads", 1)
    return Path(out, "picks.tsv").read_text()


def replace_while_scored(monkeypatch: pytest.MonkeyPatch, newer: list[str]) -> None:
    """Let another program replace a micrograph each time that it has been read and is scored."""
    compute = batch.compute_score_maps

    def scored(network: Any, image: Any, *more: Any) -> Any:
        if image.source.path.name == "a.mrc" and newer:
            shutil.copy(newer.pop(0), "mics/.a.mrc")
            Path("mics/.a.mrc").replace("mics/a.mrc")
        return compute(network, image, *more)

    monkeypatch.setattr(batch, "compute_score_maps", scored)


def test_a_micrograph_replaced_while_it_is_scored_is_picked_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = pick("old")
    with monkeypatch.context() as patched:
        replace_while_scored(patched, ["new1.mrc"])
        found = pick("out")
    assert found == pick("fresh") != old


def test_one_that_is_replaced_all_the_time_is_picked_again_by_the_next_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        replace_while_scored(patched, ["new1.mrc", "new2.mrc"])
        between = pick("out")
    fresh = pick("fresh")
    assert between != fresh
    assert pick("out") == fresh


def test_an_image_in_memory_is_not_used_for_a_file_that_was_replaced(project: Path) -> None:
    images = WorkingImages(4.0)
    source = write_mrc(project / "mics/a.mrc", discs(SHAPE, scattered(SHAPE, 6, 12, 0)))
    first = images.get(source)
    assert images.get(source) is first
    shutil.copy("new1.mrc", "mics/a.mrc")
    second = images.get(source)
    assert (second.image != first.image).any()
    assert images.get(source) is second


def test_a_copy_is_the_same_micrograph_and_one_that_claims_the_same_time_is_not(
    project: Path,
) -> None:
    first, times = pick("out"), os.stat("mics/a.mrc")
    shutil.copy("mics/a.mrc", "copy")
    os.replace("copy", "mics/a.mrc")
    words = ("pick", "--model", "m.safetensors", "--micrographs", "mics", "-o", "out")
    assert "already picked: 2 of 2" in done(*words, "--threads", 1).err
    Path("mics/a.mrc").write_bytes(Path("new1.mrc").read_bytes())
    os.utime("mics/a.mrc", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert pick("out") == pick("fresh") != first
