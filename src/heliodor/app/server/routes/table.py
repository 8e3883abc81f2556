"""Endpoints of the table of micrographs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server.endpoints import MICROGRAPH_PATH, NOW, SOON, Endpoints
from heliodor.app.server.project import MAX_NOTE
from heliodor.app.server.request_parsing import Body, check_range, read_body
from heliodor.app.server.spectra import describe_spectrum

if TYPE_CHECKING:
    from starlette.requests import Request


class _NoteBody(Body):
    note: str = Field(max_length=MAX_NOTE)


class _ExclusionBody(Body):
    ids: list[int] = Field(max_length=10**6)
    excluded: bool


class TableRoutes(Endpoints):
    """The columns of the table, notes, exclusion of many, and power spectra."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = MICROGRAPH_PATH
        return [
            Route("/api/table", self.table),
            Route("/api/outliers", self.outliers),
            Route("/api/excluded", self.exclude, methods=["POST"]),
            Route("/api/look", self.look, methods=["POST"]),
            Route(one + "/note", self.note, methods=["POST"]),
            Route(one + "/spectrum", self.spectrum),
        ]

    async def table(self, request: Request) -> Response:
        """GET /api/table: sizes, pixel sizes, and the columns of the lists of micrographs."""
        state = self.context.state
        return JSONResponse(await self.context.run_in_pool(state.table.columns, SOON))

    async def outliers(self, request: Request) -> Response:
        """GET /api/outliers: the micrographs that are unlike the others, with the reasons."""
        state = self.context.state

        def find() -> dict[str, Any]:
            threshold = state.threshold_of(state.project.settings.model)
            return {"outliers": state.table.outliers(threshold)}

        return JSONResponse(await self.context.run_in_pool(find, SOON))

    async def exclude(self, request: Request) -> Response:
        """POST /api/excluded: leave some micrographs out, or not."""
        body = await read_body(request, _ExclusionBody)
        state = self.context.state
        for number in body.ids:
            check_range(number, "id", 0, len(state.sources) - 1)
        revision = await asyncio.to_thread(state.set_excluded, body.ids, body.excluded)
        return JSONResponse({"revision": revision})

    async def look(self, request: Request) -> Response:
        """POST /api/look: look for micrographs that have arrived."""
        await read_body(request, Body)
        added = await asyncio.to_thread(self.context.state.new_micrographs.look_now)
        return JSONResponse({"added": added})

    async def note(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/note: write a note on a micrograph; empty removes it."""
        number = self.context.micrograph_number(request)
        body = await read_body(request, _NoteBody)
        revision = await asyncio.to_thread(self.context.state.set_note, number, body.note)
        return JSONResponse({"revision": revision})

    async def spectrum(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/spectrum: the power spectrum and the rings of the CTF."""
        number = self.context.micrograph_number(request)
        state = self.context.state

        def make() -> dict[str, Any]:
            return describe_spectrum(state.tiles, number, state.table.ctf(number))

        return JSONResponse(await self.context.run_in_pool(make, NOW))
