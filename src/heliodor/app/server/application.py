"""The addresses of the server, and the application behind the gate."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor import __version__
from heliodor.app.server import request_parsing
from heliodor.app.server.endpoints import (
    Answers,
    Desk,
    shown,
)
from heliodor.app.server.routes.annotations import MarkRoutes
from heliodor.app.server.routes.exports import OutRoutes
from heliodor.app.server.routes.images import LookRoutes
from heliodor.app.server.routes.model import JudgeRoutes
from heliodor.app.server.static_files import file_below
from heliodor.app.server.worker_pool import Full
from heliodor.data.coordinates.writers import FORMATS
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from starlette.requests import Request

STATIC = Path(__file__).parents[1] / "static"
_KINDS = {
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


class PageRoutes(Answers):
    """The page, and what it asks for first and over and over."""

    def routes(self) -> list[Route]:
        """Return the addresses."""
        return [
            Route("/", self.page),
            Route("/static/{path:path}", self.static),
            Route("/api/project", self.project),
            Route("/api/changes", self.changes),
        ]

    async def page(self, request: Request) -> Response:
        """GET /: the page."""
        return shown(file_below(STATIC, "index.html", _KINDS))

    async def static(self, request: Request) -> Response:
        """GET /static/...: what the page is made of."""
        return shown(file_below(STATIC, request.path_params["path"], _KINDS))

    async def project(self, request: Request) -> Response:
        """GET /api/project: what there is."""
        room = self.desk.room
        return JSONResponse(
            {
                "boot": room.boot,
                "revision": room.revision,
                "version": __version__,
                "folder": str(room.project.folder.absolute()),
                "settings": room.settings(),
                "count": len(room.sources),
                "formats": [{"name": one.name, "says": one.says} for one in FORMATS.values()],
                **room.processes(),
            }
        )

    async def changes(self, request: Request) -> Response:
        """GET /api/changes: what is new."""
        since = request_parsing.whole_in_query(request, "since", 0, 10**9)
        return JSONResponse(self.desk.room.news(since))


#: Those who answer.
ROUTES = (PageRoutes, LookRoutes, MarkRoutes, JudgeRoutes, OutRoutes)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {"connection": "close"} if error.status_code in (408, 413) else {}
    sentence = str(error.detail)
    if sentence == HTTPStatus(error.status_code).phrase:  # the router's own
        sentence = {
            404: "there is nothing at this address",
            405: "this is not the way to ask",
        }.get(error.status_code, sentence)
    return JSONResponse({"error": sentence}, error.status_code, headers)


def _bad_input(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


def _full(request: Request, error: Exception) -> Response:
    sentence = "too much is waiting to be done; try again"
    return JSONResponse({"error": sentence}, 503, {"retry-after": "1"})


def _broken(request: Request, error: Exception) -> Response:
    sentence = f"the server stumbled ({type(error).__name__}); see what it printed"
    return JSONResponse({"error": sentence}, 500)


def application(desk: Desk) -> Starlette:
    """Return the application behind the gate."""
    return Starlette(
        routes=[route for part in ROUTES for route in part(desk).routes()],
        middleware=[Middleware(GZipMiddleware, minimum_size=2048, compresslevel=3)],
        exception_handlers={
            HTTPException: _refused,
            BadInput: _bad_input,
            Full: _full,
            Exception: _broken,
        },
    )
