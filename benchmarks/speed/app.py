"""Response times of the heliodor app: the first image, labels, and long lists.

    python -m benchmarks.speed.app [--folder DIR]

Regression check. The micrographs are noise. Prints medians in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from heliodor.app.candidates import Candidates
from heliodor.app.server.access import AccessControl
from heliodor.app.server.access_keys import AccessKeys
from heliodor.app.server.annotations import Annotation, Annotations
from heliodor.app.server.application import build_application
from heliodor.app.server.endpoints import AppContext
from heliodor.app.server.predictions import MicrographPredictions
from heliodor.app.server.project import open_project
from heliodor.app.server.state import ProjectState
from heliodor.app.server.tiles import MicrographTiles, count_levels
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.micrographs.sources import Source, find_sources

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

#: Sizes of what is measured.
SIDE, LABELED, LABELS, LISTED, CANDIDATES = 4096, 1000, 10_000, 5000, 500


def _ms(work: Callable[[], object], times: int = 7) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


def pictures(folder: Path) -> None:
    image = np.random.default_rng(0).normal(100, 10, (SIDE, SIDE)).astype(np.float32)
    write_mrc(folder / "large.mrc", image, 0.9)
    sources: Sequence[Source] = find_sources([folder / "large.mrc"])
    last = count_levels((SIDE, SIDE)) - 1

    def tile(level: int, low_pass: float = 0.0) -> Callable[[], object]:
        return lambda: MicrographTiles(sources, folder / "thumbnails").tile(
            0, level, 0, 0, low_pass
        )

    print(f"a micrograph of {SIDE} x {SIDE}, 32 bits")
    print(f"  first tile, overview          {_ms(tile(last)):8.0f} ms")
    print(f"  first tile, full size         {_ms(tile(0)):8.0f} ms")
    print(f"  first tile, half, low-pass    {_ms(tile(1, 20.0)):8.0f} ms")
    kept = MicrographTiles(sources, folder / "thumbnails")
    kept.tile(0, 0, 0, 0)
    print(f"  next tile, full size          {_ms(lambda: kept.tile(0, 0, 1, 1)):8.1f} ms")


def marks(folder: Path) -> None:
    folder.mkdir()
    own = Annotations(folder)
    each = LABELS // LABELED
    for number in range(LABELED):
        name = f"MotionCorr/job002/Movies/micrograph_{number:05d}.mrc"
        xy = np.random.default_rng(number).uniform(0, 4000, (each, 2))
        saved = own.add_positions(name, xy, "particle")
    saved.result()
    count = iter(range(1000))

    def one() -> None:
        new = {f"new{next(count)}": Annotation(1.0, 2.0, "particle")}
        own.change("MotionCorr/job002/Movies/micrograph_00500.mrc", new, ())[1].result()

    print(f"{LABELS} marks on {LABELED} micrographs")
    print(f"  one more, until it is on disk {_ms(one, 51):8.1f} ms")
    own.close()


def lists(folder: Path) -> None:
    folder.mkdir()
    write_mrc(folder / "one.mrc", np.random.default_rng(0).normal(size=(64, 64)).astype("f4"), 4.0)
    names = [f"micrograph_{number:05d}.mrc" for number in range(LISTED)]
    sources = [Source(name, folder / "one.mrc", name) for name in names]
    state = ProjectState(open_project(folder / "project", sources, ["*.mrc"], None, 120.0))
    keys = AccessKeys()
    context = AppContext(state, keys)
    random = np.random.default_rng(0)
    for number in range(LISTED):
        score = random.normal(0, 3, CANDIDATES)
        xy = random.uniform(0, 4000, (CANDIDATES, 2))
        found = Candidates(
            0, xy, score, score > 9, np.zeros((CANDIDATES, 0), np.float16), {"bad": 0.1}
        )
        state.predictions.put(
            number, MicrographPredictions.from_candidates(found, np.zeros((0, 2)), 100.0)
        )
    session = keys.exchange(keys.address_token)
    assert session is not None
    headers = {"Authorization": f"Bearer {session.token}"}
    base = "http://127.0.0.1:1"
    with TestClient(
        AccessControl(build_application(context), keys), base, headers=headers
    ) as client:
        print(f"{LISTED} micrographs with {CANDIDATES} candidates each")
        for what, address in (
            ("the list, with counts", "/api/micrographs"),
            ("nothing new", "/api/changes?since=1000000"),
            ("histogram", "/api/histogram"),
            ("a page of the gallery", "/api/gallery?start=1000&count=60"),
        ):
            print(f"  {what:29s} {_ms(lambda a=address: client.get(a)):8.1f} ms")  # type: ignore[misc]
        mark = {"add": [{"id": "a", "x": 1, "y": 2, "kind": "particle"}]}
        took = _ms(lambda: client.post("/api/micrographs/7/labels", json=mark))
        print(f"  a mark                        {took:8.1f} ms")
    context.workers.close()
    state.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="for the project [a temporary one]")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory(dir=folder) as made:
        pictures(Path(made))
        marks(Path(made) / "marks")
        lists(Path(made) / "lists")


if __name__ == "__main__":
    main()
