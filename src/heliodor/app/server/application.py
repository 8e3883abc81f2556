"""The web application: all endpoints and the answers to errors."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor import __version__
from heliodor.app.server.access import RIGHTS
from heliodor.app.server.access_keys import Rights
from heliodor.app.server.endpoints import AppContext, Endpoints
from heliodor.app.server.request_parsing import parse_query_whole
from heliodor.app.server.routes.annotations import AnnotationRoutes
from heliodor.app.server.routes.exports import ExportRoutes
from heliodor.app.server.routes.filaments import FilamentRoutes
from heliodor.app.server.routes.images import ImageRoutes
from heliodor.app.server.routes.model import ModelRoutes
from heliodor.app.server.routes.sharing import SharingRoutes
from heliodor.app.server.routes.table import TableRoutes
from heliodor.app.server.static_files import TypedFiles
from heliodor.app.server.worker_pool import QueueFull
from heliodor.data.coordinates.writers import FORMATS
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from starlette.requests import Request

STATIC = Path(__file__).parents[1] / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}

#: The formats of exports: what RELION imports comes first.
_FORMAT_NAMES = ("autopick", *(name for name in FORMATS if name != "autopick"))


class PageRoutes(Endpoints):
    """The page, the project, and what changed."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._files = TypedFiles(STATIC, MEDIA_TYPES)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/", self.page),
            Route("/static/{path:path}", self.static),
            Route("/api/project", self.project),
            Route("/api/changes", self.changes),
            Route("/api/log", self.log),
        ]

    async def page(self, request: Request) -> Response:
        """GET /: the page."""
        name = "index.html" if self.context.state.filaments is None else "filaments.html"
        return await self._files.get_response(name, request.scope)

    async def static(self, request: Request) -> Response:
        """GET /static/...: the scripts, styles and icons of the page."""
        return await self._files.get_response(request.path_params["path"], request.scope)

    async def project(self, request: Request) -> Response:
        """GET /api/project: the project and the state of everything."""
        state = self.context.state
        relion = await asyncio.to_thread(state.project.find_relion_project)
        processes = state.process_states()
        return JSONResponse(
            {
                "boot": state.boot,
                "revision": state.revision,
                "version": __version__,
                "folder": str(state.project.folder.absolute()),
                "settings": state.settings(),
                "read_only": request.scope.get(RIGHTS) is Rights.READ,
                "relion_project": None if relion is None else str(relion),
                "can_submit": state.cluster_run.is_configured,
                "count": len(state.sources),
                "formats": [
                    {"name": name, "says": FORMATS[name].description} for name in _FORMAT_NAMES
                ],
                **processes,
                "run": self.context.sign_report(processes["run"]),
            }
        )

    async def changes(self, request: Request) -> Response:
        """GET /api/changes: what changed after a revision."""
        since = parse_query_whole(request, "since", 0, 10**9)
        await asyncio.to_thread(self.context.state.check_some_replaced)
        news = self.context.state.changes_since(since)
        return JSONResponse({**news, "run": self.context.sign_report(news["run"])})

    async def log(self, request: Request) -> Response:
        """GET /api/log: the last lines of the log of the project."""
        lines = await asyncio.to_thread(self.context.state.activity.read_end)
        return JSONResponse({"lines": lines})


#: All endpoints.
ROUTES = (
    PageRoutes, ImageRoutes, AnnotationRoutes, ModelRoutes, ExportRoutes, TableRoutes,
    SharingRoutes, FilamentRoutes,
)  # fmt: skip


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {"connection": "close"} if error.status_code in (408, 413) else {}
    sentence = str(error.detail)
    if sentence == HTTPStatus(error.status_code).phrase:  # set by the router
        sentence = {
            404: "there is nothing at this address",
            405: "method not allowed at this address",
        }.get(error.status_code, sentence)
    return JSONResponse({"error": sentence}, error.status_code, headers)


def _bad_input_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


def _queue_full(request: Request, error: Exception) -> Response:
    sentence = "the server is busy; try again"
    return JSONResponse({"error": sentence}, 503, {"retry-after": "1"})


def _disconnected(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the request ended early"}, 400)  # which nobody reads


def _internal_error(request: Request, error: Exception) -> Response:
    sentence = f"internal server error ({type(error).__name__}); see the terminal of heliodor app"
    return JSONResponse({"error": sentence}, 500)


def build_application(context: AppContext) -> Starlette:
    """Return the application; `AccessControl` belongs in front of it."""
    return Starlette(
        routes=[route for part in ROUTES for route in part(context).routes()],
        middleware=[Middleware(GZipMiddleware, minimum_size=2048, compresslevel=3)],
        exception_handlers={
            HTTPException: _http_error,
            BadInput: _bad_input_error,
            QueueFull: _queue_full,
            ClientDisconnect: _disconnected,
            Exception: _internal_error,
        },
    )
