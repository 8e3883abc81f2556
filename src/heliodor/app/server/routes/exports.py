"""Endpoints of the exports, of picking all micrographs, and of its report."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Literal

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server.endpoints import (
    SOON,
    AppContext,
    Endpoints,
)
from heliodor.app.server.exports import ExportResult, export_file, find_export
from heliodor.app.server.project import PICKS
from heliodor.app.server.request_parsing import Body, check_choice, read_body, refuse
from heliodor.app.server.static_files import TypedFiles
from heliodor.data.coordinates.writers import FORMATS

if TYPE_CHECKING:
    from starlette.requests import Request

#: A report contains its styles, and no scripts.
_REPORT_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox;"
    " frame-ancestors 'none'"
)


#: The media types of the files of a run that are served.
MEDIA_TYPES = {".html": "text/html", ".png": "image/png", ".tsv": "text/tab-separated-values"}


class _ExportBody(Body):
    what: Literal["picks", "labels"]
    format: str


class ExportRoutes(Endpoints):
    """The exports, picking all micrographs, and its report."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._exporting = threading.Lock()
        self._report_files = TypedFiles(context.state.project.folder / PICKS, MEDIA_TYPES)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/export", self.export, methods=["POST"]),
            Route("/api/exports/{name}", self.exported),
            Route("/api/run", self.run, methods=["POST"]),
            Route("/api/run/command", self.command, methods=["POST"]),
            Route("/api/run/submit", self.submit, methods=["POST"]),
            Route("/api/run/cluster", self.cluster),
            Route("/api/run/cancel", self.cancel_run, methods=["POST"]),
            Route("/report/{path:path}", self.report),
        ]

    async def export(self, request: Request) -> Response:
        """POST /api/export: write picks or labels in a format."""
        state = self.context.state
        body = await read_body(request, _ExportBody)
        what, name = body.what, check_choice(body.format, "format", [*FORMATS])

        def make() -> ExportResult:
            if what == "picks":
                state.check_all_replaced()
            with self._exporting:
                return export_file(
                    what, name, state.project, state.annotations, state.predictions, state.masks,
                    state.tiles, state.failures(),
                )  # fmt: skip

        result = await self.context.run_in_pool(make, SOON)
        state.activity.write(f"{what} exported: {result.path}")
        said = {"file": result.name, "path": str(result.path), "made": result.made}
        return JSONResponse(said)

    async def exported(self, request: Request) -> Response:
        """GET /api/exports/{name}: download an exported file."""
        name = request.path_params["name"]
        path = find_export(self.context.state.project, name)
        if path is None:
            raise refuse("there is no such export", 404)
        return FileResponse(path, media_type="application/octet-stream", filename=name)

    async def run(self, request: Request) -> Response:
        """POST /api/run: pick all micrographs."""
        await read_body(request, Body)
        await asyncio.to_thread(self.context.state.batch_run.start)
        run = self.context.sign_report(self.context.state.batch_run.state())
        return JSONResponse(run, 202)

    async def command(self, request: Request) -> Response:
        """POST /api/run/command: a command line that picks all micrographs on a cluster."""
        await read_body(request, Body)
        command = await asyncio.to_thread(self.context.state.batch_run.cluster_command)
        return JSONResponse({"command": command})

    async def submit(self, request: Request) -> Response:
        """POST /api/run/submit: submit jobs that pick all micrographs; returns their status."""
        await read_body(request, Body)
        state = self.context.state
        status = await asyncio.to_thread(state.cluster_run.submit, state.batch_run.cluster_words)
        return JSONResponse(status, 202)

    async def cluster(self, request: Request) -> Response:
        """GET /api/run/cluster: how far the jobs on the cluster are."""
        return JSONResponse(await asyncio.to_thread(self.context.state.cluster_run.status))

    async def cancel_run(self, request: Request) -> Response:
        """POST /api/run/cancel: stop picking all micrographs."""
        await read_body(request, Body)
        await asyncio.to_thread(self.context.state.batch_run.cancel)
        return JSONResponse({})

    async def report(self, request: Request) -> Response:
        """GET /report/...: the report and its files."""
        path = request.path_params["path"]
        response = await self._report_files.get_response(path, request.scope)
        response.headers["content-security-policy"] = _REPORT_POLICY
        return response
