"""Lists of micrographs in .cs files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data.cryosparc_table import read_header
from heliodor.data.micrographs.cs_list import lists_micrographs, read_micrographs
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from helpers import corpus
from helpers.projects import exposures

NAMES = ["J2/motioncorrected/a.mrc", "J2/motioncorrected/b.mrc"]


def save(path: Path, table: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(corpus.cs(table))
    return path


def test_exposures_are_micrographs_with_pixel_sizes(tmp_path: Path) -> None:
    path = save(tmp_path / "e.cs", exposures([">" + NAMES[0], NAMES[1]], 1.25))
    assert lists_micrographs(read_header(path))
    assert read_micrographs(path) == [(NAMES[0], 1.25), (NAMES[1], 1.25)]


def test_particles_are_on_micrographs(tmp_path: Path) -> None:
    path = save(tmp_path / "p.cs", corpus.cs_table())
    assert not lists_micrographs(read_header(path))
    assert read_micrographs(path) == [(f"M/{stem}.mrc", None) for stem in corpus.STEMS]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (exposures([], 1.25), "the table is empty"),
        (exposures(["a.mrc", ""], 1.25), "names no micrograph in row 2"),
        (np.zeros(2, [("uid", "<u8"), ("ctf/df1_A", "<f4")]), "no field micrograph_blob/path"),
    ],
)
def test_what_lists_no_micrographs(tmp_path: Path, table: np.ndarray, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_micrographs(save(tmp_path / "e.cs", table))


def test_micrographs_are_found_in_the_project_of_the_list(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sources = find_sources(save(tmp_path / "J3/e.cs", exposures(NAMES, 1.25)))
    assert [source.name for source in sources] == NAMES
    assert all(source.path.exists() for source in sources)
    assert [source.output_stem for source in sources] == ["motioncorrected/a", "motioncorrected/b"]
    (tmp_path / NAMES[0]).unlink()
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(BadInput, match="run in the cryoSPARC project folder"):
        find_sources(tmp_path / "J3/e.cs")
