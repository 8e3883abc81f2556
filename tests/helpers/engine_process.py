"""An engine in a process of its own, spoken to as the server does."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heliodor.app.server.engine_client import COMMAND

#: Seconds after which a test gives up on an event; a machine that is shared may stall.
PATIENCE = 240


class Engine:
    """A running engine; use it in a with-block, which ends it as the server does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        #: All that it has said and that was waited for.
        self.said: list[dict[str, Any]] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.end() == 0

    def ask(self, do: str, **values: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self._process.stdin.flush()

    def open(
        self, project: Path, micrographs: Sequence[Path], diameter: float, **more: Any
    ) -> None:
        named = [{"path": str(path), "name": path.name} for path in micrographs]
        self.ask(
            "open", project=str(project), micrographs=named, diameter=diameter,
            **({"pixel_size": None, "model": None, "number": 0, "threads": 1} | more),
        )  # fmt: skip

    def wait(self, event: str, **values: Any) -> dict[str, Any]:
        """Return the next event of a kind with these values; others are passed over and kept."""
        while True:
            said = json.loads(self._lines.get(timeout=PATIENCE))
            self.said.append(said)
            if said["event"] == event and all(said[k] == v for k, v in values.items()):
                return said

    def end(self) -> int:
        """Close its input and return how it ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(PATIENCE)
        self._listener.join(PATIENCE)
        self._process.stdout.close()
        return code

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
