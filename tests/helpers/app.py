"""What the tests of the app share: a project of simulated noise, and its user."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.app.server.access import AccessControl
from heliodor.app.server.access_keys import AccessKeys
from heliodor.app.server.addresses import Addresses
from heliodor.app.server.application import build_application
from heliodor.app.server.batch_run import BatchRun
from heliodor.app.server.endpoints import AppContext
from heliodor.app.server.project import open_project
from heliodor.app.server.state import ProjectState
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.micrographs.sources import find_sources

with warnings.catch_warnings():
    # Newer ones would rather have another HTTP client beneath; this one does as well.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

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
class AppVisit:
    """An open project and a client with the session token."""

    state: ProjectState
    client: TestClient
    overrides: Path
    keys: AccessKeys
    session: str

    def get(self, address: str, **query: Any) -> Any:
        answer = self.client.get(address, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, address: str, status: int = 200, **body: Any) -> Any:
        answer = self.client.post(address, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def use_picker(self, command: list[str]) -> BatchRun:
        """Let another command pick all micrographs."""
        state = self.state
        state.batch_run = BatchRun(
            state.project, state.annotations, state.predictions, state.masks, 2, command
        )
        return state.batch_run

    def override(self, **overrides: Any) -> None:
        """Set what the engine does differently; see `fake_engine`."""
        aside = self.overrides.with_suffix(".new")
        aside.write_text(json.dumps(overrides))
        aside.replace(self.overrides)

    def until(self, true: Callable[[dict[str, Any]], bool], seconds: float = 60.0) -> Any:
        """Poll the changes until they are as expected; the limit is only for hanging."""
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
def open_app(
    folder: Path,
    diameter: float | None = DIAMETER,
    with_engine: bool = False,
    replace_settings: bool = False,
    pixel_size: float | None = None,
    inputs: Sequence[str] = (),
    addresses: Addresses | None = None,
    filament_width: float | None = None,
    **overrides: Any,
) -> Iterator[AppVisit]:
    """Open the project in a folder; the engine is that of the tests."""
    inputs = [*inputs] or [str(folder / "mics")]
    if not (folder / "mics").is_dir():
        micrographs(folder / "mics")
    sources = find_sources(inputs)
    project = open_project(
        folder / "project", sources, inputs, pixel_size, diameter, replace_settings,
        filament_width,
    )  # fmt: skip
    overrides_file = folder / "overrides.json"
    overrides_file.write_text(json.dumps(overrides))
    engine = [sys.executable, str(Path(__file__).with_name("fake_engine.py")), str(overrides_file)]
    state = ProjectState(project, 1, engine)
    keys = AccessKeys()
    session = keys.exchange(keys.address_token)
    assert session is not None
    context = AppContext(state, keys)
    try:
        if with_engine:
            state.engine.start()
        headers = {"Authorization": f"Bearer {session.token}"}
        gate = AccessControl(build_application(context), keys, addresses, 8765)
        with TestClient(gate, BASE, raise_server_exceptions=False, headers=headers) as client:
            yield AppVisit(state, client, overrides_file, keys, session.token)
    finally:
        context.workers.close()
        state.close()
