"""Serving: from the command to a server that answers, and back."""

from __future__ import annotations

import asyncio
import getpass
import logging
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from heliodor.app.server.access import AccessControl
from heliodor.app.server.application import build_application
from heliodor.app.server.endpoints import AppContext
from heliodor.app.server.project import Project, open_project
from heliodor.app.server.state import ProjectState
from heliodor.data.coordinates.label_assignment import read_labels
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import check_pixel_size
from heliodor.errors import BadInput
from heliodor.utils.files import create_output_folder
from heliodor.utils.locking import lock_folder
from heliodor.utils.threads import resolve_threads

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
#: The port, and how many after it are tried where none was asked for.
PORT, MORE_PORTS = 8765, 30
#: Seconds that requests may go on after the server was told to stop.
_GRACE = 3


def serve(
    micrographs: Sequence[str],
    out: Path,
    labels: str | None = None,
    diameter_angstrom: float | None = None,
    port: int | None = None,
    pixel_size_angstrom: float | None = None,
    threads: int | None = None,
) -> None:
    """Open a project and serve its page until told to stop.

    Parameters
    ----------
    micrographs
        As for `find_sources`.
    out
        The project's folder.
    labels
        Coordinates that a new project begins with.
    port
        The only port to be tried.
    threads
        For training and scoring.

    Raises
    ------
    BadInput
        If something given cannot be used, or the folder or the port is in use.
    """
    if pixel_size_angstrom is not None:
        check_pixel_size(pixel_size_angstrom)
    threads = resolve_threads(threads)
    sources = find_sources(list(micrographs))
    folder = create_output_folder(out)
    with lock_folder(folder), _listen(port) as listener:
        project = open_project(
            folder, sources, micrographs, pixel_size_angstrom, diameter_angstrom
        )
        state = ProjectState(project, threads)
        try:
            if labels is not None:
                import_labels(state, labels)
            state.engine.start()
            token = secrets.token_urlsafe(32)
            context = AppContext(state)
            try:
                _announce(project, listener.getsockname()[1], token)
                run(AccessControl(build_application(context), token), listener)
            finally:
                context.workers.close()
        finally:
            state.close()
    log.info(f"the project {folder} is saved")


def import_labels(state: ProjectState, labels: str) -> None:
    """Take labels into a project that is new; one that is not is gone on with."""
    if state.project.existed:
        log.warning(f"the project has its own labels already, so {labels} is not read again")
        return
    labelled, notes = read_labels(labels, state.sources)
    saved = [
        state.annotations.add_positions(own.source.name, own.xy_px, "particle")
        for own in labelled
        if len(own.xy_px)
    ]
    for one in saved:
        one.result()
    for note in notes:
        log.warning(note)


@contextmanager
def _listen(port: int | None) -> Iterator[socket.socket]:
    """Listen on this machine alone: on the port asked for, else on the first that is free."""
    if port is not None and not 0 <= port < 65536:
        raise BadInput(f"--port must be from 0 to 65535, not {port}")
    wanted = [port] if port is not None else range(PORT, PORT + MORE_PORTS)
    for one in wanted:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, one))
            listener.listen(256)
        except OSError as error:
            listener.close()
            why = error.strerror
            continue
        with listener:
            yield listener
            return
    raise BadInput(f"port {wanted[-1]} cannot be used ({why}); give another one with --port")


def _announce(project: Project, port: int, token: str) -> None:
    """Say where the page is."""
    machine = socket.gethostname()
    log.info(
        f"{len(project.sources)} micrographs, project folder {project.folder}\n"
        f"open    http://{HOST}:{port}/?token={token}\n"
        f"from another computer, first:  ssh -L {port}:{HOST}:{port} {_user_name()}@{machine}\n"
        "stop with Ctrl-C; all is saved as you go"
    )


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "USER"  # who has no name here


class _Server(uvicorn.Server):
    """A server that ends well when it is told to end."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave signals to `run`: uvicorn would raise them once more at its end."""
        return nullcontext()


def run(app: AccessControl, listener: socket.socket) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 2**10,
    )
    server = _Server(config)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        await server.serve(sockets=[listener])

    asyncio.run(main())
