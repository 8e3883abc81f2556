"""The web server: its start, its address, and its end."""

from __future__ import annotations

import asyncio
import getpass
import itertools
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from heliodor.app.server.access import RIGHTS, AccessControl
from heliodor.app.server.access_keys import AccessKeys
from heliodor.app.server.addresses import Addresses
from heliodor.app.server.annotations import KINDS
from heliodor.app.server.application import build_application
from heliodor.app.server.endpoints import AppContext
from heliodor.app.server.filament_work import FilamentWork
from heliodor.app.server.project import NAME as PROJECT_FILE
from heliodor.app.server.project import Project, fingerprint_labels, open_project, read_settings
from heliodor.app.server.state import ProjectState
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.label_assignment import describe_misfit, read_labels
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import check_pixel_size
from heliodor.errors import BadInput
from heliodor.utils import console
from heliodor.utils.files import create_output_folder
from heliodor.utils.locking import lock_folder
from heliodor.utils.signals import STOP_SIGNALS
from heliodor.utils.threads import resolve_threads

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

log = logging.getLogger(__name__)

#: The default port, and how many after it are tried.
PORT, MORE_PORTS = 8765, 30
#: Seconds that running requests may take after the server was stopped.
_GRACE = 3
#: Most connections that are open at a time, well below the usual limit of 1024 open files; and
#: most seconds until the first request of one.
MAX_CONNECTIONS = 400
_REQUEST_SECONDS = 20.0
#: Seconds between two checks whether the server is used.
_IDLE_CHECK_SECONDS = 10.0
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?", re.ASCII)
#: Most connections that are accepted at once, before the oldest are closed.
_BACKLOG = 64


def serve(
    micrographs: Sequence[str] | None,
    out: Path,
    labels: str | None = None,
    diameter_angstrom: float | None = None,
    port: int | None = None,
    pixel_size_angstrom: float | None = None,
    threads: int | None = None,
    replace_settings: bool = False,
    addresses: Addresses | None = None,
    idle_minutes: float | None = None,
    read_only_link: bool = False,
    device: str = "auto",
    can_submit: bool = False,
    filament_width_angstrom: float | None = None,
) -> None:
    """Open a project and serve its page until stopped.

    Parameters
    ----------
    micrographs
        As for `find_sources`; none: those of the existing project.
    out
        The project folder.
    labels
        Coordinates of particles, or filaments, for a new project.
    port
        The port; by default 8765, or the next free one.
    threads
        Threads for training, scoring and picking.
    replace_settings
        Whether an existing project may lose micrographs, or be given another diameter, pixel
        size or labels.
    addresses
        Where the page is reached; by default from this machine only.
    idle_minutes
        Stop after so many minutes in which nobody used the page and nothing was computed.
    read_only_link
        Whether to print an address with which others can look, but change nothing.
    device
        Where to compute: auto, cpu, cuda, cuda:N or mps.
    can_submit
        Whether the page may submit jobs to a cluster.
    filament_width_angstrom
        For a project of filaments: their width.

    Raises
    ------
    BadInput
        If an input cannot be used, or the folder or the port is in use.
    """
    if pixel_size_angstrom is not None:
        check_pixel_size(pixel_size_angstrom)
    threads = resolve_threads(threads)
    addresses = addresses or Addresses()
    if idle_minutes is not None and not 0 < idle_minutes < 1e6:
        raise BadInput(f"--idle-shutdown must be a number of minutes above 0, not {idle_minutes}")
    if _DEVICE.fullmatch(device) is None:
        raise BadInput(f"--device must be auto, cpu, cuda, cuda:N or mps, not {device!r}")
    if not micrographs:
        micrographs, out = _reopen(out)
    sources = find_sources(list(micrographs))
    folder = create_output_folder(out)
    with lock_folder(folder), _listen(addresses, port) as listener:
        project = open_project(
            folder, sources, micrographs, pixel_size_angstrom, diameter_angstrom,
            replace_settings, filament_width_angstrom,
        )  # fmt: skip
        is_of_filaments = project.settings.filament_width_angstrom is not None
        if is_of_filaments and diameter_angstrom is not None:
            raise BadInput(
                f"{folder} is a project of filaments, which have a width; leave out the diameter",
                parameter="diameter",
            )
        if (
            labels is not None
            and not is_of_filaments
            and not _takes_labels(project, labels, replace_settings)
        ):
            labels = None
        state = ProjectState(project, threads, device=device, can_submit=can_submit)
        try:
            if state.filaments is not None:
                if labels is not None:
                    import_filaments(state, state.filaments, labels)
            else:
                if labels is not None:
                    import_labels(state, labels)
                state.engine.start()
                state.new_micrographs.start()
            port = listener.getsockname()[1]
            page = addresses.page(port)
            keys = AccessKeys(partial(_announce_next, page))
            context = AppContext(state, keys)
            try:
                _announce(project, addresses, port, keys.address_token)
                if read_only_link:
                    console.show_address(f"to look only  {page}#token={keys.share()}")
                gate = AccessControl(build_application(context), keys, addresses, port)
                run(gate, listener, _IdleLimit(gate, state, idle_minutes))
            finally:
                context.workers.close()
        finally:
            state.close()
    log.info(f"the project {folder} is saved")


