"""Addresses: what leaves the room: exports, the run over all, its report."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server import request_parsing
from heliodor.app.server.endpoints import (
    SOON,
    AppContext,
    Endpoints,
    file_response,
)
from heliodor.app.server.exports import (
    CONTENTS,
    export_file,
    find_export,
)
from heliodor.data.coordinates.writers import FORMATS

if TYPE_CHECKING:
    from starlette.requests import Request

#: A report has its styles in it, and nothing that runs.
_REPORT_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox;"
    " frame-ancestors 'none'"
)


class ExportRoutes(Endpoints):
    """What leaves the room: exports, the run over all, its report."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._exporting = threading.Lock()

    def routes(self) -> list[Route]:
        """Return the addresses."""
        return [
            Route("/api/export", self.export, methods=["POST"]),
            Route("/api/exports/{name}", self.exported),
            Route("/api/run", self.run, methods=["POST"]),
            Route("/api/run/cancel", self.cancel_run, methods=["POST"]),
            Route("/report/{path:path}", self.report),
        ]

    async def export(self, request: Request) -> Response:
        """POST /api/export: write picks or labels in a format."""
        state = self.context.state
        body = await request_parsing.json_body(request, ["what", "format"])
        what = request_parsing.one_of(body.get("what"), "what", CONTENTS)
        name = request_parsing.one_of(body.get("format"), "format", [*FORMATS])

        def make() -> str:
            with self._exporting:
                return export_file(
                    what, name, state.project, state.annotations, state.predictions, state.tiles
                )

        return JSONResponse({"files": [await self.context.run_in_pool(make, SOON)]})

    async def exported(self, request: Request) -> Response:
        """GET /api/exports/{name}: fetch what was written."""
        name = request.path_params["name"]
        path = find_export(self.context.state.project, name)
        if path is None:
            raise request_parsing.refuse("there is no such export", 404)
        return FileResponse(path, media_type="application/octet-stream", filename=name)

    async def run(self, request: Request) -> Response:
        """POST /api/run: pick on everything."""
        await request_parsing.json_body(request, [])
        await asyncio.to_thread(self.context.state.batch_run.start)
        return JSONResponse(self.context.state.batch_run.state(), 202)

    async def cancel_run(self, request: Request) -> Response:
        """POST /api/run/cancel: stop picking on everything."""
        await request_parsing.json_body(request, [])
        await asyncio.to_thread(self.context.state.batch_run.cancel)
        return JSONResponse({})

    async def report(self, request: Request) -> Response:
        """GET /report/...: what the whole run shows."""
        found = self.context.state.batch_run.find_output(request.path_params["path"])
        return file_response(found, {"content-security-policy": _REPORT_POLICY})
