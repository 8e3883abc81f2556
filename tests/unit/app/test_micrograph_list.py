"""The list of a project's micrographs comes back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliodor.app.micrograph_list import NAME, describe_source, read_list, write_list
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput


def test_it_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = [
        Source("MotionCorr/job002/a.mrc", Path("raw/a.mrc"), "a", 1.25),
        Source('b "x".mrc', tmp_path / "b.mrc", "b"),
    ]
    write_list(tmp_path, sources)
    found = read_list(tmp_path)
    assert found == [describe_source(source) for source in sources]
    # Paths are whole: the list can be read from any folder.
    assert found[0] == ("MotionCorr/job002/a.mrc", tmp_path / "raw/a.mrc", 1.25)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"names": ["a"], "paths": []}',
        '{"names": ["a"], "paths": [], "pixel_sizes": []}',
        '{"names": [1], "paths": ["a"], "pixel_sizes": [null]}',
        "[" * 200_000,
    ],
)
def test_a_damaged_list_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    with pytest.raises(BadInput, match="is not the list of a project of heliodor app"):
        read_list(tmp_path)