def _reopen(out: Path) -> tuple[tuple[str, ...], Path]:
    """Return the micrographs of a project as they were typed, and its absolute path.

    Goes to the folder in which they were typed, so that everything has the same name as then.

    Raises
    ------
    BadInput
        If there is no project, or that folder has gone.
    """
    path = out / PROJECT_FILE
    if not path.is_file():
        raise BadInput(
            f"{out} is not a project yet; name its micrographs: heliodor app MICROGRAPHS... -o"
            f" {out}"
        )
    settings, whole = read_settings(path), out.absolute()
    if settings.directory:
        try:
            os.chdir(settings.directory)
        except OSError as error:
            raise BadInput(
                f"the folder {settings.directory}, in which the micrographs of {out} were named,"
                f" cannot be entered ({error.strerror}); name the micrographs again"
            ) from error
    return settings.inputs, whole


def _takes_labels(project: Project, labels: str, replace_settings: bool) -> bool:
    """Return whether labels are to be imported into a project.

    Raises
    ------
    BadInput
        If an existing project has others, which must not be replaced.
    """
    fingerprint = fingerprint_labels(labels)
    if project.existed and fingerprint == project.settings.labels_of:
        log.info(f"{labels} was imported when the project was new; it is not read again")
        return False
    path = project.folder / KINDS["particle"]
    if project.existed and path.is_file() and len(read_picks(path)):
        if not replace_settings:
            raise BadInput(
                f"the project {project.folder} already has labels; leave out --labels, or confirm"
                f" with --replace that they are replaced by those of {labels} (a copy of the"
                " present ones is kept)",
                parameter="labels",
            )
        copies = (path.with_name(f"labels-before-{i}.star") for i in itertools.count(1))
        copy = next(copy for copy in copies if not copy.exists())
        path.rename(copy)
        log.warning(f"the labels that the project had are kept in {copy}")
    project.change(labels_of=fingerprint)
    return True


def import_labels(state: ProjectState, labels: str) -> None:
    """Import labels into a project."""
    labeled, notes = read_labels(
        labels, state.sources, None, state.project.settings.pixel_size_angstrom
    )
    saved = [
        state.annotations.add_positions(item.source.name, item.xy_px, "particle")
        for item in labeled
        if len(item.xy_px)
    ]
    for one in saved:
        one.result()
    misfit = describe_misfit(labeled)
    for note in [*notes, *([misfit] if misfit is not None else [])]:
        log.warning(note)


def import_filaments(state: ProjectState, work: FilamentWork, labels: str) -> None:
    """Import labeled filaments into a project that has none.

    Raises
    ------
    BadInput
        If the project has some, or none is on its micrographs.
    """
    fingerprint = fingerprint_labels(labels)
    if fingerprint == state.project.settings.labels_of:
        log.info(f"{labels} was imported when the project was new; it is not read again")
        return
    if work.labels.micrographs("label"):
        raise BadInput(
            f"the project {state.project.folder} already has labels; leave out --labels",
            parameter="labels",
        )
    table = read_filaments(labels)
    matches = match_names(table.micrographs, state.sources, table.file_stems)
    kept = tuple(one for one in table if one.micrograph in matches)
    if not kept:
        raise BadInput(f"{labels} has no filaments on the micrographs given", parameter="labels")
    if len(kept) < len(table):
        log.warning(f"{len(table) - len(kept)} filaments of {labels} are on other micrographs")
    names = {name: source.name for name, source in matches.items()}
    of_project = replace(
        table,
        micrographs=tuple(name for name in table.micrographs if name in matches),
        filaments=kept,
        pixel_sizes={k: v for k, v in table.pixel_sizes.items() if k in matches},
        shapes={k: v for k, v in table.shapes.items() if k in matches},
    )
    work.labels.add_all(of_project.rename_micrographs(names))
    state.project.change(labels_of=fingerprint)


