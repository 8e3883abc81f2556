"""What all endpoints share: the state of the project and the worker threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.routing import Route

from heliodor.app.server.request_parsing import parse_path_number, refuse
from heliodor.app.server.worker_pool import WorkerPool

if TYPE_CHECKING:
    from starlette.requests import Request

    from heliodor.app.server.access_keys import AccessKeys
    from heliodor.app.server.state import ProjectState

T = TypeVar("T")

#: Threads for images and tables, and how many tasks may wait for them.
_THREADS, _MAX_WAITING = 2, 128
#: Urgencies: what is on the screen comes first.
NOW, SOON, LATER = 2, 1, 0
#: The path of one micrograph.
MICROGRAPH_PATH: Final = "/api/micrographs/{id}"


class AppContext:
    """The state of the project and the worker threads.

    Parameters
    ----------
    state
        The state of the project.
    keys
        They sign the address of the report, and make that for others who may only read.
    """

    def __init__(self, state: ProjectState, keys: AccessKeys) -> None:
        self.state = state
        self.keys = keys
        self.workers = WorkerPool(_THREADS, _MAX_WAITING)

    async def run_in_pool(self, work: Callable[[], T], urgency: int) -> T:
        """Run something slow in a worker thread."""
        return await self.workers.run(work, urgency)

    def sign_report(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return the state of the run on all micrographs with a signed address of its report."""
        report = run["report"]
        return {**run, "report": None if report is None else self.keys.sign(report)}

    def micrograph_number(self, request: Request) -> int:
        """Return the number of the micrograph in a path.

        Raises
        ------
        HTTPException
            If there is no such micrograph.
        """
        number = parse_path_number(request, "id")
        if number >= len(self.state.sources):
            raise refuse("there is no such micrograph", 404)
        return number


class Endpoints:
    """Base class of the endpoints.

    Parameters
    ----------
    context
        The state of the project and the worker threads.
    """

    def __init__(self, context: AppContext) -> None:
        self.context = context

    def routes(self) -> list[Route]:
        """Return the routes."""
        raise NotImplementedError
