"""Looks for micrographs that have arrived since the project was opened."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from heliodor.app.server.project import Project
from heliodor.data.micrographs.arrivals import Arrivals
from heliodor.data.micrographs.sources import Source, resolve_path

log = logging.getLogger(__name__)

#: Seconds between two looks, and between the two of a look that the user asks for.
INTERVAL_SECONDS, SHORT_SECONDS = 20.0, 1.0
#: The pause after a look is at least so many times as long as the look.
_PAUSE_SHARE = 10.0


class NewMicrographs:
    """Looks at the folders and lists of a project from time to time; any thread may call.

    A micrograph is taken once its file is complete and has not changed between two looks.

    Parameters
    ----------
    project
        The project.
    add
        Called with the new micrographs; returns whether they were added, otherwise it is called
        again with them after the next look.
    """

    def __init__(self, project: Project, add: Callable[[Sequence[Source]], bool]) -> None:
        self._project, self._add = project, add
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._paths = {resolve_path(source.path) for source in project.sources}
        #: The same as they are spelled, which is quicker to look up.
        self._spelled = {source.path for source in project.sources}
        self._arrivals = Arrivals(project.settings.inputs, self._is_known)

    def start(self) -> None:
        """Look from time to time, on a thread of its own."""
        self._thread = threading.Thread(
            target=self._watch, name="looking for micrographs", daemon=True
        )
        self._thread.start()

    def _watch(self) -> None:
        pause = INTERVAL_SECONDS
        while not self._closing.wait(pause):
            started = time.monotonic()
            self._look()
            # A slow file system is not to be kept busy.
            pause = max(INTERVAL_SECONDS, _PAUSE_SHARE * (time.monotonic() - started))

    def look_now(self) -> int:
        """Look twice within a second, and return how many micrographs were added."""
        first = self._look()
        self._closing.wait(SHORT_SECONDS)
        return first + self._look()

    def _look(self) -> int:
        with self._lock:
            arrived = self._arrivals.look().arrived
            if not arrived:
                return 0
            names = {source.name for source in self._project.sources}
            new = []
            for source in arrived:
                # Another folder may have had this name until now.
                own = replace(source, name=str(source.path)) if source.name in names else source
                names.add(own.name)
                new.append(own)
            if not self._add(new):
                return 0
            self._paths |= {resolve_path(source.path) for source in new}
            self._spelled |= {source.path for source in new}
            return len(new)

    def _is_known(self, source: Source) -> bool:
        return source.path in self._spelled or resolve_path(source.path) in self._paths

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
