"""What the tests of the picking room share: a room on simulated noise, and its user."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.app.server.access import Gate
from heliodor.app.server.application import application
from heliodor.app.server.endpoints import Desk
from heliodor.app.server.project import open_project
from heliodor.app.server.state import Room
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.micrographs.sources import find_sources

with warnings.catch_warnings():
    # Newer ones would rather have another HTTP client beneath; this one does as well.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

TOKEN = "a-token-of-the-tests"
BASE = "http://127.0.0.1:8765"
#: Height, width, sampling and diameter (angstrom) of the micrographs.
HEIGHT, WIDTH, PIXEL_SIZE, DIAMETER = 600, 800, 4.0, 120.0


def micrographs(folder: Path, count: int = 3, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """Write micrographs of noise that rises to the right, and return their folder."""
    random = np.random.default_rng(5)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        image = random.normal(100, 10, shape) + np.linspace(0, 20, shape[1])
        write_mrc(folder / f"mic {number}.mrc", image.astype(np.float32), PIXEL_SIZE)
    return folder


@dataclass
class Visit:
    """An open room and somebody who may come in."""

    room: Room
    client: TestClient
    wishes: Path

    def get(self, address: str, **query: Any) -> Any:
        answer = self.client.get(address, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, address: str, status: int = 200, **body: Any) -> Any:
        answer = self.client.post(address, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def wish(self, **wishes: Any) -> None:
        """Tell the engine what to do out of the ordinary."""
        aside = self.wishes.with_suffix(".new")
        aside.write_text(json.dumps(wishes))
        aside.replace(self.wishes)

    def until(self, true: Callable[[dict[str, Any]], bool], seconds: float = 20.0) -> Any:
        """Ask for news until they are as wanted."""
        end = time.monotonic() + seconds
        while True:
            news = self.get("/api/changes", since=0)
            if true(news):
                return news
            assert time.monotonic() < end, news
            time.sleep(0.02)

    def scored(self, model: int = 0) -> Any:
        """Wait until every micrograph was scored with a model."""
        return self.until(
            lambda news: (
                news["engine"]["state"] == "idle"
                and set(self.get("/api/micrographs")["scored"]) == {model}
            )
        )


@contextmanager
def visited(
    folder: Path, diameter: float | None = DIAMETER, live: bool = False, **wishes: Any
) -> Iterator[Visit]:
    """Open the project in a folder; the engine is that of the tests."""
    inputs = [str(folder / "mics")]
    if not (folder / "mics").is_dir():
        micrographs(folder / "mics")
    project = open_project(folder / "project", find_sources(inputs), inputs, None, diameter)
    orders = folder / "wishes.json"
    orders.write_text(json.dumps(wishes))
    engine = [sys.executable, str(Path(__file__).with_name("fake_engine.py")), str(orders)]
    room = Room(project, 1, engine)
    desk = Desk(room)
    try:
        if live:
            room.live.begin()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        gate = Gate(application(desk), TOKEN)
        with TestClient(gate, BASE, raise_server_exceptions=False, headers=headers) as client:
            yield Visit(room, client, orders)
    finally:
        desk.workers.close()
        room.close()
