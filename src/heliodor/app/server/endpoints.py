"""The context of a state: what every address answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from starlette.responses import FileResponse, Response
from starlette.routing import Route

from heliodor.app.server import request_parsing
from heliodor.app.server.worker_pool import WorkerPool

if TYPE_CHECKING:
    from starlette.requests import Request

    from heliodor.app.server.state import ProjectState

T = TypeVar("T")

#: Threads for pictures and tables, and how much may wait for them.
_THREADS, _MAX_WAITING = 2, 128
#: What is looked at now comes before what may be looked at.
NOW, SOON, LATER = 2, 1, 0
#: The address of one micrograph.
MICROGRAPH_PATH: Final = "/api/micrographs/{id}"


class AppContext:
    """The project, and who works for it.

    Parameters
    ----------
    state
        The project.
    """

    def __init__(self, state: ProjectState) -> None:
        self.state = state
        self.workers = WorkerPool(_THREADS, _MAX_WAITING)

    async def run_in_pool(self, work: Callable[[], T], urgency: int) -> T:
        """Have a worker do what takes its time."""
        return await self.workers.run(work, urgency)

    def micrograph_number(self, request: Request) -> int:
        """Return the number of the micrograph that an address names, or refuse."""
        number = request_parsing.whole_in_path(request, "id")
        if number >= len(self.state.sources):
            raise request_parsing.refuse("there is no such micrograph", 404)
        return number


class Endpoints:
    """Some of the server's addresses, and what each answers.

    Parameters
    ----------
    context
        The project, and who works for it.
    """

    def __init__(self, context: AppContext) -> None:
        self.context = context

    def routes(self) -> list[Route]:
        """Return the addresses."""
        raise NotImplementedError


def file_response(
    found: tuple[Path, str] | None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a file and its kind as an answer, or refuse where there is none."""
    if found is None:
        raise request_parsing.refuse("there is nothing at this address", 404)
    return FileResponse(found[0], media_type=found[1], headers=headers)
