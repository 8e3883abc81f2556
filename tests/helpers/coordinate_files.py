"""Coordinates and text of coordinate files for the tests of the formats."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from heliodor.data.coordinates.formats import relion_autopick
from heliodor.data.coordinates.formats import tables as text
from heliodor.data.coordinates.picks import Picks

BLOCK = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"


NAMED = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"


# Beginnings that a STAR file gives a meaning to, numbers, and what has to be quoted.
names = st.sampled_from(
    ["Movies/a.mrc", "000012", "1.50", "my mic.mrc", "ü.mrc", "data_1/a.mrc", "_a.mrc", "loop_"]
)


numbers = st.floats(-9999, 9999).map(lambda value: round(value, 3))


@st.composite
def tables(draw):
    rows = draw(st.lists(st.tuples(names, numbers, numbers, numbers), max_size=8))
    xy = np.array([row[1:3] for row in rows], dtype=float).reshape(-1, 2)
    return Picks.from_columns([row[0] for row in rows], xy, np.array([r[3] for r in rows]))


def same(a, b):
    assert a.names() == b.names()
    np.testing.assert_allclose(a.xy_px, b.xy_px, rtol=0, atol=1e-9)
    np.testing.assert_allclose(a.score, b.score, rtol=0, atol=1e-6)


def save(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path


def example():
    xy = np.array([[1.5, 2.25], [100, 200], [3, 4]])
    score = np.array([-1.5, 0.25, 7.0])
    table = Picks.from_columns(["M/a.mrc", "M/a.mrc", "M/c.mrc"], xy, score)
    return Picks.concatenate([Picks.empty(["M/none.mrc"]), table])


def write_list(folder, picks, files):
    counts = zip(picks.micrographs, picks.counts(), strict=True)
    relion_autopick.write_autopick_list(
        folder, {name: files[name] for name, count in counts if count}
    )


def write_autopick(folder, picks):
    files = {}
    for number, (name, own) in enumerate(picks.split_by_micrograph()):
        files[name] = folder / "M" / f"m{number}_autopick.star"
        relion_autopick.write_one_autopick(files[name], own)
    write_list(folder, picks, files)
    return files


def ours(path, picks, threshold=0.0):
    sizes = dict.fromkeys(picks.micrographs, 1.5)
    text.write_picks(path, picks.split_by_micrograph(), threshold, sizes)
