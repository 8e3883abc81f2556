"""Filaments that the user drew or rejected are in files at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.app.server import filament_labels as module
from heliodor.app.server.filament_labels import FILES, KINDS, FilamentLabels
from heliodor.data.filaments.readers import read_filaments
from heliodor.errors import BadInput
from helpers.full_disk import full_disk

LINE = np.array([[1.0, 2.0], [30.5, 40.25], [60.0, 41.0]])


def names_of(labels: FilamentLabels, name: str = "a.mrc") -> dict[str, list[int]]:
    return {
        kind: sorted(one.tube_id for one in labels.of_micrograph(kind, name)) for kind in KINDS
    }


def test_changes_are_in_the_files_and_read_again(tmp_path: Path) -> None:
    labels = FilamentLabels(tmp_path, 60.0)
    labels.change("a.mrc", {7: ("label", LINE), 8: ("rejected", LINE + 5)}, ())
    labels.change("my folder/b.mrc", {7: ("label", LINE + 9)}, ())
    for _ in range(2):  # a change that is sent twice counts once
        labels.change("a.mrc", {9: ("label", LINE + 1)}, (7,))
    again = FilamentLabels(tmp_path, 60.0)
    assert names_of(again) == {"label": [9], "rejected": [8]}
    (one,) = again.of_micrograph("label", "my folder/b.mrc")
    np.testing.assert_array_equal(one.axis_px, LINE + 9)
    assert one.width_angstrom == 60.0
    # They are labels for other commands.
    assert len(read_filaments(tmp_path / FILES["label"])) == 2
    again.change("a.mrc", {}, (8, 9, 1234))
    again.change("my folder/b.mrc", {}, (7,))
    assert not [*tmp_path.iterdir()]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(1, 6), st.sampled_from(KINDS), max_size=3),
            st.sets(st.integers(1, 6), max_size=3),
        ),
        max_size=6,
    )
)
def test_the_files_say_what_is_shown(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[dict[int, str], set[int]]]
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    labels = FilamentLabels(folder, 60.0)
    expected: dict[int, str] = {}
    for add, remove in steps:
        labels.change("a.mrc", {key: (kind, LINE) for key, kind in add.items()}, remove)
        expected = {k: kind for k, kind in expected.items() if k not in remove} | add
    own = {kind: sorted(k for k, what in expected.items() if what == kind) for kind in KINDS}
    assert names_of(labels) == names_of(FilamentLabels(folder, 60.0)) == own


def test_a_change_that_cannot_be_written_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = FilamentLabels(tmp_path, 60.0)
    labels.change("a.mrc", {1: ("label", LINE)}, ())
    with full_disk(100), pytest.raises(BadInput):
        labels.change("a.mrc", {2: ("label", LINE)}, (1,))
    assert names_of(labels) == {"label": [1], "rejected": []}
    monkeypatch.setattr(module, "MAX_PER_MICROGRAPH", 1)
    with pytest.raises(BadInput, match="more than 1 filaments"):
        labels.change("a.mrc", {2: ("rejected", LINE)}, ())
    assert names_of(FilamentLabels(tmp_path, 60.0)) == {"label": [1], "rejected": []}
