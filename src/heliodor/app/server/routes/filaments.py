"""Endpoints of a project of filaments."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server.batch_run import write_command
from heliodor.app.server.endpoints import MICROGRAPH_PATH, NOW, Endpoints
from heliodor.app.server.filament_labels import MAX_PER_MICROGRAPH
from heliodor.app.server.filament_work import FilamentWork, list_filament_formats
from heliodor.app.server.project import MAX_LOG_ODDS
from heliodor.app.server.request_parsing import Body, check_choice, check_range, read_body, refuse
from heliodor.data.filaments.geometry import remove_repeated_points
from heliodor.data.filaments.writers import LARGEST_TUBE

if TYPE_CHECKING:
    from starlette.requests import Request

#: The most points of a filament, and its longest distance between segments in angstrom.
_MAX_POINTS, _MAX_DISTANCE = 20_000, 1e5

_Id = Annotated[int, Field(ge=1, le=LARGEST_TUBE)]


class _NewFilament(Body):
    id: _Id
    kind: Literal["label", "rejected"]
    points: list[tuple[float, float]] = Field(min_length=2, max_length=_MAX_POINTS)


class _ChangeBody(Body):
    add: list[_NewFilament] = Field(default=[], max_length=MAX_PER_MICROGRAPH)
    remove: list[_Id] = Field(default=[], max_length=MAX_PER_MICROGRAPH)


class _TraceBody(Body):
    threshold: Annotated[float, Field(ge=-MAX_LOG_ODDS, le=MAX_LOG_ODDS)] | None = None
    min_length: Annotated[float, Field(ge=0.0, lt=1e6)] | None = None


class _ExportBody(Body):
    format: str
    segments: Annotated[float, Field(ge=0.1, le=_MAX_DISTANCE)] | None = None


class FilamentRoutes(Endpoints):
    """The filaments of the micrographs, and what is done with them."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = MICROGRAPH_PATH + "/filaments"
        return [
            Route(one, self.filaments, methods=["GET"]),
            Route(one, self.change, methods=["POST"]),
            Route("/api/filaments", self.summary, methods=["GET"]),
            Route("/api/filaments/trace", self.trace, methods=["POST"]),
            Route("/api/filaments/train", self.train, methods=["POST"]),
            Route("/api/filaments/cancel", self.cancel, methods=["POST"]),
            Route("/api/filaments/export", self.export, methods=["POST"]),
            Route("/api/filaments/command", self.command, methods=["POST"]),
            Route("/api/filaments/submit", self.submit, methods=["POST"]),
        ]

    @property
    def _work(self) -> FilamentWork:
        work = self.context.state.filaments
        if work is None:
            raise refuse("this is a project of particles, not of filaments", 409)
        return work

    async def filaments(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/filaments: those drawn, rejected and traced."""
        number, work = self.context.micrograph_number(request), self._work
        return JSONResponse(await self.context.run_in_pool(lambda: work.describe(number), NOW))

    async def change(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/filaments: draw, move, reject or remove filaments."""
        number, work = self.context.micrograph_number(request), self._work
        body = await read_body(request, _ChangeBody)
        state = self.context.state
        height, width = (await asyncio.to_thread(state.tiles.header, number)).shape
        add = {}
        for new in body.add:
            points = [
                (check_range(x, "x", -0.5, width - 0.5), check_range(y, "y", -0.5, height - 0.5))
                for x, y in new.points
            ]
            axis = remove_repeated_points(np.array(points, dtype=np.float64).round(3))
            if len(axis) < 2:
                raise refuse("a filament needs two different points or more")
            add[new.id] = (new.kind, axis)
        await asyncio.to_thread(work.labels.change, state.name(number), add, body.remove)
        return JSONResponse(await self.context.run_in_pool(lambda: work.describe(number), NOW))

    async def summary(self, request: Request) -> Response:
        """GET /api/filaments: the numbers of filaments, the formats, and what is running."""
        work = self._work
        # With the revision from before: what changes meanwhile is asked for again.
        revision = self.context.state.revision
        summary = await self.context.run_in_pool(work.summarize, NOW)
        return JSONResponse({**summary, "revision": revision, "formats": list_filament_formats()})

    async def trace(self, request: Request) -> Response:
        """POST /api/filaments/trace: trace all micrographs."""
        work, body = self._work, await read_body(request, _TraceBody)
        await asyncio.to_thread(work.trace, body.threshold, body.min_length)
        return JSONResponse({})

    async def train(self, request: Request) -> Response:
        """POST /api/filaments/train: train with the filaments that were drawn."""
        work = self._work
        await read_body(request, Body)
        await asyncio.to_thread(work.train)
        return JSONResponse({})

    async def cancel(self, request: Request) -> Response:
        """POST /api/filaments/cancel: stop what is running."""
        work = self._work
        await read_body(request, Body)
        work.cancel()
        return JSONResponse({})

    async def export(self, request: Request) -> Response:
        """POST /api/filaments/export: write all filaments in a format."""
        work, body = self._work, await read_body(request, _ExportBody)
        check_choice(body.format, "format", [one["name"] for one in list_filament_formats()])
        made = await asyncio.to_thread(work.export, body.format, body.segments)
        return JSONResponse(
            {
                "path": str(made.path.absolute()),
                "filaments": made.filaments,
                "segments": made.segments,
                "micrographs": made.micrographs,
            }
        )

    async def command(self, request: Request) -> Response:
        """POST /api/filaments/command: a command line that traces all on a cluster."""
        work, body = self._work, await read_body(request, _TraceBody)
        words = await asyncio.to_thread(work.cluster_words, body.threshold, body.min_length)
        return JSONResponse({"command": write_command(words)})

    async def submit(self, request: Request) -> Response:
        """POST /api/filaments/submit: submit jobs that trace all; returns their status."""
        work, body = self._work, await read_body(request, _TraceBody)
        run = self.context.state.cluster_run

        def make_words() -> list[str]:
            return work.cluster_words(body.threshold, body.min_length)

        return JSONResponse(await asyncio.to_thread(run.submit, make_words), 202)