@contextmanager
def _listen(addresses: Addresses, port: int | None) -> Iterator[socket.socket]:
    """Listen on the given port or the first free one."""
    if port is not None and not 0 <= port < 65536:
        raise BadInput(f"--port must be from 0 to 65535, not {port}")
    ports = [port] if port is not None else range(PORT, PORT + MORE_PORTS)
    with addresses.listen(ports) as listener:
        yield listener


def _announce(project: Project, addresses: Addresses, port: int, token: str) -> None:
    """Print the address of the page; the part after # is never sent to a server."""
    console.show_address(
        f"{len(project.sources)} micrographs, project folder {project.folder}\n"
        f"open    {addresses.page(port)}#token={token}\n"
        f"{addresses.describe_access(port, _user_name(), os.environ)}"
        "stop with Ctrl-C; everything is saved as you work"
    )
    if not addresses.is_local and not addresses.page(port).startswith("https:"):
        log.warning(
            "other computers can connect, and what they send and receive is not encrypted; use"
            " this only in a network that you trust, or behind a proxy"
        )


def _announce_next(page: str, token: str) -> None:
    """Print the next address after the last one was opened."""
    console.show_address(
        f"opened in a browser; for another browser, open\n        {page}#token={token}"
    )


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "USER"  # the user id has no name on this machine


class _BoundedProtocol(H11Protocol):
    """A connection that is closed if it asks for nothing, or too many others are open.

    Otherwise connections that send their request or read the answer byte by byte could use up
    all that a process may have, and with them lock out the owner of the project.
    """

    #: Those that are open, the oldest first.
    _open: ClassVar[dict[_BoundedProtocol, None]] = {}
    _has_asked = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection, and close the oldest one to spare if there are too many."""
        super().connection_made(transport)
        self._open[self] = None
        self.loop.call_later(_REQUEST_SECONDS, self._expire)
        if len(self._open) > MAX_CONNECTIONS:
            closed = next((one for one in self._open if one._may_be_closed()), self)
            del self._open[closed]
            closed.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._open.pop(self, None)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Note whether a request has arrived."""
        super().handle_events()
        self._has_asked = self._has_asked or self.cycle is not None

    def _may_be_closed(self) -> bool:
        """Return whether no request is running, or only one without access."""
        idle = self.cycle is None or self.cycle.response_complete
        return idle or RIGHTS not in self.cycle.scope

    def _expire(self) -> None:
        if not self._has_asked and self in self._open:
            self.transport.abort()


class _Server(uvicorn.Server):
    """A uvicorn server whose signals are handled by `run`."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Do nothing: uvicorn would raise the signals again when it ends."""
        return nullcontext()


class _IdleLimit:
    """Ends the server once nobody has used it and it has computed nothing for some time."""

    def __init__(self, gate: AccessControl, state: ProjectState, minutes: float | None) -> None:
        self._gate, self._state, self._minutes = gate, state, minutes
        self._last_work = time.monotonic()

    async def watch(self, server: uvicorn.Server) -> None:
        """Check from time to time, until the server is to stop."""
        if self._minutes is None:
            return
        limit = 60.0 * self._minutes
        while not server.should_exit:
            await asyncio.sleep(min(_IDLE_CHECK_SECONDS, limit / 4))
            if self._state.is_busy():
                self._last_work = time.monotonic()
            if time.monotonic() - max(self._gate.last_use, self._last_work) > limit:
                log.info(f"stopping: not used for {self._minutes:g} minutes")
                server.should_exit = True


async def _serve(server: uvicorn.Server, listener: socket.socket, idle: _IdleLimit) -> None:
    watching = asyncio.create_task(idle.watch(server))
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()


def run(app: AccessControl, listener: socket.socket, idle: _IdleLimit) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, or until the page is not used any more."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        http=_BoundedProtocol,
        backlog=_BACKLOG,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 2**10,
    )
    server = _Server(config)

    for number in STOP_SIGNALS:
        # It stays in force while the project is closed: a second Ctrl-C must not interrupt that.
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    asyncio.run(_serve(server, listener, idle))
