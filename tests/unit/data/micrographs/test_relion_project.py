"""The RELION project that micrographs belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliodor.data.micrographs.relion_project import RelionProject, find_relion_project
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput


def _source(path: Path, name: str | None = None) -> Source:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return Source(name or str(path), path, path.stem)


@pytest.mark.parametrize("mark", ["default_pipeline.star", ".relion_display_gui"])
def test_it_is_the_nearest_folder_that_relion_wrote_in(tmp_path: Path, mark: str) -> None:
    source = _source(tmp_path / "project/MotionCorr/job002/a.mrc")
    assert find_relion_project([str(source.path)], [source]) is None
    (tmp_path / mark).write_text("")
    assert find_relion_project([str(source.path)], [source]) == tmp_path
    (tmp_path / "project" / mark).write_text("")
    assert find_relion_project([str(source.path)], [source]) == tmp_path / "project"


def test_a_star_file_says_more_than_where_its_micrographs_are(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/default_pipeline.star").write_text("")
    star = tmp_path / "project/CtfFind/job003/micrographs_ctf.star"
    source = _source(tmp_path / "disk/a.mrc", "Micrographs/a.mrc")
    assert find_relion_project([str(star)], [source]) == tmp_path / "project"
    assert find_relion_project(["disk"], [source]) is None


def test_micrographs_reached_through_a_link_are_found_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/default_pipeline.star").write_text("")
    real = _source(tmp_path / "project/raw/a.mrc")
    (tmp_path / "link").symlink_to(tmp_path / "project/raw")
    source = Source("link/a.mrc", tmp_path / "link/a.mrc", "a")
    found = find_relion_project([], [source])
    assert found == (tmp_path / "project").resolve()
    project = RelionProject.open(found, [source])
    assert project.names == {"link/a.mrc": "raw/a.mrc"}
    assert project.relative(real.path) == "raw/a.mrc"


def test_names_are_relative_to_the_project_or_whole(tmp_path: Path) -> None:
    root = tmp_path / "project"
    inside = _source(root / "raw/a.mrc", str(root / "raw/a.mrc"))
    listed = _source(root / "raw/b.mrc", "raw/b.mrc")
    outside = _source(tmp_path / "c.mrc")
    project = RelionProject.open(root, [inside, listed, outside])
    assert [*project.names.values()] == ["raw/a.mrc", "raw/b.mrc", str(tmp_path / "c.mrc")]
    assert project.relative(root / "..name/x.star") == "..name/x.star"
    with pytest.raises(BadInput, match="does not exist"):
        RelionProject.open(tmp_path / "none", [])
